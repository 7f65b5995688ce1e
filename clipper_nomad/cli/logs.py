"""`clipper-nomad logs`: what the parts of a cluster wrote, running or kept. On Nomad: on_nomad/task_logs.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clipper_nomad.cli.options import Where

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from clipper_nomad.cli.output import Output


def logs(
    part: Annotated[
        str | None,
        typer.Argument(
            metavar="PART", help="store, admin, frontend, supervisor, a model, model:version or replica.  [default: all]"
        ),
    ] = None,
    *,
    where: Where,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is added, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, metavar="N", help="How many lines of each log.")] = 20,
) -> None:
    """Print the last lines of the logs of a cluster's parts.

    Examples:
      clipper-nomad logs
      clipper-nomad logs digits --lines 100
      clipper-nomad logs frontend --follow
    """
    from clipper_nomad.cli.finding import find_cluster, is_on_nomad, not_running
    from clipper_nomad.cli.log_files import find_logs, follow_logs, select_logs
    from clipper_nomad.cli.output import Output

    output = Output()
    if is_on_nomad(where):
        from clipper_nomad.cli.on_nomad.task_logs import show_logs

        show_logs(output, where, part, lines=lines, follow=follow)
        return
    cluster = where.cluster
    folder = find_cluster(cluster).logs
    if not folder.is_dir():
        raise not_running(cluster)
    found = select_logs(find_logs(folder), part)
    output.note(f"… {_what(found, lines)} in {folder}" + ("; Ctrl-C ends" if follow else ""))
    if not follow:
        _print_last(output, found, lines)
        return
    for name, line in follow_logs(folder, part, last=lines):
        _print(output, name, line, prefix=part is None or len(found) > 1)
    output.note(f"cluster {cluster!r} is gone: it was stopped, and its logs with it")


def _print_last(output: Output, found: Mapping[str, Path], lines: int) -> None:
    from clipper_nomad.cli.log_files import LogReader

    for name, path in found.items():
        for line in LogReader(path, last=lines).read_all():
            _print(output, name, line, prefix=len(found) > 1)


def _print(output: Output, name: str, line: str, *, prefix: bool) -> None:
    from rich.text import Text

    output.line(Text.assemble((f"{name} │ ", "dim"), line) if prefix else line)


def _what(found: Mapping[str, Path], lines: int) -> str:
    names = next(iter(found)) if len(found) == 1 else f"{len(found)} logs"
    return f"the last {lines} lines of {names}"
