"""The sockets of this replica: one DEALER for each connection to a frontend. The only file that knows ZeroMQ.

A Connection is one session's socket. It never connects again by itself: libzmq would then send to a restarted frontend
what its predecessor had asked. Its monitor tells when the connection ended. Dealer holds them all and waits on them.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import zmq

from clipper_nomad.protocol.keys import parse_keys
from clipper_nomad.protocol.links import HEARTBEAT_IVL_MS, HEARTBEAT_TIMEOUT_MS, HEARTBEAT_TTL_MS
from clipper_nomad.protocol.wire import MAX_FRAME_BYTES, WireError

MAX_FRAMES = 8  # of a message; the longest has 3
LAST_WORDS_S = 2.0  # how long results of a closed connection may still be on their way
_ENDED = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_OPTIONS = {
    zmq.RECONNECT_IVL: -1,  # never: one connection is one session
    zmq.LINGER: 0,
    zmq.IMMEDIATE: 1,  # nothing is queued for a connection that does not stand; what is unread when it ends is lost
    zmq.MAXMSGSIZE: MAX_FRAME_BYTES,
}
HEARTBEATS: Mapping[zmq.SocketOption, int] = {
    zmq.HEARTBEAT_IVL: HEARTBEAT_IVL_MS,  # libzmq's own thread beats, also while the model holds the interpreter's lock
    zmq.HEARTBEAT_TIMEOUT: HEARTBEAT_TIMEOUT_MS,
    zmq.HEARTBEAT_TTL: HEARTBEAT_TTL_MS,
}
# As plain numbers: pyzmq converts its enums at every call, which is a third of the cost of the call.
_NOW = int(zmq.NOBLOCK)
_NOW_AND_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_HAS_MORE = int(zmq.RCVMORE)
_READABLE = int(zmq.POLLIN)
_WRITABLE = int(zmq.POLLOUT)
_LONGEST_WAIT_S = 60.0  # zmq_poll takes milliseconds that fit an int

FILE = "file://"
_numbers = itertools.count()


class Keys(NamedTuple):
    """For an encrypted channel, 40 characters of Z85 each: the frontends' public key, and this version's secret one.

    `server` may be a file with several, read at each dial: while the frontends' key is changed some have the new one
    already, and which one a dial will meet is not known before."""

    server: bytes | Path
    secret: bytes

    def server_at(self, turn: int) -> bytes:
        """Return the key to dial with; `turn` counts the dials. Raises: ValueError, OSError: there is none now."""
        if isinstance(self.server, bytes):
            return self.server
        known = parse_keys(self.server.read_text())
        return known[turn % len(known)]


class Dialled(Protocol):
    """What a connection is of: a link, which knows where to dial."""

    address: str

    @property
    def turn(self) -> int:
        """Which of the frontends' keys to try, if there are several: another one after a dial that failed."""


AnyLink = TypeVar("AnyLink", bound=Dialled)


class Connection(Generic[AnyLink]):
    """One connection to a frontend, from its dialing to its end. `is_lost` is for ever."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        link: AnyLink,
        keys: Keys | None = None,
        *,
        max_frames: int = MAX_FRAMES,
        options: Mapping[zmq.SocketOption, int] = HEARTBEATS,
    ) -> None:
        self.link = link
        self._max_frames = max_frames
        self.socket = context.socket(zmq.DEALER)
        for option, value in (*_OPTIONS.items(), *options.items()):
            self.socket.setsockopt(option, value)
        # Not pyzmq's default name: that has the descriptor's number, which the next socket may get while this one ends.
        self._monitor = self.socket.get_monitor_socket(_ENDED, addr=f"inproc://monitor-{next(_numbers)}")
        self.alarm = int(self._monitor.getsockopt(zmq.FD))  # readable when the monitor has news
        self.is_lost = False
        self.has_sent = False  # then it stands
        self.read_alarm()  # libzmq signals only a reader that has found nothing: else a refused dial would go unheard
        try:
            if keys is not None:
                self.socket.set(zmq.CURVE_SERVERKEY, keys.server_at(link.turn))
                self.socket.set(zmq.CURVE_SECRETKEY, keys.secret)
                self.socket.set(zmq.CURVE_PUBLICKEY, zmq.curve_public(keys.secret))
            self.socket.connect(_address_now(link.address))
        except (zmq.ZMQError, ValueError, OSError):  # an address of a roster may be none, and a file may hold none
            self.is_lost = True

    def send(self, frames: list[bytes]) -> bool:
        """Hand a message to the connection. Return False if it does not stand, or the frontend does not read."""
        try:
            for frame in frames[:-1]:
                self.socket.send(frame, _NOW_AND_MORE)
            self.socket.send(frames[-1], _NOW)
        except zmq.ZMQError:  # EAGAIN: no connection, or a full queue; others do not occur, and end the connection too
            return False
        self.has_sent = True
        return True

    def receive(self) -> list[bytes]:
        """Return the next message, or nothing if there is none. Raises: WireError: it has too many frames."""
        socket = self.socket
        try:
            frames = [socket.recv(_NOW)]
        except zmq.Again:
            return []
        while socket.getsockopt(_HAS_MORE):
            frames.append(socket.recv(_NOW))
            if len(frames) > self._max_frames:
                while socket.getsockopt(_HAS_MORE):
                    socket.recv(_NOW)
                raise WireError(f"a message has at most {self._max_frames} frames")
        return frames

    def read_alarm(self) -> None:
        """Learn from the monitor whether the connection ended."""
        try:
            while True:
                self._monitor.recv_multipart(_NOW)
                self.is_lost = True  # it tells of nothing else, see _ENDED
        except zmq.Again:
            pass

    def close(self, *, linger_s: float) -> None:
        """End the connection; what was sent has `linger_s` to get out."""
        self.socket.disable_monitor()
        self._monitor.close(linger=0)
        self.socket.close(linger=int(linger_s * 1000))


def _address_now(address: str) -> str:
    """Return what to dial. A file (file:///path) holds addresses, separated by commas, and is read at each dial: frontends
    move. One of them by chance, so that dialling again may lead to another frontend, as with a proxy that balances.
    """
    if not address.startswith(FILE):
        return address
    try:
        listed = [each.strip() for each in Path(address.removeprefix(FILE)).read_text().split(",") if each.strip()]
    except OSError:
        listed = []
    return random.choice(listed) if listed else ""  # noqa: S311  # spreads the load; no secret


class Dealer(Generic[AnyLink]):
    """All connections, and what wakes a wait for them."""

    def __init__(
        self,
        wake: int,
        keys: Keys | None = None,
        *,
        max_frames: int = MAX_FRAMES,
        options: Mapping[zmq.SocketOption, int] = HEARTBEATS,
    ) -> None:
        """`wake`: a descriptor that ends a wait when it is readable. `keys`: for an encrypted channel. `max_frames`: of a
        message. `options`: of every socket, besides those that all links need.
        """
        self._max_frames = max_frames
        self._options = options
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._wake = wake
        self._keys = keys
        self._connections: list[Connection[AnyLink]] = []
        self._by_socket: dict[Any, Connection[AnyLink]] = {}  # Any: zmq_poll's sources are sockets and numbers
        self._sources: list[tuple[Any, int]] = [(wake, _READABLE)]

    def dial(self, link: AnyLink) -> Connection[AnyLink]:
        """Begin a connection. It stands when its first `send` succeeds; `wait` stirs when that may be."""
        connection = Connection(self._context, link, self._keys, max_frames=self._max_frames, options=self._options)
        self._connections.append(connection)
        self.watch()
        return connection

    def drop(self, connection: Connection[AnyLink], *, linger_s: float = 0.0) -> None:
        """End a connection."""
        self._connections.remove(connection)
        self.watch()
        connection.close(linger_s=linger_s)

    def wait(self, timeout_s: float) -> tuple[list[Connection[AnyLink]], bool]:
        """Wait until something happens. Return whose messages can be read, and whether anything else stirred."""
        readable: list[Connection[AnyLink]] = []
        stirred = False
        timeout_ms = math.ceil(min(timeout_s, _LONGEST_WAIT_S) * 1000)  # rounded down it would spin before a due time
        for source, events in zmq.zmq_poll(self._sources, timeout_ms):
            connection = self._by_socket.get(source)
            if connection is None or not events & _READABLE:
                stirred = True
            else:
                readable.append(connection)
        return readable, stirred

    def close(self) -> None:
        """End every connection; return when what was sent is out, or after LAST_WORDS_S."""
        for connection in list(self._connections):
            self.drop(connection)
        self._context.term()

    def watch(self) -> None:
        """Wait from now on for what the connections need: to be sent on, till they have been, or to be read."""
        self._by_socket = {each.socket: each for each in self._connections}
        self._sources = [
            *((each.socket, _READABLE if each.has_sent else _READABLE | _WRITABLE) for each in self._connections),
            *((each.alarm, _READABLE) for each in self._connections),
            (self._wake, _READABLE),
        ]
