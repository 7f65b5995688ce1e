"""What a task needs of the machine it runs on, and where it may run: resources, volumes, network, placement. Pure.

Every value is checked when it is made. Nomad's own words and defaults; source: its job specification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from clipper_nomad.cluster.jobs.checks import Checker

OPERATORS = frozenset(
    {"=", "!=", ">", ">=", "<", "<=", "distinct_hosts", "distinct_property", "regexp", "set_contains", "set_contains_all"}
    | {"set_contains_any", "version", "semver", "is_set", "is_not_set"}
)
_WITHOUT_VALUE = frozenset({"is_set", "is_not_set", "distinct_hosts"})
_NODE_POOL = re.compile(r"[A-Za-z0-9_-]{1,128}")
_NAMESPACE = re.compile(r"[A-Za-z0-9-]{1,128}")
_DEVICE = re.compile(r"[a-z0-9_.-]+(/[A-Za-z0-9_. -]+){0,2}")
_VOLUME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """One condition that a node (or a device) must meet: `attribute` `operator` `value`, as Nomad has them."""

    attribute: str = ""  # `${attr.kernel.name}`; empty only for distinct_hosts
    operator: str = "="
    value: str = ""

    def __post_init__(self) -> None:
        checker = Checker("A constraint")
        if self.operator not in OPERATORS:
            checker.refuse("operator", f"{self.operator!r}; expected one of {', '.join(sorted(OPERATORS))}")
        checker.text("attribute", self.attribute, may_be_empty=self.operator == "distinct_hosts")
        checker.text("value", self.value, may_be_empty=self.operator in _WITHOUT_VALUE | {"distinct_property"})
        checker.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """Devices of one kind for each instance. `device` is `type`, `vendor/type` or `vendor/type/model`."""

    count: int = 1
    device: str = "nvidia/gpu"
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        checker = Checker("A device")
        checker.integer("count", self.count, least=1, most=1024)
        checker.matching("device", self.device, _DEVICE, "type, vendor/type or vendor/type/model, such as nvidia/gpu")
        checker.instances("constraints", self.constraints, Constraint)
        checker.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one instance gets. Give `cpu_mhz` or `cores` (whole ones, for itself), not both; neither means 500 MHz.

    `memory_max_mb` is what it may use while the node has it; Nomad heeds it where oversubscription is switched on.
    """

    cpu_mhz: int | None = None
    cores: int | None = None
    memory_mb: int = 256  # with 500 MHz Clipper's default_memory and default_cpu
    memory_max_mb: int | None = None
    gpus: tuple[Gpus, ...] = ()

    def __post_init__(self) -> None:
        checker = Checker("Resources")
        if self.cpu_mhz is not None and self.cores is not None:
            checker.refuse("cores", f"{self.cores}, and cpu_mhz is {self.cpu_mhz}; expected one of the two")
        if self.cpu_mhz is not None:
            checker.integer("cpu_mhz", self.cpu_mhz, least=1)
        if self.cores is not None:
            checker.integer("cores", self.cores, least=1, most=4096)
        has_memory = checker.integer("memory_mb", self.memory_mb, least=10)  # Nomad's minimum
        if self.memory_max_mb is not None and has_memory:
            checker.integer("memory_max_mb", self.memory_max_mb, least=self.memory_mb)
        checker.instances("gpus", self.gpus, Gpus)
        checker.check()

    @property
    def cpu(self) -> int | None:
        """The MHz to ask for, or None where whole cores are asked for."""
        if self.cores is not None:
            return None
        return 500 if self.cpu_mhz is None else self.cpu_mhz


@dataclass(frozen=True, slots=True, kw_only=True)
class HostVolume:
    """A host volume of the Nomad clients, named `source` there, at `path` in the container."""

    source: str
    path: str
    read_only: bool = False

    def __post_init__(self) -> None:
        checker = Checker("A volume")
        checker.matching("source", self.source, _VOLUME, "the name of a host volume: letters, digits, '-' and '_'")
        if checker.text("path", self.path) and not self.path.startswith("/"):
            checker.refuse("path", f"{self.path!r}; expected a path from the root of the container, such as /data")
        checker.check()


class NetworkMode(StrEnum):
    """How an instance is reached: `bridge` needs the CNI plugins on every client, the other two need nothing."""

    HOST = "host"  # the machine's own network, on ports that Nomad chose
    DOCKER = "docker"  # Docker's bridge; Docker forwards the ports
    BRIDGE = "bridge"  # Nomad's bridge (CNI)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The network of a job's instances. `dns_servers`: only for those who look up names inside containers."""

    mode: NetworkMode = NetworkMode.HOST
    dns_servers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checker = Checker("A network")
        checker.instance("mode", self.mode, NetworkMode)
        if checker.instances("dns_servers", self.dns_servers, str):
            for index, server in enumerate(self.dns_servers):
                checker.matching(f"dns_servers[{index}]", server, _ADDRESS, "an IP address")
        checker.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where in the Nomad cluster a job runs. None: Nomad's (or the client's environment's) own default."""

    datacenters: tuple[str, ...] = ("dc1",)  # Clipper's default
    node_pool: str | None = None
    namespace: str | None = None
    region: str | None = None
    priority: int = 50
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        checker = Checker("A placement")
        if checker.instances("datacenters", self.datacenters, str):
            if not self.datacenters:
                checker.refuse("datacenters", "it is empty; expected at least one, '*' for all")
            for index, datacenter in enumerate(self.datacenters):
                checker.text(f"datacenters[{index}]", datacenter)
        checker.instances("constraints", self.constraints, Constraint)
        if self.node_pool is not None:
            checker.matching("node_pool", self.node_pool, _NODE_POOL, "1 to 128 letters, digits, '-' and '_'")
        if self.namespace is not None:
            checker.matching("namespace", self.namespace, _NAMESPACE, "1 to 128 letters, digits and '-'")
        if self.region is not None:
            checker.matching("region", self.region, _NODE_POOL, "1 to 128 letters, digits, '-' and '_'")
        checker.integer("priority", self.priority, least=1, most=100)
        checker.check()


Options = Mapping[str, Any]  # a driver's options are the driver's: texts, numbers, booleans, lists, mappings of them
