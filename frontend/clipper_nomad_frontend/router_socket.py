"""A ZeroMQ ROUTER on the event loop: whole messages in and out, and the end of each connection, noticed at once.

What the messages say is a subclass's business: router.py speaks our wire version 4, legacy_router.py Clipper's RPC
version 3. The socket monitor tells of a lost connection within milliseconds and names it by its file descriptor, which the
metadata of a connection's first message ties to its routing id.

pyzmq's descriptor is edge-triggered, and both sending and receiving eat the edge: after either, EVENTS must be looked at
until it says that nothing waits, or a wake-up is lost.
"""

from __future__ import annotations

import asyncio
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import zmq
from zmq.utils.monitor import parse_monitor_message

from clipper_nomad.protocol.mesh_messages import MAX_ROSTER
from clipper_nomad.protocol.wire import MAX_FRAME_BYTES

log = logging.getLogger(__name__)

# plain numbers: pyzmq converts its enums at every call, a third of the cost of the call
_NOW = int(zmq.NOBLOCK)
_NOW_AND_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_HAS_MORE = int(zmq.RCVMORE)
_EVENTS = int(zmq.EVENTS)
_READABLE = int(zmq.POLLIN)
MAX_MET = 64  # first messages that wait for all else to be read
MAX_MESSAGES_PER_WAKE = 256  # then the loop gets its turn: HTTP must not starve behind a flood of results

Context = zmq.Context[zmq.Socket[bytes]]


class RouterSocket(ABC):
    """Binds `address` and serves it on the running event loop. A subclass says what becomes of what comes in."""

    def __init__(
        self,
        address: str,
        *,
        what: str,
        max_frames: int,
        options: Mapping[zmq.SocketOption, int],
        guard: Callable[[Context, zmq.Socket[bytes]], Callable[[], None]] | None = None,
    ) -> None:
        """`address`: tcp://, ipc:// or fd://N, a listening TCP socket. `what` it is, for errors. `max_frames` of a message
        are read. `guard` is given context and socket before the socket listens, and returns what to call in the end.
        """
        self.address = address
        self._max_frames = max_frames
        self._loop = asyncio.get_running_loop()
        self._known: set[bytes] = set()  # routing ids that were heard on a live connection
        self._connection_of: dict[int, bytes] = {}  # file descriptor → routing id
        self._met: list[tuple[bytes, int, bytes, list[bytes]]] = []  # routing id, descriptor, key, frames: new connections
        self._key_of: dict[bytes, bytes] = {}  # routing id → public key of its connection, where one is asked for
        self._ended: set[int] = set()  # file descriptors whose connection has ended, and that no other has got since
        self._again: asyncio.Handle | None = None
        self.context: Context = zmq.Context()
        self.context.set(zmq.MAX_SOCKETS, 4 * MAX_ROSTER)  # a link to a peer takes three; libzmq's default is 1023
        socket = self._socket = self.context.socket(zmq.ROUTER)
        socket.set(zmq.ROUTER_MANDATORY, 1)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.RCVHWM, 10_000)
        socket.set(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        for option, value in options.items():
            socket.set(option, value)
        self._unguard = guard(self.context, socket) if guard is not None else None
        self._monitor = socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        if address.startswith("ipc://"):
            _remove_stale(Path(address.removeprefix("ipc://")))
        if address.startswith("fd://"):
            descriptor = int(address.removeprefix("fd://"))
            os.set_blocking(descriptor, False)  # others may share it, and be quicker to accept
            socket.set(zmq.USE_FD, descriptor)
            address = "tcp://127.0.0.1:*"  # libzmq wants one, and does not look at it
        try:
            socket.bind(address)
        except zmq.ZMQError as exc:
            raise OSError(exc.errno, f"{what} cannot listen on {address}: {exc.strerror}") from exc
        if address.startswith("tcp://"):
            self.address = socket.get_string(zmq.LAST_ENDPOINT)
        self._loop.add_reader(socket.fileno(), self._drain)
        self._loop.add_reader(self._monitor.fileno(), self._on_monitor)
        self._on_monitor()

    # ---- what a subclass does --------------------------------------------------------------------------------------

    @abstractmethod
    def _take_start(self, routing_id: bytes, descriptor: int) -> None:
        """There is a new connection, with this file descriptor; its first message follows."""

    @abstractmethod
    def _take(self, routing_id: bytes, frames: list[bytes]) -> None:
        """Take a message. Must not raise: the rest would stay unread, and no wake-up would follow."""

    @abstractmethod
    def _take_end(self, routing_id: bytes) -> None:
        """The connection has ended."""

    @abstractmethod
    def _take_torn(self, routing_id: bytes) -> None:
        """Something came on a connection that began without ZMTP 3's handshake: it is none of ours, or a torn stream."""

    def close(self) -> None:
        """Close the socket; what was not sent is dropped."""
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_reader(self._monitor.fileno())
        if self._again is not None:
            self._again.cancel()
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)
        if self._unguard is not None:
            self._unguard()
        self.context.term()

    # ---- out -------------------------------------------------------------------------------------------------------

    def _send(self, routing_id: bytes, frames: list[bytes]) -> bool:
        send = self._socket.send
        try:
            send(routing_id, _NOW_AND_MORE)
            for frame in frames[:-1]:
                send(frame, _NOW_AND_MORE)
            send(frames[-1], _NOW)
        except zmq.ZMQError as exc:
            if exc.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        if self._again is None and self._has_messages():
            self._again = self._loop.call_soon(self._drain)  # the send ate the edge
        return True

    # ---- in --------------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        socket = self._socket
        for _ in range(MAX_MESSAGES_PER_WAKE):
            if not self._has_messages():
                if self._met:
                    self._meet()
                return
            routing_id = socket.recv(_NOW)
            if routing_id in self._known:
                self._take(routing_id, self._rest())
            else:
                self._note_first(routing_id, socket.recv_multipart(copy=False))
        if len(self._met) >= MAX_MET:
            self._meet()
        self._again = self._loop.call_soon(self._drain)

    def _note_first(self, routing_id: bytes, parts: list[zmq.Frame]) -> None:
        """Keep the first message of a connection until all else is read."""
        try:
            descriptor = parts[-1].get(zmq.SRCFD)
            key = str(parts[-1].get("User-Id")).encode() if self._unguard is not None else b""
        except zmq.ZMQError:
            self._take_torn(routing_id)
            return
        self._met.append((routing_id, descriptor, key, [part.bytes for part in parts]))

    def _has_messages(self) -> bool:
        return bool(cast("int", self._socket.getsockopt(_EVENTS)) & _READABLE)

    def _rest(self) -> list[bytes]:
        """Return the frames that follow the routing id; of too many only the first, so that they do not parse."""
        socket = self._socket
        frames: list[bytes] = []
        while socket.getsockopt(_HAS_MORE):
            frame = socket.recv(_NOW)
            if len(frames) <= self._max_frames:
                frames.append(frame)
        return frames

    def _meet(self) -> None:
        """Take the first messages of new connections, and note their descriptors, by which the monitor will name them.

        A connection may have ended before what it said is read, and another may have its descriptor by now: its end must
        not go unnoticed, or a replica that is not there would be given work. So ends are heard of first; and nothing is
        met before all else is read, because a result is no less true for being the last thing that a connection said.
        """
        met, self._met = self._met, []
        self._take_events()
        for routing_id, descriptor, key, frames in met:
            if routing_id not in self._known:
                other = self._connection_of.get(descriptor)
                if descriptor in self._ended or (other is not None and _is_newer(other, routing_id)):
                    continue
                if other is not None:
                    self._lose(other)
                self._known.add(routing_id)
                self._connection_of[descriptor] = routing_id
                if key:
                    self._key_of[routing_id] = key
                self._take_start(routing_id, descriptor)
            self._take(routing_id, frames)

    def _on_monitor(self) -> None:
        """Hear of lost connections, after what they sent was taken: a result is no less true for being the last."""
        self._drain()
        if self._again is not None:
            self._loop.call_soon(self._on_monitor)
        else:
            self._take_events()

    def _take_events(self) -> None:
        while True:
            try:
                event = parse_monitor_message(self._monitor.recv_multipart(_NOW))
            except zmq.Again:
                return
            descriptor = event["value"]
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._ended.discard(descriptor)
                continue
            self._ended.add(descriptor)
            routing_id = self._connection_of.pop(descriptor, None)
            if routing_id is not None:
                self._lose(routing_id)

    def _lose(self, routing_id: bytes) -> None:
        self._known.discard(routing_id)
        self._key_of.pop(routing_id, None)
        try:
            self._take_end(routing_id)
        except Exception:  # a bug in what the loss set off must not leave the other losses unread
            log.exception("the end of a connection was not taken")


def _is_newer(one: bytes, other: bytes) -> bool:
    """Return whether the connection `one` was made after `other`: libzmq counts routing ids up, in 32 bits that wrap."""
    return 0 < (int.from_bytes(one[1:]) - int.from_bytes(other[1:])) % 2**32 < 2**31


def _remove_stale(path: Path) -> None:
    """Remove the socket file of a process that is gone: libzmq does not bind over it."""
    if path.is_socket():
        path.unlink()
