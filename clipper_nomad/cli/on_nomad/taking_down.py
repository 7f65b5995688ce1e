"""`down` on Nomad: lists what it deletes, asks, deletes that and nothing else."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import typer

from clipper_nomad.cli.command_line import command
from clipper_nomad.cli.on_nomad.reaching import new_manager
from clipper_nomad.cli.options import Building, Shape, Where, WrongUsage
from clipper_nomad.cluster.ownership import refuse_ambiguous
from clipper_nomad.cluster.rollout.parsed_job import count_of

if TYPE_CHECKING:
    from clipper_nomad.cli.output import Output
    from clipper_nomad.cluster.manager import NomadContainerManager

_AT_MOST_S = 120.0  # models first, then the parts: a minute each


def take_down(output: Output, where: Where, *, volumes: bool, yes: bool) -> None:
    """Purge the cluster's jobs. Raises: NotOurs: it cannot be told whose a job is; nothing was changed."""
    manager = new_manager(where, Shape(no_fabio=True), Building(registry=""))
    found = manager.find_jobs()
    refuse_ambiguous(found, manager.names)
    jobs = [job.id for job in found.ours]
    variables = manager.secrets.paths(found.ours) if volumes else []
    began = time.monotonic()
    if jobs or variables:
        _announce(output, where, manager, jobs, variables)
        _ask(where, yes=yes)
        with output.progress("waiting for queries and models to finish", at_most_s=_AT_MOST_S):
            try:
                manager.stop_all()
                for path in variables:
                    manager.nomad.delete_variable(path)
            except KeyboardInterrupt as exc:
                exc.add_note(f"What is not named here was not touched. `{command('down', where)}` goes on from here.")
                raise
        output.done(f"cluster {where.cluster!r} is stopped; nothing of it runs on Nomad", took_s=time.monotonic() - began)
    else:
        output.done(f"cluster {where.cluster!r} does not run on Nomad: nothing to stop")
    if jobs and not volumes:
        output.detail("kept", "its Nomad Variables (passwords, keys), and what a host volume holds")
    output.next_step(f"{command('up', where)} starts it")
    output.document(
        {"cluster": where.cluster, "state": "stopped", "stopped": jobs, "deleted": [*jobs, *variables], "kept": []}
    )


def _announce(output: Output, where: Where, manager: NomadContainerManager, jobs: list[str], variables: list[str]) -> None:
    output.line(f"stopping cluster {where.cluster!r} on Nomad at {manager.nomad.endpoint.url}:")
    has_volume = False
    for job_id in jobs:
        job = manager.nomad.job(job_id)
        count = count_of(job) if job is not None else 0
        output.detail("delete", f"job {job_id} ({count} allocs)" if count != 1 else f"job {job_id} (1 alloc)")
        groups = (job or {}).get("TaskGroups") or ()
        has_volume |= any(each.get("Type") == "host" for group in groups for each in (group.get("Volumes") or {}).values())
    for path in variables:
        output.detail("delete", f"Nomad Variable {path}", "yellow")
    if manager.names.redis_job in jobs:
        lost = "stay on the store's host volume" if has_volume else "end with the store, which has no host volume"
        output.detail("catalog", f"apps and models {lost}", "" if has_volume else "yellow")
    output.line("nothing else is touched")


def _ask(where: Where, *, yes: bool) -> None:
    """Let the user agree. Raises: WrongUsage: there is nobody to ask, and --yes was not said."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise WrongUsage(
            "Nothing was stopped: nobody can be asked here, as stdin is no terminal.",
            hint=f"Say that it shall be: {command('down --yes', where)}",
        )
    if not typer.confirm("Stop it?", err=True):
        raise typer.Abort
