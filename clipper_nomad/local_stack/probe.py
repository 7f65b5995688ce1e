"""Asks a part of the stack whether it is ready, again and again, without ever blocking the loop.

A socket bound by the supervisor takes the question before its process listens, and answers when it does: no polling.
A socket that the process makes itself is looked for every RETRY_S until it is there.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clipper_nomad.local_stack.event_loop import EventLoop, Timer

RETRY_S = 0.02
ANSWER_WITHIN_S = 2.0  # then the question is asked anew: its process may have died with it


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to send to `target`, a unix socket or a loopback port, and what a reply of one that is ready begins with."""

    target: Path | int
    text: bytes
    ready: bytes


def http_question(target: Path | int, path: str) -> Question:
    """Ask for `path`; ready is 200."""
    text = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    return Question(target=target, text=text, ready=b"HTTP/1.1 200 ")


def store_question(target: Path) -> Question:
    """Ask a store whether it has read its data; until then it answers -LOADING."""
    return Question(target=target, text=b"PING\r\n", ready=b"+PONG")


class ReadyProbe:
    """Asks until the answer is that of one that is ready, then calls `then` once."""

    def __init__(self, question: Question, *, loop: EventLoop, then: Callable[[], None]) -> None:
        self._question = question
        self._loop = loop
        self._then = then
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None
        self._ask()

    def cancel(self) -> None:
        """Stop asking."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _ask(self) -> None:
        target = self._question.target
        by_path = isinstance(target, Path)
        asking = socket.socket(socket.AF_UNIX if by_path else socket.AF_INET, socket.SOCK_STREAM)
        try:
            # a unix socket connects at once or not at all, and so does a port whose listener is ours
            asking.settimeout(ANSWER_WITHIN_S)
            asking.connect(str(target) if by_path else ("127.0.0.1", target))
            asking.sendall(self._question.text)
        except OSError:
            asking.close()
            self._timer = self._loop.after(RETRY_S, self._ask)
            return
        self._socket = asking
        self._loop.watch(asking.fileno(), self._answered)
        self._timer = self._loop.after(ANSWER_WITHIN_S, self._ask_anew)

    def _answered(self) -> None:
        if self._socket is None:
            return
        try:
            reply = self._socket.recv(64)  # the first line comes in one piece, or is asked for anew
        except OSError:
            reply = b""
        self.cancel()
        if reply.startswith(self._question.ready):
            self._then()
        else:
            self._timer = self._loop.after(RETRY_S, self._ask)

    def _ask_anew(self) -> None:
        self.cancel()
        self._ask()
