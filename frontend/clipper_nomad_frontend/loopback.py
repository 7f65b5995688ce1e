"""Which user is at the other end of a TCP connection on 127.0.0.1, as Linux tells in /proc/net/tcp.

A loopback port is open to every user of the machine, and RPC version 3 cannot ask who calls. Where the kernel can be asked,
only this user and root are let in.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

_TABLE = Path("/proc/net/tcp")
_ESTABLISHED = "01"
Place = tuple[str, int]


def is_stranger(descriptor: int) -> bool:
    """Return whether a connection comes from another user of this machine, as far as can be told.

    False for one that is not on 127.x, and on systems without that table.
    """
    try:
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            if connection.family != socket.AF_INET or not _TABLE.exists():
                return False
            here, there = connection.getsockname(), connection.getpeername()
    except OSError:  # it has ended
        return True
    if not here[0].startswith("127."):
        return False
    return owner_in(_TABLE.read_text(), end=there, other_end=here) not in (os.geteuid(), 0)


def owner_in(table: str, *, end: Place, other_end: Place) -> int | None:
    """Return the uid of the process at `end` of an established connection; None if the table does not have it. Pure."""
    local, remote = _written(end), _written(other_end)
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[1:4] == [local, remote, _ESTABLISHED]:
            return int(fields[7])
    return None


def _written(place: Place) -> str:
    """Return an address as the table has it: the bytes of the host in the machine's order, in hexadecimal."""
    number = int.from_bytes(socket.inet_aton(place[0]), sys.byteorder)
    return f"{number:08X}:{place[1]:04X}"
