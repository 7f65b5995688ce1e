"""Listeners on one socket, as frontends have that inherited it: even shares, stuck and gone peers, closing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from clipper_nomad_frontend.shared_listener import Counts, SharedListener
from clipper_nomad_frontend.turns import Share

pytestmark = pytest.mark.process

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return asyncio.run if request.param == "asyncio" else uvloop.run


class Peer:
    """One frontend's end: what it took, and its listener."""

    def __init__(self, listening: socket.socket, share: Share) -> None:
        self.open: set[asyncio.Protocol] = set()
        self.listener = SharedListener(
            listening.dup(), share, protocol=lambda: _Connection(self), open_here=lambda: len(self.open)
        )


class _Connection(asyncio.Protocol):
    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._peer.open.add(self)
        self._peer.listener.note()

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)  # type: ignore[attr-defined]  # a transport that writes; uvloop's are of no class

    def connection_lost(self, exc: Exception | None) -> None:
        self._peer.open.discard(self)
        self._peer.listener.note()


@contextlib.contextmanager
def listening_socket() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        yield listening


@contextlib.asynccontextmanager
async def echoes(listening: socket.socket, count: int) -> Any:  # noqa: ANN401  # an async context manager's own type
    """So many connections, each of which got an answer."""
    streams = await asyncio.gather(*(asyncio.open_connection(*listening.getsockname()) for _ in range(count)))
    try:
        for _, writer in streams:
            writer.write(b"?")
        assert await asyncio.gather(*(reader.readexactly(1) for reader, _ in streams)) == [b"?"] * count
        yield
    finally:
        for _, writer in streams:
            writer.close()
            await writer.wait_closed()


def test_connections_that_come_at_once_are_shared_evenly(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        with listening_socket() as listening:
            peers = [Peer(listening, Share(tmp_path / "shares", index)) for index in range(4)]
            for _ in range(3):
                async with echoes(listening, 64):
                    taken = [len(peer.open) for peer in peers]
                    assert sum(taken) == 64
                    assert max(taken) - min(taken) <= 4
                await asyncio.sleep(0.01)
            for peer in peers:
                peer.listener.close()

    run(main())


def test_a_peer_that_is_stuck_costs_next_to_nothing(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        with listening_socket() as listening:
            share = tmp_path / "shares"
            Counts(Share(share, 5)).tell(0)  # has the fewest, and never takes one
            peers = [Peer(listening, Share(share, index)) for index in range(2)]
            async with asyncio.timeout(5), echoes(listening, 64):
                assert sum(len(peer.open) for peer in peers) == 64
            for peer in peers:
                peer.listener.close()

    run(main())


def test_a_peer_that_was_killed_is_forgotten_and_the_others_share_evenly(tmp_path: Path, run: Run) -> None:
    killed = [sys.executable, "-c", _NOTES_AND_DIES, str(tmp_path / "shares")]
    assert subprocess.run(killed, check=False).returncode == -signal.SIGKILL

    async def main() -> None:
        with listening_socket() as listening:
            peers = [Peer(listening, Share(tmp_path / "shares", index)) for index in range(2)]
            async with echoes(listening, 8):
                assert len(Counts(Share(tmp_path / "shares", 9)).others) == 2
            await asyncio.sleep(0.01)
            async with echoes(listening, 64):
                assert min(len(peer.open) for peer in peers) >= 28
            for peer in peers:
                peer.listener.close()

    run(main())


_NOTES_AND_DIES = """
import os, pathlib, signal, sys
from clipper_nomad_frontend.shared_listener import Counts
from clipper_nomad_frontend.turns import Share
Counts(Share(pathlib.Path(sys.argv[1]), 5)).tell(0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_who_closed_takes_none_and_is_not_waited_for(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        with listening_socket() as listening:
            first, second = (Peer(listening, Share(tmp_path / "shares", index)) for index in range(2))
            second.listener.close()
            second.listener.close()
            async with echoes(listening, 16):
                assert (len(first.open), len(second.open)) == (16, 0)
                assert Counts(Share(tmp_path / "shares", 3)).others == [16]
            first.listener.close()

    run(main())


def test_who_is_about_to_end_takes_only_what_the_others_leave(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        with listening_socket() as listening:
            first, second = (Peer(listening, Share(tmp_path / "shares", index)) for index in range(2))
            first.listener.step_back()
            async with echoes(listening, 16):
                assert len(second.open) > len(first.open)
            second.listener.close()
            async with echoes(listening, 3):
                assert len(first.open) == 3
            first.listener.close()

    run(main())


def test_a_connection_that_is_gone_before_it_is_taken_does_no_harm(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        with listening_socket() as listening:
            for _ in range(20):
                socket.create_connection(listening.getsockname()).close()
            peer = Peer(listening, Share(tmp_path / "shares", 0))
            async with echoes(listening, 4):
                await asyncio.sleep(0.05)
                assert len(peer.open) == 4
            peer.listener.close()

    run(main())
