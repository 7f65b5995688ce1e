"""One query: an input on its way to an output. Made by whoever was asked, answered exactly once through its sink."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from clipper_nomad_frontend.answers import Answer
    from clipper_nomad_frontend.dispatch import VersionDispatch
    from clipper_nomad_frontend.endpoints import Endpoint

MAX_TRIES = 2  # a query is executed at most twice, whatever happens: docs/behaviour.md, "Retries"


class Sink(Protocol):
    """Whoever waits for the answer: an HTTP connection, the collector of an `input_batch`, a probe."""

    def take(self, query: Query, answer: Answer) -> None:
        """Take the answer of `query`. Must not raise: the query's batch mates are answered after it."""


class Query:
    """An input with its deadlines and its way back. Times are instants on the monotonic clock, in seconds.

    `data` are the packed bytes of the input, `item_length` its number of elements (0 for variable width). `tries` counts
    the batches it was sent in, `is_queued` says that it waits in its version's queue (a suspect waits elsewhere). `reply`
    and `close` belong to the connection: the finished reply while an earlier one is still owed, whether to close after it.
    """

    __slots__ = (
        "arrived", "close", "data", "dispatch", "endpoint", "is_done", "is_queued", "item_length", "pinned_version",
        "query_id", "reply", "request_id", "sink", "slo_at", "tries",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint, data: bytes, item_length: int, arrived: float, sink: Sink, query_id: int) -> None:
        self.endpoint = endpoint
        self.data = data
        self.item_length = item_length
        self.arrived = arrived
        self.slo_at = arrived + endpoint.slo_s
        self.sink = sink
        self.query_id = query_id
        self.dispatch: VersionDispatch | None = None
        self.tries = 0
        self.is_done = False
        self.is_queued = False
        self.pinned_version: str | None = None
        self.request_id = b""
        self.reply: bytes | None = None
        self.close = False

    @property
    def timeout_at(self) -> float:
        """When waiting for an answer ends, whatever the app's policy."""
        return self.arrived + self.endpoint.timeout_s
