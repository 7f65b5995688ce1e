"""Which replicas are healthy, as whoever breaks things knows it: the outside judge of decision 34. Pure.

`Health` is told of lives (a process started, or ended) and of acts; it takes no word of what runs. From these it keeps, for
every process and every link, when it was in trouble:

    a process    from when it is killed or asked to end, or ends by itself, until STARTUP_S after it was started again;
                 while it is stopped
    a link       while it is frozen, refused, or not led to by the proxy; at a break; for as long as a tear may be felt
    all links    while the proxy is in trouble
    everything   while the machine stood still: whoever runs the test was late by that much itself

A replica *is at* a frontend when both, the proxy and the link from one to the other have been out of trouble for LINKED_S.
It is *healthy for* a frontend when that frontend is up, and it is there; or it is at another one (for TOLD_S longer), and
the links between the two, in both directions, have been out of trouble for LINKED_S. To whom that applies, "no connected
models" must not be said.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from benchmarks.acts import KILLS, RESTARTS, STOPS, Done, Kind

LINKED_S = 3.0  # decision 34: of open network
TOLD_S = 1.0  # a frontend tells its peers whom it has within a quarter of a second, of a quiet machine
STARTUP_S = 3.0  # from the start of a process till it listens, or dials: 0.6 s of processor time, and others start too
PROXY_STARTUP_S = 1.0  # the proxy is 0.2 s of that
SEEN_S = 0.5  # between an answer and its being seen by a busy client; between a death and its being seen
PROXY = "proxy"
MACHINE = "machine"
# Until these are felt at last: a tear at the next byte, which may wait for the longest freeze; a splice at a heartbeat.
_FELT_FOR_S = {Kind.CUT_LINK: 6.0, Kind.SPLICE_LINK: 3.0}
_KEPT_S = 120.0  # no query is judged so much later
_KEPT = 200


@dataclass(slots=True)
class _Trouble:
    since: float
    until: float


class Health:
    """What is known of each process and link. Times are of the monotonic clock."""

    def __init__(self, *, replicas: Mapping[str, str], frontends: Sequence[str], startup_s: float = STARTUP_S) -> None:
        """`replicas`: name → uid of its version."""
        self._frontends = tuple(frontends)
        self._of_version: defaultdict[str, list[str]] = defaultdict(list)
        for name, uid in replicas.items():
            self._of_version[uid].append(name)
        self.stood_still_s = 0.0
        self._startup_s = startup_s
        self._troubles: defaultdict[str, list[_Trouble]] = defaultdict(list)

    # ---- what happened ---------------------------------------------------------------------------------------------

    def started(self, process: str, at: float) -> None:
        """A process was started."""
        startup_s = PROXY_STARTUP_S if process == PROXY else self._startup_s
        for trouble in self._troubles[process]:
            if trouble.until == inf and trouble.since <= at:
                trouble.until = at + startup_s
        self._note(process, at, at + startup_s)

    def ended(self, process: str, at: float) -> None:
        """A process was seen to have ended, by itself or not."""
        self._note(process, at - SEEN_S, inf)

    def stood_still(self, since: float, until: float) -> None:
        """Whoever runs the test did nothing between these times, so others may not have either."""
        self._note(MACHINE, since, until)
        self.stood_still_s += until - since

    def acted(self, done: Done) -> None:
        """Something is about to be done."""
        kind = done.act.kind
        if kind in KILLS | RESTARTS:
            self._note(done.act.target, done.began_at, inf)
        elif kind in STOPS:
            self._note(done.act.target, done.began_at, done.ends_at)
        for link in done.act.links:
            self._note(link, done.began_at, max(done.ends_at, done.began_at + _FELT_FOR_S.get(kind, 0.0)))

    def _note(self, name: str, since: float, until: float) -> None:
        troubles = self._troubles[name]
        troubles.append(_Trouble(since, until))
        if len(troubles) > _KEPT:
            self._troubles[name] = [trouble for trouble in troubles if trouble.until > since - _KEPT_S]

    # ---- what follows from it --------------------------------------------------------------------------------------

    def witness(self, uid: str, frontend: str, at: float) -> str | None:
        """Return which replica of a version was healthy for a frontend, and by which way; None if there was none."""
        if not self._is_clear(at, LINKED_S + SEEN_S, MACHINE, PROXY, frontend):
            return None
        return next(self._witnesses(uid, frontend, at), None)

    def _witnesses(self, uid: str, frontend: str, at: float) -> Iterator[str]:
        linked_s, told_s = LINKED_S + SEEN_S, LINKED_S + SEEN_S + TOLD_S
        for replica in self._of_version[uid]:
            if self._is_clear(at, linked_s, replica, f"{replica}>{frontend}"):
                yield f"{replica} was at {frontend}"
            for peer in self._frontends:
                links = f"{frontend}>{peer}", f"{peer}>{frontend}"
                if (
                    peer != frontend
                    and self._is_clear(at, told_s, MACHINE, PROXY, replica, peer, f"{replica}>{peer}")
                    and self._is_clear(at, linked_s, *links)
                ):
                    yield f"{replica} was at {peer}, with which {frontend} was linked"

    def _is_clear(self, at: float, for_s: float, *names: str) -> bool:
        """Whether none of these was in trouble at any time of the last `for_s` seconds."""
        return not any(
            trouble.since <= at and trouble.until > at - for_s for name in names for trouble in self._troubles.get(name, ())
        )
