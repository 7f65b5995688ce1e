"""A Consul, a Nomad (server and client) and a Fabio of the tests' own, on loopback, with free ports and data in a folder.

Consul keeps its data (not -dev): with a fresh raft index after a restart Fabio would freeze for minutes. What a rig started
it ends: its jobs first, since Nomad's tasks outlive the agent, then each process by its id.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.endpoints import Endpoint
from clipper_nomad.cluster.nomad_api import NomadApi
from tests.waiting import wait_until

BINARIES = ("consul", "nomad", "fabio")
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 15.0
DYNAMIC_PORTS = 500
# Nomad refuses to start with the first; the others would steer the agents' own clients or send loopback to a proxy.
UNWANTED = (
    "AWS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    *("NOMAD_ADDR", "NOMAD_TOKEN", "NOMAD_NAMESPACE", "NOMAD_REGION", "CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN"),
    *("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """Where everything listens, all on 127.0.0.1."""

    folder: Path
    nomad_url: str
    consul_url: str
    consul_dns_port: int
    fabio_http_port: int
    fabio_tcp_port: int
    fabio_admin_port: int
    has_docker: bool

    def nomad(self) -> NomadApi:
        return NomadApi(Endpoint(url=self.nomad_url))

    def consul(self) -> ConsulApi:
        return ConsulApi(Endpoint(url=self.consul_url))


def missing_binaries() -> list[str]:
    return [name for name in BINARIES if shutil.which(name) is None]


def docker_answers() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "info"], capture_output=True, timeout=20, check=False).returncode == 0


@contextmanager
def running_rig(folder: Path) -> Iterator[Rig]:
    """Start everything, each waited for with a deadline, and end everything again."""
    ports = free_ports(11)
    has_docker = docker_answers()
    rig = Rig(
        folder=folder,
        nomad_url=f"http://127.0.0.1:{ports[0]}",
        consul_url=f"http://127.0.0.1:{ports[1]}",
        consul_dns_port=ports[2],
        fabio_http_port=ports[3],
        fabio_tcp_port=ports[4],
        fabio_admin_port=ports[5],
        has_docker=has_docker,
    )
    with ExitStack() as stack:
        config = folder / "consul.json"
        config.write_text(json.dumps(consul_config(rig, ports[6:9], data=folder / "consul")))
        stack.enter_context(process("consul", "agent", "-config-file", str(config), folder=folder))
        answers(
            f"{rig.consul_url}/v1/status/leader",
            lambda body: ":" in str(body),
            "Consul to have a leader",
            folder / "consul.log",
        )
        config = folder / "nomad.json"
        config.write_text(json.dumps(nomad_config(rig, ports[9:11], data=folder / "nomad")))
        plugins = folder / "plugins.hcl"
        plugins.write_text(PLUGINS)
        stack.callback(unmount_below, folder)
        stack.enter_context(process("nomad", "agent", "-config", str(config), "-config", str(plugins), folder=folder))
        drivers = {"raw_exec", "docker"} if has_docker else {"raw_exec"}
        answers(
            f"{rig.nomad_url}/v1/nodes",
            lambda nodes: nodes and nodes[0]["Status"] == "ready" and drivers <= healthy_drivers(nodes[0]),
            f"a Nomad client with {sorted(drivers)}",
            folder / "nomad.log",
        )
        stack.enter_context(process("fabio", *fabio_options(rig), folder=folder))
        answers(f"http://127.0.0.1:{rig.fabio_admin_port}/health", bool, "Fabio's health", folder / "fabio.log", text=True)
        stack.callback(end_all_jobs, rig)
        yield rig


def consul_config(rig: Rig, ports: list[int], *, data: Path) -> dict[str, object]:
    return {
        "server": True,
        "bootstrap_expect": 1,
        "datacenter": "dc1",
        "node_name": "rig",
        "data_dir": str(data),
        "bind_addr": "127.0.0.1",
        "client_addr": "127.0.0.1",
        "disable_update_check": True,
        "performance": {"raft_multiplier": 1},
        "ports": {
            "http": int(rig.consul_url.rpartition(":")[2]),
            "dns": rig.consul_dns_port,
            "grpc": -1,
            "server": ports[0],
            "serf_lan": ports[1],
            "serf_wan": ports[2],
        },
    }


def nomad_config(rig: Rig, ports: list[int], *, data: Path) -> dict[str, object]:
    first = random.randrange(20_000, 32_000 - DYNAMIC_PORTS, DYNAMIC_PORTS)  # another rig's tasks take theirs elsewhere
    return {
        "name": "rig",
        "datacenter": "dc1",
        "data_dir": str(data),
        "bind_addr": "127.0.0.1",
        "disable_update_check": True,
        "ports": {"http": int(rig.nomad_url.rpartition(":")[2]), "rpc": ports[0], "serf": ports[1]},
        "advertise": {"http": "127.0.0.1", "rpc": "127.0.0.1", "serf": "127.0.0.1"},
        "server": {"enabled": True, "bootstrap_expect": 1},
        "client": {
            "enabled": True,
            "network_interface": "lo",
            "cpu_total_compute": 16_000,  # many small jobs must fit on two cores
            "min_dynamic_port": first,
            "max_dynamic_port": first + DYNAMIC_PORTS - 1,
            "options": {
                "fingerprint.denylist": "env_aws,env_gce,env_azure,env_digitalocean",  # they wait for a metadata service
                "driver.allowlist": "raw_exec,docker" if rig.has_docker else "raw_exec",
            },
        },
        "consul": {"address": rig.consul_url.removeprefix("http://")},
    }


# As HCL: Nomad's JSON cannot say this. A second client on one Docker daemon must not remove the first one's containers.
PLUGINS = """
plugin "raw_exec" {
  config {
    enabled = true
  }
}
plugin "docker" {
  config {
    gc {
      image = false
      dangling_containers {
        enabled = false
      }
    }
  }
}
"""


def fabio_options(rig: Rig) -> list[str]:
    return [
        *("-proxy.addr", f"127.0.0.1:{rig.fabio_http_port},127.0.0.1:{rig.fabio_tcp_port};proto=tcp"),
        *("-proxy.strategy", "rr"),
        *("-proxy.noroutestatus", "503"),
        *("-ui.addr", f"127.0.0.1:{rig.fabio_admin_port}"),
        *("-registry.consul.addr", rig.consul_url.removeprefix("http://")),
        *("-registry.consul.checksRequired", "all"),
        "-registry.consul.register.enabled=false",
        "-insecure",  # it may run as root
    ]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, of TCP and UDP, below those that outgoing connections take."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000, 19_900)
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def healthy_drivers(node: dict[str, dict[str, dict[str, bool]]]) -> set[str]:
    return {name for name, driver in node["Drivers"].items() if driver["Healthy"]}


def answers(url: str, holds: Callable[..., object], what: str, log: Path, *, text: bool = False) -> None:
    """Wait until an address answers with something that `holds`."""

    def asked() -> object:
        try:
            answer = requests.get(url, timeout=2)
        except requests.RequestException:
            return False
        return answer.ok and holds(answer.text if text else answer.json())

    try:
        wait_until(asked, what, within_s=READY_WITHIN_S)
    except AssertionError as exc:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise AssertionError(f"{exc}; {log.name} ends:\n{tail}") from exc


@contextmanager
def process(name: str, *args: str, folder: Path) -> Iterator[None]:
    """One program with its log in `folder`; ended by its id, and what it leaves behind as well."""
    environ = {key: value for key, value in os.environ.items() if key not in UNWANTED}
    binary = shutil.which(name)
    assert binary
    with (folder / f"{name}.log").open("wb") as log:
        child = subprocess.Popen([binary, *args], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environ, cwd=folder)
    try:
        yield
    finally:
        below = psutil.Process(child.pid).children(recursive=True) if child.poll() is None else []
        child.terminate()
        try:
            child.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(STOP_WITHIN_S)
        for left in below:
            if left.is_running():
                left.kill()


def end_all_jobs(rig: Rig) -> None:
    """Stop every job, wait until no task runs, and purge: Nomad forgets what it purges while it still runs."""
    nomad = rig.nomad()
    jobs = [job["ID"] for job in nomad.jobs()]
    for job_id in jobs:
        nomad.deregister(job_id)
    wait_until(lambda: not tasks_of(rig), "every task to end", within_s=STOP_WITHIN_S)
    for job_id in jobs:
        nomad.deregister(job_id, purge=True)


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


def unmount_below(folder: Path) -> None:
    """Undo the mounts of task directories: the agent leaves them for its next start, and the folder could not be removed."""
    umount = shutil.which("umount")
    if umount is None:
        return
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    for place in sorted(
        filter(Path.is_mount, (Path(each) for each in mounted if each.startswith(f"{folder}/"))), reverse=True
    ):
        subprocess.run([umount, str(place)], check=False, timeout=STOP_WITHIN_S)


def time_of(act: Callable[[], object]) -> float:
    """How long an act takes, in seconds."""
    started = time.monotonic()
    act()
    return time.monotonic() - started
