"""Replies that a connection owes beside those of single queries, which are their own. Pure."""

from __future__ import annotations

from typing import Protocol

from clipper_nomad_frontend import answers
from clipper_nomad_frontend.answers import Answer
from clipper_nomad_frontend.endpoints import Query


class Connection(Protocol):
    """Who owes the reply."""

    def take(self, item: Owed, answer: Answer) -> None:
        """Write the reply of `item`, or keep it while an earlier one is still owed."""


class BatchReply:
    """Collects the answers of an `input_batch`: the sink of its queries, and a reply that its connection owes."""

    __slots__ = ("_connection", "_missing", "_parts", "close", "queries", "reply", "request_id")

    def __init__(self, connection: Connection, count: int, request_id: bytes, *, close: bool) -> None:
        self._connection = connection
        self._parts: dict[int, Answer] = {}
        self._missing = count
        self.queries: list[Query] = []
        self.request_id = request_id
        self.close = close
        self.reply: bytes | None = None

    def take(self, query: Query, answer: Answer) -> None:
        """Keep one input's answer; the last one completes the reply."""
        self._parts[query.query_id] = answer
        self._missing -= 1
        if not self._missing:
            self._connection.take(self, answers.batch(sorted(self._parts.items(), key=lambda part: part[0])))


class ReadyReply:
    """A reply that no model is asked for. It waits for its turn like the others."""

    __slots__ = ("close", "reply", "request_id")

    def __init__(self, request_id: bytes, *, close: bool) -> None:
        self.request_id = request_id
        self.close = close
        self.reply: bytes | None = None


Owed = Query | BatchReply | ReadyReply
