"""Raw processes under test: frontends that start from a mirror file, replicas, and a breaking proxy between them.

No store, no admin, no local stack: what the truth test attacks is the query path. Every replica has a link of its own to
every frontend through the proxy (tcp_proxy.py), and every process is started again when it ends (supervised.py).
`async with Rig(...)` starts all and leaves nothing behind.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.checked_load import Address
from benchmarks.ports import HOST, listen, quiet_port
from benchmarks.rig_plan import Plan, Served, link_name
from benchmarks.supervised import Death, Supervised
from benchmarks.tcp_proxy import Order
from benchmarks.zygote import Zygote
from clipper_nomad.state.records import to_mirror
from tests.process.bundles import pack

LOOK_EVERY_S = 0.02
START_S = 30.0  # a loaded machine starts a process in 2 s
REPORT_S = 2.0


class RigError(Exception):
    """What was to be tested did not come up, or did not come back."""


class Rig:
    """Everything that runs. `frontends` and `replicas` by name; links are named by `link_name`."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.plan = plan
        self.folder = folder
        self.frontends: dict[str, Supervised] = {}
        self.replicas: dict[str, Supervised] = {}
        self.addresses: list[Address] = []
        self.proxy_counts: dict[str, dict[str, int]] = {}
        self._token = secrets.token_hex(8)
        self._internal: dict[str, int] = {}  # frontend → port
        self._rpc: dict[str, int] = {}
        self._links: dict[str, int] = {}  # link → the proxy's port
        self._proxy: subprocess.Popen[str] | None = None
        self._zygote: Zygote | None = None
        self._listening: dict[str, socket.socket] = {}  # by frontend, if they inherit it
        self._looking: asyncio.Task[None] | None = None

    @property
    def processes(self) -> list[Supervised]:
        """Frontends and replicas."""
        return [*self.frontends.values(), *self.replicas.values()]

    @property
    def links(self) -> list[str]:
        """The links through the proxy, by name."""
        return list(self._links)

    @property
    def death_count(self) -> int:
        """How many processes have ended so far."""
        return sum(len(process.deaths) for process in self.processes)

    @property
    def relayed(self) -> Counter[str]:
        """What the proxy did in all; known when the rig has ended."""
        return sum(map(Counter, self.proxy_counts.values()), Counter())

    def deaths(self) -> list[Death]:
        """Return every end of a process so far, in order."""
        return sorted((death for process in self.processes for death in process.deaths), key=lambda death: death.at)

    def order(self, order: Order) -> None:
        """Have the proxy do something to a link."""
        if self._proxy is None or self._proxy.stdin is None:
            raise RigError("there is no proxy")
        self._proxy.stdin.write(order.to_json())
        self._proxy.stdin.flush()

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

    async def until_whole(self, *, within_s: float = START_S) -> float:
        """Wait until every frontend has exactly one ready session of every replica; return how long that took.

        Raises: RigError: that did not happen.
        """
        began = time.monotonic()
        wanted = {name: ["ready"] for name in self.replicas}
        while True:
            states = {name: await self.replica_states(name) for name in self.frontends}
            if all(each == wanted for each in states.values()):
                return time.monotonic() - began
            if time.monotonic() > began + within_s:
                raise RigError(
                    f"after {within_s} s the replicas' states are {states}; one ready session of each was expected"
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
        if self._proxy is not None:
            output, _ = self._proxy.communicate(timeout=START_S)
            with contextlib.suppress(ValueError):
                self.proxy_counts = json.loads(output)
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
            own_mirror = mirror.with_name(f"{name}.mirror.json")
            own_mirror.write_bytes(to_mirror(self.plan.snapshot()))
            self._prepare_frontend(name, own_mirror, token)
        if self.plan.proxy is not None:
            self._start_proxy(self.plan.proxy)
        for served in self.plan.served:
            self._prepare_replicas(served)

    def _prepare_frontend(self, name: str, mirror: Path, token: Path) -> None:
        listening = self._listening.get(name)
        http = quiet_port() if listening is None else listening.getsockname()[1]
        self._rpc[name], self._internal[name] = quiet_port(), quiet_port()
        self.addresses.append(Address(HOST, http))
        settings = {
            "CLIPPER_FRONTEND_ID": name,
            "CLIPPER_HTTP_ADDRESS": f"{HOST}:{http}" if listening is None else f"fd://{listening.fileno()}",
            "CLIPPER_RPC_ADDRESS": f"tcp://{HOST}:{self._rpc[name]}",
            "CLIPPER_INTERNAL_ADDRESS": f"{HOST}:{self._internal[name]}",
            "CLIPPER_MIRROR_PATH": str(mirror),
            "CLIPPER_TOKEN_FILE": str(token),
            "CLIPPER_ACCESS_LOG": "off",
            **self.plan.frontend_settings,
        }
        self.frontends[name] = self._process(name, "clipper_nomad_frontend", settings, self._zygote)

    def _prepare_replicas(self, served: Served) -> None:
        record = served.record
        bundle = self.folder / f"bundle-{record.name}-{record.version}"
        digest = pack(bundle, served.function, input_type=record.input_type)
        for name in served.replica_names():
            ports = [self._links.get(link_name(name, frontend), self._rpc[frontend]) for frontend in self.frontends]
            settings = {
                "CLIPPER_MODEL_NAME": record.name,
                "CLIPPER_MODEL_VERSION": record.version,
                "CLIPPER_MODEL_UID": record.uid,
                "CLIPPER_MODEL_PATH": str(bundle),
                "CLIPPER_MODEL_DIGEST": digest,
                "CLIPPER_REPLICA_ID": name,
                "CLIPPER_RPC_ADDRESSES": ",".join(f"tcp://{HOST}:{port}" for port in ports),
                "CLIPPER_RPC_MODE": "proxy",  # what breaks links must not be gone round
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

    def _start_proxy(self, module: str) -> None:
        links = [
            f"{link_name(replica, frontend)}={HOST}:{port}"
            for served in self.plan.served
            for replica in served.replica_names()
            for frontend, port in self._rpc.items()
        ]
        self._proxy = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{module}", "--seed", str(self.plan.seed), *links],
            cwd=Path(__file__).resolve().parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._proxy.stdout is not None
        self._links = json.loads(self._proxy.stdout.readline())
