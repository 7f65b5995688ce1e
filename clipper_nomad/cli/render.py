"""`clipper-nomad render`: the jobspecs that `up` would register, to be read, kept in git, or run with nomad itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipper_nomad.cli.options import Building, Frontends, Shape, Where


def render(
    parts: Annotated[
        list[str] | None, typer.Argument(metavar="[PART]...", help="redis, admin, frontend.  [default: all]")
    ] = None,
    *,
    where: Where,
    frontends: Frontends = None,
    shape: Shape,
    building: Building,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write a file for each job, instead of printing.")
    ] = None,
) -> None:
    """Print the jobspecs (HCL) of a cluster's parts on Nomad.

    No secret is in them: those are in Nomad Variables, which `up` makes. Nothing is changed.

    Examples:
      clipper-nomad render
      clipper-nomad render frontend --frontends 3
      clipper-nomad render --out jobs
    """
    from clipper_nomad.cli.finding import require_nomad
    from clipper_nomad.cli.on_nomad.rendering import render_parts, write_rendered
    from clipper_nomad.cli.output import Output

    require_nomad(where)
    output = Output()
    write_rendered(output, render_parts(output, where, shape, building, parts or [], frontends), out)
