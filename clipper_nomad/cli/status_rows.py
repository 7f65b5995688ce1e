"""How status says how versions and apps are, on this machine and on Nomad alike. Rows are of overview.py's document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

    from clipper_nomad.cli.output import Output

NOTHING = "–"
Row = Mapping[str, Any]  # JSON


def version_row(version: Row, *, is_mesh: bool) -> Sequence[str | Text]:
    """Return the cells of one model version."""
    from rich.text import Text

    ready, wanted = version["replicas_ready"], version["replicas_wanted"]
    mark = "" if version["current"] else " (staged)" if version["staged"] else " (not current)"
    mark += " (RPC version 3)" if version.get("legacy") else ""
    # containers that somebody else started are as many as there are
    count = f"{ready}" if version.get("legacy") and not wanted else f"{ready}/{wanted}"
    return (
        f"{version['model']}:{version['version']}{mark}",
        version["input_type"],
        Text(count, "green" if ready >= wanted else "yellow"),
        str(version["queued"]),
        *((f"{version['relayed']:,}",) if is_mesh else ()),
        version["last_error"] or NOTHING,
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


def duration(seconds: float) -> str:
    """Return a time in the unit that fits."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _ms(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3g} ms"
