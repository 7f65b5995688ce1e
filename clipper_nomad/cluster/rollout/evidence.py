"""Gathering what explains a failed rollout: logs, Consul's checks, the room on the clients. I/O only; explain.py words it.

Asking for more must not hide what is known already: whatever cannot be had is left out.
"""

from __future__ import annotations

from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.rollout.capacity import Room, rooms_of
from clipper_nomad.cluster.rollout.explain import FailingCheck, Situation
from clipper_nomad.cluster.rollout.parsed_job import Json, services_of
from clipper_nomad.cluster.rollout.policy import View
from clipper_nomad.errors import ClipperException

EXPLAINED = 2  # allocations whose logs are fetched: the newest, and the one before


def gather(job: Json, view: View, *, nomad: NomadApi, consul: ConsulApi | None) -> Situation:
    """Return all that is known of a job's version as `view` shows it."""
    evaluations = [*view.evaluations, *([view.evaluation] if view.evaluation else [])]
    blocked = [each for each in evaluations if each.get("FailedTGAllocs")]
    return Situation(
        job=job,
        evaluations=blocked,
        deployment=view.deployment,
        allocations=view.allocations,
        logs=_logs(view, nomad),
        checks=_failing_checks(job, view, consul),
        rooms=rooms(nomad) if blocked else None,
    )


def rooms(nomad: NomadApi) -> tuple[Room, ...] | None:
    """Return what the clients have free; None: they cannot be asked, as a token may place jobs and yet not read clients."""
    try:
        return rooms_of(nomad.nodes(), nomad.all_allocations())
    except ClipperException:
        return None


def _logs(view: View, nomad: NomadApi) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    newest = sorted(view.allocations, key=lambda each: int(each.get("CreateIndex") or 0))[-EXPLAINED:]
    for allocation in newest:
        for task in allocation.get("TaskStates") or {}:
            try:
                text = nomad.log_tail(allocation["ID"], task=task)
                found[allocation["ID"], task] = text or nomad.log_tail(allocation["ID"], task=task, stream="stdout")
            except ClipperException:
                continue
    return found


def _failing_checks(job: Json, view: View, consul: ConsulApi | None) -> list[FailingCheck]:
    if consul is None:
        return []
    try:
        states = [state for service in services_of(job) for state in consul.checks(service)]
    except ClipperException:
        return []
    return [
        FailingCheck(alloc_id=allocation["ID"], service=state.service, check=state.name, output=state.output)
        for allocation in view.allocations
        for state in states
        if state.status != "passing" and allocation["ID"] in state.service_id
    ]


def view_of(nomad: NomadApi, job_id: str) -> View:
    """Return what Nomad says of a job now."""
    newest = max(nomad.deployments(job_id), key=lambda each: int(each["CreateIndex"]), default=None)
    return View(
        evaluation=None,
        evaluations=nomad.evaluations(job_id),
        deployment=newest,
        allocations=nomad.allocations(job_id),
    )
