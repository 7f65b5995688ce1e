"""A Nomad server of the test's own: one process on loopback, ports that are free, state in a folder that goes away.

It has no client, so it runs nothing: it parses and validates jobspecs as a cluster's would.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.waiting import wait_until

START_S = 30.0
# Nomad refuses to start with the first in its environment; the others would make it somebody else's agent
UNWANTED = ("AWS_CA_BUNDLE", "NOMAD_ADDR", "NOMAD_TOKEN", "NOMAD_NAMESPACE", "NOMAD_REGION")


class NomadServer:
    """The HTTP API of a running server."""

    def __init__(self, address: str) -> None:
        self.address = address

    def parse(self, source: str) -> dict[str, Any]:
        """Return the job that Nomad reads from HCL. Fails with Nomad's own words."""
        reply = requests.post(f"{self.address}/v1/jobs/parse", json={"JobHCL": source, "Canonicalize": True}, timeout=10)
        assert reply.status_code == 200, reply.text
        job = reply.json()
        assert isinstance(job, dict)
        return job

    def prepare(self) -> None:
        """Create what jobs of the tests name: a namespace `ml`, a node pool `gpu`, memory that may be oversubscribed."""
        for path, body in (
            ("namespace/ml", {"Name": "ml"}),
            ("node/pool/gpu", {"Name": "gpu"}),
            ("operator/scheduler/configuration", {"MemoryOversubscriptionEnabled": True}),
        ):
            reply = requests.put(f"{self.address}/v1/{path}", json=body, timeout=10)
            assert reply.status_code == 200, reply.text

    def problems(self, job: dict[str, Any]) -> list[str]:
        """Return what Nomad would refuse, and warn of, when the job is registered."""
        reply = requests.post(f"{self.address}/v1/validate/job", json={"Job": job}, timeout=10)
        assert reply.status_code == 200, reply.text
        verdict = reply.json()
        return [*(verdict["ValidationErrors"] or []), *filter(None, [verdict["Error"], verdict["Warnings"]])]


def nomad_binary() -> str | None:
    """The `nomad` on PATH."""
    return shutil.which("nomad")


@contextmanager
def nomad_server(folder: Path) -> Iterator[NomadServer]:
    """Run a server until the block ends. Fails with its log when it does not come up."""
    binary = nomad_binary()
    assert binary is not None
    ports = dict(zip(("http", "rpc", "serf"), _free_ports(3), strict=True))
    settings = {
        "name": "test",
        "data_dir": str(folder / "data"),
        "bind_addr": "127.0.0.1",
        "ports": ports,
        "advertise": dict.fromkeys(ports, "127.0.0.1"),
        "server": {"enabled": True, "bootstrap_expect": 1},
        "disable_update_check": True,
    }
    (folder / "nomad.json").write_text(json.dumps(settings), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    with (folder / "nomad.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [binary, "agent", "-config", str(folder / "nomad.json")], stdout=log, stderr=log, env=environment
        )
        try:
            server = NomadServer(f"http://127.0.0.1:{ports['http']}")
            _wait_for_leader(server, process, folder / "nomad.log")
            server.prepare()
            yield server
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)


def _wait_for_leader(server: NomadServer, process: subprocess.Popen[bytes], log: Path) -> None:
    def has_leader() -> bool:
        assert process.poll() is None, f"the Nomad server ended:\n{log.read_text(encoding='utf-8')[-3000:]}"
        try:
            reply = requests.get(f"{server.address}/v1/status/leader", timeout=1)
        except requests.RequestException:
            return False
        return reply.status_code == 200 and bool(reply.json())

    wait_until(has_leader, f"a Nomad server with a leader; its log is {log}", within_s=START_S)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody has now, all different: held together until all are known."""
    with ExitStack() as stack:
        holders = [stack.enter_context(socket.socket()) for _ in range(count)]
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [holder.getsockname()[1] for holder in holders]
