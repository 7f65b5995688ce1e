"""`clipper-nomad version`. Answers without loading the library."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

import typer

from clipper_nomad.cli.options import Json


def version(*, as_json: Json = False) -> None:
    """Print the version of clipper-nomad and of its Python.

    Examples:
      clipper-nomad version
      clipper-nomad version --json
    """
    try:
        ours = installed_version("clipper-nomad")
    except PackageNotFoundError:  # run from a folder, not installed
        ours = "unknown"
    python, system = platform.python_version(), f"{platform.system()} {platform.machine()}"
    if as_json:
        typer.echo(json.dumps({"clipper_nomad": ours, "python": python, "executable": sys.executable, "system": system}))
    else:
        typer.echo(f"clipper-nomad {ours}, Python {python}, {system}")
