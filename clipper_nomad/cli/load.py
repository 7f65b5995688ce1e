"""A small load generator: N kept-alive connections, one query at a time on each, every answer judged.

Raw asyncio protocols, because a client library would cost more than what it measures. It shares the machine with what
it loads: the figures of benchmarks/ are made with a better one. bench and demo use it.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

ANSWER_WITHIN_S = 10.0  # how long after the end an answer is waited for
SLICE_S = 0.1

Judge = Callable[[int, int, bytes], str | None]  # which body, status, answer → what is wrong with it, or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where queries go: a path on a host and port."""

    host: str
    port: int
    path: str


@dataclass(slots=True, kw_only=True)
class LoadResult:
    """What a load found. `latencies_s`: of the right answers. `slices`: right answers in each tenth of a second."""

    connections: int
    seconds: float = 0.0
    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    slices: list[int] = field(default_factory=list)
    failed: int = 0
    first_failure: str | None = None

    @property
    def answered(self) -> int:
        """How many answers were right."""
        return len(self.latencies_s)

    @property
    def per_second(self) -> float:
        """Right answers a second."""
        return self.answered / self.seconds if self.seconds else 0.0

    def add_failure(self, why: str) -> None:
        """Count a query that was not answered, or not rightly."""
        self.failed += 1
        self.first_failure = self.first_failure or why


def run_load(target: Target, bodies: Sequence[bytes], judge: Judge, *, connections: int, seconds: float) -> LoadResult:
    """Post `bodies` in turn over `connections` for `seconds` and return what came back.

    `judge(index, status, answer)` says what is wrong with the answer to `bodies[index]`, or None.
    Raises: OSError: nothing listens at the target.
    """
    return asyncio.run(_run(target, bodies, judge, connections, seconds))


async def _run(target: Target, bodies: Sequence[bytes], judge: Judge, connections: int, seconds: float) -> LoadResult:
    loop = asyncio.get_running_loop()
    result = LoadResult(connections=connections, slices=[0] * max(1, round(seconds / SLICE_S)))
    requests = [_request(target, body) for body in bodies]
    begin = time.perf_counter()
    work = _Work(requests=requests, judge=judge, result=result, begin=begin, end=begin + seconds)
    made = [loop.create_connection(lambda: _Connection(work), target.host, target.port) for _ in range(connections)]
    opened = cast("list[tuple[asyncio.Transport, _Connection]]", await asyncio.gather(*made))
    try:
        await asyncio.wait([connection.over for _, connection in opened], timeout=seconds + ANSWER_WITHIN_S)
        for _, connection in opened:
            if not connection.over.done():
                connection.over.cancel()
                result.add_failure(f"no answer within {ANSWER_WITHIN_S:g} s of the end")
    finally:
        for transport, _ in opened:
            transport.abort()
    result.seconds = seconds
    return result


def _request(target: Target, body: bytes) -> bytes:
    head = (
        f"POST {target.path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass(slots=True)
class _Work:
    """What the connections share."""

    requests: Sequence[bytes]
    judge: Judge
    result: LoadResult
    begin: float
    end: float
    _next: int = 0

    def next_index(self) -> int:
        """Return which body is next; they are sent in turn."""
        index = self._next
        self._next = (index + 1) % len(self.requests)
        return index


class _Connection(asyncio.Protocol):
    """Sends the next query when the last one is answered, until the end. `over` is done when it has nothing to wait for."""

    def __init__(self, work: _Work) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._work = work
        self._buffer = bytearray()
        self._index = 0
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send(time.perf_counter())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        length = _content_length(bytes(self._buffer[:head_end]))
        body_end = head_end + 4 + length
        if len(self._buffer) < body_end:
            return
        now = time.perf_counter()
        status = int(self._buffer[9:12])  # "HTTP/1.1 200 OK"
        wrong = self._work.judge(self._index, status, bytes(self._buffer[head_end + 4 : body_end]))
        self._note(now, wrong)
        del self._buffer[:body_end]
        self._send(now)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self._work.result.add_failure(f"the connection was closed: {exc or 'by the server'}")
            self.over.set_result(None)

    def _note(self, now: float, wrong: str | None) -> None:
        result = self._work.result
        if wrong is not None:
            result.add_failure(wrong)
            return
        result.latencies_s.append(now - self._sent_at)
        place = int((now - self._work.begin) / SLICE_S)
        if place < len(result.slices):
            result.slices[place] += 1

    def _send(self, now: float) -> None:
        if now >= self._work.end or self._transport is None:
            if not self.over.done():
                self.over.set_result(None)
            return
        self._index = self._work.next_index()
        self._sent_at = now
        self._transport.write(self._work.requests[self._index])


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
