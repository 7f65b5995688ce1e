"""Whose connection on 127.0.0.1 it is."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from clipper_nomad_frontend.loopback import is_stranger, owner_in

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1B59 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0 100 0 0 10 0
   1: 0100007F:1B59 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 2 1 0 20 4 30 10 -1
   2: 0100007F:D431 0100007F:1B59 01 00000000:00000000 00:00000000 00000000  1001        0 3 1 0 20 4 30 10 -1
   3: 0100007F:D432 0100007F:1B59 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0
"""
HERE, THERE, GONE = ("127.0.0.1", 0x1B59), ("127.0.0.1", 0xD431), ("127.0.0.1", 0xD432)


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is one of a little-endian machine")
def test_the_table_names_the_user_at_each_end() -> None:
    assert owner_in(TABLE, end=THERE, other_end=HERE) == 1001
    assert owner_in(TABLE, end=HERE, other_end=THERE) == 1000


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is one of a little-endian machine")
def test_a_connection_that_has_ended_is_nobodys() -> None:
    """The kernel says uid 0 of one that only waits to be forgotten."""
    assert owner_in(TABLE, end=GONE, other_end=HERE) is None


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6 here")
def test_our_own_connection_by_an_ipv6_socket_is_no_strangers() -> None:
    """Java dials an IPv4 address so: the connection is in the table for IPv6."""
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket(socket.AF_INET6) as dialling:
        dialling.connect(("::ffff:127.0.0.1", listening.getsockname()[1]))
        connection, _ = listening.accept()
        with connection:
            assert not is_stranger(connection.fileno())


def test_our_own_connection_is_no_strangers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert not is_stranger(connection.fileno())


@pytest.mark.skipif(os.geteuid() != 0 or not sys.platform.startswith("linux"), reason="only root can be somebody else")
def test_the_connection_of_another_user_is_a_strangers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        child = os.fork()
        if not child:
            os.setuid(65_534)
            with socket.create_connection(listening.getsockname()) as dialled:
                dialled.recv(1)
            os._exit(0)
        connection, _ = listening.accept()
        with connection:
            assert is_stranger(connection.fileno())
        os.waitpid(child, 0)
