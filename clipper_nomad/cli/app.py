"""The verbs of `clipper-nomad` in the order of --help, and what becomes of an exception: message, exit code.

A verb raises WrongUsage or typer.BadParameter (exit 2), or another ClipperException (exit 1); Ctrl-C ends any verb with
130. Anything else is an error of ours and keeps its traceback.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from clipper_nomad.cli.bench import bench
from clipper_nomad.cli.demo import demo
from clipper_nomad.cli.deploy import deploy
from clipper_nomad.cli.dev import dev
from clipper_nomad.cli.doctor import doctor
from clipper_nomad.cli.down import down
from clipper_nomad.cli.images import images
from clipper_nomad.cli.keys import keys
from clipper_nomad.cli.logs import logs
from clipper_nomad.cli.option_groups import expanded
from clipper_nomad.cli.options import WrongUsage
from clipper_nomad.cli.plan import plan
from clipper_nomad.cli.policy import policy
from clipper_nomad.cli.predict import predict
from clipper_nomad.cli.render import render
from clipper_nomad.cli.scale import scale
from clipper_nomad.cli.status import status
from clipper_nomad.cli.terraform import terraform
from clipper_nomad.cli.up import up
from clipper_nomad.cli.version import version
from clipper_nomad.errors import ClipperException

INTERRUPTED = 130  # as shells say it: 128 + SIGINT

_WRITTEN: tuple[Callable[..., None], ...] = (
    *(demo, up, status, deploy, predict, scale, bench, logs, down),
    *(dev, terraform, doctor, plan, images, render, policy, keys, version),
)
VERBS = tuple(map(expanded, _WRITTEN))  # with an option for each field of their groups


class Verbs(TyperGroup):
    """All commands; the one place where their exceptions end."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002  # click's signature
        """Return the verbs in our order, not in that of the alphabet."""
        return [verb.__name__ for verb in VERBS]

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  # click's Context, wherever typer keeps it; a verb's value
        """Run the verb that was typed."""
        try:
            return super().invoke(ctx)
        except ClipperException as exc:
            from clipper_nomad.cli.output import report_error

            report_error(exc, as_json=ctx.obj == "json")
            raise typer.Exit(2 if isinstance(exc, WrongUsage) else 1) from exc
        except KeyboardInterrupt as exc:
            from clipper_nomad.cli.output import report_interrupt

            report_interrupt(exc, as_json=ctx.obj == "json")
            raise typer.Exit(INTERRUPTED) from exc


def clipper_nomad(context: typer.Context) -> None:
    """Serve machine learning models with low latency: on this machine, or on a Nomad cluster.

    Which of the two: --local is this machine, --nomad ADDR or NOMAD_ADDR a Nomad; without any of them this machine, or the
    Nomad of `clipper-nomad dev up`.

    Examples:
      clipper-nomad demo                    train a model, deploy it, predict over HTTP
      clipper-nomad up --local              start a cluster on this machine
      clipper-nomad up --nomad 10.0.0.5     start one on Nomad; before it: clipper-nomad doctor
      clipper-nomad deploy model.py:predict --name digits --sample '[0.1, 0.2]'
      clipper-nomad predict digits '[0.1, 0.2]'
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a sign shows '?', and nothing fails
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _help_of(verb: Callable[..., None]) -> str:
    """Return a function's docstring, with click's mark that the lines of its examples are to be left as they are."""
    return (inspect.getdoc(verb) or "").replace("Examples:\n", "\b\nExamples:\n")


app = typer.Typer(
    cls=Verbs,
    rich_markup_mode=None,  # plain help: answers in a third of the time, and keeps the layout of the examples
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for verb in VERBS:
    app.command(help=_help_of(verb))(verb)


app.callback(invoke_without_command=True, help=_help_of(clipper_nomad))(clipper_nomad)
