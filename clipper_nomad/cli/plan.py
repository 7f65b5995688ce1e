"""`clipper-nomad plan`: what `up` would change on Nomad. It ends as `nomad job plan` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import typer

from clipper_nomad.cli.options import Building, Frontends, Json, Shape, Where, WrongUsage
from clipper_nomad.errors import ClipperException

if TYPE_CHECKING:
    from clipper_nomad.cli.output import Output

PLAN_FAILED = 255  # as `nomad job plan` has it


def plan(
    *,
    where: Where,
    frontends: Frontends = None,
    shape: Shape,
    building: Building,
    as_json: Json = False,
) -> None:
    """Say what `up` would change on Nomad; change nothing.

    Exit code 0: nothing. 1: something. 255: it cannot be told.

    Examples:
      clipper-nomad plan
      clipper-nomad plan --nomad 10.0.0.5 --frontends 3 --json
    """
    from clipper_nomad.cli.finding import require_nomad
    from clipper_nomad.cli.output import Output

    require_nomad(where)
    end_with_plan(Output(as_json=as_json), where, shape, building, frontends)


def end_with_plan(output: Output, where: Where, shape: Shape, building: Building, frontends: int | None) -> NoReturn:
    """Show the plan and end: 0 nothing would change, 1 something would, 255 it cannot be told."""
    from clipper_nomad.cli.on_nomad.planning import show_plan
    from clipper_nomad.cli.output import report_error

    try:
        has_changes = show_plan(output, where, shape, building, frontends)
    except WrongUsage:
        raise
    except ClipperException as exc:
        report_error(exc, as_json=output.as_json)
        raise typer.Exit(PLAN_FAILED) from exc
    raise typer.Exit(1 if has_changes else 0)
