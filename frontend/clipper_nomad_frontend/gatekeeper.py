"""Who is let in at an encrypted model channel: pyzmq's authenticator with the keys of the catalog (channel_keys.py).

libzmq asks before a connection stands: one with an unknown key never sends a message. A CURVE socket that nobody guards
lets every key in, so a router with keys always has a gatekeeper.
"""

from __future__ import annotations

import zmq
import zmq.auth.asyncio

from clipper_nomad_frontend.channel_keys import ChannelKeys, KeyPair

DOMAIN = "clipper"


class Gatekeeper:
    """Guards every socket of a context that `guard` was called for, from `start` till `stop`."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: ChannelKeys) -> None:
        self._keys = keys
        self._authenticator = zmq.auth.asyncio.AsyncioAuthenticator(context)
        self._authenticator.configure_curve_callback(DOMAIN, self)

    def start(self) -> None:
        """Begin to answer; on the running event loop, before the first socket listens."""
        self._authenticator.start()

    def stop(self) -> None:
        """Let nobody in any more."""
        self._authenticator.stop()

    def guard(self, socket: zmq.Socket[bytes]) -> None:
        """Make a socket a server that only knows encrypted connections."""
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.CURVE_SECRETKEY, self._keys.own.secret)
        socket.set(zmq.ZAP_DOMAIN, DOMAIN.encode())

    def callback(self, domain: str, key: bytes) -> bool:
        """Return whether the owner of `key` is let in: what the authenticator asks, by this name."""
        return domain == DOMAIN and self._keys.is_known(key)


def key_pair(secret: bytes) -> KeyPair:
    """Return the pair that a secret key belongs to. Raises: ValueError: it is none."""
    try:
        return KeyPair(zmq.curve_public(secret), secret)
    except zmq.ZMQError as exc:
        raise ValueError("no CURVE key") from exc
