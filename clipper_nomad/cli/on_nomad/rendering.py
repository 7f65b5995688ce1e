"""`render` on Nomad: the jobspecs that `up` would register, and those that models run from. Nothing is changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from clipper_nomad.cli.on_nomad.planning import running_frontends
from clipper_nomad.cli.on_nomad.reaching import as_it_runs, new_manager
from clipper_nomad.cli.options import Building, Shape, Where, WrongUsage
from clipper_nomad.cluster.jobs.render import render_job
from clipper_nomad.cluster.jobs.specs import AdminJob, FabioJob, FrontendJob, JobSpec, RedisJob
from clipper_nomad.cluster.rollout.parsed_job import count_of
from clipper_nomad.errors import ClipperException, NomadUnreachable

if TYPE_CHECKING:
    from clipper_nomad.cli.output import Output
    from clipper_nomad.cluster.manager import NomadContainerManager

PARTS: dict[str, type[JobSpec]] = {"redis": RedisJob, "admin": AdminJob, "frontend": FrontendJob, "fabio": FabioJob}


def render_parts(
    output: Output, where: Where, shape: Shape, building: Building, parts: list[str], frontends: int | None
) -> dict[str, str]:
    """Return job → its HCL, of these parts (none: all). Raises: WrongUsage: there is no such part."""
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise WrongUsage(f"There is no part {unknown[0]!r}.", hint=f"The parts are: {', '.join(PARTS)}.")
    wanted = tuple(PARTS[part] for part in parts or PARTS)
    try:
        manager = new_manager(where, *as_it_runs(where, shape, building))
        count = frontends or running_frontends(manager)
    except NomadUnreachable as exc:  # jobspecs can be made without it, from the options alone
        output.note(f"! {exc.msg} What a running cluster was brought up with is left out.", "yellow")
        manager, count = new_manager(where, shape, building), frontends
        if not shape.settings:
            manager.want_parts({})
    found = {spec.job_id: render_job(spec) for spec in manager.specs(frontends=count or 1) if isinstance(spec, wanted)}
    if not found:
        raise WrongUsage(
            f"This cluster has no job of {' and '.join(parts)}.",
            hint="Redis has none with --redis-host; Fabio has one with --with-fabio IMAGE.",
        )
    return found


def render_models(where: Where, name: str | None, version: str | None) -> dict[str, str]:
    """Return job → its HCL as it is registered, of the model versions that run; of one model, or of all (`name` None).

    Raises: ClipperException: there is none, or Nomad has no source of it.
    """
    manager = new_manager(where, Shape(no_fabio=True), Building(registry=""))
    found = {key: job.id for key, job in sorted(manager.find_jobs().models.items()) if name in {None, key[0]}}
    wanted = {key: job for key, job in found.items() if version in {None, key[1]}}
    if name is not None and not wanted:
        known = ", ".join(":".join(key) for key in found or manager.find_jobs().models) or "none"
        of = f"of model {name!r}" if version is None else f"{version!r} of model {name!r}"
        raise ClipperException(f"There is no version {of} on Nomad.", hint=f"There are: {known}.")
    return {job: _registered(manager, job) for job in wanted.values()}


def _registered(manager: NomadContainerManager, job_id: str) -> str:
    """Return the HCL that a job was registered from, with the count that it has now."""
    job = manager.nomad.job(job_id) or {}
    for version in range(int(job.get("Version") or 0), -1, -1):  # scaling makes a version, without a source
        source = manager.nomad.source(job_id, version=version)
        if source is not None:
            return re.sub(r"^    count( +)= \d+$", rf"    count\1= {count_of(job)}", source, count=1, flags=re.MULTILINE)
    raise ClipperException(
        f"Nomad has no source of the job {job_id}.", hint=f"`nomad job inspect {job_id}` shows it as JSON."
    )


def write_rendered(output: Output, rendered: dict[str, str], folder: Path | None) -> None:
    """Print jobspecs, or write each into a file of `folder`."""
    if folder is None:
        for text in rendered.values():
            output.line(text.rstrip("\n"))
        return
    folder.mkdir(parents=True, exist_ok=True)
    for job, text in rendered.items():
        (folder / f"{job}.nomad.hcl").write_text(text, encoding="utf-8")
    output.done(f"wrote {len(rendered)} jobspecs into {folder}")
    output.next_step(f"nomad job plan {folder / f'{next(iter(rendered))}.nomad.hcl'}")
