"""One keep-alive connection of the checking client: requests out, also pipelined, and answers in, in that order.

It matches, times out and tells; what is sent when, and what an ending means for the run, is decided in
checked_load.py, which implements `Listener`. Written on asyncio.Protocol and httptools because a checked run is to be
at full load.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, cast

import httptools

from benchmarks.checked_answers import Answer, Query, Verdict


@dataclass(slots=True)
class Owed:
    """A query that was sent, and whose answer the peer owes."""

    query: Query
    started_at: float  # what latency counts from
    sent_at: float  # what the timeout counts from
    place: int  # whom it was sent to, of the client's addresses
    is_timed_out: bool = False
    is_unmet: bool = False  # its connection ended before anything was answered on it: perhaps nobody had taken it


class Listener(Protocol):
    """What a connection tells its client."""

    def answered(self, owed: Owed, answer: Answer) -> None:
        """Handle the answer to `owed`."""

    def ended(self, owed: Owed, verdict: Verdict, detail: str) -> None:
        """Handle that `owed` will have no answer, or has none yet and is past its timeout."""

    def strayed(self) -> None:
        """Handle an answer to nothing."""

    def has_room(self, connection: "CheckedConnection") -> None:
        """Handle that the connection has read all it had: the moment to send more."""


class CheckedConnection(asyncio.Protocol):
    """See the module. `closed` is done when the connection is over, whoever ended it."""

    def __init__(self, listener: Listener, *, host: str, index: int, place: int = 0) -> None:
        self.index = index
        self.place = place
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.owed: deque[Owed] = deque()
        self.depth = 1  # how many answers may be owed just now; the client's, kept here for it
        self.refill_below = 1  # the same
        self.is_ending = False  # nothing more may be sent on it
        self._listener = listener
        self._host = host
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._why_ended = ""
        self._verdict_at_end = Verdict.BROKEN
        self._is_in_answer = False
        self._is_met = False

    @property
    def is_stuck(self) -> bool:
        """Whether the answer that is next is past its timeout."""
        return bool(self.owed) and self.owed[0].is_timed_out

    def send(self, queries: Iterable[tuple[Query, float]], *, now: float) -> None:
        """Send queries, each with the time its latency counts from, in one write."""
        parts = []
        for query, started_at in queries:
            self.owed.append(Owed(query, started_at, now, self.place))
            parts.append(self._encode(query))
        if self._transport is not None and parts:
            self._transport.write(b"".join(parts))

    def expire(self, *, now: float, timeout_s: float, linger_s: float) -> None:
        """Report what is past its timeout; give the connection up `linger_s` after the last of it."""
        for owed in self.owed:
            if now - owed.sent_at < timeout_s:
                break  # sent in order: those behind it are younger
            if not owed.is_timed_out:
                owed.is_timed_out = True
                # Answers come in order: only the first one owed is known to hang, the others may just wait behind it.
                behind = "" if owed is self.owed[0] else f", behind number {self.owed[0].query.number}"
                self._listener.ended(owed, Verdict.UNANSWERED, f"nothing after {now - owed.sent_at:.2f} s{behind}")
        if self.owed and self.owed[-1].is_timed_out and now - self.owed[-1].sent_at > timeout_s + linger_s:
            self.end("given up by the client: every answer it owed was past its timeout")

    def end(self, why: str) -> None:
        """Close from this side."""
        self._finish(why)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class is no subclass of it, only like it

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            # What came is no HTTP: whoever was to get it has got a wrong answer.
            if self.owed and not self.is_ending:
                self._listener.ended(self.owed.popleft(), Verdict.WRONG, f"not HTTP: {exc}: {data[:80]!r}")
            self._finish("closed by the client after a reply that is no HTTP")
            return
        if not self.is_ending:
            self._listener.has_room(self)

    def eof_received(self) -> bool:
        """Called by the loop."""
        self._finish("the peer closed it" + (" in the middle of an answer" if self._is_in_answer else ""))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._finish(f"{type(exc).__name__}: {exc}" if exc is not None else "it was closed")
        self._transport = None
        for owed in self.owed:
            owed.is_unmet = not self._is_met
            if not owed.is_timed_out:
                self._listener.ended(owed, self._verdict_at_end, self._why_ended)
        self.owed.clear()
        if not self.closed.done():
            self.closed.set_result(None)

    def on_message_begin(self) -> None:
        """Called by httptools."""
        self._headers = {}
        self._body = []
        self._is_in_answer = self._is_met = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools."""
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        """Called by httptools, once for each fragment."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Called by httptools."""
        self._is_in_answer = False
        if not self.owed or self.is_ending:
            self._listener.strayed()
            self._finish("closed by the client after an answer to nothing")
            return
        answer = Answer(self._parser.get_status_code(), self._headers, b"".join(self._body))
        self._listener.answered(self.owed.popleft(), answer)
        if not self._parser.should_keep_alive():
            self._verdict_at_end = Verdict.TURNED_AWAY
            self._finish("a reply before it said Connection: close")

    def _finish(self, why: str) -> None:
        """Send nothing more; the first reason is the one that is told."""
        if not self.is_ending:
            self.is_ending = True
            self._why_ended = why
            if self._transport is not None:
                self._transport.abort()  # not close: that waits for a peer that may read no more

    def _encode(self, query: Query) -> bytes:
        extra = "".join(f"{name}: {value}\r\n" for name, value in query.headers)
        head = (
            f"POST {query.path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(query.body)}\r\n{extra}\r\n"
        )
        return head.encode("latin-1") + query.body
