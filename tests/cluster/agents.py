"""Nomad and Consul agents of the test's own: processes on loopback, on free ports, their state in a folder of the test."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.waiting import wait_until

START_S = 40.0
# Nomad refuses to start with the first in its environment; the others would make it somebody else's agent
UNWANTED = ("AWS_CA_BUNDLE", "NOMAD_ADDR", "NOMAD_TOKEN", "NOMAD_NAMESPACE", "NOMAD_REGION", "CONSUL_HTTP_ADDR")
NO_CLOUD = "env_aws,env_gce,env_azure,env_digitalocean"  # where there is none, asking for it takes long


class NomadServer:
    """The HTTP API of a running server. What it refuses fails the test with Nomad's own words."""

    def __init__(self, address: str, rpc: str) -> None:
        self.address = address
        self.rpc = rpc

    def get(self, path: str) -> Any:  # noqa: ANN401  # Nomad's JSON
        reply = requests.get(f"{self.address}/v1/{path}", timeout=10)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def put(self, path: str, body: Mapping[str, Any]) -> Any:  # noqa: ANN401  # the same
        reply = requests.put(f"{self.address}/v1/{path}", json=body, timeout=10)
        assert reply.status_code == 200, reply.text
        return reply.json() if reply.text else None

    def parse(self, source: str) -> dict[str, Any]:
        """Return the job that Nomad reads from HCL."""
        job = self.put("jobs/parse", {"JobHCL": source, "Canonicalize": True})
        assert isinstance(job, dict)
        return job

    def problems(self, job: dict[str, Any]) -> list[str]:
        """Return what Nomad would refuse, and warn of, when the job is registered."""
        verdict = self.put("validate/job", {"Job": job})
        return [*(verdict["ValidationErrors"] or []), *filter(None, [verdict["Error"], verdict["Warnings"]])]

    def events(self, job: str) -> list[str]:
        """Return what happened to the tasks of a job, in Nomad's words."""
        states = [each["TaskStates"] or {} for each in self.get(f"job/{job}/allocations")]
        tasks = [task for state in states for task in state.values()]
        return [event["DisplayMessage"] for task in tasks for event in task["Events"]]

    def prepare(self) -> None:
        """Create what jobs of the tests name: a namespace `ml`, a node pool `gpu`, memory that may be oversubscribed."""
        self.put("namespace/ml", {"Name": "ml"})
        self.put("node/pool/gpu", {"Name": "gpu"})
        self.put("operator/scheduler/configuration", {"MemoryOversubscriptionEnabled": True})


def binary(name: str) -> str:
    """Return where `name` is on PATH. The tests that call it are skipped where it is not."""
    found = shutil.which(name)
    assert found is not None
    return found


@contextmanager
def nomad_server(folder: Path, *, has_acls: bool = False) -> Iterator[NomadServer]:
    """Run a server, which parses and validates jobs and runs none, until the block ends. With ACLs nobody has a token."""
    ports = dict(zip(("http", "rpc", "serf"), free_ports(3), strict=True))
    settings = {
        "name": "server",
        "data_dir": str(folder / "server"),
        "bind_addr": "127.0.0.1",
        "ports": ports,
        "advertise": dict.fromkeys(ports, "127.0.0.1"),
        "server": {"enabled": True, "bootstrap_expect": 1},
        "acl": {"enabled": has_acls},
        "disable_update_check": True,
    }
    server = NomadServer(f"http://127.0.0.1:{ports['http']}", f"127.0.0.1:{ports['rpc']}")
    config = _written(folder / "server.json", settings)
    with _running([binary("nomad"), "agent", "-config", str(config)], folder / "server.log") as check:
        _wait_for(f"{server.address}/v1/status/leader", check)
        if not has_acls:
            server.prepare()
        yield server


@contextmanager
def nomad_client(folder: Path, server: NomadServer, *, consul: str) -> Iterator[Path]:
    """Run a client with the driver raw_exec, and give the folder of its allocations."""
    ports = dict(zip(("http", "rpc", "serf"), free_ports(3), strict=True))
    settings = {
        "name": "client",
        "data_dir": str(folder / "client"),
        "bind_addr": "127.0.0.1",
        "ports": ports,
        "advertise": dict.fromkeys(ports, "127.0.0.1"),
        "client": {
            "enabled": True,
            "servers": [server.rpc],
            "network_interface": "lo",
            "options": {"fingerprint.denylist": NO_CLOUD},
        },
        "plugin": [{"raw_exec": [{"config": [{"enabled": True}]}]}],
        "consul": {"address": consul},
        "disable_update_check": True,
    }
    config = _written(folder / "client.json", settings)
    with _running([binary("nomad"), "agent", "-config", str(config)], folder / "client.log") as check:

        def is_ready() -> bool:
            check()
            return any(node["Status"] == "ready" for node in server.get("nodes"))

        wait_until(is_ready, "a Nomad client that is ready", within_s=START_S)
        yield folder / "client" / "alloc"
    _unmount_below(folder)


def _unmount_below(folder: Path) -> None:
    """Unmount what a client leaves when it ends: the secrets/ of each task, without which the folder cannot be removed."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    for mount in mounts:
        if Path(mount).is_relative_to(folder):
            subprocess.run([binary("umount"), mount], check=True)


@contextmanager
def consul_agent(folder: Path) -> Iterator[str]:
    """Run a Consul that keeps nothing, and give its address, host:port."""
    names = ("http", "dns", "server", "serf_lan", "serf_wan")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    config = _written(folder / "consul.json", {"ports": {**ports, "grpc": -1}, "bind_addr": "127.0.0.1"})
    with _running([binary("consul"), "agent", "-dev", "-config-file", str(config)], folder / "consul.log") as check:
        _wait_for(f"http://127.0.0.1:{ports['http']}/v1/status/leader", check)
        yield f"127.0.0.1:{ports['http']}"


def free_ports(count: int) -> list[int]:
    """Return ports that nobody has now, all different: held together until all are known."""
    with ExitStack() as stack:
        holders = [stack.enter_context(socket.socket()) for _ in range(count)]
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [holder.getsockname()[1] for holder in holders]


def _written(file: Path, settings: Mapping[str, Any]) -> Path:
    file.write_text(json.dumps(settings), encoding="utf-8")
    return file


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[Callable[[], None]]:
    """Run a process until the block ends; what is given fails with the end of its log when it has ended by itself."""
    environment = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)

        def check() -> None:
            assert process.poll() is None, f"{command} ended:\n{log.read_text(encoding='utf-8')[-3000:]}"

        try:
            yield check
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)


def _wait_for(url: str, check: Callable[[], None]) -> None:
    def answers() -> bool:
        check()
        try:
            reply = requests.get(url, timeout=1)
        except requests.RequestException:
            return False
        return reply.status_code == 200 and bool(reply.json())

    wait_until(answers, f"an answer from {url}", within_s=START_S)
