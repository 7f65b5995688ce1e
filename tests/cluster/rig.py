"""A registry, a Consul, a Nomad (server and client) and a Fabio of the tests' own, on loopback, free ports, in one folder.

Consul keeps its data (not -dev): with a fresh raft index after a restart Fabio would freeze for minutes. What a rig started
it ends: its jobs first, since Nomad's tasks outlive the agent, then each process by its id.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.discovery import ConsulDNS
from clipper_nomad.cluster.endpoints import consul_endpoint, nomad_endpoint
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.routes import FabioLoadBalancer
from tests.cluster.agent_settings import client_settings, consul_settings, fabio_options, nomad_plugins, server_settings
from tests.cluster.guard import Guard, hand_out_tokens, new_guard
from tests.cluster.processes import STOP_WITHIN_S, answers, free_ports, process, shell_environment, unmount_below
from tests.cluster.registry import Registry, missing_for_registry, running_registry
from tests.waiting import wait_until

BINARIES = ("consul", "nomad", "fabio")
VOLUMES = ("shared", "bundles", "bundle-cache")  # host volumes of the client, empty at first
JOBS_END_WITHIN_S = 60.0  # containers have up to 30 s for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """Where everything listens, all on 127.0.0.1.

    `registry`: None where its binaries are not on PATH. `guard`: ACLs and TLS, None without."""

    folder: Path
    nomad_port: int
    consul_http_port: int
    consul_dns_port: int
    fabio_http_port: int
    fabio_tcp_port: int
    fabio_legacy_port: int
    fabio_admin_port: int
    has_docker: bool
    registry: Registry | None
    guard: Guard | None

    @property
    def nomad_url(self) -> str:
        return f"{'http' if self.guard is None else 'https'}://127.0.0.1:{self.nomad_port}"

    @property
    def consul_url(self) -> str:
        if self.guard is not None:
            return f"https://127.0.0.1:{self.guard.consul_https_port}"
        return f"http://127.0.0.1:{self.consul_http_port}"

    @property
    def drivers(self) -> list[str]:
        return ["raw_exec", "docker"] if self.has_docker else ["raw_exec"]

    def need_docker(self) -> None:
        """Skip the test where Nomad cannot run containers."""
        if not self.has_docker:
            pytest.skip("Nomad has no docker driver here: `docker info` got no answer")

    @property
    def volumes(self) -> dict[str, Path]:
        """The folder behind each host volume of the client."""
        return {name: self.folder / "volumes" / name for name in VOLUMES}

    @property
    def allocations(self) -> Path:
        """The folder with one folder for each allocation."""
        return self.folder / "nomad-client" / "alloc"

    def nomad(self) -> NomadApi:
        """With all rights."""
        return NomadApi(nomad_endpoint(self.shell()))

    def consul(self) -> ConsulApi:
        """With all rights."""
        return ConsulApi(consul_endpoint(self.shell()))

    def dns(self) -> ConsulDNS:
        return ConsulDNS("127.0.0.1", self.consul_dns_port)

    def fabio(self) -> FabioLoadBalancer:
        return FabioLoadBalancer(
            "127.0.0.1",
            http_proxy_port=self.fabio_http_port,
            tcp_proxy_port=self.fabio_tcp_port,
            admin_port=self.fabio_admin_port,
            legacy_rpc_port=self.fabio_legacy_port,
        )

    def shell(self) -> dict[str, str]:
        """The environment of somebody at a shell who works with this cluster, with all rights."""
        found = shell_environment() | {
            "NOMAD_ADDR": self.nomad_url,
            "CONSUL_HTTP_ADDR": self.consul_url.rpartition("/")[2],
            "CLIPPER_FABIO": f"127.0.0.1:{self.fabio_http_port}",
        }
        if self.registry is not None:
            found |= {"CLIPPER_REGISTRY": self.registry.address, "DOCKER_CONFIG": str(self.registry.operator)}
        if self.guard is not None:
            found |= self.guard.shell()
        return found

    def session(self) -> requests.Session:
        """A session for what the layers over Nomad and Consul have no call for, with all rights."""
        session = requests.Session()
        session.trust_env = False
        if self.guard is not None:
            session.verify = str(self.guard.ca)
            session.cert = self.guard.caller_files
            session.headers.update({"X-Nomad-Token": self.guard.nomad_token, "X-Consul-Token": self.guard.consul_token})
        return session


def what_is_missing() -> str:
    """Why no rig can run here; "" if one can."""
    missing = [name for name in BINARIES if shutil.which(name) is None]
    if missing:
        return f"the cluster tests need {', '.join(missing)} on PATH"
    return "" if os.geteuid() == 0 else "a Nomad client needs root"


def docker_answers() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "info"], capture_output=True, timeout=20, check=False).returncode == 0


@contextmanager
def running_rig(folder: Path, *, guarded: bool = False) -> Iterator[Rig]:
    """Start everything, each waited for with a deadline, and end everything again. `guarded`: with ACLs and TLS."""
    ports = free_ports(14)
    with ExitStack() as stack:
        rig = Rig(
            folder=folder,
            nomad_port=ports[0],
            consul_http_port=ports[1],
            consul_dns_port=ports[2],
            fabio_http_port=ports[3],
            fabio_tcp_port=ports[4],
            fabio_legacy_port=ports[13],
            fabio_admin_port=ports[5],
            has_docker=docker_answers(),
            registry=None if missing_for_registry() else stack.enter_context(running_registry(folder)),
            guard=new_guard(folder / "tls", consul_https_port=ports[12]) if guarded else None,
        )
        session = rig.session()
        config = folder / "consul.json"
        config.write_text(json.dumps(consul_settings(rig, ports[6:9], data=folder / "consul")))
        log = stack.enter_context(process("consul", "agent", "-config-file", str(config), folder=folder))
        leader = f"{rig.consul_url}/v1/status/leader"
        answers(session, leader, lambda answer: answer.ok and ":" in answer.text, "Consul to have a leader", log)
        if rig.guard is not None:
            hand_out_tokens(rig.guard, session, rig.consul_url)
        stack.enter_context(running_nomad(rig, ports[9:12]))
        log = stack.enter_context(process("fabio", *fabio_options(rig), folder=folder))
        health = f"http://127.0.0.1:{rig.fabio_admin_port}/health"
        answers(session, health, lambda answer: answer.ok, "Fabio's health", log)
        stack.callback(end_all_jobs, rig)
        yield rig


@contextmanager
def running_nomad(rig: Rig, ports: list[int]) -> Iterator[None]:
    """Run a server and a client. In one process the client may come before the keyring, and tries again 20 s later."""
    session, folder, serf = rig.session(), rig.folder, ports[2]
    with ExitStack() as stack:
        stack.callback(unmount_below, folder)
        config = folder / "nomad-server.json"
        config.write_text(json.dumps(server_settings(rig, rpc=ports[0], serf=serf)))
        log = stack.enter_context(process("nomad", "agent", "-config", str(config), folder=folder, log="nomad-server"))
        leader = f"{rig.nomad_url}/v1/status/leader"
        answers(session, leader, lambda answer: answer.ok and ":" in answer.text, "Nomad to have a leader", log)
        if rig.guard is not None:
            secret = {"BootstrapSecret": rig.guard.nomad_token}
            bootstrap = session.post(f"{rig.nomad_url}/v1/acl/bootstrap", json=secret, timeout=10)
            assert bootstrap.ok, bootstrap.text
        keyring = f"{rig.nomad_url}/v1/operator/keyring/keys"
        answers(session, keyring, lambda answer: answer.ok and "active" in answer.text, "Nomad to have a keyring", log)
        for path in rig.volumes.values():
            path.mkdir(parents=True)
            path.chmod(0o777)
        config, plugins = folder / "nomad-client.json", folder / "plugins.hcl"
        config.write_text(json.dumps(client_settings(rig, http=ports[1], server_rpc=ports[0])))
        plugins.write_text(nomad_plugins(rig))
        files = ("-config", str(config), "-config", str(plugins))
        log = stack.enter_context(process("nomad", "agent", *files, folder=folder, log="nomad-client"))
        answers(
            session,
            f"{rig.nomad_url}/v1/nodes",
            lambda answer: answer.ok and has_drivers(answer.json(), set(rig.drivers)),
            f"a Nomad client with {' and '.join(rig.drivers)}",
            log,
        )
        yield


def has_drivers(nodes: list[dict[str, Any]], wanted: set[str]) -> bool:  # Any: Nomad's JSON
    """Whether there is a client that is ready and has these drivers."""
    return any(
        node["Status"] == "ready" and wanted <= {name for name, driver in node["Drivers"].items() if driver["Healthy"]}
        for node in nodes
    )


def end_all_jobs(rig: Rig) -> None:
    """Stop every job, wait until no task runs, and purge: Nomad forgets what it purges while it still runs."""
    nomad = rig.nomad()
    jobs = [job["ID"] for job in nomad.jobs()]
    for job_id in jobs:
        nomad.deregister(job_id)
    wait_until(lambda: not live_allocations(nomad), "every allocation to end", within_s=JOBS_END_WITHIN_S)
    wait_until(lambda: not tasks_of(rig), "every task to end", within_s=STOP_WITHIN_S)
    for job_id in jobs:
        nomad.deregister(job_id, purge=True)


def live_allocations(nomad: NomadApi) -> list[str]:
    return [each["ID"] for each in nomad.all_allocations() if each["ClientStatus"] in {"pending", "running"}]


def tasks_of(rig: Rig, job_id: str | None = None) -> list[int]:
    """The processes of a job's tasks (None: of all), as the system sees them: Nomad may have forgotten some."""
    found = []
    for each in psutil.process_iter():
        try:
            environ = each.environ()
        except psutil.Error:
            continue
        if environ.get("NOMAD_TASK_DIR", "").startswith(str(rig.folder)) and job_id in {None, environ["NOMAD_JOB_ID"]}:
            found.append(each.pid)
    return found
