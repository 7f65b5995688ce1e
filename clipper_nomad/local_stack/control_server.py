"""The supervisor's end of the control socket: one request a connection, answered now or later, never blocking the loop.

Only this user may speak: the socket's directory is 0700, and the peer's uid is checked besides.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from clipper_nomad.local_stack.control import (
    MAX_LINE_BYTES,
    ControlError,
    Refused,
    Reply,
    Request,
    decode_request,
    encode,
)
from clipper_nomad.local_stack.event_loop import EventLoop, Timer

_log = logging.getLogger(__name__)
SPEAK_WITHIN_S = 5.0
_BACKLOG = 64

Answer = Callable[[Reply], None]


class ControlServer:
    """Listens on `path` and hands each request to `handle`, with what to call once with the reply."""

    def __init__(self, path: Path, *, loop: EventLoop, handle: Callable[[Request, Answer], None]) -> None:
        self._loop = loop
        self._handle = handle
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen(_BACKLOG)
        loop.watch(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the peer has gone again
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            if peer_uid(connection) in {os.getuid(), 0}:
                _Conversation(connection, loop=self._loop, handle=self._handle)
            else:
                connection.close()


class _Conversation:
    """One connection: reads a line, hands it on, writes the reply."""

    def __init__(self, connection: socket.socket, *, loop: EventLoop, handle: Callable[[Request, Answer], None]) -> None:
        self._connection = connection
        self._loop = loop
        self._handle = handle
        self._bytes = bytearray()
        self._timer: Timer | None = loop.after(SPEAK_WITHIN_S, self._close)
        self._watched = True
        loop.watch(connection.fileno(), self._read)

    def _read(self) -> None:
        try:
            received = self._connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        self._bytes += received
        if not received or len(self._bytes) > MAX_LINE_BYTES:
            self._close()
        elif self._bytes.endswith(b"\n"):
            self._pause()
            line, self._bytes = bytes(self._bytes), bytearray()
            self._dispatch(line)

    def _dispatch(self, line: bytes) -> None:
        try:
            self._handle(decode_request(line), self._answer)
        except ControlError as exc:
            self._answer(Refused(kind="request", message=str(exc)))
        except Exception as exc:  # noqa: BLE001  # a fault in one request must not end the stack
            _log.exception("a request failed")
            self._answer(Refused(kind="request", message=f"The supervisor failed on this request: {exc!r}"))

    def _answer(self, reply: Reply) -> None:
        self._bytes += encode(reply)
        self._timer = self._loop.after(SPEAK_WITHIN_S, self._close)
        self._write()

    def _write(self) -> None:
        try:
            sent = self._connection.send(self._bytes)
        except BlockingIOError:
            sent = 0
        except OSError:  # who asked has gone
            self._close()
            return
        del self._bytes[:sent]
        if not self._bytes:
            self._close()
        elif not self._watched:
            self._loop.watch(self._connection.fileno(), self._write, write=True)
            self._watched = True

    def _pause(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._watched:
            self._loop.unwatch(self._connection.fileno())
            self._watched = False

    def _close(self) -> None:
        self._pause()
        self._connection.close()


def peer_uid(connection: socket.socket) -> int:
    """Return the user of the process at the other end of a unix socket."""
    if sys.platform == "linux":
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _pid, uid, _gid = struct.unpack("3i", credentials)
    elif sys.platform == "darwin":  # struct xucred: version, uid, groups
        _version, uid = struct.unpack_from("II", connection.getsockopt(0, socket.LOCAL_PEERCRED, 76))
    else:
        uid = os.getuid()  # the directory is 0700
    return int(uid)
