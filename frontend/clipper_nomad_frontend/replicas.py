"""The replicas of one model version, and which of them gets the next batch. Pure.

Slots belong to the replica: it works one batch at a time, and each result tells how many wait there, from all frontends.
First slots of all replicas are filled before any second slot; the smallest backlog first, then round robin. A replica that
works for other frontends too may want to be asked first: then nothing is sent till it calls, and whoever calls first gets
the batch. Source: docs/decisions/0011-late-binding.md
"""

from __future__ import annotations

import enum
from urllib.parse import quote

from clipper_nomad_frontend.channel import LegacyChannel
from clipper_nomad_frontend.sessions import Batch, Session

LONGEST_NAME = 128  # of a replica, in characters: its name goes into every reply
STALLED_AFTER_S = 2.0  # a batch unanswered this long, or STALLED_AFTER_TIMES its expected time, stalls its replica
STALLED_AFTER_TIMES = 5.0
MOST_ASKED = 4  # replicas at once for each batch that waits: who calls first gets it, the others a PASS


class ReplicaState(enum.StrEnum):
    """Whether a replica gets work."""

    READY = "ready"
    STALLED = "stalled"  # its oldest batch is long overdue; its next result makes it ready again
    DRAINING = "draining"  # it asked for no more


class Replica:
    """One ready replica as this frontend sees it, over one session."""

    __slots__ = (
        "answered", "asked_at", "backlog", "headers", "id", "is_exclusive", "last_used", "legacy", "name",
        "session", "state",
    )  # fmt: skip

    def __init__(self, id_: int, session: Session, legacy: LegacyChannel | None = None) -> None:
        """`legacy`: the way to it where it speaks RPC version 3, which knows no second slot and no calls."""
        self.id = id_
        self.legacy = legacy
        self.session = session
        self.name = _printable(session.hello.replica)
        self.state = ReplicaState.READY
        self.backlog = 0
        self.answered = 0
        self.last_used = 0
        self.is_exclusive = False  # works on a suspect: nothing else is sent until that is over
        self.asked_at: float | None = None  # to call when it is free: nothing is sent till then
        self.headers = replica_headers(f"{session.hello.model}:{session.hello.version}", session.hello.replica)

    @property
    def in_flight(self) -> dict[int, Batch]:
        """The batches it has in hand, oldest first."""
        return self.session.in_flight

    def oldest_size(self) -> int:
        """Return how many queries its oldest batch has; 0 if it has nothing in hand."""
        for batch in self.in_flight.values():
            return len(batch.queries)
        return 0

    def stalled_at(self) -> float | None:
        """Return when its oldest batch is overdue, or None if it has none."""
        for batch in self.in_flight.values():
            return batch.sent_at + patience_s(batch.expected_s)
        return None


def patience_s(expected_s: float) -> float:
    """Return for how long a replica may be silent over a batch that should take `expected_s`."""
    return max(STALLED_AFTER_S, STALLED_AFTER_TIMES * expected_s)


def replica_headers(model: str, replica: str) -> bytes:
    """Return the header lines that tell which replica of which model version computed an output."""
    return f"X-Clipper-Model: {_printable(model)}\r\nX-Clipper-Replica: {_printable(replica)}\r\n".encode()


def hit_headers(model: str) -> bytes:
    """Return the header lines of an output of before: whose it was. The replica may be gone, so none is named."""
    return f"X-Clipper-Model: {_printable(model)}\r\nX-Clipper-Cache: hit\r\n".encode()


def _printable(text: str) -> str:
    """Return what a peer says of itself so that it can stand in an HTTP header: anything but visible ASCII as %XX."""
    return quote(text[:LONGEST_NAME], safe="!#$&'()*+,/:;=?@[]", errors="replace")


class ReplicaSet:
    """The replicas of one model version that have a session here."""

    __slots__ = ("_turn", "all", "ready")

    def __init__(self) -> None:
        self.all: dict[int, Replica] = {}  # by session id
        self.ready: list[Replica] = []
        self._turn = 0

    def add(self, replica: Replica) -> None:
        """Take in a replica."""
        self.all[replica.session.id] = replica
        self._refresh()

    def remove(self, session_id: int) -> Replica | None:
        """Drop the replica of a session and return it."""
        replica = self.all.pop(session_id, None)
        self._refresh()
        return replica

    def set_state(self, replica: Replica, state: ReplicaState) -> None:
        """Change whether a replica gets work."""
        replica.state = state
        self._refresh()

    def _refresh(self) -> None:
        self.ready = [replica for replica in self.all.values() if replica.state is ReplicaState.READY]

    def idle_count(self) -> int:
        """Return how many ready replicas have nothing in hand from this frontend, and were not asked."""
        return sum(not replica.session.in_flight and replica.asked_at is None for replica in self.ready)

    def next_idle(self) -> Replica | None:
        """Return the one of these with the smallest backlog and the longest rest; None if there is none."""
        best: Replica | None = None
        for replica in self.ready:
            if (
                not replica.session.in_flight
                and replica.asked_at is None
                and (best is None or (replica.backlog, replica.last_used) < (best.backlog, best.last_used))
            ):
                best = replica
        return best

    def asked(self, most: int | None = None) -> list[Replica]:
        """Return the ready replicas that were asked and have not called yet, or some of them."""
        return [replica for replica in self.ready if replica.asked_at is not None][:most]

    def may_ask(self, batches: int, since: float) -> bool:
        """Return whether one more should be asked, for so many batches. Who was asked before `since` may hang."""
        recent = sum(replica.asked_at is not None and replica.asked_at > since for replica in self.ready)
        return recent < MOST_ASKED * batches

    def next_second_slot(self, frontends: int) -> Replica | None:
        """Return a ready replica that has one batch in hand and room for another behind it; None if there is none."""
        best: Replica | None = None
        for replica in self.ready:
            if (
                len(replica.session.in_flight) == 1
                and not replica.is_exclusive
                and replica.legacy is None
                and replica.asked_at is None
                and replica.backlog < frontends + 1
                and (best is None or (replica.backlog, replica.last_used) < (best.backlog, best.last_used))
            ):
                best = replica
        return best

    def used(self, replica: Replica) -> None:
        """Note that `replica` was just given work."""
        self._turn += 1
        replica.last_used = self._turn
