"""One frontend of the simulated mesh: the real serving.py, mesh.py, catalog.py, router.py, peer_links.py, without sockets.

What is replaced is what touches ZeroMQ (where a frame is handed over, where a connection is dialled) and the clock. The
simulated clients are here too: they ask, and every answer is checked and noted.
"""

from __future__ import annotations

import contextlib
import io
import random
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, cast
from unittest import mock

from benchmarks.mesh_simulation_loop import SimulatedLoop
from benchmarks.mesh_simulation_network import Connection, LightMessages, Network, Traffic
from clipper_nomad.protocol import wire
from clipper_nomad.protocol.mesh_messages import PeerHello, RosterEntry, decode_hello
from clipper_nomad.protocol.wire import MessageType, WireError
from clipper_nomad.state.messages import Presence
from clipper_nomad.state.records import Snapshot
from clipper_nomad_frontend import mesh as mesh_module
from clipper_nomad_frontend import peer_links
from clipper_nomad_frontend.access_log import AccessLog, AccessLogMode
from clipper_nomad_frontend.admission import QueueBounds
from clipper_nomad_frontend.answers import Answer
from clipper_nomad_frontend.catalog import Catalog
from clipper_nomad_frontend.endpoints import Query
from clipper_nomad_frontend.mesh import Mesh
from clipper_nomad_frontend.peer_links import PeerLink, Stage
from clipper_nomad_frontend.router import Router
from clipper_nomad_frontend.serving import Serving
from clipper_nomad_runtime import link as runtime_link

TOOLKIT = "0.0.0"
DOUBLE = struct.Struct("<d")
_NO_WORDS = io.StringIO()  # the access log is off


class SimulatedRouter(Router):
    """The real router's messages, handed to the simulated network."""

    def __init__(self, network: Network, address: str, epoch: int) -> None:
        self.address = address
        self._epoch = epoch
        self._network = network

    def _send(self, routing_id: bytes, frames: list[bytes]) -> bool:
        connection = self._network.at(self.address, routing_id)
        return connection is not None and connection.send_down(frames)


class SimulatedPeerLink(PeerLink):
    """The real link to a peer, over the simulated network. Its `context` is that network and its frontend's traffic."""

    def _connect(self) -> None:
        network, self.traffic = cast("tuple[Network, Traffic]", self._context)
        self._connection: Connection | None = network.dial(self.address, self)

    def on_connected(self) -> None:
        """See Dialer."""
        self.stage, self._due = Stage.GREETING, self._loop.time() + peer_links.DIAL_S
        self.send(self._hello)

    def on_frames(self, frames: list[bytes]) -> None:
        """See Dialer."""
        self._take(frames)

    def on_ended(self) -> None:
        """See Dialer."""
        self._lose(self._loop.time(), "its connection ended")

    def send(self, frames: list[bytes]) -> bool:
        """Send a message; False if the link does not stand."""
        connection = getattr(self, "_connection", None)
        return connection is not None and connection.send_up(frames)

    def _drop(self, linger_ms: int = 0) -> None:
        del linger_ms  # what was sent still arrives
        connection, self._connection = getattr(self, "_connection", None), None
        if connection is not None:
            connection.close()


class Store:
    """The store's presence channel: each message of it reaches every frontend that listens."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.listeners: list[SimulatedFrontend] = []
        self.is_away = False
        self.published = 0
        self.delivered = 0
        self._loop = loop

    def publish(self, frontend: SimulatedFrontend) -> None:
        """Tell everyone that `frontend` is there."""
        if self.is_away:
            return
        self.published += 1
        self._loop.call_later(0.0005, self._deliver, Presence(frontend=frontend.name, address=frontend.address))

    def _deliver(self, presence: Presence) -> None:
        for listener in self.listeners:
            if listener.is_alive and listener.name != presence.frontend:
                self.delivered += 1
                listener.on_presence(presence)


class Answers:
    """What came back to the clients: by model the latencies, by frontend and model how many were relayed."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self.latencies: dict[str, list[float]] = {}
        self.verdicts: Counter[str] = Counter()
        self.failed_at: list[float] = []
        self.asked = 0

    def take(self, query: Query, answer: Answer) -> None:
        """Check and note one answer."""
        model = query.endpoint.name
        now = self._loop.time()
        if answer.status == 200 and b'"default":false' in answer.body:
            output = float(answer.body.partition(b'"output":')[2].partition(b",")[0])
            assert output == DOUBLE.unpack(query.data)[0], f"wrong answer of {model}: {answer.body!r}"
            self.verdicts["answered"] += 1
            self.latencies.setdefault(model, []).append(now - query.arrived)
            return
        self.verdicts[f"{answer.status} {answer.cause or answer.kind}"] += 1
        self.failed_at.append(now)


class SimulatedFrontend:
    """A frontend process. `answers` collects what its clients get."""

    def __init__(self, network: Network, number: int, *, answers: Answers, store: Store | None = None,
                 seeds: Iterable[str] = ()) -> None:  # fmt: skip
        self.name = f"frontend-{number:016x}"
        self.address = f"tcp://10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:7000"
        self.is_alive = True
        self.traffic = Traffic()
        self.cpu_s: defaultdict[str, float] = defaultdict(float)  # of the policy code, on the machine that simulates
        self.answers = answers
        self.bad_messages = 0
        self._network = network
        self._store = store
        self._loop = loop = network.loop
        epoch = number + 1
        with loop.running():
            self.serving = Serving(
                frontend_id=self.name, toolkit=TOOLKIT, epoch=epoch, bounds=QueueBounds(),
                access_log=AccessLog(AccessLogMode("off"), _NO_WORDS, loop.time), path_prefix="/clipper", clock=loop.time,
            )  # fmt: skip
        self.catalog = Catalog(None, self.serving.apply)
        self.mesh = Mesh(self.serving, self.catalog, frontend_id=self.name, toolkit=TOOLKIT, epoch=epoch, seeds=seeds,
                         clock=loop.time)  # fmt: skip
        self.serving.router = SimulatedRouter(network, self.address, epoch)

    def listen(self, snapshot: Snapshot | None) -> None:
        """Listen, with this catalog of the store's if it is there; dial nobody."""
        self._network.hosts[self.address] = self
        self.mesh.roster.own = RosterEntry(self.name, self.address)
        if snapshot is not None:
            with self._loop.running():
                self.catalog.accept(snapshot)

    def start(self, snapshot: Snapshot | None) -> None:
        """Listen, and find the others."""
        self.listen(snapshot)
        with self._loop.running():
            self.mesh.start(cast("Any", (self._network, self.traffic)), self.address)  # a context, for SimulatedPeerLink
        if self._store is not None:
            self._store.listeners.append(self)
            self._show_presence()

    def _show_presence(self) -> None:
        if self._store is not None and self.is_alive:
            self._store.publish(self)

    def keep_present(self, every_s: float) -> None:
        """Tell the store again and again, as watch.py does."""
        if self.is_alive:
            self._show_presence()
            self._loop.call_later(every_s, self.keep_present, every_s)

    def on_presence(self, presence: Presence) -> None:
        """The store tells of a frontend; a newcomer has not heard of us: watch.py's answer."""
        if self.mesh.heard(presence):
            self._show_presence()

    def kill(self) -> None:
        """End without a word; nobody hears of what it owed."""
        self._network.kill(self)
        self.mesh.close()
        for endpoint in self.serving.endpoints.values():
            for query in list(endpoint.owed):
                self.serving.abandon(query)

    # ---- the network's Host

    def on_frames(self, routing_id: bytes, frames: list[bytes]) -> None:
        """Take a message as router.py does."""
        begun = time.perf_counter()
        header = wire.header_of(frames[0])
        try:
            if header.type is MessageType.HELLO:
                hello = decode_hello(frames)
                if isinstance(hello, PeerHello):
                    self.mesh.on_peer_hello(routing_id, hello)
                else:
                    self.mesh.on_hello(routing_id, hello)
            else:
                self.mesh.on_message(routing_id, header, frames)
        except WireError as exc:
            self.bad_messages += 1
            self.mesh.on_bad_message(routing_id, exc)
        self.cpu_s[header.type.name] += time.perf_counter() - begun

    def on_ended(self, routing_id: bytes) -> None:
        """A connection has ended."""
        self.mesh.on_disconnect(routing_id)

    # ---- clients

    def ask(self, app: str, number: float) -> None:
        """A client asks for the prediction of `number`."""
        self.answers.asked += 1
        serving = self.serving
        query = serving.query(serving.endpoints[app], (DOUBLE.pack(number), 1), self._loop.time(), self.answers)
        serving.submit(query, None)

    def reachable(self, uid: str) -> tuple[int, int]:
        """Return how many replicas of a version are ready here, and how many by way of peers."""
        dispatch = self.serving.dispatches.get(uid)
        return (0, 0) if dispatch is None else (len(dispatch.replicas.ready), dispatch.relays.ready)


@contextlib.contextmanager
def simulated(loop: SimulatedLoop) -> Iterator[LightMessages]:
    """Let mesh.py, peer_links.py and the runtime's link.py live on simulated time and the simulated network."""
    messages = LightMessages()
    replaced: list[AbstractContextManager[object]] = [
        mock.patch.object(mesh_module, "PeerLink", SimulatedPeerLink),
        mock.patch.object(mesh_module, "mesh_messages", messages),
        mock.patch.object(peer_links, "monotonic", loop.time),
        mock.patch.object(peer_links, "random", random.Random(1)),
        mock.patch.object(runtime_link, "decode_roster", messages.decode_roster),
    ]
    with contextlib.ExitStack() as stack:
        for each in replaced:
            stack.enter_context(each)
        yield messages
