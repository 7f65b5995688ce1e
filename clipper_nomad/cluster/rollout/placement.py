"""Why Nomad finds no client for a task group: FailedTGAllocs of a plan or an evaluation → a sentence and a hint. Pure.

Called by explain.py. A job without room never fails by itself, so this is all that Nomad ever says about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from clipper_nomad.cluster.rollout.capacity import Room
from clipper_nomad.cluster.rollout.parsed_job import Json
from clipper_nomad.container_manager import Failure

_PORT = re.compile(r"reserved port collision (?P<label>\S+)=(?P<port>\d+)")


def placement_failure(metrics: Json, *, group: str, job: Json | None = None, rooms: Sequence[Room] | None = None) -> Failure:
    """Return why one group has no place. `metrics`: its entry in FailedTGAllocs.

    `job` gives the names of what is missing, `rooms` (None: not known) how much the clients have free."""
    if dimensions := metrics.get("DimensionExhausted") or {}:
        return _exhausted(next(iter(dimensions)), metrics, rooms or ())
    if filtered := metrics.get("ConstraintFiltered") or {}:
        return _filtered(list(filtered), group=group, job=job)
    if quotas := metrics.get("QuotaExhausted") or ():
        return Failure(cause=f"the namespace's quota is used up: {', '.join(quotas)}", hint="Ask for more, or stop a job.")
    if not any((metrics.get("NodesAvailable") or {}).values()):
        return _nowhere(metrics, job=job, rooms=rooms)
    return Failure(
        cause="no client takes it, and Nomad does not say why", hint="`nomad job status` and `nomad node status`."
    )


def may_pass(failed_groups: Json, *, rooms: Sequence[Room] | None = None) -> bool:
    """Return whether waiting a little may help: what is used up can be set free; what no client has does not come."""
    return bool(failed_groups) and all(
        metrics.get("DimensionExhausted") and _would_fit(metrics, rooms) for metrics in failed_groups.values()
    )


def _would_fit(metrics: Json, rooms: Sequence[Room] | None) -> bool:
    """Whether an empty client would have the room; as far as known."""
    if rooms is None:
        return True
    cpu, memory = _need(metrics, "CPU"), _need(metrics, "MemoryMB")
    return any(room.all_cpu_mhz >= cpu and room.all_memory_mib >= memory for room in rooms)


def _need(metrics: Json, resource: str) -> int:
    """How much of what is used up one allocation asks for, over its tasks."""
    return sum(int(task.get(resource) or 0) for task in (metrics.get("ResourcesExhausted") or {}).values())


def _exhausted(dimension: str, metrics: Json, rooms: Sequence[Room]) -> Failure:
    if dimension == "cpu":
        need = _need(metrics, "CPU")
        best = max(((room.cpu_mhz, room.client) for room in rooms), default=None)
        return _too_much(
            need,
            "MHz of CPU",
            best,
            metrics,
            "Lower cpu=, or free some: stop or scale down a job.",
        )
    if dimension == "memory":
        need = _need(metrics, "MemoryMB")
        best = max(((room.memory_mib, room.client) for room in rooms), default=None)
        return _too_much(
            need,
            "MiB of memory",
            best,
            metrics,
            "Lower memory=, or free some: stop or scale down a job.",
        )
    if port := _PORT.search(dimension):
        return Failure(
            cause=f"port {port['port']} ({port['label']!r}) is taken by another job on every client that could run it",
            hint="Stop that job, or choose another port; `nomad job status` lists what runs.",
        )
    return Failure(cause=f"no client has enough of this left: {dimension}", hint="Ask for less, or add a client.")


def _too_much(need: int, unit: str, best: tuple[int, str] | None, metrics: Json, hint: str) -> Failure:
    asks = f"needs {need:,} {unit}" if need else f"needs more {unit} than is free"
    if best:
        return Failure(cause=f"{asks}; the roomiest client has {max(0, best[0]):,} free ({best[1]})", hint=hint)
    full = int(metrics.get("NodesExhausted") or 0)
    which = "the one client there is has less" if full == 1 else f"none of {full} clients has that much"
    return Failure(cause=f"{asks}; {which} free", hint=hint)


def _filtered(reasons: Sequence[str], *, group: str, job: Json | None) -> Failure:
    found = [_missing(reason, _group(job, group)) for reason in reasons]
    return Failure(cause="; ".join(cause for cause, _ in found), hint=" ".join(dict.fromkeys(hint for _, hint in found)))


def _missing(reason: str, group: Json) -> tuple[str, str]:
    """Return cause and hint of one reason for which clients were passed over."""
    tasks = group.get("Tasks") or ()
    if reason == "missing drivers":
        drivers = _quoted({task["Driver"] for task in tasks})
        return (
            f"no client has the driver {drivers}".rstrip(),
            "Enable the driver on a client; `nomad node status -verbose` shows it.",
        )
    if reason == "missing compatible host volumes":
        volumes = (group.get("Volumes") or {}).values()
        names = _quoted({volume["Source"] for volume in volumes if volume.get("Type") == "host"})
        return (
            f"no client has the host volume {names}".rstrip(),
            'Add `host_volume "…" { path = "…" }` to a client\'s configuration.',
        )
    if reason.startswith("${attr.plugins.cni."):
        return (
            f"no client has the CNI plugins that network mode bridge needs ({reason})",
            "Install the CNI plugins on the clients, or use network mode host.",
        )
    if reason.startswith("${attr.consul."):
        return (
            f"no client is connected to a Consul that will do ({reason})",
            "Run a Consul agent beside each Nomad client; `nomad node status -verbose` shows attr.consul.version.",
        )
    return f"no client meets the constraint {reason}", "Change the constraint, or add a client that meets it."


def _nowhere(metrics: Json, *, job: Json | None, rooms: Sequence[Room] | None) -> Failure:
    pool = metrics.get("NodePool") or "default"
    wanted = _quoted((job or {}).get("Datacenters") or ())
    if rooms is not None and not rooms:
        return Failure(
            cause="Nomad has no client that takes jobs", hint="`nomad node status` lists clients and what they are."
        )
    known = ", ".join(sorted({room.datacenter for room in rooms or () if room.node_pool == pool}))
    where = f"datacenter {wanted}" if wanted else "the job's datacenters"
    return Failure(
        cause=f"no client of node pool {pool!r} is in {where}",
        hint=f"The clients are in: {known}." if known else "`nomad node status` lists the clients and their datacenters.",
    )


def _group(job: Json | None, name: str) -> Json:
    groups: Iterable[Json] = (job or {}).get("TaskGroups") or ()
    return next((group for group in groups if group.get("Name") == name), {})


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names)))
