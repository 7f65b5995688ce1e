"""Keys of the encrypted model channel: CURVE key pairs, made for a cluster's frontends and for each model version."""

from __future__ import annotations

import zmq


def new_secret_key() -> str:
    """Return a new secret key, 40 characters of Z85."""
    return zmq.curve_keypair()[1].decode()


def public_key_of(secret: str) -> str:
    """Return the public half of a secret key, which is no secret."""
    return zmq.curve_public(secret.encode()).decode()
