"""`status` on Nomad: gathers from Nomad, Consul and admin, and shows it to people.

The document has the keys of a local cluster's, in which an allocation is a part, and `place`, `nomad` and `jobs` beside
them. Making it is pure (`nomad_document`); the catalog's share is overview.py's.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from clipper_nomad.cli.command_line import command
from clipper_nomad.cli.on_nomad.reaching import new_manager, not_on_nomad, part_names, running_settings
from clipper_nomad.cli.options import Building, Shape, Where
from clipper_nomad.cli.overview import Served, document
from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.cluster.rollout.parsed_job import Json, count_of
from clipper_nomad.cluster.route_claims import clashes, read_claims
from clipper_nomad.container_manager import Failure
from clipper_nomad.errors import ClipperException
from clipper_nomad.local_stack.control import PartStatus, StackStatus, VersionStatus

if TYPE_CHECKING:
    from rich.text import Text

    from clipper_nomad.cli.output import Output
    from clipper_nomad.cluster.manager import NomadContainerManager

_ADMIN_PATIENCE_S = 1.0  # status is asked when things are wrong: it must not wait for what is down
_DONE = frozenset({"complete", "failed", "lost"})
_NOTHING = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """One job of the cluster, its allocations (stubs with task states), and why it is not healthy."""

    job: Json
    allocations: Sequence[Json]
    failure: Failure | None = None

    @property
    def live(self) -> list[Json]:
        """The allocations that shall run."""
        return [
            each for each in self.allocations if each.get("DesiredStatus") == "run" and each["ClientStatus"] not in _DONE
        ]

    @property
    def wanted(self) -> int:
        """How many allocations shall run."""
        if self.job.get("Stop"):
            return 0
        return len(self.live) if self.job.get("Type") == "system" else count_of(self.job)

    @property
    def running(self) -> int:
        """How many run."""
        return sum(each["ClientStatus"] == "running" for each in self.live)

    @property
    def healthy(self) -> int:
        """How many run and passed their checks when they were rolled out."""
        return sum(_is_healthy(each) for each in self.live)


def show_status(output: Output, where: Where) -> None:
    """Say how the cluster is. Exit code 1 if it does not run."""
    manager = new_manager(where, Shape(no_fabio=True), Building(registry=""))
    found_jobs = manager.find_jobs()
    ambiguous = [f"{each.job.id}: {each.reason}" for each in found_jobs.ambiguous]
    if not found_jobs.ours:
        error = not_on_nomad(where, manager.nomad)
        output.line(error.msg)
        for each in ambiguous:
            output.warn(f"perhaps of this cluster: {each}")
        output.next_step(command("up", where))
        output.document(_stopped(where, manager, ambiguous))
        raise typer.Exit(1)
    if manager.names.frontend_job in {job.id for job in found_jobs.ours}:
        shape = Shape(no_fabio=running_settings(where).tcp_port is None)
        manager = new_manager(where, shape, Building(registry=""))
    states = [_state_of(manager, job.id) for job in found_jobs.ours]
    found = nomad_document(
        [each for each in states if each is not None],
        _ask_admin(manager),
        names=manager.names,
        addresses=_addresses(manager),
        nomad=manager.nomad.endpoint.url,
        toolkit=next((job.toolkit for job in found_jobs.ours if job.id == manager.names.frontend_job), None) or "",
        now=time.time(),
    )
    found["routes"], clashing = _routes(manager)
    found["warnings"] += [*clashing, *(f"perhaps of this cluster, and left alone: {each}" for each in ambiguous)]
    show_nomad(output, found)
    output.next_step(*_next(found, where))
    output.document(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the cluster is reached: URLs. `query`: with the path that stands before an app's."""

    query: str
    admin: str


def nomad_document(
    states: Sequence[JobState],
    served: Served,
    *,
    names: ClusterNames,
    addresses: Addresses,
    nomad: str,
    toolkit: str,
    now: float,
) -> dict[str, Any]:
    """Return everything as JSON. Pure. `now`: seconds since the epoch, as Nomad's times are."""
    labels = part_names(names)
    is_up = all(
        any(state.job["ID"] == job and state.wanted for state in states) for job in (names.admin_job, names.frontend_job)
    )
    stack = StackStatus(
        cluster=names.cluster,
        toolkit=toolkit,
        state="up" if is_up else "stopped",
        pid=0,
        query_addr=addresses.query,
        admin_addr=addresses.admin,
        data="",
        python="",
        note=None,
        keep=True,
        age_s=max((_age_s(state.job, now) for state in states), default=0.0),
        owners=(),
        parts=tuple(part for state in states for part in _parts(state, names, labels, now)),
        versions=tuple(_versions(states)),
    )
    found = document(stack, served, {})
    found["query_url"], found["admin_url"] = addresses.query, addresses.admin
    for app in found["apps"]:
        app["predict_url"] = f"{addresses.query}/{app['name']}/predict"
    found |= {
        "place": "nomad",
        "nomad": nomad,
        "data": None,
        "jobs": [_job(state, labels) for state in sorted(states, key=lambda each: _order(each.job["ID"], labels))],
    }
    troubles = [f"{job['part']}: {job['problem']}" for job in found["jobs"] if job["problem"]]
    found["warnings"] = [*troubles, *found["warnings"]]
    return found


def show_nomad(output: Output, found: Mapping[str, Any]) -> None:
    """Say what `found`, a document of `nomad_document`, holds."""
    from clipper_nomad.cli.status_rows import duration, served, show_app, version_row

    if found["state"] == "up":
        output.done(f"cluster {found['cluster']!r} is up on Nomad, for {duration(found['age_s'])}")
    else:
        output.warn(f"cluster {found['cluster']!r} has jobs on Nomad, and is not whole")
    output.detail("nomad", found["nomad"])
    output.detail("predict", f"POST {found['query_url']}/APP/predict")
    if found.get("routes"):
        output.detail("routes", ", ".join(found["routes"]))
    output.line()
    prefix = f"{ClusterNames(found['cluster']).prefix}-"  # once: in 80 columns a model's version must be seen
    output.table(
        (f"job {prefix}…", "healthy", "version", "restarts", "last error"),
        [_job_row(job, prefix) for job in found["jobs"]],
        right=frozenset({"healthy", "version", "restarts"}),
    )
    if found["versions"]:
        output.line()
        output.table(
            ("model", "input", "replicas", "queue", "relayed", "last error"),
            [version_row(version, is_mesh=True) for version in found["versions"]],
            right=frozenset({"replicas", "queue", "relayed"}),
        )
    if found["apps"]:
        output.line()
        for app in found["apps"]:
            show_app(output, app)
    output.line()
    if found["frontends"]:
        output.detail("mesh", f"{found['mesh']['links']}/{found['mesh']['wanted']} links")
        output.detail("catalog", f"revision {found['catalog']['revision']}; {served(found)}")
    for warning in found["warnings"]:
        output.warn(warning)


def _stopped(where: Where, manager: NomadContainerManager, ambiguous: list[str]) -> dict[str, Any]:
    found = nomad_document(
        (),
        Served(catalog={"apps": [], "models": [], "versions": []}, reports=[], problem="the cluster does not run"),
        names=manager.names,
        addresses=Addresses(query="", admin=""),
        nomad=manager.nomad.endpoint.url,
        toolkit="",
        now=time.time(),
    )
    return found | {
        "cluster": where.cluster,
        "routes": [],
        "warnings": [f"perhaps of this cluster: {each}" for each in ambiguous],
    }


def _state_of(manager: NomadContainerManager, job_id: str) -> JobState | None:
    """Return how one job is; None: it was removed just now."""
    job = manager.nomad.job(job_id)
    if job is None:
        return None
    state = JobState(job=job, allocations=manager.nomad.allocations(job_id))
    if state.running >= state.wanted and state.healthy >= state.wanted:
        return state
    return JobState(job=job, allocations=state.allocations, failure=manager.failures.now(job_id))


def _ask_admin(manager: NomadContainerManager) -> Served:
    from clipper_nomad.admin.client import AdminClient

    try:
        manager.connect()
        client = AdminClient(manager.get_admin_addr, manager.get_admin_token, patience_s=_ADMIN_PATIENCE_S)
        return Served(catalog=client.catalog(), reports=client.frontends().reports)
    except ClipperException as exc:
        return Served(catalog={"apps": [], "models": [], "versions": []}, reports=[], problem=exc.msg)


def _addresses(manager: NomadContainerManager) -> Addresses:
    try:
        admin = f"http://{manager.get_admin_addr()}"
        query = manager.predict_url("APP").removesuffix("/APP/predict")
    except ClipperException:
        return Addresses(query="", admin="")
    return Addresses(query=query, admin=admin)


def _routes(manager: NomadContainerManager) -> tuple[list[str], list[str]]:
    """Return the routes that the cluster has in Consul, and what is wrong with them."""
    names = manager.names
    try:
        services = manager.consul.services()
    except ClipperException as exc:
        return [], [exc.msg]
    held = read_claims({name: services.get(name, ()) for name in names.routed_services})
    return sorted(claim.source for claim in held), [
        str(each) for each in clashes(held, services, ours=names.routed_services)
    ]


def _parts(state: JobState, names: ClusterNames, labels: Mapping[str, str], now: float) -> Iterable[PartStatus]:
    job_id = state.job["ID"]
    kind = labels.get(job_id, "model")
    for allocation in state.live:
        short = allocation["ID"][:8]
        task = (allocation.get("TaskStates") or {}).get(job_id) or {}
        yield PartStatus(
            name=f"frontend-{short}" if job_id == names.frontend_job else f"{labels.get(job_id, job_id)}-{short}",
            kind=kind,
            state="running" if _is_healthy(allocation) else str(allocation["ClientStatus"]),
            pid=None,
            deaths=int(task.get("Restarts") or 0),
            age_s=max(0.0, now - int(allocation.get("CreateTime") or 0) / 1e9),
            log=f"nomad alloc logs {short} {job_id}",
        )


def _versions(states: Sequence[JobState]) -> Iterable[VersionStatus]:
    for state in states:
        meta = state.job.get("Meta") or {}
        if "clipper_model" in meta and "clipper_model_version" in meta:
            yield VersionStatus(
                name=meta["clipper_model"],
                version=meta["clipper_model_version"],
                wanted=state.wanted,
                ready=state.healthy,
                failed=0,
            )


def _job(state: JobState, labels: Mapping[str, str]) -> dict[str, Any]:
    job_id = state.job["ID"]
    meta = state.job.get("Meta") or {}
    restarts = [int(task.get("Restarts") or 0) for each in state.live for task in (each.get("TaskStates") or {}).values()]
    problem = None
    if state.healthy < state.wanted or state.running < state.wanted:
        problem = f"{state.healthy} of {state.wanted} are healthy"
        problem += f": {state.failure.cause}" if state.failure else ""
    return {
        "job": job_id,
        "part": labels.get(job_id) or f"{meta.get('clipper_model')}:{meta.get('clipper_model_version')}",
        "status": state.job.get("Status"),
        "version": state.job.get("Version"),
        "wanted": state.wanted,
        "running": state.running,
        "healthy": state.healthy,
        "restarts": sum(restarts),
        "problem": problem,
    }


def _job_row(job: Mapping[str, Any], prefix: str) -> Sequence[str | Text]:
    from rich.text import Text

    is_well = job["healthy"] >= job["wanted"]
    return (
        job["job"].removeprefix(prefix),
        Text(f"{job['healthy']}/{job['wanted']}", "green" if is_well else "yellow"),
        str(job["version"]),
        str(job["restarts"]),
        job["problem"] or _NOTHING,
    )


def _next(found: Mapping[str, Any], where: Where) -> Sequence[str]:
    troubled = next((job["part"] for job in found["jobs"] if job["problem"]), None)
    if troubled:
        return (command(f"logs {troubled}", where), command("doctor", where))
    if not found["apps"]:
        return (command("deploy model.py:predict --name digits --sample '[1.5]'", where),)
    return (command(f"bench {found['apps'][0]['name']}", where), command("logs", where))


def _is_healthy(allocation: Mapping[str, Any]) -> bool:
    """Whether it runs and no deployment called it unhealthy: one that outlived its deployment says nothing more."""
    told = (allocation.get("DeploymentStatus") or {}).get("Healthy")
    return allocation.get("ClientStatus") == "running" and told is not False


def _age_s(job: Json, now: float) -> float:
    return max(0.0, now - int(job.get("SubmitTime") or 0) / 1e9)


def _order(job_id: str, labels: Mapping[str, str]) -> tuple[int, str]:
    known = list(labels)
    return (known.index(job_id) if job_id in known else len(known), job_id)
