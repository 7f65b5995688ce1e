"""Peer frontends as replicas of last resort for one model version. Pure.

Used only while no replica of the version is ready here. A peer takes as many batches at once as it has ready replicas; one
that refused gets nothing more until it announces anew. Source: docs/decisions/0009-mesh.md
"""

from __future__ import annotations

from clipper_nomad.protocol.mesh_messages import Served
from clipper_nomad_frontend.sessions import Batch, Session

NOTHING = Served(0, 0)
MAX_IN_FLIGHT = 8  # batches at one peer, however many replicas it has: it may die with all of them


class RelaySlot:
    """One peer that serves the version, with the session in which its batches are in flight."""

    __slots__ = ("has_refused", "served", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.served = NOTHING
        self.has_refused = False

    @property
    def in_flight(self) -> dict[int, Batch]:
        """The batches it has in hand, oldest first."""
        return self.session.in_flight

    @property
    def has_room(self) -> bool:
        """Whether it can be given a batch."""
        return not self.has_refused and len(self.in_flight) < min(self.served.ready, MAX_IN_FLIGHT)


class RelaySlots:
    """Every peer that may be given queries of one version."""

    __slots__ = ("_turn", "all")

    def __init__(self) -> None:
        self.all: dict[int, RelaySlot] = {}  # by session id
        self._turn = 0

    @property
    def ready(self) -> int:
        """How many ready replicas the peers have."""
        return sum(slot.served.ready for slot in self.all.values())

    def announced(self, session: Session, served: Served) -> None:
        """A peer said how it serves the version."""
        slot = self.all.setdefault(session.id, RelaySlot(session))
        slot.served = served
        slot.has_refused = False

    def next(self) -> RelaySlot | None:
        """Return the peer with room where a query waits least, by turns among equals; None if none has room."""
        best: RelaySlot | None = None
        slots = list(self.all.values())
        self._turn += 1
        for offset in range(len(slots)):
            slot = slots[(self._turn + offset) % len(slots)]
            if slot.has_room and (best is None or _load(slot) < _load(best)):
                best = slot
        return best

    def remove(self, session_id: int) -> RelaySlot | None:
        """Drop the peer of a session and return it."""
        return self.all.pop(session_id, None)


def _load(slot: RelaySlot) -> tuple[int, int]:
    return len(slot.in_flight), slot.served.delay_micros
