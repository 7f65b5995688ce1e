"""Both ends of the model channel hear of it when a connection ends at an odd moment: while it is dialled, or said hello.

With real sockets on loopback; the processes around them are tested elsewhere.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest
import zmq

from clipper_nomad.protocol.mesh_messages import PeerHello
from clipper_nomad.protocol.wire import Header, Hello, MessageType, Welcome, WireError, encode_introduction
from clipper_nomad_frontend.router import Router
from clipper_nomad_frontend.sessions import Session
from clipper_nomad_runtime.dealer import Dealer
from clipper_nomad_runtime.link import Link
from tests.waiting import until

pytestmark = pytest.mark.process

CONNECTIONS = 12
ROUNDS = 20
AT_ONCE_S = 0.5  # far below the 2 s after which a replica dials anew anyway


# ---- the replica's end -----------------------------------------------------------------------------------------------


@pytest.fixture
def wake() -> Iterator[int]:
    """A descriptor that nothing ever writes to."""
    one, other = socket.socketpair()
    with one, other:
        yield one.fileno()


def test_a_replica_hears_at_once_that_its_dial_was_refused(wake: int) -> None:
    """It took two seconds: after each restart of a frontend its replicas were away for that long."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
    with closing(Dealer[Link](wake)) as dealer:
        connection = dealer.dial(Link(address, jitter=lambda: 0.0, dropped=Counter()))
        began = time.monotonic()

        while not connection.is_lost and time.monotonic() < began + AT_ONCE_S:
            dealer.wait(AT_ONCE_S)
            connection.read_alarm()

        assert connection.is_lost
        assert time.monotonic() - began < AT_ONCE_S


# ---- the frontend's end ----------------------------------------------------------------------------------------------


class Guests:
    """A router's Listener that welcomes everyone and notes who came and who went."""

    def __init__(self) -> None:
        self.router: Router | None = None
        self.came: set[bytes] = set()
        self.went: set[bytes] = set()

    def on_hello(self, routing_id: bytes, hello: Hello) -> None:
        assert self.router is not None
        self.came.add(routing_id)
        self.router.send_welcome(Session(len(self.came), routing_id, hello), Welcome(frontend="f", toolkit="test"))

    def on_peer_hello(self, routing_id: bytes, hello: PeerHello) -> None:
        raise AssertionError(f"{hello.frontend} is no replica")

    def on_message(self, routing_id: bytes, header: Header, frames: list[bytes]) -> None:
        raise AssertionError(f"nobody sends {header.type.name}")

    def on_disconnect(self, routing_id: bytes) -> None:
        self.went.add(routing_id)

    def on_bad_message(self, routing_id: bytes, error: WireError) -> None:
        raise error


async def test_a_frontend_keeps_no_replica_whose_connection_ended_as_it_said_hello() -> None:
    """One of twenty such stayed in the books, and some of them were given work."""
    guests = Guests()
    hello = Hello(model="m", version="1", uid="u", input_type="doubles", replica="r", python="3.11", toolkit="test")
    chance = random.Random(7)
    with closing(Router("tcp://127.0.0.1:0", guests, 1)) as router, zmq.Context() as context:
        guests.router = router

        for _ in range(ROUNDS):
            sockets = [context.socket(zmq.DEALER) for _ in range(CONNECTIONS)]
            for each in sockets:
                each.setsockopt(zmq.IMMEDIATE, 1)
                each.connect(router.address)
            for each in sockets:
                await until(partial(each.poll, 0, zmq.POLLOUT), "a connection")
            for each in sockets:
                each.send_multipart(encode_introduction(MessageType.HELLO, hello))
            for each in sockets:
                each.close(linger=500)
            time.sleep(0.003 * chance.random())  # noqa: ASYNC251  # the loop must be busy while connections come and go
            await asyncio.sleep(0)

        await until(lambda: guests.came <= guests.went, "the end of every connection that said hello", within_s=5.0)
