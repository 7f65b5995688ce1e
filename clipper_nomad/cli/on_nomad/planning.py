"""`plan` and `up --plan` on Nomad: what `up` would register, and what that would change. Nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipper_nomad.cli.command_line import command
from clipper_nomad.cli.on_nomad.changes import Change, JobChange, job_change, variable_lines
from clipper_nomad.cli.on_nomad.reaching import as_it_runs, new_manager
from clipper_nomad.cli.options import Building, Shape, Where
from clipper_nomad.cluster.jobs.render import render_job
from clipper_nomad.cluster.jobs.specs import FabioJob, FrontendJob, JobSpec
from clipper_nomad.cluster.names import variable_path
from clipper_nomad.cluster.rollout.evidence import rooms
from clipper_nomad.cluster.rollout.explain import Situation, explain
from clipper_nomad.cluster.rollout.parsed_job import Json, count_of, with_counts_of

if TYPE_CHECKING:
    from clipper_nomad.cli.output import Output
    from clipper_nomad.cluster.manager import NomadContainerManager


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `up` would change: jobs, and the Variables that are not there yet."""

    jobs: tuple[JobChange, ...]
    variables: tuple[str, ...]

    @property
    def has_changes(self) -> bool:
        """Whether `up` would change anything."""
        return bool(self.variables) or any(each.change is not Change.NONE for each in self.jobs)


def running_frontends(manager: NomadContainerManager) -> int | None:
    """Return how many query frontends are wanted now, None if there is no job of them that runs."""
    job = manager.nomad.job(manager.names.frontend_job)
    return None if job is None or job.get("Stop") else count_of(job)


def make_plan(manager: NomadContainerManager, frontends: int | None) -> Plan:
    """Return what `up` would change. Raises: NotOurs: it would refuse to. ImageError."""
    specs = manager.specs(frontends=frontends or running_frontends(manager) or 1)
    manager.check(specs)
    jobs = tuple(_planned(manager, spec, is_count_asked=frontends is not None) for spec in specs)
    paths = [variable_path(spec.job_id) for spec in specs if not isinstance(spec, FabioJob)]  # `up` makes none of its own
    return Plan(jobs=jobs, variables=tuple(path for path in paths if manager.nomad.variable(path) is None))


def _planned(manager: NomadContainerManager, spec: JobSpec, *, is_count_asked: bool) -> JobChange:
    job = manager.nomad.parse(render_job(spec), whole=[spec.job_id])
    before = manager.nomad.job(spec.job_id)
    keeps_count = not (is_count_asked and isinstance(spec, FrontendJob))
    asked = with_counts_of(job, before) if keeps_count else job
    plan = manager.nomad.plan(asked)
    failed: Json = plan.get("FailedTGAllocs") or {}
    problem = None
    if failed:
        situation = Situation(job=asked, evaluations=[{"FailedTGAllocs": failed}], rooms=rooms(manager.nomad))
        failure = explain(situation)
        problem = failure.cause if failure else "no client takes it"
    is_there = before is not None and not before.get("Stop")
    return job_change(asked, plan, exists=is_there, problem=problem)


def show_plan(output: Output, where: Where, shape: Shape, building: Building, frontends: int | None) -> bool:
    """Say what `up` would change, and return whether it would change anything."""
    is_plain = (frontends, shape, building) == (None, Shape(), Building())
    manager = new_manager(where, *as_it_runs(where, shape, building))
    plan = make_plan(manager, frontends)
    if plan.has_changes:
        output.line(f"cluster {where.cluster!r} on Nomad at {manager.nomad.endpoint.url}; `up` would do this:")
    else:
        output.done(f"cluster {where.cluster!r} on Nomad is as it is wanted: `up` would change nothing")
    for each in plan.jobs:
        output.line(each.line)
    for line in variable_lines(plan.variables):
        output.line(line)
    if manager.load_balancer is not None:
        names = manager.names
        output.line(
            f"  routes on Fabio at {manager.load_balancer.http()}: {names.query_path}/, {names.admin_path}/,"
            f" TCP :{manager.blueprint.tcp_port}"
            + (f", :{manager.blueprint.legacy_port} (RPC version 3)" if manager.blueprint.legacy_rpc else "")
        )
    output.line("nothing else is touched")
    if plan.has_changes:
        output.next_step(command("up", where) + ("" if is_plain else ", with the same options"))
    output.document(
        {
            "cluster": where.cluster,
            "nomad": manager.nomad.endpoint.url,
            "changes": plan.has_changes,
            "jobs": [each.document for each in plan.jobs],
            "variables": list(plan.variables),
        }
    )
    return plan.has_changes
