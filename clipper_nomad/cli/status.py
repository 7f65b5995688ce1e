"""`clipper-nomad status`: how a cluster is. On this machine overview.py gathers, this shows. On Nomad: state.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from clipper_nomad.cli.options import Json, Where
from clipper_nomad.cli.status_rows import NOTHING, Row, duration, served, show_app, version_row

if TYPE_CHECKING:
    from rich.text import Text

    from clipper_nomad.cli.output import Output

_STYLES = {"running": "green", "ready": "green", "waiting": "yellow", "stopping": "yellow", "failed": "red"}


def status(*, where: Where, as_json: Json = False) -> None:
    """Show a cluster's parts, apps and models.

    What is not as it should be is yellow. Exit code 1 if the cluster does not run.

    Examples:
      clipper-nomad status
      clipper-nomad status --cluster team-a --json
    """
    from clipper_nomad.cli.command_line import command
    from clipper_nomad.cli.finding import find_cluster, is_on_nomad, read_status
    from clipper_nomad.cli.output import Output
    from clipper_nomad.cli.overview import ask_admin, document, memory_bytes, stopped_document

    output = Output(as_json=as_json)
    if is_on_nomad(where):
        from clipper_nomad.cli.on_nomad.state import show_status

        show_status(output, where)
        return
    cluster = where.cluster
    place = find_cluster(cluster)
    stack = read_status(place)
    if stack is None:
        found = stopped_document(cluster, place.data)
        output.line(f"cluster {cluster!r} does not run on this machine")
        if found["kept"]:
            output.detail("kept", f"apps, models and logs in {place.data}")
        output.next_step(command("up --local", where))
        output.document(found)
        raise typer.Exit(1)
    found = document(stack, ask_admin(place, stack), {part.name: memory_bytes(part.pid) for part in stack.parts})
    show(output, found)
    output.next_step(*_next(found, where))
    output.document(found)


def show(output: Output, found: Row) -> None:
    """Say what `found`, a document of overview.py, holds."""
    if found["state"] == "up":
        output.done(f"cluster {found['cluster']!r} is up on this machine, for {duration(found['age_s'])}")
    else:
        output.warn(f"cluster {found['cluster']!r} is {found['state']}")
    output.detail("predict", f"POST {found['query_url']}/clipper/APP/predict")
    kept = "kept when it is stopped" if found["kept"] else "deleted when it is stopped"
    output.detail("state", f"{found['data']}, {kept}")
    if found["owners"]:
        ends = "" if found["kept"] else "; it stops when the last of them ends"
        output.detail("used by", f"process {', '.join(map(str, found['owners']))}{ends}")
    output.line()
    output.table(
        ("part", "pid", "state", "restarts", "memory", "last error"),
        [_part(part) for part in found["parts"]],
        right=frozenset({"pid", "restarts", "memory"}),
    )
    if found["versions"]:
        output.line()
        is_mesh = sum(part["kind"] == "frontend" for part in found["parts"]) > 1
        output.table(
            ("model", "input", "replicas", "queue", *(("relayed",) if is_mesh else ()), "last error"),
            [version_row(version, is_mesh=is_mesh) for version in found["versions"]],
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


def _part(part: Row) -> Sequence[str | Text]:
    from rich.text import Text

    memory = part["memory_bytes"]
    return (
        part["name"],
        str(part["pid"] or NOTHING),
        Text(part["state"], _STYLES.get(part["state"], "")),
        str(part["restarts"]),
        f"{memory / 1e6:.0f} MB" if memory else NOTHING,
        part["last_error"] or NOTHING,
    )


def _next(found: Row, where: Where) -> Sequence[str]:
    from clipper_nomad.cli.command_line import command

    troubled = next((part["name"] for part in found["parts"] if part["state"] in {"failed", "waiting"}), None)
    if troubled:
        return (command(f"logs {troubled}", where),)
    if not found["apps"]:
        return (command("deploy model.py:predict --name digits --sample '[1.5]'", where),)
    return (command(f"bench {found['apps'][0]['name']}", where), command("logs", where))
