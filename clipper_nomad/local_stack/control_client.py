"""The user's end of the control socket: one request, one reply, within a deadline. Used by launch.py and manager.py."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from clipper_nomad.errors import StackError
from clipper_nomad.local_stack.control import (
    ControlError,
    Refused,
    Reply,
    Request,
    decode_reply,
    encode,
)


class NotRunning(StackError):
    """No supervisor answers at this place."""


class RefusedByStack(StackError):
    """The supervisor says no. `kind` is Refused's."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message, hint=refused.hint)
        self.kind = refused.kind


def ask(runtime: Path, request: Request, *, within_s: float) -> Reply:
    """Return the supervisor's reply to `request`.

    Raises: NotRunning: nobody listens, or it ended before it replied. RefusedByStack: it said no. StackError: no reply
    within `within_s`.
    """
    deadline = time.monotonic() + within_s
    received = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.settimeout(within_s)
            connection.connect(str(runtime / "control"))
            connection.sendall(encode(request))
            while not received.endswith(b"\n"):
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                piece = connection.recv(65536)
                if not piece:
                    raise NotRunning("The supervisor of the local stack ended before it answered.")
                received += piece
        except TimeoutError as exc:
            raise StackError(
                f"The supervisor of the local stack did not answer {type(request).__name__} within {within_s:g} s.",
                hint=f"See logs/supervisor.log in the stack's data directory. Its sockets are in {runtime}.",
            ) from exc
        except OSError as exc:
            raise NotRunning(f"No local stack answers in {runtime}: {exc}.") from exc
    try:
        reply = decode_reply(bytes(received))
    except ControlError as exc:
        raise StackError(f"The supervisor of the local stack answered what is no answer: {exc}.") from exc
    if isinstance(reply, Refused):
        raise RefusedByStack(reply)
    return reply
