"""The connections that this frontend dials to its peers: one DEALER each. Like router.py it keeps ZeroMQ to itself.

To its peer a link is a replica of last resort: it says hello, is welcomed, announces, gets queries and answers them. One
connection is one session; a lost one is dialled again, later each time, for ever. mesh.py decides whom to dial.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
import logging
import random
from time import monotonic
from typing import Protocol, cast

import zmq

from clipper_nomad.protocol.links import HEARTBEAT_IVL_MS, HEARTBEAT_TIMEOUT_MS, HEARTBEAT_TTL_MS
from clipper_nomad.protocol.mesh_messages import PeerHello
from clipper_nomad.protocol.wire import (
    MAX_FRAME_BYTES,
    Header,
    MessageType,
    Reject,
    Welcome,
    WireError,
    decode_introduction,
    encode_introduction,
    header_of,
)
from clipper_nomad_frontend.channel_keys import ChannelKeys

log = logging.getLogger(__name__)

DIAL_S = 2.0  # for the connection and the welcome, each
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
REST_S = 20.0  # before an address that led where a link stands already is tried again: it may be a proxy's
MAX_FRAMES = 8
MAX_MESSAGES_PER_WAKE = 64
_ENDED = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_STANDS = zmq.EVENT_HANDSHAKE_SUCCEEDED
_OPTIONS = {
    zmq.RECONNECT_IVL: -1,  # never: one connection is one session
    zmq.LINGER: 0,
    zmq.IMMEDIATE: 1,
    zmq.SNDHWM: 0,
    zmq.HEARTBEAT_IVL: HEARTBEAT_IVL_MS,
    zmq.HEARTBEAT_TIMEOUT: HEARTBEAT_TIMEOUT_MS,
    zmq.HEARTBEAT_TTL: HEARTBEAT_TTL_MS,
    zmq.MAXMSGSIZE: MAX_FRAME_BYTES,
}
_NOW = int(zmq.NOBLOCK)
_NOW_AND_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS = int(zmq.EVENTS)
_READABLE = int(zmq.POLLIN)

_numbers = itertools.count()

Context = zmq.Context[zmq.Socket[bytes]]


class Stage(enum.Enum):
    """Where a link is."""

    WAITING = "waiting"
    DIALING = "dialing"
    GREETING = "greeting"
    OPEN = "open"
    CLOSED = "closed"


class LinkListener(Protocol):
    """Who is told what a link brings."""

    def on_link_open(self, link: PeerLink) -> None:
        """The peer welcomed this frontend."""

    def on_link_message(self, link: PeerLink, header: Header, frames: list[bytes]) -> None:
        """The peer sent something of this session. May raise WireError."""

    def on_link_lost(self, link: PeerLink) -> None:
        """An open link has ended."""


class PeerLink:
    """The link to one peer, through as many connections as it takes. `frontend` is "" until the peer said who it is."""

    def __init__(
        self, context: Context, address: str, hello: PeerHello, listener: LinkListener, keys: ChannelKeys | None = None
    ) -> None:
        """`keys`: of the cluster's frontends, for an encrypted channel."""
        self.address = address
        self.frontend = ""
        self.stage = Stage.WAITING
        self.epoch = self.session = 0
        self._context = context
        self._keys = keys
        self._hello = encode_introduction(MessageType.HELLO, hello)
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._due = float("-inf")
        self._pause_s = FIRST_PAUSE_S
        self._dials = 0
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._again: asyncio.Handle | None = None

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self.stage is Stage.OPEN

    def tend(self, now: float) -> None:
        """Dial if it is time to; give up a dial or a hello that takes too long."""
        if self.stage in {Stage.OPEN, Stage.CLOSED} or now < self._due:
            return
        if self.stage is Stage.WAITING:
            self._dial(now)
        else:
            self._lose(now, "it did not answer in time")

    def send(self, frames: list[bytes]) -> bool:
        """Send a message; False if the link does not stand."""
        socket = self._socket
        if socket is None or self.stage not in {Stage.GREETING, Stage.OPEN}:
            return False
        try:
            for frame in frames[:-1]:
                socket.send(frame, _NOW_AND_MORE)
            socket.send(frames[-1], _NOW)
        except zmq.ZMQError:
            return False
        self._look_again()
        return True

    def close(self) -> None:
        """End the link for good."""
        self._drop(linger_ms=200)
        self.stage = Stage.CLOSED

    def rest(self, now: float) -> None:
        """Give up a link that just opened and is of no use, and dial again much later."""
        self._drop()
        self.stage, self._due = Stage.WAITING, now + REST_S * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, no secret

    def _dial(self, now: float) -> None:
        self.stage, self._due = Stage.DIALING, now + DIAL_S
        try:
            self._connect()
        except (zmq.ZMQError, ValueError) as exc:  # no address, no descriptors left: the other links must not suffer
            self._lose(now, str(exc))

    def _connect(self) -> None:
        socket = self._socket = self._context.socket(zmq.DEALER)
        for option, value in _OPTIONS.items():
            socket.setsockopt(option, value)
        if self._keys is not None:  # all frontends have one pair, but while it is changed
            known = self._keys.frontends()
            socket.set(zmq.CURVE_SERVERKEY, known[self._dials % len(known)])
            socket.set(zmq.CURVE_PUBLICKEY, self._keys.own.public)
            socket.set(zmq.CURVE_SECRETKEY, self._keys.own.secret)
        self._dials += 1
        monitor = self._monitor = socket.get_monitor_socket(_ENDED | _STANDS, addr=f"inproc://peer-monitor-{next(_numbers)}")
        self._loop.add_reader(monitor.fileno(), self._on_monitor)
        self._loop.add_reader(socket.fileno(), self._drain)
        self._on_monitor()  # libzmq signals only a reader that has found nothing
        socket.connect(self.address)

    def _on_monitor(self) -> None:
        while self._monitor is not None:
            try:
                frames = self._monitor.recv_multipart(_NOW)
            except zmq.Again:
                return
            event = int.from_bytes(frames[0][:2], "little")
            if event & _STANDS and self.stage is Stage.DIALING:
                self.stage, self._due = Stage.GREETING, monotonic() + DIAL_S
                self.send(self._hello)
            elif event & _ENDED:
                self._drain()  # what it said last is no less true
                self._lose(monotonic(), "its connection ended")

    def _look_again(self) -> None:
        """After a send: it ate the edge of whatever had come meanwhile."""
        if self._again is None and self._has_messages():
            self._again = self._loop.call_soon(self._drain)

    def _has_messages(self) -> bool:
        return self._socket is not None and bool(cast("int", self._socket.getsockopt(_EVENTS)) & _READABLE)

    def _drain(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        for _ in range(MAX_MESSAGES_PER_WAKE):
            if self._socket is None or not self._has_messages():
                return
            self._take(self._socket.recv_multipart(_NOW))
        self._again = self._loop.call_soon(self._drain)

    def _take(self, frames: list[bytes]) -> None:
        try:
            self._obey(header_of(frames[0]), frames)
        except WireError as exc:
            log.warning("a peer broke the protocol", extra={"peer": self.frontend or self.address, "cause": str(exc)})
            self._lose(monotonic(), "it broke the protocol")
        except Exception:  # a bug in what the message set off must not leave the rest unread
            log.exception("a message of a peer was not taken")

    def _obey(self, header: Header, frames: list[bytes]) -> None:
        if len(frames) > MAX_FRAMES:
            raise WireError(f"a message has at most {MAX_FRAMES} frames")
        if header.type is MessageType.WELCOME and self.stage is Stage.GREETING:
            self._open(header, decode_introduction(frames, Welcome))
        elif header.type is MessageType.REJECT:
            self._lose(monotonic(), decode_introduction(frames, Reject).reason)
        elif self.stage is not Stage.OPEN:
            raise WireError(f"{header.type.name} cannot come before a welcome")
        elif header.epoch == self.epoch:
            self._listener.on_link_message(self, header, frames)

    def _open(self, header: Header, welcome: Welcome) -> None:
        self.epoch, self.session = header.epoch, header.session
        self.frontend = welcome.frontend
        self._pause_s = FIRST_PAUSE_S
        self.stage = Stage.OPEN
        self._listener.on_link_open(self)

    def _lose(self, now: float, why: str) -> None:
        if self.stage in {Stage.WAITING, Stage.CLOSED}:
            return
        was_open = self.stage is Stage.OPEN
        self._drop()
        self.stage = Stage.WAITING
        self._due = now + self._pause_s * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, no secret
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        if was_open:
            log.warning("peer lost", extra={"peer": self.frontend, "cause": why})
            self._listener.on_link_lost(self)

    def _drop(self, linger_ms: int = 0) -> None:
        socket, monitor = self._socket, self._monitor
        self._socket = self._monitor = None
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if socket is None:
            return
        if monitor is not None:
            self._loop.remove_reader(socket.fileno())
            self._loop.remove_reader(monitor.fileno())
            socket.disable_monitor()
            monitor.close(0)
        socket.close(linger_ms)
