"""The HTTP/1.1 rules of the predict path: limits, the headers it minds, and the bytes of its replies. Pure.

The rules themselves are in docs/behaviour.md, "HTTP"; http_predict.py obeys them.
"""

from __future__ import annotations

import http
import itertools
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

MAX_REQUEST_LINE = 8 * 1024
MAX_HEADERS = 64
MAX_HEADER_BYTES = 32 * 1024
MAX_OUTSTANDING = 64  # requests of one connection that wait for their answer; then nothing more is read from it
HEAD_TIMEOUT_S = 10.0
BODY_TIMEOUT_S = 30.0  # without progress
IDLE_TIMEOUT_S = 75.0  # above the 15 s after which Fabio drops an idle upstream connection
DRAIN_IDLE_S = 1.0  # at drain: a client in the middle of its work asks again before that, and is told to close
UNREAD_TIMEOUT_S = 30.0  # a client that does not read its answers
LINGER_S = 5.0  # after a refusal: a client that is still sending would lose the reply if the socket were closed under it

MOST_KNOWN_HEADS = 1024  # heads whose meaning is remembered, a client has one for each length of its bodies
LONGEST_KNOWN_HEAD = 1024
NOT_PLAIN = frozenset(
    {b"x-request-id", b"idempotency-key", b"expect", b"transfer-encoding", b"connection", b"upgrade", b"content-encoding"}
)  # a head with one of these is parsed each time

LOOPBACK_HOST = re.compile(rb"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?\Z", re.IGNORECASE)
_PRINTABLE = re.compile(rb"[\x21-\x7e]{1,128}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What of the rules can be set."""

    body_bytes: int = 16 * 1024 * 1024
    is_local: bool = False  # only for this machine: `why_not_from`


_REASONS = {status.value: status.phrase.encode() for status in http.HTTPStatus}
_HEADS = {
    status: b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\n" % (status, reason) for status, reason in _REASONS.items()
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class KnownHead(NamedTuple):
    """The meaning of a plain head that was parsed before: POST to `url`, keep-alive, `body_bytes` of body, no more."""

    url: bytes
    body_bytes: int


class KnownHeads(dict[bytes, KnownHead]):
    """Heads by their bytes. Clients repeat theirs to the letter; those that never do cost a bounded table."""

    def remember(self, head: bytes, known: KnownHead) -> None:
        """Keep what a head means."""
        if len(self) >= MOST_KNOWN_HEADS:
            self.clear()
        self[head] = known


class RequestIds:
    """Makes request ids that are unique across frontends: a random prefix per process, then a count."""

    __slots__ = ("_count", "_prefix")

    def __init__(self) -> None:
        self._prefix = os.urandom(6).hex().encode()
        self._count = itertools.count()

    def next(self) -> bytes:
        """Return a new id."""
        return b"%b-%x" % (self._prefix, next(self._count))


def usable_request_id(value: bytes) -> bytes | None:
    """Return a caller's request id if it may go into a header and a log line, else None."""
    return value if _PRINTABLE.match(value) else None


def date_line(seconds: float) -> bytes:
    """Return the Date header line for a time since the epoch: wall-clock time, as it is for the client."""
    return time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime(seconds)).encode()


def reply(status: int, body: bytes, headers: bytes, request_id: bytes, date: bytes, *, close: bool) -> bytes:
    """Return a whole reply. `headers` are lines that end in CRLF."""
    return b"%bContent-Length: %d\r\nX-Request-Id: %b\r\n%b%b%b\r\n%b" % (
        _HEADS[status],
        len(body),
        request_id,
        date,
        headers,
        b"Connection: close\r\n" if close else b"",
        body,
    )


def closing(finished: bytes) -> bytes:
    """Return a finished reply with `Connection: close` in it."""
    return finished.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


_MINDED = (b"content-length", b"x-request-id", b"idempotency-key", b"content-encoding", b"expect", b"upgrade")
MINDED_LENGTHS = frozenset(map(len, _MINDED))  # a look at the length spares most headers the rest
_NOT_PASSED_ON = frozenset({b"connection", b"content-length", b"transfer-encoding", b"expect", b"keep-alive"})


def header_problem(name: bytes, value: bytes, limits: HttpLimits) -> tuple[int, str] | None:
    """Return the status and the cause with which a request is refused for this header, or None. `name`: lower case."""
    match name:
        case b"content-length" if int(value) > limits.body_bytes:
            return 413, f"the body has {int(value)} bytes; at most {limits.body_bytes} are taken"
        case b"content-encoding" if value.strip().lower() not in (b"", b"identity"):
            return 415, "a body with a Content-Encoding is not taken; send it as it is"
        case b"expect" if value.strip().lower() != b"100-continue":
            return 417, "the only expectation known is 100-continue"
        case b"upgrade":
            return 400, "Upgrade is not supported here"
        case _:
            return None


def why_not_from(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return why a frontend that serves its own machine refuses a request with these headers, or None.

    A web page can make its visitor's browser send requests to this machine. It gives itself away: by the Host that it
    used, a DNS name of its own that leads here, or by the Origin that a browser adds to what it posts.
    """
    host = origin = b""
    for name, value in headers:
        if len(name) == 4 and name.lower() == b"host":
            host = value
            if not LOOPBACK_HOST.match(host):
                return "the Host header must be a loopback name: localhost, 127.0.0.1 or [::1]"
        elif len(name) == 6 and name.lower() == b"origin":
            origin = value
    if origin and origin.partition(b"://")[2].lower() != host.lower():
        return "a web page of another origin may not ask here; the page at /docs may"
    return None


def rebuilt_request(method: bytes, url: bytes, version: str, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    """Return the bytes of a parsed request again, with `Connection: close` and its body in one piece."""
    lines = [b"%b %b HTTP/%b" % (method, url, version.encode())]
    lines += [b"%b: %b" % header for header in headers if header[0].lower() not in _NOT_PASSED_ON]
    if not any(name.lower() == b"host" for name, _ in headers):
        lines.append(b"Host: localhost")  # aiohttp insists on one; no web page can leave it out, so it may ask here
    lines += [b"Connection: close", b"Content-Length: %d" % len(body), b"", b""]
    return b"\r\n".join(lines) + body
