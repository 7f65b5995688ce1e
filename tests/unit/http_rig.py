"""A PredictConnection with a simulated transport, simulated time, and queries that are answered when a test says so."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any, cast

from clipper_nomad_frontend import http_rules
from clipper_nomad_frontend.answers import prediction
from clipper_nomad_frontend.endpoints import Endpoint, Query, Sink
from clipper_nomad_frontend.http_predict import HttpServerState, PredictConnection
from clipper_nomad_frontend.http_rules import HttpLimits
from clipper_nomad_frontend.metrics import ProcessCounters
from tests.process.http_clients import Reply, http_request, predict_request, replies_in
from tests.unit.queries import endpoint

PREDICT = predict_request("a", [1.0, 2.0])


def chunked(*chunks: bytes, trailers: bytes = b"") -> bytes:
    head = http_request("POST", "/a/predict", None, ["Transfer-Encoding: chunked"])
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"


BODY_LIMIT = 2048


class Transport(asyncio.Transport):
    """What a connection does to its socket."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reads = True
        self.has_ended = False  # write_eof
        self.is_closed = False
        self.is_aborted = False
        self.unread_bytes = 0
        self.protocol: asyncio.BaseProtocol | None = None

    def write(self, data: Any) -> None:  # noqa: ANN401  # asyncio's: any buffer
        assert not self.is_closed
        assert not self.has_ended
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def write_eof(self) -> None:
        self.has_ended = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def get_write_buffer_size(self) -> int:
        return self.unread_bytes

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol


class Other(asyncio.Protocol):
    """Stands for aiohttp's end of a connection that was handed over."""

    def __init__(self) -> None:
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data


class Predictions:
    """Queries that were submitted, to be answered when the test says so."""

    def __init__(self, *, answers_at_once: bool) -> None:
        self.routes: dict[bytes, Endpoint] = dict.fromkeys((b"/a/predict", b"/a/predict/"), endpoint("a"))
        self.waiting: list[Query] = []
        self.abandoned: list[Query] = []
        self.answers_at_once = answers_at_once
        self._ids = count()

    def query(self, at: Endpoint, packed: tuple[bytes, int], now: float, sink: Sink) -> Query:
        return Query(at, packed[0], packed[1], now, sink, next(self._ids))

    def submit(self, query: Query, version: str | None) -> None:
        self.waiting.append(query)
        if self.answers_at_once:
            self.answer(query)

    def abandon(self, query: Query) -> None:
        assert query in self.waiting
        self.abandoned.append(query)

    def answer(self, query: Query) -> None:
        """The output is the number of bytes of the input."""
        self.waiting.remove(query)
        query.is_done = True
        query.sink.take(query, prediction(query.query_id, b"%d" % len(query.data), b"", is_late=False))


class SameIds:
    def next(self) -> bytes:
        return b"same"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now


class Rig:
    """One connection, its transport, and the time."""

    def __init__(self, *, answers_at_once: bool = False) -> None:
        self.clock = Clock()
        self.predictions = Predictions(answers_at_once=answers_at_once)
        self.other = Other()
        self.server = HttpServerState(
            self.predictions,
            counters=ProcessCounters(),
            limits=HttpLimits(body_bytes=BODY_LIMIT),
            fallback=lambda: self.other,
            clock=self.clock.time,
        )
        self.server.request_ids = cast("http_rules.RequestIds", SameIds())
        self.server.tick(self.clock.now, 0.0)
        self.transport = Transport()
        self.connection = PredictConnection(self.server)
        self.connection.connection_made(self.transport)

    def feed(self, *chunks: bytes) -> None:
        """Receive chunks, as long as the transport reads."""
        for chunk in chunks:
            if not self.transport.is_closed and self.transport.protocol is None:
                self.connection.data_received(chunk)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with a look at the limits every second, as server.py does."""
        while seconds > 0:
            self.clock.now += min(1.0, seconds)
            seconds -= 1.0
            self.server.tick(self.clock.now, 0.0)

    def answer(self, number: int = 0) -> None:
        self.predictions.answer(self.predictions.waiting[number])

    def is_closed(self) -> bool:
        return self.transport.is_closed

    def is_aborted(self) -> bool:
        return self.transport.is_aborted

    def has_ended(self) -> bool:
        return self.transport.has_ended

    def reads(self) -> bool:
        return self.transport.reads

    @property
    def replies(self) -> list[Reply]:
        return replies_in(self.transport.written)

    @property
    def statuses(self) -> list[int]:
        return [reply.status for reply in self.replies]

    @property
    def transcript(self) -> tuple[bytes, bytes, bool, bool]:
        """All that a client, or aiohttp, can see."""
        transport = self.transport
        return transport.written, self.other.received, transport.is_closed, transport.has_ended
