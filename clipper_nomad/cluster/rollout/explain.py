"""From what Nomad and Consul say about a job to one sentence of cause, a hint, and the end of a log. Pure.

evidence.py gathers a `Situation`, rollout.py asks `explain`, and `refusal` for a registration that was refused. A deployment
of Nomad's only says "Failed due to progress deadline": the cause is in an evaluation (placement.py) or in the events of an
allocation (task_failures.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from clipper_nomad.cluster.rollout.capacity import Room
from clipper_nomad.cluster.rollout.parsed_job import Json, checks_of
from clipper_nomad.cluster.rollout.placement import placement_failure
from clipper_nomad.cluster.rollout.task_failures import Trouble, port_is_taken, troubles_of, unhealthy_after
from clipper_nomad.container_manager import Failure

LOG_LINES = 15
_NODE_POOL = re.compile(r'in nonexistent node pool "(?P<pool>[^"]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingCheck:
    """A Consul check of an allocation's service that does not pass, and what it last said."""

    alloc_id: str
    service: str
    check: str
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that is known of a job that is rolled out: Nomad's JSON, logs by allocation and task, failing checks.

    `rooms` None: the clients were not asked. Of the job's allocations only those of its newest version belong here."""

    job: Json | None = None
    evaluations: Sequence[Json] = ()
    deployment: Json | None = None
    allocations: Sequence[Json] = ()
    logs: Mapping[tuple[str, str], str] = field(default_factory=dict)
    checks: Sequence[FailingCheck] = ()
    rooms: Sequence[Room] | None = None


def explain(situation: Situation) -> Failure | None:
    """Return why the job is not healthy, None when nothing says so: it may still become healthy."""
    for allocation in _newest_first(situation.allocations):
        if failure := allocation_failure(allocation, situation):
            return failure
    for evaluation in situation.evaluations:
        failed = evaluation.get("FailedTGAllocs") or {}
        for group, metrics in failed.items():
            failure = placement_failure(metrics, group=group, job=situation.job, rooms=situation.rooms)
            return Failure(cause=failure.cause + _placed(situation.deployment, group), hint=failure.hint)
    return None


def allocation_failure(allocation: Json, situation: Situation) -> Failure | None:
    """Return what is wrong with one allocation, None if nothing is known to be."""
    alloc_id = allocation["ID"]
    registered_ns = int((situation.job or {}).get("SubmitTime") or 0)
    troubles = [
        each
        for each in troubles_of(allocation, memory_mib=memory_of(situation.job, allocation))
        if not (each.is_over and each.at_ns < registered_ns)  # it was started again before this was asked for
    ]
    waited = unhealthy_after(allocation)
    failing = next((each for each in situation.checks if each.alloc_id == alloc_id), None)
    # a task that came up at its second start and then fails its check: the check is the cause
    if troubles and not (troubles[0].is_over and waited is not None and failing):
        trouble = troubles[0]
        return _of_trouble(trouble, allocation, situation, log=situation.logs.get((alloc_id, trouble.task), ""))
    if waited is None:
        return None
    log_tail = last_lines("\n".join(text for (owner, _), text in situation.logs.items() if owner == alloc_id))
    if failing:
        said = f": {' '.join(failing.output.split())}" if failing.output.strip() else ""
        how = _how_checked(situation.job, failing)
        cause = f"the check {failing.check!r}{how} of service {failing.service!r} does not pass{said}"
        return Failure(
            cause=cause, log_tail=log_tail, hint="The task runs: see what it answers there, and whether it listens."
        )
    within = f" within {waited}" if waited else ""
    if any(state.get("State") == "running" for state in (allocation.get("TaskStates") or {}).values()):
        return Failure(
            cause=f"it runs but did not become healthy{within}: a check of its services does not pass",
            log_tail=log_tail,
            hint="Consul names the check: `consul watch -type checks -state critical`, or its web page.",
        )
    return Failure(cause=f"it did not start{within}", log_tail=log_tail, hint=f"`nomad alloc status {alloc_id[:8]}`.")


def refusal(body: str) -> Failure:
    """Return what Nomad's text of a refused registration says. It has no other form than nested lists."""
    if pool := _NODE_POOL.search(body):
        return Failure(
            cause=f"the node pool {pool['pool']!r} does not exist", hint="`nomad node pool list` shows those that do."
        )
    lines = [line.strip().removeprefix("* ") for line in body.splitlines()]
    paths = [line.split(" validation failed:")[0] for line in lines if " validation failed:" in line]
    reasons = [line for line in lines if line and not line.endswith("occurred:")]
    return Failure(
        cause=": ".join([*paths[-1:], "; ".join(reasons) or " ".join(body.split())]),
        hint="Nothing was registered. `clipper-nomad render` prints the jobspec that Nomad refused.",
    )


def memory_of(job: Json | None, allocation: Json) -> int | None:
    """Return how many MiB the tasks of an allocation may take: the limit of its largest task."""
    tasks = ((allocation.get("AllocatedResources") or {}).get("Tasks") or {}).values()
    limits = [max(int(task["Memory"]["MemoryMB"]), int(task["Memory"].get("MemoryMaxMB") or 0)) for task in tasks]
    if not limits:
        name = allocation.get("TaskGroup")
        groups: Iterable[Json] = (job or {}).get("TaskGroups") or ()
        asked = [
            task.get("Resources") or {} for each in groups if name in {None, each.get("Name")} for task in each["Tasks"]
        ]
        limits = [max(int(each.get("MemoryMB") or 0), int(each.get("MemoryMaxMB") or 0)) for each in asked]
    return max(limits, default=0) or None


def last_lines(text: str, *, count: int = LOG_LINES) -> str:
    """Return the end of a log."""
    return "\n".join(text.rstrip().splitlines()[-count:])


def _of_trouble(trouble: Trouble, allocation: Json, situation: Situation, *, log: str) -> Failure:
    tail = last_lines(log)
    ports = static_ports(situation.job)
    if trouble.exit_code is not None and port_is_taken(log):
        which = f"port {ports[0]}" if ports else "a port"
        where = f" on client {allocation['NodeName']}" if allocation.get("NodeName") else " on the client"
        return Failure(
            cause=f"{which} is taken by a process outside Nomad{where}",
            log_tail=tail,
            hint="Stop that process (`ss -ltnp` names it), or use another port.",
        )
    said = tail.splitlines()[-1].strip() if tail and trouble.exit_code is not None else ""
    cause = f"{trouble.cause}: {said}" if said and not trouble.is_oom else trouble.cause
    return Failure(cause=cause, log_tail=tail, hint=trouble.hint)


def _how_checked(job: Json | None, failing: FailingCheck) -> str:
    """What a check does, such as " (http /health)"."""
    for check in checks_of(job, failing.service):
        if check.get("Name") == failing.check:
            return f" ({' '.join(filter(None, (check.get('Type'), check.get('Path'))))})"
    return ""


def static_ports(job: Json | None) -> list[int]:
    """Return the ports that a job wants on the client itself."""
    groups: Iterable[Json] = (job or {}).get("TaskGroups") or ()
    networks = [network for group in groups for network in group.get("Networks") or ()]
    return [port["Value"] for network in networks for port in network.get("ReservedPorts") or ()]


def _newest_first(allocations: Sequence[Json]) -> list[Json]:
    numbered = list(enumerate(allocations))
    numbered.sort(key=lambda each: (each[1].get("CreateIndex") or 0, each[0]), reverse=True)
    return [allocation for _, allocation in numbered]


def _placed(deployment: Json | None, group: str) -> str:
    state = ((deployment or {}).get("TaskGroups") or {}).get(group) or {}
    placed, wanted = int(state.get("PlacedAllocs") or 0), int(state.get("DesiredTotal") or 0)
    return f"; {placed} of {wanted} replicas have a place" if 0 < placed < wanted else ""
