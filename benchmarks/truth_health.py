"""Which replicas are healthy, as whoever breaks things knows it: the outside judge of decision 34. Pure.

`Health` is told of lives (a process started, or ended) and of acts; it takes no word of what runs. From these it keeps, for
every process and every link, when it was in trouble:

    a process    from when it is killed or asked to end, or ends by itself, until STARTUP_S after it was started again;
                 while it is stopped
    a link       while it is frozen, refused, or not led to by the proxy; at a break; for as long as a tear may be felt
    all links    while the proxy is in trouble
    everything   while the machine stood still: whoever runs the test was late by that much itself

A frontend at which a replica *is* has it for itself and for its peers: it is healthy for a frontend that is up and at which
it is, or that was linked with one at which it is, both ways, for LINKED_S. To whom that applies, "no connected models" must
not be said. There are two ways to know where a replica is:

    it stands there     a connection of it through the proxy to this frontend has stood for STANDS_S, and both and the way
                        were in no trouble for LINKED_S: the proxy is the nemesis' own, it knows whom it connected
    it must be there    its ways to most frontends were open for LINKED_S and the others refused it all that time: it must be
                        at one of those, whether it dials or not, and is healthy for whom all of them would be a way to it

A replica behind a balancing proxy is promised a link to some frontend, and not to a certain one: whom a dial meets, only the
proxy knows, and for one that is missing it may dial but once in two seconds. So an open way alone is not "there".
`is_open` counts those cases: the way between a replica and this very frontend was open, found or not.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from benchmarks.acts import KILLS, RESTARTS, STOPS, UPSTREAMS, Done, Kind

LINKED_S = 3.0  # decision 34: of open network
STANDS_S = 5.0  # a connection on which nothing comes is given up sooner, and one too many is released at once
TOLD_S = 1.0  # a frontend tells its peers whom it has within a quarter of a second, of a quiet machine
STARTUP_S = 3.0  # from the start of a process till it listens, or dials: 0.6 s of processor time, and others start too
PROXY_STARTUP_S = 1.0  # the proxy is 0.2 s of that
SEEN_S = 0.5  # between an answer and its being seen by a busy client; between a death and its being seen
_LINKED_S = LINKED_S + SEEN_S
_TOLD_S = _LINKED_S + TOLD_S
PROXY = "proxy"
MACHINE = "machine"
# Until these are felt at last: a tear at the next byte, which may wait for the longest freeze; a splice at a heartbeat.
_FELT_FOR_S = {Kind.CUT_LINK: 6.0, Kind.SPLICE_LINK: 3.0}
_KEPT_S = 120.0  # no query is judged so much later
_KEPT = 200


# What is refused at once costs a replica that is cut off no time; all else may.
_REFUSES = KILLS | UPSTREAMS | {Kind.CUT_OFF}


@dataclass(slots=True)
class _Connection:
    since: float
    until: float = inf


@dataclass(slots=True)
class _Trouble:
    since: float
    until: float
    refuses: bool


class Health:
    """What is known of each process and link. Times are of the monotonic clock."""

    def __init__(self, *, replicas: Mapping[str, str], frontends: Sequence[str], startup_s: float = STARTUP_S) -> None:
        """`replicas`: name → uid of its version."""
        self._frontends = tuple(frontends)
        self._of_version: defaultdict[str, list[str]] = defaultdict(list)
        for name, uid in replicas.items():
            self._of_version[uid].append(name)
        self.stood_still_s = 0.0
        self._connections: defaultdict[str, dict[int, _Connection]] = defaultdict(dict)  # by link and number
        self._startup_s = startup_s
        self._troubles: defaultdict[str, list[_Trouble]] = defaultdict(list)

    # ---- what happened ---------------------------------------------------------------------------------------------

    def started(self, process: str, at: float) -> None:
        """A process was started."""
        startup_s = PROXY_STARTUP_S if process == PROXY else self._startup_s
        for trouble in self._troubles[process]:
            if trouble.until == inf and trouble.since <= at:
                trouble.until = at
        self._note(process, at, at + startup_s)
        if process == PROXY:
            self._connections.clear()

    def ended(self, process: str, at: float) -> None:
        """A process was seen to have ended, by itself or not."""
        self._note(process, at - SEEN_S, inf, refuses=True)

    def stood_still(self, since: float, until: float) -> None:
        """Whoever runs the test did nothing between these times, so others may not have either."""
        self._note(MACHINE, since, until)
        self.stood_still_s += until - since

    def connected(self, link: str, number: int, at: float) -> None:
        """A connection began to pass the proxy."""
        known = self._connections[link]
        known[number] = _Connection(at)
        if len(known) > _KEPT:
            self._connections[link] = {key: each for key, each in known.items() if each.until > at - _KEPT_S}

    def disconnected(self, link: str, number: int, at: float) -> None:
        """A connection through the proxy has ended."""
        connection = self._connections[link].get(number)
        if connection is not None:
            connection.until = at

    def acted(self, done: Done) -> None:
        """Something is about to be done."""
        kind = done.act.kind
        if kind in KILLS | RESTARTS:
            self._note(done.act.target, done.began_at, inf, refuses=kind in _REFUSES)
        elif kind in STOPS:
            self._note(done.act.target, done.began_at, done.ends_at)
        for link in done.act.links:
            until = max(done.ends_at, done.began_at + _FELT_FOR_S.get(kind, 0.0))
            self._note(link, done.began_at, until, refuses=kind in _REFUSES)

    def _note(self, name: str, since: float, until: float, *, refuses: bool = False) -> None:
        troubles = self._troubles[name]
        troubles.append(_Trouble(since, until, refuses))
        if len(troubles) > _KEPT:
            self._troubles[name] = [trouble for trouble in troubles if trouble.until > since - _KEPT_S]

    # ---- what follows from it --------------------------------------------------------------------------------------

    def witness(self, uid: str, frontend: str, at: float) -> str | None:
        """Return which replica of a version was healthy for a frontend, and where; None if there was none."""
        if not self._is_clear(at, _LINKED_S, MACHINE, PROXY, frontend):
            return None
        for replica in self._of_version[uid]:
            for home in self._frontends:
                if self._is_at(replica, home, at) and (home == frontend or self._are_linked(home, frontend, at)):
                    return f"{replica} was at {home}"
            homes = self._homes(replica, at)
            if homes and all(home == frontend or self._are_linked(home, frontend, at) for home in homes):
                return f"{replica} was at one of {', '.join(homes)}"
        return None

    def is_open(self, uid: str, frontend: str, at: float) -> bool:
        """Whether the way between a frontend and any replica of a version was open for so long that it could be found."""
        return any(
            self._is_clear(at, _LINKED_S, MACHINE, PROXY, frontend, replica, f"{replica}>{frontend}")
            for replica in self._of_version[uid]
        )

    def _is_at(self, replica: str, frontend: str, at: float) -> bool:
        link = f"{replica}>{frontend}"
        stands = any(
            connection.since <= at - STANDS_S and connection.until > at + SEEN_S
            for connection in self._connections.get(link, {}).values()
        )
        return stands and self._is_clear(at, _TOLD_S, replica, frontend, link)

    def _homes(self, replica: str, at: float) -> list[str]:
        """Return where a replica may be; nothing if nobody can say, or if it may be nowhere."""
        if not self._is_clear(at, _TOLD_S, MACHINE, PROXY, replica):
            return []
        homes = []
        for frontend in self._frontends:
            if self._is_clear(at, _TOLD_S, frontend, f"{replica}>{frontend}"):
                homes.append(frontend)
            elif not self._refused(at, _TOLD_S, frontend, f"{replica}>{frontend}"):
                return []
        return homes if 2 * len(homes) > len(self._frontends) else []

    def _are_linked(self, one: str, other: str, at: float) -> bool:
        return self._is_clear(at, _LINKED_S, f"{one}>{other}", f"{other}>{one}")

    def _is_clear(self, at: float, for_s: float, *names: str) -> bool:
        """Whether none of these was in trouble at any time of the last `for_s` seconds."""
        return not any(
            trouble.since <= at and trouble.until > at - for_s for name in names for trouble in self._troubles.get(name, ())
        )

    def _refused(self, at: float, for_s: float, *names: str) -> bool:
        """Whether one of these refused whoever came, all through the last `for_s` seconds."""
        return any(
            trouble.refuses and trouble.since <= at - for_s and trouble.until > at
            for name in names
            for trouble in self._troubles.get(name, ())
        )
