"""How much room each Nomad client has, from its stub and the allocations on it. Pure. For placement.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from clipper_nomad.cluster.rollout.parsed_job import Json

_DONE = frozenset({"complete", "failed", "lost"})  # client statuses that hold no resources any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a client that takes jobs has free, and in all. CPU in MHz, memory in MiB."""

    client: str
    datacenter: str
    node_pool: str
    cpu_mhz: int
    memory_mib: int
    all_cpu_mhz: int  # what an empty client would have
    all_memory_mib: int


def rooms_of(nodes: Iterable[Json], allocations: Iterable[Json]) -> tuple[Room, ...]:
    """Return the room of every client that is ready and eligible.

    `nodes`: stubs with resources; `allocations`: stubs with AllocatedResources, of all namespaces."""
    used: dict[str, tuple[int, int]] = {}
    for allocation in allocations:
        if allocation.get("ClientStatus") not in _DONE:
            cpu, memory = used.get(allocation["NodeID"], (0, 0))
            more_cpu, more_memory = _asked(allocation.get("AllocatedResources") or {})
            used[allocation["NodeID"]] = (cpu + more_cpu, memory + more_memory)
    return tuple(
        _room(node, *used.get(node["ID"], (0, 0)))
        for node in nodes
        if node.get("Status") == "ready" and node.get("SchedulingEligibility") == "eligible"
    )


def _asked(resources: Mapping[str, Json]) -> tuple[int, int]:
    pairs = [_cpu_and_memory(task) for task in (resources.get("Tasks") or {}).values()]
    return sum(cpu for cpu, _ in pairs), sum(memory for _, memory in pairs)


def _cpu_and_memory(resources: Json) -> tuple[int, int]:
    cpu, memory = resources.get("Cpu") or {}, resources.get("Memory") or {}
    return int(cpu.get("CpuShares") or 0), int(memory.get("MemoryMB") or 0)


def _room(node: Json, used_cpu: int, used_memory: int) -> Room:
    all_cpu, all_memory = _cpu_and_memory(node.get("NodeResources") or {})
    kept_cpu, kept_memory = _cpu_and_memory(node.get("ReservedResources") or {})
    return Room(
        client=node.get("Name") or node["ID"][:8],
        datacenter=node.get("Datacenter") or "",
        node_pool=node.get("NodePool") or "default",
        cpu_mhz=all_cpu - kept_cpu - used_cpu,
        memory_mib=all_memory - kept_memory - used_memory,
        all_cpu_mhz=all_cpu - kept_cpu,
        all_memory_mib=all_memory - kept_memory,
    )
