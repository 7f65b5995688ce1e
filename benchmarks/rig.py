"""Raw processes under test: frontends that start from a mirror file, replicas, and a breaking proxy between them.

No store, no admin, no local stack: what the truth test attacks is the query path. Through the proxy (tcp_proxy.py) every
replica has one door, which leads to all frontends by turns, and every frontend one to each other. Every process is started
again when it ends (supervised.py). `async with Rig(...)` starts all and leaves nothing behind.
"""

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.checked_load import Address
from benchmarks.ports import HOST, listen, quiet_port
from benchmarks.rig_plan import Plan, Served, link_name
from benchmarks.supervised import Death, Supervised
from benchmarks.tcp_proxy import UNDONE_BY, Deed, Event, Order, Side
from benchmarks.zygote import Zygote
from clipper_nomad.state.records import to_mirror
from tests.process.bundles import pack

LOOK_EVERY_S = 0.02
START_S = 30.0  # a loaded machine starts a process in 2 s
REPORT_S = 2.0
PROXY = "proxy"
_ROOT = Path(__file__).resolve().parent.parent
_UNDOES = {undoing: deed for deed, undoing in UNDONE_BY.items()}


class RigError(Exception):
    """What was to be tested did not come up, or did not come back."""


@dataclass(frozen=True, slots=True)
class _Door:
    """A port of the proxy, and the frontends behind it."""

    port: int
    frontends: tuple[str, ...]


class Rig:
    """Everything that runs. `frontends` and `replicas` by name; links are named by `link_name`."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.plan = plan
        self.folder = folder
        self.frontends: dict[str, Supervised] = {}
        self.replicas: dict[str, Supervised] = {}
        self.addresses: list[Address] = []
        self.proxy: Supervised | None = None
        self._token = secrets.token_hex(8)
        self._internal: dict[str, int] = {}  # frontend → port
        self._rpc: dict[str, int] = {}
        self._doors: dict[str, _Door] = {}  # replica, or link between frontends → what it dials
        self._heard = 0  # of the proxy's log
        self._standing: dict[tuple[str, Deed], Order] = {}  # link and deed → what a new life of the proxy must be told
        self._zygote: Zygote | None = None
        self._listening: dict[str, socket.socket] = {}  # by frontend, if they inherit it
        self._looking: asyncio.Task[None] | None = None

    @property
    def processes(self) -> list[Supervised]:
        """Frontends, replicas, and the proxy."""
        return [*self.frontends.values(), *self.replicas.values(), *([self.proxy] if self.proxy is not None else ())]

    @property
    def links(self) -> list[str]:
        """The links through the proxy, by name."""
        return [
            link_name(name.partition(">")[0], frontend) for name, door in self._doors.items() for frontend in door.frontends
        ]

    @property
    def death_count(self) -> int:
        """How many processes have ended so far."""
        return sum(len(process.deaths) for process in self.processes)

    @property
    def relayed(self) -> Counter[str]:
        """What the proxy did in all its lives that ended in good order; known when the rig has ended."""
        counts: Counter[str] = Counter()
        for line in self.proxy.log.splitlines() if self.proxy is not None else ():
            if line.startswith("{"):
                counts.update(sum(map(Counter, json.loads(line).values()), Counter()))
        return counts

    def new_connections(self) -> Iterator[tuple[str, Event]]:
        """Yield link and event of every connection through the proxy that began or ended since the last call."""
        if self.proxy is None:
            return
        frontends = {f"{HOST}:{port}": name for name, port in self._rpc.items()}
        with (self.folder / f"{PROXY}.log").open("rb") as log:
            log.seek(self._heard)
            while (line := log.readline()).endswith(b"\n"):
                self._heard += len(line)
                event = Event.from_json(line.decode())
                if event is not None:
                    yield link_name(event.door.partition(">")[0], frontends[event.upstream]), event

    def process(self, name: str) -> Supervised:
        """Return the process of this name."""
        return next(process for process in self.processes if process.name == name)

    def deaths(self) -> list[Death]:
        """Return every end of a process so far, in order."""
        return sorted((death for process in self.processes for death in process.deaths), key=lambda death: death.at)

    def order(self, link: str, deed: Deed, sides: tuple[Side, ...] = tuple(Side)) -> None:
        """Have the proxy do something to a link."""
        if self.proxy is None:
            raise RigError("there is no proxy")
        dials, _, frontend = link.partition(">")
        door = dials if dials in self._doors else link
        order = Order(door=door, deed=deed, sides=sides, upstream=f"{HOST}:{self._rpc[frontend]}")
        if deed in UNDONE_BY:
            self._standing[link, deed] = order
        elif deed in _UNDOES:
            self._standing.pop((link, _UNDOES[deed]), None)
        self.proxy.tell(order.to_json())

    async def report(self, frontend: str) -> dict[str, Any] | None:
        """Return what a frontend says of itself, or None if it does not answer."""
        try:
            async with asyncio.timeout(REPORT_S):
                reader, writer = await asyncio.open_connection(HOST, self._internal[frontend])
                try:
                    head = f"GET /_clipper/report HTTP/1.0\r\nAuthorization: Bearer {self._token}\r\n\r\n"
                    writer.write(head.encode())
                    reply = await reader.read()
                finally:
                    writer.transport.abort()
            report: dict[str, Any] = json.loads(reply.partition(b"\r\n\r\n")[2])
        except (OSError, ValueError):  # TimeoutError is an OSError
            return None
        return report

    async def replica_states(self, frontend: str) -> dict[str, list[str]] | None:
        """Return replica → the states of its sessions at a frontend (more than one is one too many); None if it is away."""
        report = await self.report(frontend)
        if report is None:
            return None
        states: dict[str, list[str]] = {}
        for row in report["replicas"]:
            states.setdefault(row["replica"], []).append(row["state"])
        return states

    async def linked_peers(self, frontend: str) -> int:
        """Return how many others have links to and from a frontend; -1 if it is away."""
        report = await self.report(frontend)
        return -1 if report is None else sum(peer["linked"] and peer["links_here"] for peer in report["peers"])

    async def until_whole(self, *, within_s: float = START_S, everywhere: bool = True) -> float:
        """Wait until every frontend has one ready session of every replica, and links to and from all others.

        With `everywhere` unset it is enough that each replica is ready at one of them: the others relay. Return how long
        that took.

        Raises: RigError: that did not happen.
        """
        began = time.monotonic()
        wanted = {name: ["ready"] for name in self.replicas}
        while True:
            states = {name: await self.replica_states(name) for name in self.frontends}
            peers = {name: await self.linked_peers(name) for name in self.frontends}
            is_there = [each == wanted for each in states.values()]
            if not everywhere:
                ready = {name for each in states.values() for name, its in (each or {}).items() if its == ["ready"]}
                is_there = [ready == set(wanted)]
            if all(is_there) and set(peers.values()) == {len(peers) - 1}:
                return time.monotonic() - began
            if time.monotonic() > began + within_s:
                raise RigError(
                    f"after {within_s} s the replicas' states are {states}, the numbers of linked peers {peers}; "
                    "one ready session of each, and every peer, were expected"
                )
            await asyncio.sleep(LOOK_EVERY_S)

    async def __aenter__(self) -> Self:
        try:
            self._prepare()
            for process in self.processes:
                process.start()
            self._looking = asyncio.create_task(self._look())
            await self.until_whole()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        await self._end()

    async def _look(self) -> None:
        while True:
            now = time.monotonic()
            for process in self.processes:
                process.look(now)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _end(self) -> None:
        failure: BaseException | None = None
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
            failure = None if self._looking.cancelled() else self._looking.exception()
        for process in self.processes:
            process.send(signal.SIGCONT)
            process.end()
        if self._zygote is not None:
            self._zygote.close()
        for listening in self._listening.values():
            listening.close()
        if failure is not None:
            raise RigError("a process could not be started again") from failure

    # ---- making ready ----------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        mirror = self.folder / "mirror.json"
        token = self.folder / "token"
        token.write_text(self._token)
        names = [f"frontend-{number}" for number in range(self.plan.frontends)]
        if self.plan.inherited:
            self._listening = {name: listen() for name in names}
        if self.plan.forked:
            self._zygote = Zygote(pass_fds=self._pass_fds())
        for name in names:
            self._rpc[name], self._internal[name] = quiet_port(), quiet_port()
        if self.plan.proxy is not None:
            self._prepare_proxy(self.plan.proxy)
        for name in names:
            own_mirror = mirror.with_name(f"{name}.mirror.json")
            own_mirror.write_bytes(to_mirror(self.plan.snapshot()))
            self._prepare_frontend(name, own_mirror, token)
        for served in self.plan.served:
            self._prepare_replicas(served)

    def _prepare_frontend(self, name: str, mirror: Path, token: Path) -> None:
        listening = self._listening.get(name)
        http = quiet_port() if listening is None else listening.getsockname()[1]
        self.addresses.append(Address(HOST, http))
        settings = {
            "CLIPPER_FRONTEND_ID": name,
            "CLIPPER_HTTP_ADDRESS": f"{HOST}:{http}" if listening is None else f"fd://{listening.fileno()}",
            "CLIPPER_RPC_ADDRESS": f"tcp://{HOST}:{self._rpc[name]}",
            "CLIPPER_INTERNAL_ADDRESS": f"{HOST}:{self._internal[name]}",
            "CLIPPER_MIRROR_PATH": str(mirror),
            "CLIPPER_TOKEN_FILE": str(token),
            "CLIPPER_ACCESS_LOG": "off",
            **self._mesh_settings(name),
            **self.plan.frontend_settings,
        }
        self.frontends[name] = self._process(name, "clipper_nomad_frontend", settings, self._zygote)

    def _mesh_settings(self, name: str) -> dict[str, str]:
        """Return how a frontend gets to the others: if there are doors by these, and never by what the others advertise."""
        others = [other for other in self._rpc if other != name]
        if not others:
            return {}
        if not self._doors:
            return {"CLIPPER_PEER_ADDRESSES": ",".join(f"tcp://{HOST}:{self._rpc[other]}" for other in others)}
        ports = [self._doors[link_name(name, other)].port for other in others]
        return {
            "CLIPPER_PEER_ADDRESSES": ",".join(f"tcp://{HOST}:{port}" for port in ports),
            "CLIPPER_ADVERTISED_RPC_ADDRESS": "ipc:///dev/null/none",
        }

    def _prepare_replicas(self, served: Served) -> None:
        record = served.record
        bundle = self.folder / f"bundle-{record.name}-{record.version}"
        digest = pack(bundle, served.function, input_type=record.input_type)
        for name in served.replica_names():
            ports = [self._doors[name].port] if name in self._doors else list(self._rpc.values())
            settings = {
                "CLIPPER_MODEL_NAME": record.name,
                "CLIPPER_MODEL_VERSION": record.version,
                "CLIPPER_MODEL_UID": record.uid,
                "CLIPPER_MODEL_PATH": str(bundle),
                "CLIPPER_MODEL_DIGEST": digest,
                "CLIPPER_REPLICA_ID": name,
                "CLIPPER_RPC_ADDRESSES": ",".join(f"tcp://{HOST}:{port}" for port in ports),
                "CLIPPER_RPC_MODE": "proxy" if name in self._doors else "direct",  # what breaks links is not gone round
                **served.settings,
            }
            self.replicas[name] = self._process(name, "clipper_nomad_runtime", settings)

    def _process(self, name: str, module: str, settings: Mapping[str, str], zygote: Zygote | None = None) -> Supervised:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("CLIPPER_")}
        return Supervised(
            name,
            [sys.executable, "-m", module],
            environment={**clean, **settings},
            log=self.folder / f"{name}.log",
            zygote=zygote,
            pass_fds=self._pass_fds(),
        )

    def _pass_fds(self) -> tuple[int, ...]:
        return tuple(each.fileno() for each in self._listening.values())

    def _prepare_proxy(self, module: str) -> None:
        everyone = tuple(self._rpc)
        for served in self.plan.served:
            self._doors.update({name: _Door(quiet_port(), everyone) for name in served.replica_names()})
        for one in everyone:
            for other in everyone:
                if one != other:
                    self._doors[link_name(one, other)] = _Door(quiet_port(), (other,))
        doors = []
        for name, door in self._doors.items():
            upstreams = ",".join(f"{HOST}:{self._rpc[frontend]}" for frontend in door.frontends)
            doors.append(f"{name}@{door.port}={upstreams}")
        self.proxy = Supervised(
            PROXY,
            [sys.executable, "-m", f"benchmarks.{module}", "--seed", str(self.plan.seed), *doors],
            environment={**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])},
            log=self.folder / f"{PROXY}.log",
            orders=self._standing_orders,
        )

    def _standing_orders(self) -> Iterator[str]:
        return (order.to_json() for order in list(self._standing.values()))
