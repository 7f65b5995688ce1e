"""How long a system takes to be whole again after each fault. truth.py tells it of acts, reports and right answers.

A replica is back when a frontend's report shows it ready in another session (after what ends one), or ready at all (after
what only delays it). A frontend is back with the first right answer after its end.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.acts import ON_FRONTENDS, Done, Kind

_ENDS_SESSION = {Kind.KILL_REPLICA, Kind.RESTART_REPLICA, Kind.BREAK_LINK, Kind.CUT_OFF, Kind.MOVE_UPSTREAM}
_DELAYS = {Kind.STOP_REPLICA, Kind.FREEZE_LINK, Kind.BLACK_HOLE}


@dataclass(frozen=True, slots=True)
class _Awaited:
    kind: Kind
    since: float
    session: tuple[int, int] = (0, 0)  # the frontend's pid and the replica's number there


class Recoveries:
    """Times by kind of fault. A fault of what has not come back from one before starts the wait anew."""

    def __init__(self, frontends: Sequence[str]) -> None:
        self.seconds: defaultdict[Kind, list[float]] = defaultdict(list)
        self._names = tuple(frontends)
        self._frontends: dict[str, _Awaited] = {}
        self._replicas: dict[str, _Awaited] = {}  # by link
        self._sessions: dict[str, tuple[int, int]] = {}

    def told(self, done: Done) -> None:
        """An act was carried out."""
        act = done.act
        if act.kind in ON_FRONTENDS:
            self._frontends[act.target] = _Awaited(act.kind, done.ends_at)
        elif act.kind in _ENDS_SESSION or act.kind in _DELAYS:
            for link in act.links or [f"{act.target}>{frontend}" for frontend in self._names]:
                if link.partition(">")[0] not in self._names:
                    self._replicas[link] = _Awaited(act.kind, done.ends_at, self._sessions.get(link, (0, 0)))

    def answered_right(self, frontend: str, sent_at: float, at: float) -> None:
        """A right answer of a frontend came to a query that was sent at that time."""
        awaited = self._frontends.get(frontend)
        if awaited is not None and sent_at > awaited.since:
            self.seconds[awaited.kind].append(at - awaited.since)
            del self._frontends[frontend]

    def reported(self, frontend: str, report: dict[str, Any], asked_at: float) -> None:
        """A frontend reported."""
        for row in report["replicas"]:
            if row["state"] != "ready":
                continue
            link, session = f"{row['replica']}>{frontend}", (report["pid"], row["id"])
            awaited = self._replicas.get(link)
            self._sessions[link] = session
            if awaited is None or asked_at < awaited.since:
                continue
            if awaited.kind in _DELAYS or session != awaited.session:
                self.seconds[awaited.kind].append(asked_at - awaited.since)
                del self._replicas[link]

    def table(self) -> dict[str, dict[str, float]]:
        """Return count, median and most by kind."""
        return {
            kind.value: {"count": len(times), "median_s": round(median(times), 3), "most_s": round(max(times), 3)}
            for kind, times in sorted(self.seconds.items())
        }
