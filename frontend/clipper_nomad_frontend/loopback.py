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
_TABLE_6 = Path("/proc/net/tcp6")  # an IPv6 socket may have dialled the IPv4 address, as Java's do
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
    owner = owner_in(_TABLE.read_text(), end=there, other_end=here)
    if owner is None and _TABLE_6.exists():
        owner = owner_in(_TABLE_6.read_text(), end=there, other_end=here)
    return owner not in (os.geteuid(), 0)


def owner_in(table: str, *, end: Place, other_end: Place) -> int | None:
    """Return the uid of the process at `end` of an established connection; None if the table, for IPv4 or IPv6, does not
    have it. Pure.
    """
    wanted = [_written(end), _written(other_end), _ESTABLISHED]
    mapped = [_MAPPED + wanted[0], _MAPPED + wanted[1], _ESTABLISHED]
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[1:4] in (wanted, mapped):
            return int(fields[7])
    return None


def _written(place: Place) -> str:
    """Return an address as the table has it: the bytes of the host in the machine's order, in hexadecimal."""
    return f"{_word(socket.inet_aton(place[0]))}:{place[1]:04X}"


def _word(octets: bytes) -> str:
    return f"{int.from_bytes(octets, sys.byteorder):08X}"


_MAPPED = "0" * 16 + _word(b"\0\0\xff\xff")  # what an IPv4 address has before it in the table for IPv6
