"""`clipper-nomad status`: how a cluster is. On this machine overview.py gathers, this shows. On Nomad: state.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from clipper_nomad.cli.options import Json, Where

if TYPE_CHECKING:
    from rich.text import Text

    from clipper_nomad.cli.output import Output

_STYLES = {"running": "green", "ready": "green", "waiting": "yellow", "stopping": "yellow", "failed": "red"}
_NOTHING = "–"
Row = Mapping[str, Any]  # of overview.py's document


def status(*, where: Where, as_json: Json = False) -> None:
    """Show a cluster's parts, apps and models.

    What is not as it should be is yellow. Exit code 1 if the cluster does not run.

    Examples:
      clipper-nomad status
      clipper-nomad status --cluster team-a --json
    """
    from clipper_nomad.cli.finding import command, find_cluster, is_on_nomad, read_status
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
        str(part["pid"] or _NOTHING),
        Text(part["state"], _STYLES.get(part["state"], "")),
        str(part["restarts"]),
        f"{memory / 1e6:.0f} MB" if memory else _NOTHING,
        part["last_error"] or _NOTHING,
    )


def version_row(version: Row, *, is_mesh: bool) -> Sequence[str | Text]:
    """Return the cells of one model version."""
    from rich.text import Text

    ready, wanted = version["replicas_ready"], version["replicas_wanted"]
    mark = "" if version["current"] else " (staged)" if version["staged"] else " (not current)"
    return (
        f"{version['model']}:{version['version']}{mark}",
        version["input_type"],
        Text(f"{ready}/{wanted}", "green" if ready >= wanted else "yellow"),
        str(version["queued"]),
        *((f"{version['relayed']:,}",) if is_mesh else ()),
        version["last_error"] or _NOTHING,
    )


def served(found: Row) -> str:
    """Return which revision of the catalog the frontends serve, in words."""
    frontends = found["frontends"]
    if len(frontends) > 1 and {one["revision"] for one in frontends} == {found["catalog"]["revision"]}:
        return f"all {len(frontends)} frontends serve it"
    return ", ".join(f"{one['frontend']} serves {one['revision']}" for one in frontends)


def show_app(output: Output, app: Row) -> None:
    """Say how an app is."""
    from rich.text import Text

    linked = ", ".join(app["serves"] or app["linked_models"]) or "no model"
    policy = (f"policy {app['slo_policy']}", "yellow" if app["slo_policy"] == "default" else "")
    takes = f"  {app['input_type']} → {linked}   SLO {duration(app['slo_micros'] / 1e6)}, "
    output.line(Text.assemble((app["name"], "bold"), takes, policy))
    counts = [f"{app['queries']:,} queries", f"{app['late']:,} late", f"{app['defaults']:,} defaults"]
    counts += [f"{app['errors']:,} errors", f"p50 {_ms(app['p50_ms'])}", f"p99 {_ms(app['p99_ms'])}"]
    output.line("  " + " · ".join(counts))


def _next(found: Row, where: Where) -> Sequence[str]:
    from clipper_nomad.cli.finding import command

    troubled = next((part["name"] for part in found["parts"] if part["state"] in {"failed", "waiting"}), None)
    if troubled:
        return (command(f"logs {troubled}", where),)
    if not found["apps"]:
        return (command("deploy model.py:predict --name digits --sample '[1.5]'", where),)
    return (command(f"bench {found['apps'][0]['name']}", where), command("logs", where))


def _ms(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.3g} ms"


def duration(seconds: float) -> str:
    """Return a time in the unit that fits."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"
