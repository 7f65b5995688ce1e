"""How long a system takes to be whole again after each fault. truth.py tells it of acts, reports and right answers.

A replica is back when a frontend's report shows it ready in another session (after what ends one), or ready at all (after
what only delays it). A frontend is back with the first right answer after its end.
"""

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.nemesis import Done, Kind

_ENDS_SESSION = {Kind.KILL_REPLICA, Kind.RESTART_REPLICA, Kind.BREAK_LINK}
_DELAYS = {Kind.STOP_REPLICA, Kind.FREEZE_LINK}
_ENDS_FRONTEND = {Kind.KILL_FRONTEND, Kind.RESTART_FRONTEND, Kind.STOP_FRONTEND}


@dataclass(frozen=True, slots=True)
class _Awaited:
    kind: Kind
    since: float
    session: tuple[int, int]  # the frontend's pid and the replica's number there


class Recoveries:
    """Times by kind of fault. A fault of what has not come back from one before starts the wait anew."""

    def __init__(self) -> None:
        self.seconds: defaultdict[Kind, list[float]] = defaultdict(list)
        self._replicas: dict[str, _Awaited] = {}
        self._frontend: _Awaited | None = None
        self._sessions: dict[str, tuple[int, int]] = {}

    def told(self, done: Done) -> None:
        """An act was carried out."""
        kind = done.act.kind
        if kind in _ENDS_FRONTEND:
            self._frontend = _Awaited(kind, done.ends_at, (0, 0))
        elif kind in _ENDS_SESSION or kind in _DELAYS:
            replica = done.act.target.partition(">")[0]
            self._replicas[replica] = _Awaited(kind, done.ends_at, self._sessions.get(replica, (0, 0)))

    def answered_right(self, sent_at: float, at: float) -> None:
        """A right answer came to a query that was sent at that time."""
        if self._frontend is not None and sent_at > self._frontend.since:
            self.seconds[self._frontend.kind].append(at - self._frontend.since)
            self._frontend = None

    def reported(self, report: dict[str, Any], asked_at: float) -> None:
        """A frontend reported."""
        for row in report["replicas"]:
            if row["state"] != "ready":
                continue
            name, session = row["replica"], (report["pid"], row["id"])
            awaited = self._replicas.get(name)
            self._sessions[name] = session
            if awaited is None or asked_at < awaited.since:
                continue
            if awaited.kind in _DELAYS or session != awaited.session:
                self.seconds[awaited.kind].append(asked_at - awaited.since)
                del self._replicas[name]

    def table(self) -> dict[str, dict[str, float]]:
        """Return count, median and most by kind."""
        return {
            kind.value: {"count": len(times), "median_s": round(median(times), 3), "most_s": round(max(times), 3)}
            for kind, times in sorted(self.seconds.items())
        }
