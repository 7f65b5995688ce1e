"""`clipper-nomad down`: stop a cluster; says first what it stops and deletes. On Nomad: on_nomad/taking_down.py."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipper_nomad.cli.options import Json, Where

if TYPE_CHECKING:
    from clipper_nomad.cli.output import Output
    from clipper_nomad.local_stack.control import StackStatus
    from clipper_nomad.local_stack.place import Place

_AT_MOST_S = 75  # the manager gives up then; a cluster that is idle takes a second


def down(
    *,
    where: Where,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Delete its apps, models and logs too; on Nomad, its Variables.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="On Nomad: do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Stop a cluster; say first what is stopped and deleted.

    Queries under way are answered first. On this machine apps, models and logs are kept for the next `up --local`,
    unless --volumes is given. On Nomad it deletes the cluster's own jobs, after asking, and nothing while it cannot
    be told whose a job is.

    Examples:
      clipper-nomad down
      clipper-nomad down --cluster team-a --volumes
      clipper-nomad down --nomad 10.0.0.5 --yes
    """
    from clipper_nomad.cli.finding import find_cluster, is_on_nomad, make_manager, read_status
    from clipper_nomad.cli.output import Output

    output = Output(as_json=as_json)
    if is_on_nomad(where):
        from clipper_nomad.cli.on_nomad.taking_down import take_down

        take_down(output, where, volumes=volumes, yes=yes)
        return
    cluster = where.cluster
    place = find_cluster(cluster)
    before = read_status(place)
    has_data = place.data.is_dir()
    deletes = has_data and (volumes or (before is not None and not before.keep))
    _announce(output, place, before, deletes=deletes)
    began = time.monotonic()
    if before is not None or deletes:
        with output.progress("waiting for queries and models to finish", at_most_s=_AT_MOST_S):
            make_manager(output, cluster).stop_all(purge=volumes)
    _say(output, where, place, before, deleted=deletes, took_s=time.monotonic() - began)


def _announce(output: Output, place: Place, before: StackStatus | None, *, deletes: bool) -> None:
    if before is not None:
        output.line(f"stopping cluster {place.cluster!r}:")
        for part in before.parts:
            output.detail("stop", part.name + (f" (pid {part.pid})" if part.pid else ""))
        if before.owners:
            output.warn(f"used by process {', '.join(map(str, before.owners))}, which then has no cluster")
    if deletes:
        bundles = sum(1 for _ in place.bundles.glob("*")) if place.bundles.is_dir() else 0
        size = f"{math.ceil(_size_bytes(place.data) / 1000):,} kB"
        output.detail("delete", f"{place.data}: apps, models ({bundles} bundles), logs; {size}", "yellow")


def _say(output: Output, where: Where, place: Place, before: StackStatus | None, *, deleted: bool, took_s: float) -> None:
    from clipper_nomad.cli.command_line import command

    cluster = where.cluster
    kept = place.data.is_dir() and not deleted
    if before is not None:
        output.done(f"cluster {cluster!r} is stopped", took_s=took_s)
    elif deleted:
        output.done(f"cluster {cluster!r} did not run; what it had kept is deleted")
    else:
        output.done(f"cluster {cluster!r} does not run: nothing to stop")
    if kept:
        output.detail("kept", f"apps, models and logs in {place.data}")
        output.next_step(f"{command('up --local', where)} brings it back", f"{command('down --volumes', where)} deletes")
    else:
        output.next_step(command("up --local", where))
    output.document(
        {
            "cluster": cluster,
            "state": "stopped",
            "stopped": [part.name for part in before.parts] if before is not None else [],
            "deleted": [str(place.data)] if deleted else [],
            "kept": [str(place.data)] if kept else [],
        }
    )


def _size_bytes(directory: Path) -> int:
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())
