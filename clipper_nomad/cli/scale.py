"""`clipper-nomad scale`: how many replicas a model version has, on this machine or on Nomad."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from clipper_nomad.cli.options import Json, Where


def scale(
    model: Annotated[str, typer.Argument(metavar="MODEL[:VERSION]", help="Without a version its current one.")],
    replicas: Annotated[int, typer.Argument(metavar="N", min=0, max=1000, help="How many replicas it shall have.")],
    *,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1.0, metavar="S", help="How long it may take until they serve.")
    ] = 300.0,
    where: Where,
    as_json: Json = False,
) -> None:
    """Change how many replicas a model version has.

    Done when every query frontend knows that many that are ready.

    Examples:
      clipper-nomad scale digits 4
      clipper-nomad scale digits:2 0
    """
    from clipper_nomad.cli.command_line import command
    from clipper_nomad.cli.finding import connect
    from clipper_nomad.cli.output import Output

    output = Output(as_json=as_json)
    began = time.monotonic()
    connection = connect(output, where)
    name, _, named_version = model.partition(":")
    version = named_version or connection.get_current_model_version(name)
    before = connection.get_num_replicas(name, version)
    with output.progress(f"from {before} to {replicas} replicas of {name}:{version}", at_most_s=timeout_s):
        try:
            connection.set_num_replicas(name, replicas, version, timeout_s=timeout_s)
        except KeyboardInterrupt as exc:
            wanted = connection.get_num_replicas(name, version)
            exc.add_note(
                f"{name}:{version} is wanted with {wanted} replicas, it had {before}; they come and go without this"
                f" command. See {command('status', where)}."
            )
            raise
    took_s = time.monotonic() - began
    output.done(f"{name}:{version} has {replicas} replicas, it had {before}", took_s=took_s)
    output.next_step(command("status", where))
    output.document({"model": name, "version": version, "before": before, "replicas": replicas, "took_s": round(took_s, 3)})
