"""Which ports of the host are free. A port that is asked for is a wish, as in Clipper: one that is taken gives way."""

from __future__ import annotations

import secrets
import socket

FIRST, LAST = 10_000, 50_000  # Clipper's range for a port instead of one that is taken
_TRIES = 200


def free_port(wish: int, *, address: str, but: frozenset[int] = frozenset()) -> int:
    """Return `wish` if nobody listens there on this machine, else any port of the range where nobody does."""
    port = wish
    for _ in range(_TRIES):
        if port not in but and is_free(port, address=address):
            return port
        port = any_port()
    return port  # Docker will say that it is taken


def any_port() -> int:
    """Return a port of the range."""
    return FIRST + secrets.randbelow(LAST - FIRST)


def is_free(port: int, *, address: str) -> bool:
    """Whether `port` could be listened on now. What was closed a moment ago (TIME_WAIT) is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
        except OSError:
            return False
    return True
