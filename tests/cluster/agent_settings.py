"""The configurations of the rig's Consul, Nomad and Fabio."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipper_nomad.cluster.policies import CONSUL_FABIO

if TYPE_CHECKING:
    from tests.cluster.rig import Rig

DYNAMIC_PORTS = 500


def consul_settings(rig: Rig, ports: list[int], *, data: Path) -> dict[str, Any]:  # Any: JSON
    """Of one server that keeps its data."""
    guard = rig.guard
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
            "http": rig.consul_http_port,
            "https": -1 if guard is None else guard.consul_https_port,
            "dns": rig.consul_dns_port,
            "grpc": -1,
            "server": ports[0],
            "serf_lan": ports[1],
            "serf_wan": ports[2],
        },
        **({} if guard is None else guard.of_consul()),
    }


def server_settings(rig: Rig, *, rpc: int, serf: int) -> dict[str, Any]:  # Any: JSON
    """Of Nomad's one server."""
    ports = {"http": rig.nomad_port, "rpc": rpc, "serf": serf}
    return _nomad(rig, "server", ports) | {"server": {"enabled": True, "bootstrap_expect": 1}}


def client_settings(rig: Rig, *, http: int, server_rpc: int) -> dict[str, Any]:  # Any: JSON
    """Of Nomad's one client."""
    first = random.randrange(20_000, 32_000 - DYNAMIC_PORTS, DYNAMIC_PORTS)  # another rig's tasks take theirs elsewhere
    return _nomad(rig, "client", {"http": http}) | {
        "client": {
            "enabled": True,
            # with ACLs it finds them in Consul, as clients do that are told of none
            "servers": [f"127.0.0.1:{server_rpc}"] if rig.guard is None else [],
            "network_interface": "lo",
            "cpu_total_compute": 16_000,  # many small jobs must fit on two cores
            "min_dynamic_port": first,
            "max_dynamic_port": first + DYNAMIC_PORTS - 1,
            "host_volume": {name: {"path": str(path)} for name, path in rig.volumes.items()},
            "options": {
                "fingerprint.denylist": "env_aws,env_gce,env_azure,env_digitalocean",  # they wait for a metadata service
                "driver.allowlist": ",".join(rig.drivers),
            },
        },
    }


def _nomad(rig: Rig, role: str, ports: dict[str, int]) -> dict[str, Any]:  # Any: JSON
    guard, consul = rig.guard, {"address": f"127.0.0.1:{rig.consul_http_port}"}
    return {
        "name": role,
        "datacenter": "dc1",
        "data_dir": str(rig.folder / f"nomad-{role}"),
        "bind_addr": "127.0.0.1",
        "disable_update_check": True,
        "ports": ports,
        "advertise": dict.fromkeys(("http", "rpc", "serf"), "127.0.0.1"),
        "consul": consul if guard is None else consul | {"token": guard.tokens[f"consul-nomad-{role}"]},
        **({} if guard is None else guard.of_nomad()),
    }


def nomad_plugins(rig: Rig) -> str:
    """As HCL: Nomad's JSON cannot say this. Of two clients on one Docker daemon neither may remove what is the other's."""
    auth = f"auth {{\n      config = {json.dumps(str(rig.registry.clients))}\n    }}" if rig.registry is not None else ""
    return f"""
plugin "raw_exec" {{
  config {{
    enabled = true
  }}
}}
plugin "docker" {{
  config {{
    {auth}
    gc {{
      image = false
      dangling_containers {{
        enabled = false
      }}
    }}
  }}
}}
"""


def fabio_options(rig: Rig) -> list[str]:
    """Of a Fabio with an HTTP listener and two TCP listeners: of the model channel, and of Clipper's RPC version 3."""
    token = [] if rig.guard is None else ["-registry.consul.token", rig.guard.tokens[CONSUL_FABIO]]
    tcp = [f"127.0.0.1:{port};proto=tcp" for port in (rig.fabio_tcp_port, rig.fabio_legacy_port)]
    return [
        *token,
        *("-proxy.addr", ",".join([f"127.0.0.1:{rig.fabio_http_port}", *tcp])),
        *("-proxy.strategy", "rr"),
        *("-proxy.noroutestatus", "503"),
        *("-ui.addr", f"127.0.0.1:{rig.fabio_admin_port}"),
        *("-registry.consul.addr", f"127.0.0.1:{rig.consul_http_port}"),
        *("-registry.consul.checksRequired", "all"),
        f"-registry.consul.register.enabled={'false' if rig.guard is None else 'true'}",
        *("-registry.consul.register.addr", f"127.0.0.1:{rig.fabio_admin_port}"),
        "-insecure",  # it may run as root
    ]
