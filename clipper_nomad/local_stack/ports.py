"""The listening sockets that the supervisor binds once and its children inherit (decision 10).

Without SO_REUSEPORT: with it two stacks would answer on one port, each half of the queries. With SO_REUSEADDR, so that
connections of a stack just stopped do not block the next; on Linux that allows no second listener.
"""

from __future__ import annotations

import errno
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from clipper_nomad.errors import StackError

DEFAULT_PORT = 9999
DEFAULT_LEGACY_RPC_PORT = 7001  # 7000 is Clipper's own
PORTS_TRIED = 100
BACKLOG = 4096  # a frontend that restarts finds its clients waiting, not refused
_LOOPBACK = "127.0.0.1"
_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp
_IN_THE_WAY = {socket.inet_aton(_LOOPBACK)[::-1].hex().upper(), "0" * 8, "0" * 32}  # loopback, any, any by IPv6


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicPort:
    """A bound and listening socket. `note`: what to tell the user about the port, or None."""

    socket: socket.socket
    note: str | None = None

    @property
    def address(self) -> str:
        """The socket's "host:port"."""
        host, port = self.socket.getsockname()
        return f"{host}:{port}"


def bind_public(port: int | None) -> PublicPort:
    """Listen on `port` (0: any); without one on the default port or, if that is taken, the next that is free.

    Raises: StackError: the port that the user named is taken, or a hundred ports in a row are.
    """
    if port is not None:
        listener = _listen(port)
        if listener is None:
            raise StackError(
                f"Port {port} is taken{holder_words(port)}.",
                hint="Name another port, leave it out to take the next free one, or stop what holds it.",
            )
        return PublicPort(socket=listener)
    listener = _next_free(DEFAULT_PORT, hint="Name a free port.")
    note = None
    candidate = listener.getsockname()[1]
    if candidate != DEFAULT_PORT:
        note = f"Port {DEFAULT_PORT} is taken{holder_words(DEFAULT_PORT)}; using port {candidate}."
    return PublicPort(socket=listener, note=note)


def bind_legacy_rpc() -> PublicPort:
    """Listen where containers of Clipper's RPC version 3 dial: on 7001 or, if that is taken, the next that is free.

    Raises: StackError: a hundred ports in a row are taken.
    """
    return PublicPort(socket=_next_free(DEFAULT_LEGACY_RPC_PORT, hint="Free one, or start with legacy_rpc=False."))


def _next_free(port: int, *, hint: str) -> socket.socket:
    for candidate in range(port, port + PORTS_TRIED):
        listener = _listen(candidate)
        if listener is not None:
            return listener
    raise StackError(f"The ports {port} to {port + PORTS_TRIED - 1} are all taken.", hint=hint)


def bind_any() -> socket.socket:
    """Listen on a loopback port that the system chooses."""
    return bind_public(0).socket


def _listen(port: int) -> socket.socket | None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if sys.platform == "darwin" and port and answers(port):
        listener.close()  # BSD would let 127.0.0.1 hide a listener on all addresses
        return None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_LOOPBACK, port))
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            return None
        raise StackError(f"Port {port} cannot be used: {exc.strerror}.", hint="Name a port from 1024 to 65535.") from exc
    except OverflowError as exc:
        listener.close()
        raise StackError(f"{port} is no port.", hint="Name a port from 1024 to 65535.") from exc
    return listener


def answers(port: int) -> bool:
    """Return whether somebody listens on a loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((_LOOPBACK, port)) == 0


def holder_words(port: int) -> str:
    """Return who listens on a loopback port, as " by process 12 (name)"; "" if that cannot be told."""
    if not Path("/proc/net/tcp").exists():  # macOS
        return f" (who holds it cannot be told here; try `lsof -nP -iTCP:{port}`)"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _lines(table)[1:]:
            fields = line.split()
            address, _, number = fields[1].partition(":")
            if fields[3] == _LISTENING and int(number, 16) == port and address in _IN_THE_WAY:
                return _words_of(inode=fields[9], uid=fields[7])
    return ""


def _words_of(*, inode: str, uid: str) -> str:
    link = f"socket:[{inode}]"
    for directory in Path("/proc").glob("[0-9]*/fd"):
        try:
            held = any(str(fd.readlink()) == link for fd in directory.iterdir())
            if held:
                program = (directory.parent / "comm").read_text().strip()
                return f" by process {directory.parent.name} ({program})"
        except OSError:  # ended meanwhile, or another user's
            continue
    return f" by a process of the user with id {uid}, which may not be looked at"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:  # no IPv6
        return [""]
