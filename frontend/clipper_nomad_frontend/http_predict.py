"""The hot path: HTTP/1.1 on an asyncio.Protocol over httptools, for POST /<app>/predict and nothing else.

No task and no future per query: a request becomes a Query, its answer is written from where the batch's result is taken
apart. Answers leave in the order of their requests. Every other request is handed, with the connection, to aiohttp
(api.py) once nothing is owed before it; its reply closes the connection. Rules and limits: http_rules.py and
docs/behaviour.md, "HTTP".

A request whose head was parsed before, to the letter, and that arrives whole, is not parsed again: the same bytes mean the
same. That saves a third of the time a query takes here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote_to_bytes

import httptools

from clipper_nomad_frontend import answers, http_rules
from clipper_nomad_frontend.answers import Answer
from clipper_nomad_frontend.http_rules import HttpLimits, KnownHead, KnownHeads, RequestIds, rebuilt_request
from clipper_nomad_frontend.owed_replies import BatchReply, Owed, ReadyReply
from clipper_nomad_frontend.predict_request import PredictRequest, RequestError
from clipper_nomad_frontend.predictions import Predictions

if TYPE_CHECKING:
    from clipper_nomad_frontend.endpoints import Endpoint
    from clipper_nomad_frontend.metrics import ProcessCounters


class HttpServerState:
    """What the connections of one server share."""

    def __init__(
        self,
        predictions: Predictions,
        *,
        counters: ProcessCounters,
        limits: HttpLimits,
        fallback: Callable[[], asyncio.Protocol],
        clock: Callable[[], float],
    ) -> None:
        """`clock` is the event loop's, in seconds; uvloop's own `time()` shows whole milliseconds only."""
        self.predictions = predictions
        self.counters = counters
        self.limits = limits
        self.fallback = fallback
        self.clock = clock
        self.connections: set[PredictConnection] = set()
        self.on_connections_changed: Callable[[], None] = _nobody_asks
        self.is_draining = False
        self.request_ids = RequestIds()
        self.date_line = b""
        self.known_heads = KnownHeads()

    def drain(self, now: float) -> None:
        """Close each connection with its next reply, or when it stays idle a moment longer."""
        self.is_draining = True
        for connection in self.connections:
            connection.note_activity(now)

    def tick(self, now: float, wall_clock: float) -> None:
        """Note the date, and close connections that broke a time limit. To be called about once a second."""
        self.date_line = http_rules.date_line(wall_clock)
        for connection in list(self.connections):
            connection.check_time(now)


def _nobody_asks() -> None:
    """Stand in for whoever wants to know how many connections are open."""


class PredictConnection(asyncio.Protocol):
    """One client connection."""

    __slots__ = (
        "_began", "_body", "_body_bytes", "_body_seen", "_chunk", "_expects", "_handover", "_head_bytes", "_head_count",
        "_headers", "_held", "_in_head", "_in_message", "_is_closing", "_is_paused", "_is_releasing", "_last_read",
        "_lingers", "_owed", "_parser", "_problem", "_request_id", "_server", "_transport", "_unread_bytes", "_url",
        "_write_blocked_at",
    )  # fmt: skip

    def __init__(self, server: HttpServerState) -> None:
        self._server = server
        self._owed: deque[Owed] = deque()
        self._held: deque[tuple[Owed, Callable[[], None]]] = deque()  # owed, and not begun: too many are under way
        self._is_releasing = False
        self._is_closing = False  # nothing more is taken in; the connection closes when nothing is owed
        self._lingers = False  # the client may still be sending: closing now would cost it the reply
        self._is_paused = False
        self._write_blocked_at: float | None = None
        self._unread_bytes = 0
        self._body_seen = 0
        self._in_head = False
        self._chunk = b""  # what was received last, if a request starts with it
        self._handover: bytes | None = None  # a request for aiohttp that waits until nothing is owed
        self._began = self._last_read = server.clock()
        self._reset()

    def _reset(self) -> None:
        self._in_message = False
        self._head_count = 0  # how many of the headers are no trailers, once a chunk came
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = -1  # what came after the chunk in which the request began, and was no body
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._request_id: bytes | None = None
        self._expects = False
        self._problem: tuple[int, str] | None = None

    # ---- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are of no class of asyncio's
        self._parser = httptools.HttpRequestParser(self)
        self._server.connections.add(self)
        self._server.on_connections_changed()
        self._server.counters.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """Forget what is owed: the places of its queries are free."""
        self._is_closing = True
        del self._parser  # which holds this connection: a circle would wait for the collector, and it comes seldom
        self._server.connections.discard(self)
        self._server.on_connections_changed()
        owed, self._owed = self._owed, deque()
        held, self._held = {id(item) for item, _ in self._held}, deque()
        for item in owed:
            if isinstance(item, ReadyReply) or id(item) in held:
                continue
            for query in item.queries if isinstance(item, BatchReply) else (item,):
                if not query.is_done:
                    self._server.predictions.abandon(query)

    def data_received(self, data: bytes) -> None:
        """Parse; complete requests are acted on from within."""
        if self._is_closing:
            return
        self._last_read = self._server.clock()
        if not self._in_message:
            head_end = data.find(b"\r\n\r\n") + 4
            known = self._server.known_heads.get(data[:head_end])
            if known is not None and len(data) == head_end + known.body_bytes:
                endpoint = self._server.predictions.routes.get(known.url)
                if endpoint is not None:
                    self._predict(endpoint, data[head_end:], self._server.request_ids.next())
                    return
            self._chunk = data
        else:
            self._chunk = b""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "Upgrade and CONNECT are not supported here")
        except httptools.HttpParserCallbackError:
            raise  # a fault of ours: the event loop logs it and ends the connection
        except httptools.HttpParserError as exc:
            self._refuse(400, f"this is not HTTP/1.1: {exc}")
        if self._in_message:
            self._bound_head(len(data))

    def _bound_head(self, size: int) -> None:
        """Count a chunk that ended no request, and refuse when too much came that is no body.

        httptools hands out a header only when it is whole, so without this a head, trailers or the extension of a chunk
        could grow for ever. The chunk in which the request began is not counted: others may have ended in it.
        """
        if self._head_bytes < 0 or self._body_bytes != self._body_seen:
            self._head_bytes, self._body_seen = 0, self._body_bytes
            return
        self._head_bytes += size
        if self._head_bytes > http_rules.MAX_HEADER_BYTES + http_rules.MAX_REQUEST_LINE:
            self._refuse(431, f"the headers are larger than {http_rules.MAX_HEADER_BYTES} bytes")

    def eof_received(self) -> bool:
        """Keep a half-closed connection open while answers are owed."""
        self._is_closing = True
        self._lingers = False
        return bool(self._owed)

    def pause_writing(self) -> None:
        """The client does not read: read nothing from it."""
        self._write_blocked_at = self._server.clock()
        self._unread_bytes = self._transport.get_write_buffer_size()
        self._pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._write_blocked_at = None
        self._resume_reading()

    def _pause_reading(self) -> None:
        if not self._is_paused and not self._transport.is_closing():
            self._is_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        """Begin what is held, as far as there is room; with room left, read again."""
        if self._is_releasing or self._write_blocked_at is not None:
            return
        self._is_releasing = True  # what is begun may be answered before `begin` returns, and lead here again
        while self._held and len(self._owed) - len(self._held) < http_rules.MAX_OUTSTANDING:
            _, begin = self._held.popleft()
            begin()
        self._is_releasing = False
        if self._is_paused and len(self._owed) < http_rules.MAX_OUTSTANDING:
            self._is_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # ---- httptools callbacks ---------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request starts."""
        self._in_message = self._in_head = True
        self._began = self._last_read

    def on_url(self, url: bytes) -> None:
        """A piece of the URL."""
        self._url = self._url + url if self._url else url
        if len(self._url) > http_rules.MAX_REQUEST_LINE:
            self._problem = (431, f"the request line is longer than {http_rules.MAX_REQUEST_LINE} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Check what can be checked before the body comes."""
        self._in_head = False
        if self._is_closing:
            return
        self._check_headers()
        if self._problem is not None:
            self._refuse(*self._problem)
        elif self._expects and not self._owed:
            self._continue()

    def _check_headers(self) -> None:
        headers = self._headers
        if len(headers) > http_rules.MAX_HEADERS:
            self._problem = (431, f"there are more than {http_rules.MAX_HEADERS} headers")
        size = 0
        for name, value in headers:
            size += len(name) + len(value) + 4
            if len(name) in http_rules.MINDED_LENGTHS:
                self._mind(name.lower(), value)
        if size > http_rules.MAX_HEADER_BYTES:
            self._problem = (431, f"the headers are larger than {http_rules.MAX_HEADER_BYTES} bytes")

    def _mind(self, name: bytes, value: bytes) -> None:
        if name == b"x-request-id":
            self._request_id = http_rules.usable_request_id(value) or self._request_id
            return
        if name == b"idempotency-key":
            self._request_id = self._request_id or http_rules.usable_request_id(value)
            return
        self._problem = http_rules.header_problem(name, value, self._server.limits) or self._problem
        if name == b"expect":
            self._expects = self._parser.get_http_version() != "1.0"  # which knows no 100

    def on_chunk_header(self) -> None:
        """A chunk starts. What follows the last one are trailers: no headers of this request."""
        self._head_count = len(self._headers)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > self._server.limits.body_bytes:
            self._body.clear()
            self._refuse(413, f"the body is larger than {self._server.limits.body_bytes} bytes")

    def on_message_complete(self) -> None:
        """Act on a whole request."""
        if self._is_closing:
            return
        server = self._server
        parser = self._parser
        endpoint = server.predictions.routes.get(self._url) or self._endpoint_by_path()
        if endpoint is None or parser.get_method() != b"POST":
            self._hand_over()
            return
        if server.limits.is_local and (cause := http_rules.why_not_from(self._headers)) is not None:
            self._refuse(403, cause)
            return
        names = {name.lower() for name, _ in self._headers}
        if not parser.should_keep_alive():
            self._is_closing = True
        elif names.isdisjoint(http_rules.NOT_PLAIN):
            self._remember_head()
        elif b"connection" in names and parser.get_http_version() == "1.0":
            self._is_closing = True  # its keep-alive wants another reply than ours; `ab -k` would wait for the end for ever
        request_id = self._request_id or server.request_ids.next()
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._reset()
        self._predict(endpoint, body, request_id)

    def _remember_head(self) -> None:
        """Note the head of this request, which is plain, if the request was all that its chunk held."""
        head_end = self._chunk.find(b"\r\n\r\n") + 4
        if head_end <= http_rules.LONGEST_KNOWN_HEAD and len(self._chunk) == head_end + self._body_bytes:
            self._server.known_heads.remember(self._chunk[:head_end], KnownHead(self._url, self._body_bytes))
        self._chunk = b""  # up to 256 KiB that an idle connection need not keep

    def _predict(self, endpoint: Endpoint, body: bytes, request_id: bytes) -> None:
        """Ask for the predictions that `body` wants."""
        try:
            request = endpoint.reader.read(body)
        except RequestError as exc:
            self._reply(answers.bad_request(str(exc)), request_id)
            return
        if request.is_batch:
            self._ask_batch(endpoint, request, request_id)
            return
        predictions = self._server.predictions
        query = predictions.query(endpoint, request.inputs[0], self._last_read, self)
        query.request_id = request_id
        query.close = self._is_closing
        self._owed.append(query)
        if len(self._owed) > http_rules.MAX_OUTSTANDING:
            self._hold(query, partial(predictions.submit, query, request.version))
        else:
            predictions.submit(query, request.version)

    def _hold(self, item: Owed, begin: Callable[[], None]) -> None:
        """Keep a request that one chunk brought beyond the limit until there is room, and read no more."""
        self._held.append((item, begin))
        self._pause_reading()

    def _endpoint_by_path(self) -> Endpoint | None:
        """Look again without the query string and with percent signs decoded: the exact bytes are the common case."""
        return self._server.predictions.routes.get(unquote_to_bytes(self._url.partition(b"?")[0]))

    def _ask_batch(self, endpoint: Endpoint, request: PredictRequest, request_id: bytes) -> None:
        reply = BatchReply(self, len(request.inputs), request_id, close=self._is_closing)
        self._owed.append(reply)
        if not request.inputs:
            self.take(reply, answers.batch([]))
        elif len(self._owed) > http_rules.MAX_OUTSTANDING:
            self._hold(reply, partial(self._begin_batch, reply, endpoint, request, self._last_read))
        else:
            self._begin_batch(reply, endpoint, request, self._last_read)

    def _begin_batch(self, reply: BatchReply, endpoint: Endpoint, request: PredictRequest, arrived: float) -> None:
        predictions = self._server.predictions
        reply.queries = [predictions.query(endpoint, packed, arrived, reply) for packed in request.inputs]
        for query in reply.queries:
            query.request_id = reply.request_id
            predictions.submit(query, request.version)

    # ---- replies ---------------------------------------------------------------------------------------------------

    def take(self, item: Owed, answer: Answer) -> None:
        """Write the reply of `item`, or keep it while an earlier one is still owed."""
        owed = self._owed
        if not owed:
            return  # the client has gone
        server = self._server
        if server.is_draining and not self._is_closing:
            self._announce_close()
        reply = http_rules.reply(
            answer.status,
            answer.body,
            answer.headers,
            item.request_id,
            server.date_line,
            close=item.close,
        )
        if owed[0] is not item:
            item.reply = reply
            return
        owed.popleft()
        while owed and owed[0].reply is not None:
            reply += owed.popleft().reply or b""
        if self._transport.is_closing():
            return
        self._transport.write(reply)
        if self._is_paused:
            self._resume_reading()
        if not owed and (self._is_closing or self._expects):
            self._when_nothing_is_owed()

    def _announce_close(self) -> None:
        """Take nothing more in, and say so in the last reply that is owed."""
        self._is_closing = True
        last = self._owed[-1]
        last.close = True
        if last.reply is not None:
            last.reply = http_rules.closing(last.reply)

    def _when_nothing_is_owed(self) -> None:
        if self._handover is not None:
            self._hand_over_now(self._handover)
        elif self._lingers:
            self._transport.write_eof()
        elif self._is_closing:
            self._transport.close()
        elif self._expects:
            self._continue()

    def _continue(self) -> None:
        self._expects = False
        if not self._transport.is_closing():
            self._transport.write(http_rules.CONTINUE)

    def _reply(self, answer: Answer, request_id: bytes) -> None:
        """Answer a request for which no model is asked."""
        item = ReadyReply(request_id, close=self._is_closing)
        self._owed.append(item)
        if len(self._owed) > http_rules.MAX_OUTSTANDING:
            self._pause_reading()
        self.take(item, answer)

    def _refuse(self, status: int, cause: str) -> None:
        """Answer a request that breaks the rules, in its turn, and close: what follows it cannot be trusted."""
        if self._is_closing:
            return
        self._server.counters.http_errors += 1
        self._is_closing = True
        self._lingers = status != 408  # who was too slow is not waited for again
        self._reply(answers.refused(status, "HTTP error", cause), self._request_id or self._server.request_ids.next())

    # ---- everything that is no prediction --------------------------------------------------------------------------

    def _hand_over(self) -> None:
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(400, "Upgrade and CONNECT are not supported here")
            return
        headers = self._headers[: self._head_count] if self._head_count else self._headers  # no trailers
        raw = rebuilt_request(method, self._url, self._parser.get_http_version(), headers, b"".join(self._body))
        self._reset()
        self._is_closing = True
        if self._owed:
            self._handover = raw
            self._pause_reading()
        else:
            self._hand_over_now(raw)

    def _hand_over_now(self, raw: bytes) -> None:
        """Give the connection to aiohttp, which answers this one request and closes."""
        self._server.connections.discard(self)
        self._server.on_connections_changed()
        del self._parser  # see connection_lost
        transport = self._transport
        if self._is_paused and self._write_blocked_at is None:
            transport.resume_reading()
        other = self._server.fallback()
        transport.set_protocol(other)
        other.connection_made(transport)
        other.data_received(raw)

    def abort(self) -> None:
        """End the connection now, whatever is owed."""
        self._transport.abort()

    # ---- time limits -----------------------------------------------------------------------------------------------

    def note_activity(self, now: float) -> None:
        """Let the time limits begin anew."""
        self._last_read = self._began = now

    def check_time(self, now: float) -> None:
        """Close if a time limit is broken."""
        if self._write_blocked_at is not None:
            self._check_unread(now, self._write_blocked_at)
        elif self._owed:
            self.note_activity(now)  # no limit on the client while it is our turn
        elif self._is_closing:
            if now - self._last_read > (http_rules.LINGER_S if self._lingers else http_rules.UNREAD_TIMEOUT_S):
                self._transport.abort()
        elif self._in_head:
            if now - self._began > http_rules.HEAD_TIMEOUT_S:
                self._refuse(408, f"the headers did not arrive within {http_rules.HEAD_TIMEOUT_S:g} s")
        elif self._in_message:
            if now - self._last_read > http_rules.BODY_TIMEOUT_S:
                self._refuse(408, f"nothing of the body arrived for {http_rules.BODY_TIMEOUT_S:g} s")
        else:
            limit = http_rules.DRAIN_IDLE_S if self._server.is_draining else http_rules.IDLE_TIMEOUT_S
            if now - self._last_read > limit:
                self._is_closing = True
                self._transport.close()

    def _check_unread(self, now: float, blocked_at: float) -> None:
        """End the connection of a client that reads nothing; one that reads slowly has all the time it needs."""
        unread = self._transport.get_write_buffer_size()
        if unread < self._unread_bytes:
            self._write_blocked_at = now
        elif now - blocked_at > http_rules.UNREAD_TIMEOUT_S:
            self._transport.abort()
        self._unread_bytes = unread
        self.note_activity(now)
