"""An HTTP client for tests that sends bytes as it likes; h11 is the judge of what comes back. Every wait has a deadline."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import h11

PATIENCE_S = 20.0
FULL_AFTER_S = 0.3  # a server that reads makes room sooner


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP reply; header names are lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401  # JSON
        """The body, read."""
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """Return the value of a header that comes at most once."""
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) <= 1, f"{name} comes {len(values)} times"
        return values[0] if values else None


def http_request(
    method: str, target: str, body: bytes | None = None, headers: Sequence[str] = (), *, version: str = "1.1"
) -> bytes:
    """Return the bytes of a request. `headers` are whole lines; Content-Length is added if there is a body."""
    lines = [f"{method} {target} HTTP/{version}", "Host: test", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def predict_request(app: str, value: object, headers: Sequence[str] = (), **more: object) -> bytes:
    """Return the bytes of a predict request for one input; `more` are other keys of its body."""
    return http_request("POST", f"/{app}/predict", json.dumps({"input": value, **more}).encode(), headers)


class Client:
    """A connection of a client that sends bytes as it likes; h11 is the judge of what comes back."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._judge = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        self._has_asked = False

    def send(self, data: bytes) -> None:
        """Send bytes. A server that closed meanwhile is no error: its reply is what matters."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def send_what_goes(self, data: bytes) -> int:
        """Send until the server takes nothing more for a while; return how many bytes went."""
        sent = 0
        self.socket.settimeout(FULL_AFTER_S)
        with contextlib.suppress(TimeoutError):
            while sent < len(data):
                sent += self.socket.send(data[sent : sent + (1 << 20)])
        self.socket.settimeout(PATIENCE_S)
        return sent

    def predict(self, app: str, value: object, **more: object) -> Reply:
        """Ask for one prediction; `more` are other keys of the request's body."""
        self.send(predict_request(app, value, (), **more))
        return self.reply()

    def ask(self, method: str, target: str, body: bytes | None = None, headers: Sequence[str] = ()) -> Reply:
        """Send a request and return its reply."""
        self.send(http_request(method, target, body, headers))
        return self.reply(method)

    def reply(self, method: str = "POST") -> Reply:
        """Return the next reply, which must be whole; `method` is that of its request."""
        if self._has_asked:
            self._judge.start_next_cycle()
        self._has_asked = True
        self._judge.send(h11.Request(method=method, target="/", headers=[("Host", "test")]))
        self._judge.send(h11.EndOfMessage())
        return _whole_reply(self._event)

    def interim(self) -> int:
        """Return the status of the 1xx reply that comes before a reply."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            assert byte, f"the connection ended after {data!r}"
            data += byte
        return int(data.split(b" ", 2)[1])

    def _event(self) -> object:
        while (event := self._judge.next_event()) is h11.NEED_DATA:
            self._judge.receive_data(self._receive())
        return event

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(1 << 16)
        except ConnectionResetError:
            raise AssertionError("the server reset the connection") from None
        except TimeoutError:
            raise AssertionError(f"the server sent nothing for {PATIENCE_S} s") from None

    def has_data(self) -> bool:
        """Whether anything came that was not read yet, or the end."""
        self.socket.setblocking(False)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return bool(self._judge.trailing_data[0])
        finally:
            self.socket.settimeout(PATIENCE_S)
        return True

    def expect_end(self) -> None:
        """The server must close now, having sent nothing else."""
        assert self._judge.trailing_data[0] == b""
        data = self._receive()
        assert data == b"", f"the server went on with {data[:200]!r}"

    def half_close(self) -> None:
        """Send nothing more, and go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def vanish(self) -> None:
        """Reset the connection, as a client does that crashed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def replies_in(data: bytes) -> list[Reply]:
    """Return the replies to POST requests that `data` holds, without 1xx; each must be whole."""
    replies: list[Reply] = []
    while data:
        judge = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        judge.send(h11.Request(method="POST", target="/", headers=[("Host", "test")]))
        judge.send(h11.EndOfMessage())
        judge.receive_data(data)
        reply = _whole_reply(judge.next_event)
        replies.append(reply)
        data = judge.trailing_data[0]
    return replies


def _whole_reply(next_event: Callable[[], object]) -> Reply:
    status, body = 0, b""
    headers: tuple[tuple[str, str], ...] = ()
    while True:
        match next_event():
            case h11.Response() as response:
                status = response.status_code
                headers = tuple((name.decode(), value.decode()) for name, value in response.headers)
            case h11.Data(data=data):
                body += data
            case h11.EndOfMessage():
                return Reply(status, headers, body)
            case h11.InformationalResponse():
                pass
            case other:
                raise AssertionError(f"no whole reply: {other!r}")
