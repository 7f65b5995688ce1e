"""The channel of RPC version 3: a second ROUTER, on a port of its own, for Clipper's model containers.

It moves frames between its socket and legacy_peers.py, and tells that when it is time to look who is silent. libzmq's
heartbeats are not used: an old container's libzmq may not answer them, and version 3 has its own.
"""

from __future__ import annotations

import asyncio
import logging
import secrets

import zmq

from clipper_nomad.protocol import rpc3
from clipper_nomad.protocol.wire import WireError
from clipper_nomad_frontend.legacy_peers import LegacyPeers
from clipper_nomad_frontend.loopback import is_stranger
from clipper_nomad_frontend.router_socket import RouterSocket
from clipper_nomad_frontend.serving import Serving

log = logging.getLogger(__name__)

CHECK_EVERY_S = 10.0  # Clipper's
_OPTIONS: dict[zmq.SocketOption, int] = {
    zmq.SNDHWM: 1000,  # one batch and some heartbeats: a container that asks on and never reads is not answered any more
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 5,
    zmq.TCP_KEEPALIVE_INTVL: 5,
    zmq.TCP_KEEPALIVE_CNT: 3,
}


class LegacyRouter(RouterSocket):
    """Binds `address` and serves it on the running event loop."""

    def __init__(self, address: str, serving: Serving, *, frontend_id: str) -> None:
        loop = asyncio.get_running_loop()
        self.peers = LegacyPeers(
            serving,
            frontend_id=frontend_id,
            send=self._send,
            clock=serving.clock,
            later=loop.call_soon,
            first_message_id=secrets.randbits(32),
        )
        super().__init__(address, what="the channel of RPC version 3", max_frames=rpc3.MAX_FRAMES, options=_OPTIONS)
        self._checking = loop.call_later(CHECK_EVERY_S, self._check)

    def close(self) -> None:
        """Close the socket; what was not sent is dropped."""
        self._checking.cancel()
        super().close()

    def _check(self) -> None:
        self._checking = self._loop.call_later(CHECK_EVERY_S, self._check)
        self.peers.check()

    def _take_start(self, routing_id: bytes, descriptor: int) -> None:
        if is_stranger(descriptor):
            log.warning("a container of another user of this machine is not listened to")
            self.peers.shut_out(routing_id)

    def _take(self, routing_id: bytes, frames: list[bytes]) -> None:
        try:
            self.peers.on_message(routing_id, frames)
        except Exception:  # a bug in what the message set off must not leave the rest unread: no wake-up would follow
            log.exception("a message was not taken")

    def _take_end(self, routing_id: bytes) -> None:
        self.peers.on_end(routing_id)

    def _take_torn(self, routing_id: bytes) -> None:  # noqa: ARG002  # it has no connection to tell of
        self.peers.on_torn(WireError("a connection without a handshake"))
