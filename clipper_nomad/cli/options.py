"""Options and arguments that several verbs share, so that they read and behave the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

from clipper_nomad.errors import ClipperException

DEFAULT_CLUSTER = "default-cluster"


class WrongUsage(ClipperException):
    """The command line asks for what cannot be; exit code 2."""


def _remember_json(context: typer.Context, value: bool) -> bool:
    """Let app.py know: in this mode an error is a JSON document too."""
    if value:
        context.find_root().obj = "json"
    return value


Cluster = Annotated[
    str,
    typer.Option("--cluster", metavar="NAME", help="Which cluster of this machine.", show_default=True),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON document on stdout, also on failure.", is_eager=True, callback=_remember_json
    ),
]
