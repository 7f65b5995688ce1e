"""What the simulation leaves out, measured for itself: memory of a connection, processor time of the large messages.

Memory: Python's part by tracemalloc around real sessions, libzmq's by real sockets of two real processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import zmq

from benchmarks.memory import resident_bytes
from benchmarks.mesh_simulation_cluster import Cluster, Shape
from benchmarks.mesh_simulation_frontend import SimulatedRouter, simulated
from benchmarks.mesh_simulation_scenarios import Table
from clipper_nomad.protocol import mesh_messages, wire
from clipper_nomad.protocol.mesh_messages import Announcement, Known, RosterEntry, Served
from clipper_nomad.protocol.wire import Hello, MessageType
from clipper_nomad_frontend.mesh import ANNOUNCE_EVERY_S, TICK_S
from clipper_nomad_runtime.mesh import MAX_LINKS

SOCKETS = 300
SESSIONS = 1000
PATIENCE_S = 30.0
REPEATS = 20

_CHILD = """
import os, sys, time, zmq
sys.path[:0] = sys.argv[3:]
from benchmarks.memory import resident_bytes
context, kept = zmq.Context(), []
before = resident_bytes(os.getpid())
for number in range(int(sys.argv[2])):
    socket = context.socket(zmq.DEALER)
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.HEARTBEAT_IVL, 500)
    kept.append((socket, socket.get_monitor_socket(zmq.EVENT_DISCONNECTED, addr=f"inproc://{number}")))
    socket.connect(sys.argv[1])
    socket.send(b"x" * 250)
time.sleep(1.0)
print((resident_bytes(os.getpid()) - before) // int(sys.argv[2]), flush=True)
sys.stdin.readline()
os._exit(0)
"""


class _SilentRouter(SimulatedRouter):
    """Sends nothing, and says that it did."""

    def _send(self, routing_id: bytes, frames: list[bytes]) -> bool:
        del routing_id, frames
        return True


def memory(shape: Shape) -> Table:
    """Return what connections take in a frontend and in a replica."""
    python = _session_bytes()
    router, dealer = _socket_bytes()
    links = min(shape.frontends, MAX_LINKS)
    mine = shape.replicas * links // shape.frontends
    peers = shape.frontends - 1
    table = Table("Memory of connections", ["", "kB each", "at a frontend: number", "MB", "at a replica: number", "MB"])
    table.rows += [
        ["a replica's session: Python objects", _kb(python), mine, _mb(python * mine), None, None],
        ["a connection that was accepted: libzmq", _kb(router), mine + peers, _mb(router * (mine + peers)), None, None],
        ["a connection that was dialled, with its monitor: libzmq", _kb(dealer), peers, _mb(dealer * peers), links,
         _mb(dealer * links)],
    ]  # fmt: skip
    table.notes.append("Beside what the processes need without any: docs/performance.md.")
    return table


def messages(shape: Shape) -> Table:
    """Return what announcements cost a frontend, by how many frontends and versions there are."""
    table = Table(
        "Announcements: what a frontend says to each peer, at least once a second",
        ["frontends", "versions", "kB each", "ms to write, for one peer", "ms to parse", "MB a second, in and out",
         "share of a core at rest", "while something changes at every tick"],
    )  # fmt: skip
    for frontends, versions in (
        (10, 100),
        (30, 100),
        (shape.frontends, 100),
        (shape.frontends, 1000),
        (300, 100),
        (300, 1000),
    ):
        known = tuple(Known(entry, 0.0) for entry in entries(frontends))
        served = {f"{number:032x}": Served(8, 12_345) for number in range(versions)}
        said = Announcement(served=served, store_id="0123456789abcdef", revision=100, roster=known)
        frames = mesh_messages.encode_announcement(said, epoch=1, session=1)
        write_s = _seconds(partial(mesh_messages.encode_announcement, said, epoch=1, session=1))
        parse_s = _seconds(partial(mesh_messages.decode_announcement, frames))
        peers, octets = frontends - 1, sum(map(len, frames))
        share = peers * (write_s + parse_s) / ANNOUNCE_EVERY_S
        table.rows.append(
            [frontends, versions, octets / 1e3, write_s * 1e3, parse_s * 1e3, 2 * peers * octets / 1e6, f"{share:.0%}",
             f"{share * ANNOUNCE_EVERY_S / TICK_S:.0%}"]
        )  # fmt: skip
    return table


def entries(count: int) -> list[RosterEntry]:
    """Return a roster of so many frontends, with ids and addresses of usual length."""
    return [
        RosterEntry(f"frontend-{number:016x}", f"tcp://10.0.{number >> 8}.{number & 255}:7000") for number in range(count)
    ]


def _session_bytes() -> int:
    cluster = Cluster(Shape(frontends=1, replicas=MAX_LINKS, sizes=1, models_of_a_size=1))
    with simulated(cluster.loop):
        cluster.introduce_frontends()
        frontend = cluster.frontends[0]
        frontend.serving.router = _SilentRouter(cluster.network, frontend.address, 1)
        version = cluster.models[0][0]
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        with cluster.loop.running():
            for number in range(SESSIONS):
                hello = Hello(
                    model=version.name, version="1", uid=version.uid, input_type="doubles", replica=f"replica-{number:08x}",
                    python="3.11", toolkit="0.0.0",
                )  # fmt: skip
                frames = wire.encode_introduction(MessageType.HELLO, hello)
                frontend.on_frames(b"\0" + number.to_bytes(4), frames)
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
    return taken // SESSIONS


def _socket_bytes() -> tuple[int, int]:
    """Return what one connection takes at the ROUTER that accepted it, and at a DEALER that dialled."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.set(zmq.LINGER, 0)
        router.set(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
        router.set(zmq.HEARTBEAT_IVL, 500)
        port = router.bind_to_random_port("tcp://127.0.0.1")
        before = resident_bytes(os.getpid())
        command = [sys.executable, "-c", _CHILD, f"tcp://127.0.0.1:{port}", str(SOCKETS), *sys.path]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            peers: set[bytes] = set()
            while len(peers) < SOCKETS:
                peers.add(router.recv_multipart()[0])
            for peer in peers:
                router.send_multipart([peer, b"y" * 300])
            assert child.stdout is not None
            dealer = int(child.stdout.readline())
            taken = (resident_bytes(os.getpid()) - before) // SOCKETS
            child.communicate("\n", timeout=PATIENCE_S)
    return taken, dealer


def _seconds(call: Callable[[], object]) -> float:
    """Return how long the quickest of some calls takes."""
    best = float("inf")
    for _ in range(REPEATS):
        begun = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begun)
    return best


def _kb(octets: float) -> float:
    return octets / 1e3


def _mb(octets: float) -> float:
    return octets / 1e6
