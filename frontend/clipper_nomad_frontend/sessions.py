"""Sessions: one TCP connection of one replica, and the batches in flight on it. Pure.

A session is never resumed; its work ends with it. A result counts only if epoch, session, batch id and count match a
batch in flight on the session it came from, so no reconnect can hand an answer to another query.
Source: docs/decisions/0003-wire-format.md
"""

from __future__ import annotations

from clipper_nomad.protocol.wire import Header, Hello
from clipper_nomad_frontend.endpoints import Query


class Batch:
    """Queries sent together. `is_alone`: a suspect, sent with nothing else in flight at that replica."""

    __slots__ = ("expected_s", "id", "is_alone", "queries", "sent_at")

    def __init__(self, id_: int, queries: list[Query], sent_at: float, expected_s: float, *, is_alone: bool) -> None:
        self.id = id_
        self.queries = queries
        self.sent_at = sent_at
        self.expected_s = expected_s
        self.is_alone = is_alone


class Session:
    """A replica's connection: who it is, how to reach it, what it has in hand (oldest first)."""

    __slots__ = ("hello", "id", "in_flight", "routing_id")

    def __init__(self, id_: int, routing_id: bytes, hello: Hello) -> None:
        self.id = id_
        self.routing_id = routing_id
        self.hello = hello
        self.in_flight: dict[int, Batch] = {}


class SessionTable:
    """The open sessions of one frontend start, whose `epoch` is random."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self._by_routing_id: dict[bytes, Session] = {}
        self._last_session = 0
        self._last_batch = 0

    def __len__(self) -> int:
        return len(self._by_routing_id)

    def open(self, routing_id: bytes, hello: Hello) -> Session | None:
        """Return a new session, or None if this connection has one already."""
        if routing_id in self._by_routing_id:
            return None
        session = self._by_routing_id[routing_id] = self.open_relay(routing_id, hello)
        return session

    def open_relay(self, routing_id: bytes, hello: Hello) -> Session:
        """Return a session with a peer frontend for one version; a connection of a peer has many of them."""
        self._last_session += 1
        return Session(self._last_session, routing_id, hello)

    def close(self, routing_id: bytes) -> Session | None:
        """Forget a session and return it; None if there was none."""
        return self._by_routing_id.pop(routing_id, None)

    def find(self, routing_id: bytes) -> Session | None:
        """Return the session of a connection."""
        return self._by_routing_id.get(routing_id)

    def all(self) -> list[Session]:
        """Return every open session."""
        return list(self._by_routing_id.values())

    def begin(
        self, session: Session, queries: list[Query], sent_at: float, expected_s: float, *, is_alone: bool = False
    ) -> Batch:
        """Return a new batch that is in flight on `session`."""
        self._last_batch += 1
        batch = Batch(self._last_batch, queries, sent_at, expected_s, is_alone=is_alone)
        session.in_flight[batch.id] = batch
        return batch

    def is_of(self, session: Session, header: Header) -> bool:
        """Return whether a message is of `session` and of this start of the frontend."""
        return header.epoch == self.epoch and header.session == session.id

    def finish(self, session: Session, header: Header) -> Batch | None:
        """Return the batch that `header` answers, no longer in flight; None if it answers none."""
        if header.epoch != self.epoch or header.session != session.id:
            return None
        batch = session.in_flight.get(header.batch)
        if batch is None or len(batch.queries) != header.count:
            return None
        del session.in_flight[header.batch]
        return batch
