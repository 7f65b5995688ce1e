"""Ports for servers that are killed and started again on the same one."""

import contextlib
import random
import socket

HOST = "127.0.0.1"
_BACKLOG = 512


def quiet_port() -> int:
    """Return a free TCP port that no connection gets by itself.

    Out of the range that the kernel takes ports from: a client which dials a dead port of that range can meet itself, and
    then the port is taken when the server comes back.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port


def listen() -> socket.socket:
    """Return a listening socket that processes can inherit: its queue of connections outlives each of them."""
    listening = socket.create_server((HOST, quiet_port()), backlog=_BACKLOG)
    listening.set_inheritable(True)
    return listening
