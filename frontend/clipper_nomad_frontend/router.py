"""The model channel: what replicas and peers say by wire version 4, to and from the socket that each connects to.

Frames in → messages to the Listener; batches out. libzmq's own heartbeats find dead links (its I/O thread needs no GIL).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import zmq

from clipper_nomad.protocol import wire
from clipper_nomad.protocol.links import HEARTBEAT_IVL_MS, HEARTBEAT_TIMEOUT_MS, HEARTBEAT_TTL_MS
from clipper_nomad.protocol.mesh_messages import PeerHello, Terms, decode_hello, encode_relay
from clipper_nomad.protocol.wire import Header, Hello, MessageType, Reject, Welcome, WireError
from clipper_nomad.state.records import MICROS
from clipper_nomad_frontend.channel_keys import ChannelKeys
from clipper_nomad_frontend.endpoints import Query
from clipper_nomad_frontend.gatekeeper import Gatekeeper
from clipper_nomad_frontend.router_socket import Context, RouterSocket
from clipper_nomad_frontend.sessions import Batch, Session

log = logging.getLogger(__name__)

MAX_BAD_MESSAGES = 10  # then the peer is not listened to any more
MAX_FRAMES = 8  # of a message; the longest has 4
_OPTIONS: dict[zmq.SocketOption, int] = {
    zmq.SNDHWM: 0,  # two batches per session bound what can wait, not messages
    zmq.HEARTBEAT_IVL: HEARTBEAT_IVL_MS,
    zmq.HEARTBEAT_TIMEOUT: HEARTBEAT_TIMEOUT_MS,
    zmq.HEARTBEAT_TTL: HEARTBEAT_TTL_MS,
}


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


class Router(RouterSocket):
    """Binds `address` and serves it on the running event loop. With `keys` every connection is encrypted, and known."""

    def __init__(self, address: str, listener: Listener, epoch: int, keys: ChannelKeys | None = None) -> None:
        self._listener = listener
        self._epoch = epoch
        self._keys = keys
        self._bad: dict[bytes, int] = {}
        super().__init__(
            address,
            what="the model channel",
            max_frames=MAX_FRAMES,
            options=_OPTIONS,
            guard=self._guard if keys is not None else None,
        )

    def _guard(self, context: Context, socket: zmq.Socket[bytes]) -> Callable[[], None]:
        assert self._keys is not None  # noqa: S101  # it is passed on only then
        gatekeeper = Gatekeeper(context, self._keys)
        gatekeeper.start()
        gatekeeper.guard(socket)
        return gatekeeper.stop

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

    # ---- in --------------------------------------------------------------------------------------------------------

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

    def _take_start(self, routing_id: bytes, descriptor: int) -> None:
        """Whoever comes says who it is."""

    def _take_end(self, routing_id: bytes) -> None:
        self._bad.pop(routing_id, None)
        self._listener.on_disconnect(routing_id)

    def _take_torn(self, routing_id: bytes) -> None:
        self._listener.on_bad_message(routing_id, WireError("a connection without a handshake"))


def _terms(query: Query, now: float) -> Terms:
    return Terms(
        waited=max(0, round((now - query.arrived) * MICROS)),
        slo=round(query.endpoint.slo_s * MICROS),
        timeout=round((query.timeout_at - query.arrived) * MICROS),
    )
