"""`clipper-nomad render`: the jobspecs that `up` would register, to be read, kept in git, or run with nomad itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipper_nomad.cli.options import Building, Frontends, Shape, Where, WrongUsage


def render(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PART]...", help="redis, admin, frontend, fabio; or model NAME; or models.  [default: the parts]"
        ),
    ] = None,
    *,
    version: Annotated[
        str | None, typer.Option("--version", metavar="V", help="Of model NAME.  [default: all that run]")
    ] = None,
    where: Where,
    frontends: Frontends = None,
    shape: Shape,
    building: Building,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write a file for each job, instead of printing.")
    ] = None,
) -> None:
    """Print the jobspecs (HCL) of parts and models on Nomad.

    No secret is in them: those are in Nomad Variables, which `up` and `deploy` make. Nothing is changed. Parts are
    printed as `up` would register them, models as they are registered.

    Examples:
      clipper-nomad render
      clipper-nomad render frontend --frontends 3
      clipper-nomad render --out jobs
      clipper-nomad render model digits --version 2
    """
    from clipper_nomad.cli.finding import require_nomad
    from clipper_nomad.cli.on_nomad.rendering import render_models, render_parts, write_rendered
    from clipper_nomad.cli.output import Output

    require_nomad(where)
    output = Output()
    words = parts or []
    if words[:1] in (["model"], ["models"]):
        if len(words) != (2 if words[0] == "model" else 1):
            raise WrongUsage("It is not said of which model.", hint="render model NAME, or render models: all that run.")
        write_rendered(output, render_models(where, words[1] if words[1:] else None, version), out)
        return
    if version is not None:
        raise WrongUsage("--version is of a model.", hint="render model NAME --version V.")
    write_rendered(output, render_parts(output, where, shape, building, words, frontends), out)
