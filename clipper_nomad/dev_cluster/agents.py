"""How Consul, Nomad and Fabio are started here, and their configuration, from the Terraform module's own fragments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from clipper_nomad.dev_cluster.place import VOLUMES, DevPlace
from clipper_nomad.dev_cluster.ports import Ports, last_task_port
from clipper_nomad.dev_cluster.state import Settings
from clipper_nomad.dev_cluster.templates import Value, render
from clipper_nomad.local_stack.child import Part

AGENTS = ("consul", "nomad", "nomad-client", "fabio")  # in the order in which they need each other; "nomad" is its server
LOOPBACK = "127.0.0.1"
DATACENTER = "dc1"
NODE = "clipper-dev"
_SECOND_GRPC_SINCE = (1, 14)  # of Consul, whose servers have a second gRPC port from then on
# meant for clients, and read by agents too; Nomad refuses to start with AWS_CA_BUNDLE
_NOT_THEIRS = ("NOMAD_", "CONSUL_", "VAULT_", "FABIO_", "CLIPPER_", "AWS_")


def write_configuration(place: DevPlace, settings: Settings) -> None:
    """Write what the agents read, in place of what a start before had."""
    ports = settings.ports
    files = {
        **{f"consul/{name}": text for name, text in _consul(place, ports, settings.program("consul").version).items()},
        **{f"nomad/{name}": text for name, text in _nomad_server(place, ports).items()},
        **{f"nomad-client/{name}": text for name, text in _nomad_client(place, ports).items()},
        "fabio.properties": _fabio(ports),
    }
    for folder in ("consul", "nomad", "nomad-client"):
        (place.config / folder).mkdir(exist_ok=True)
        for old in (place.config / folder).iterdir():
            old.unlink()
    for file, text in files.items():
        (place.config / file).write_text(text, encoding="utf-8")


def part_of(name: str, place: DevPlace, settings: Settings, environ: Mapping[str, str]) -> Part:
    """Return how an agent is started. Its current folder tells whose it is, and whose are the processes that it leaves."""
    config = place.config
    words = {
        "consul": ("agent", f"-config-dir={config / 'consul'}"),
        "nomad": ("agent", f"-config={config / 'nomad'}"),
        "nomad-client": ("agent", f"-config={config / 'nomad-client'}"),
        "fabio": ("-cfg", str(config / "fabio.properties"), *(["-insecure"] if os.geteuid() == 0 else [])),
    }[name]
    return Part(
        name=name,
        kind=name,
        argv=(settings.program(name).path, *words),
        env={key: value for key, value in environ.items() if not key.startswith(_NOT_THEIRS)},
        cwd=place.data,
        log=place.log(name),
    )


def _consul(place: DevPlace, ports: Ports, version: str) -> dict[str, str]:
    agent: dict[str, Value] = {
        "datacenter": DATACENTER,
        "node_name": NODE,
        "data_dir": str(place.consul),
        "bind_addr": LOOPBACK,
        "client_addr": LOOPBACK,
        "http_port": ports.consul_http,
        "dns_port": ports.consul_dns,
        "server_port": ports.consul_server,
        "serf_port": ports.consul_serf,
    }
    found = {
        "agent.hcl": render("consul/agent.hcl", agent),
        "server.hcl": render("consul/server.hcl", {"bootstrap_expect": 1}),
    }
    major, minor, *_ = version.split(".")
    if (int(major), int(minor)) >= _SECOND_GRPC_SINCE:
        found["no-grpc.hcl"] = render("consul/no-grpc.hcl")
    return found


def _nomad_agent(ports: Ports, *, name: str, data: Path, http_port: int) -> str:
    return render(
        "nomad/agent.hcl",
        {
            "name": name,
            "region": "global",
            "datacenter": DATACENTER,
            "data_dir": str(data),
            "bind_addr": LOOPBACK,
            "advertise_addr": LOOPBACK,
            "http_port": http_port,
            "rpc_port": ports.nomad_rpc,  # a client listens on neither
            "serf_port": ports.nomad_serf,
            "consul_addr": f"{LOOPBACK}:{ports.consul_http}",
        },
    )


def _nomad_server(place: DevPlace, ports: Ports) -> dict[str, str]:
    return {
        "agent.hcl": _nomad_agent(ports, name=f"{NODE}-server", data=place.nomad, http_port=ports.nomad_http),
        "server.hcl": render("nomad/server.hcl", {"bootstrap_expect": 1}),
    }


def _nomad_client(place: DevPlace, ports: Ports) -> dict[str, str]:
    volumes = {
        f"host-volume-{name}.hcl": render(
            "nomad/host-volume.hcl", {"name": name, "path": str(place.volume(name)), "read_only": False}
        )
        for name in VOLUMES
    }
    return {
        "agent.hcl": _nomad_agent(ports, name=NODE, data=place.nomad_client, http_port=ports.nomad_client),
        "client.hcl": render("nomad/client.hcl", {"node_pool": "default", "network_interface": "lo"}),
        "dynamic-ports.hcl": render("nomad/dynamic-ports.hcl", {"first": ports.tasks, "last": last_task_port(ports)}),
        "no-cloud.hcl": render("nomad/no-cloud.hcl"),
        "docker.hcl": render("nomad/docker.hcl", {"login_file": _login_file(), "owns_docker": False}),
        **volumes,
    }


def _login_file() -> str:
    """Return where this user's own logins to registries are, with which Nomad pulls images; "" if there are none."""
    file = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    return str(file) if file.is_file() else ""


def _fabio(ports: Ports) -> str:
    http = f"{LOOPBACK}:{ports.fabio_http};rt=30s;it=75s"
    tcp = [f"{LOOPBACK}:{port};proto=tcp" for port in (ports.fabio_tcp, ports.fabio_rpc3)]
    return render(
        "fabio/fabio.properties",
        {
            "listeners": ",".join((http, *tcp)),
            "admin_addr": f"{LOOPBACK}:{ports.fabio_admin}",
            "consul_addr": f"{LOOPBACK}:{ports.consul_http}",
        },
    )
