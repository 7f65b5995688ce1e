"""`clipper-nomad version`. Answers without loading the library."""

from __future__ import annotations

import json
import platform
import sys

import typer

from clipper_nomad.cli.options import Json
from clipper_nomad.toolkit import toolkit_version


def version(*, as_json: Json = False) -> None:
    """Print the version of clipper-nomad and of its Python.

    Examples:
      clipper-nomad version
      clipper-nomad version --json
    """
    ours = toolkit_version()
    python, system = platform.python_version(), f"{platform.system()} {platform.machine()}"
    if as_json:
        typer.echo(json.dumps({"clipper_nomad": ours, "python": python, "executable": sys.executable, "system": system}))
    else:
        typer.echo(f"clipper-nomad {ours}, Python {python}, {system}")
