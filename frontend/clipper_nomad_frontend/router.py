"""The model channel: one ZeroMQ ROUTER that every replica connects to. Only it, peer_links.py and gatekeeper.py touch
ZeroMQ.

Frames in → messages to the Listener; batches out. libzmq's own heartbeats find dead links (its I/O thread needs no GIL);
the socket monitor tells of a lost connection within milliseconds and names it by its file descriptor, which the hello's
metadata ties to a session.

pyzmq's descriptor is edge-triggered, and both sending and receiving eat the edge: after either, EVENTS must be looked at
until it says that nothing waits, or a wake-up is lost.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Protocol, cast

import zmq
from zmq.utils.monitor import parse_monitor_message

from clipper_nomad.protocol import wire
from clipper_nomad.protocol.links import HEARTBEAT_IVL_MS, HEARTBEAT_TIMEOUT_MS, HEARTBEAT_TTL_MS
from clipper_nomad.protocol.mesh_messages import MAX_ROSTER, PeerHello, Terms, decode_hello, encode_relay
from clipper_nomad.protocol.wire import Header, Hello, MessageType, Reject, Welcome, WireError
from clipper_nomad.state.records import MICROS
from clipper_nomad_frontend.channel_keys import ChannelKeys
from clipper_nomad_frontend.endpoints import Query
from clipper_nomad_frontend.gatekeeper import Gatekeeper
from clipper_nomad_frontend.sessions import Batch, Session

log = logging.getLogger(__name__)

MAX_BAD_MESSAGES = 10  # then the peer is not listened to any more
MAX_FRAMES = 8  # of a message; the longest has 4
# plain numbers: pyzmq converts its enums at every call, a third of the cost of the call
_NOW = int(zmq.NOBLOCK)
_NOW_AND_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_HAS_MORE = int(zmq.RCVMORE)
_EVENTS = int(zmq.EVENTS)
_READABLE = int(zmq.POLLIN)
MAX_MET = 64  # first messages that wait for all else to be read
MAX_MESSAGES_PER_WAKE = 256  # then the loop gets its turn: HTTP must not starve behind a flood of results


class Listener(Protocol):
    """Who is told what comes in."""

    def on_hello(self, routing_id: bytes, hello: Hello) -> None:
        """A replica introduced itself."""

    def on_peer_hello(self, routing_id: bytes, hello: PeerHello) -> None:
        """Another frontend introduced itself."""

    def on_message(self, routing_id: bytes, header: Header, frames: list[bytes]) -> None:
        """A peer sent something else. May raise WireError."""

    def on_disconnect(self, routing_id: bytes) -> None:
        """The connection of a peer has ended."""

    def on_bad_message(self, routing_id: bytes, error: WireError) -> None:
        """A peer sent something that is not of the protocol."""


class Router:
    """Binds `address` and serves it on the running event loop. With `keys` every connection is encrypted, and known."""

    def __init__(self, address: str, listener: Listener, epoch: int, keys: ChannelKeys | None = None) -> None:
        self.address = address
        self._listener = listener
        self._epoch = epoch
        self._keys = keys
        self._key_of: dict[bytes, bytes] = {}  # routing id → public key of its connection
        self._loop = asyncio.get_running_loop()
        self._known: set[bytes] = set()  # routing ids that were heard on a live connection
        self._connection_of: dict[int, bytes] = {}  # file descriptor → routing id
        self._met: list[tuple[bytes, int, bytes, list[bytes]]] = []  # routing id, descriptor, key, frames: new connections
        self._ended: set[int] = set()  # file descriptors whose connection has ended, and that no other has got since
        self._bad: dict[bytes, int] = {}
        self._again: asyncio.Handle | None = None
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.context.set(zmq.MAX_SOCKETS, 4 * MAX_ROSTER)  # a link to a peer takes three; libzmq's default is 1023
        socket = self._socket = self.context.socket(zmq.ROUTER)
        socket.set(zmq.ROUTER_MANDATORY, 1)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SNDHWM, 0)  # two batches per session bound what can wait, not messages
        socket.set(zmq.RCVHWM, 10_000)
        socket.set(zmq.MAXMSGSIZE, wire.MAX_FRAME_BYTES)
        socket.set(zmq.HEARTBEAT_IVL, HEARTBEAT_IVL_MS)
        socket.set(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        socket.set(zmq.HEARTBEAT_TTL, HEARTBEAT_TTL_MS)
        self._gatekeeper: Gatekeeper | None = None
        if keys is not None:
            self._gatekeeper = Gatekeeper(self.context, keys)
            self._gatekeeper.start()
            self._gatekeeper.guard(socket)
        self._monitor = socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        if address.startswith("ipc://"):
            _remove_stale(Path(address.removeprefix("ipc://")))
        try:
            socket.bind(address)
        except zmq.ZMQError as exc:
            raise OSError(exc.errno, f"the model channel cannot listen on {address}: {exc.strerror}") from exc
        if address.startswith("tcp://"):
            self.address = socket.get_string(zmq.LAST_ENDPOINT)
        self._loop.add_reader(socket.fileno(), self._drain)
        self._loop.add_reader(self._monitor.fileno(), self._on_monitor)
        self._on_monitor()

    def close(self) -> None:
        """Close the socket; what was not sent is dropped."""
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_reader(self._monitor.fileno())
        if self._again is not None:
            self._again.cancel()
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)
        if self._gatekeeper is not None:
            self._gatekeeper.stop()
        self.context.term()

    # ---- out -------------------------------------------------------------------------------------------------------

    def send_batch(self, session: Session, batch: Batch, *, input_type: int, item_length: int, budget_micros: int) -> bool:
        """Send the inputs of a batch; False if the peer is gone."""
        return self._send(
            session.routing_id,
            wire.encode_predict(
                epoch=self._epoch,
                session=session.id,
                batch=batch.id,
                input_type=input_type,
                item_length=item_length,
                budget_micros=budget_micros,
                inputs=[query.data for query in batch.queries],
            ),
        )

    def send_relay(self, session: Session, batch: Batch, *, uid: str, input_type: int, item_length: int, now: float) -> bool:
        """Send the queries of a batch to a peer frontend; False if it is gone."""
        frames = encode_relay(
            epoch=self._epoch,
            session=session.id,
            batch=batch.id,
            uid=uid,
            input_type=input_type,
            item_length=item_length,
            is_alone=batch.is_alone,
            terms=[_terms(query, now) for query in batch.queries],
            inputs=[query.data for query in batch.queries],
        )
        return self._send(session.routing_id, frames)

    def send_cancel(self, session: Session, batch_id: int) -> bool:
        """Ask a replica to forget a batch that it has not started; False if the peer is gone."""
        return self.send_control(session, MessageType.CANCEL, batch_id)

    def send_ask(self, session: Session, waited_s: float) -> bool:
        """Ask a replica to call when it is free for a batch; False if the peer is gone."""
        waited = max(0, int(waited_s * MICROS))
        return self._send(session.routing_id, wire.encode_ask(epoch=self._epoch, session=session.id, waited_micros=waited))

    def send_pass(self, session: Session, call: int = 0) -> bool:
        """Tell a replica that nothing waits for it: in answer to its call, or before that; False if the peer is gone."""
        return self.send_control(session, MessageType.PASS, call)

    def send_control(self, session: Session, kind: MessageType, batch_id: int = 0) -> bool:
        """Send a message that is a header only; False if the peer is gone."""
        frames = wire.encode_control(kind, epoch=self._epoch, session=session.id, batch=batch_id)
        return self._send(session.routing_id, frames)

    def send_welcome(self, session: Session, welcome: Welcome) -> bool:
        """Open a session at the replica; False if the peer is gone."""
        frames = wire.encode_introduction(MessageType.WELCOME, welcome, epoch=self._epoch, session=session.id)
        return self._send(session.routing_id, frames)

    def send_frames(self, routing_id: bytes, frames: list[bytes]) -> bool:
        """Send any other message; False if the peer is gone."""
        return self._send(routing_id, frames)

    def send_reject(self, routing_id: bytes, reject: Reject) -> bool:
        """Tell a peer that it gets no work; False if it is gone."""
        return self._send(routing_id, wire.encode_introduction(MessageType.REJECT, reject, epoch=self._epoch))

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
            key = b"" if self._keys is None else str(parts[-1].get("User-Id")).encode()
        except zmq.ZMQError:  # the connection began without ZMTP 3's handshake: it is none of ours, or a torn stream
            self._listener.on_bad_message(routing_id, WireError("a connection without a handshake"))
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
            if len(frames) <= MAX_FRAMES:
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
            self._take(routing_id, frames)

    def _take(self, routing_id: bytes, frames: list[bytes]) -> None:
        if self._bad and self._bad.get(routing_id, 0) >= MAX_BAD_MESSAGES:
            return
        try:
            header = wire.header_of(frames[0])
            if header.type is MessageType.HELLO:
                self._introduce(routing_id, decode_hello(frames))
            else:
                self._listener.on_message(routing_id, header, frames)
        except WireError as exc:
            self._bad[routing_id] = self._bad.get(routing_id, 0) + 1
            self._listener.on_bad_message(routing_id, exc)
        except Exception:  # a bug in what the message set off must not leave the rest unread: no wake-up would follow
            log.exception("a message was not taken")

    def _introduce(self, routing_id: bytes, hello: Hello | PeerHello) -> None:
        if self._keys is not None and not self._keys.may_say(self._key_of.get(routing_id, b""), hello):
            raise WireError("this hello does not belong to the key of its connection")
        if isinstance(hello, PeerHello):
            self._listener.on_peer_hello(routing_id, hello)
        else:
            self._listener.on_hello(routing_id, hello)

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
        self._bad.pop(routing_id, None)
        self._key_of.pop(routing_id, None)
        try:
            self._listener.on_disconnect(routing_id)
        except Exception:  # a bug in what the loss set off must not leave the other losses unread
            log.exception("the end of a connection was not taken")


def _terms(query: Query, now: float) -> Terms:
    endpoint = query.endpoint
    return Terms(
        waited=max(0, round((now - query.arrived) * MICROS)),
        slo=round(endpoint.slo_s * MICROS),
        timeout=round(endpoint.timeout_s * MICROS),
    )


def _is_newer(one: bytes, other: bytes) -> bool:
    """Return whether the connection `one` was made after `other`: libzmq counts routing ids up, in 32 bits that wrap."""
    return 0 < (int.from_bytes(one[1:]) - int.from_bytes(other[1:])) % 2**32 < 2**31


def _remove_stale(path: Path) -> None:
    """Remove the socket file of a process that is gone: libzmq does not bind over it."""
    if path.is_socket():
        path.unlink()
