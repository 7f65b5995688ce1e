"""Ports for servers that are killed and started again on the same one."""

import contextlib
import os
import random
import socket
from collections import deque

HOST = "127.0.0.1"
_BACKLOG = 512
_FIRST, _LANES, _LANE = 10_000, 64, 340  # below 32,000: a lane of ports for each process, by its pid
_given: deque[int] = deque(maxlen=_LANE // 2)


def quiet_port() -> int:
    """Return a free TCP port that no connection gets by itself.

    Out of the range that the kernel takes ports from: a client which dials a dead port of that range can meet itself, and
    then the port is taken when the server comes back. Nor is it one that this process gave before, or that another one
    beside it is likely to give: what gets it listens later, and again.
    """
    first = _FIRST + os.getpid() % _LANES * _LANE
    while True:
        port = random.SystemRandom().randrange(first, first + _LANE)
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            _given.append(port)
            return port


def listen() -> socket.socket:
    """Return a listening socket that processes can inherit: its queue of connections outlives each of them."""
    listening = socket.create_server((HOST, quiet_port()), backlog=_BACKLOG)
    listening.set_inheritable(True)
    return listening
