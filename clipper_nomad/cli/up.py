"""`clipper-nomad up --local`: start a cluster on this machine, or keep the one that runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from clipper_nomad.cli.options import DEFAULT_CLUSTER, Cluster, Json, WrongUsage

if TYPE_CHECKING:
    from clipper_nomad.cli.output import Output
    from clipper_nomad.local_stack.control import StackStatus

_MOST_FRONTENDS = 64  # as local_stack.parts has it, which --help need not load


def up(
    *,
    local: Annotated[bool, typer.Option("--local", help="On this machine: the one place there is in this version.")] = False,
    cluster: Cluster = DEFAULT_CLUSTER,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=1, max=65535, metavar="N", help="The predict port.  [default: 9999, or the next that is free]"
        ),
    ] = None,
    frontends: Annotated[
        int | None,
        typer.Option(
            "--frontends",
            min=1,
            max=_MOST_FRONTENDS,
            metavar="N",
            help="Query frontend processes; they share the port.  [default: as many as run, else 1]",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start a cluster on this machine.

    Store, admin and query frontends, as processes of yours. It runs until `clipper-nomad down`, and keeps its apps and
    models over that. A cluster that runs is left as it is.

    Examples:
      clipper-nomad up --local
      clipper-nomad up --local --cluster team-a --port 9100 --frontends 2
      clipper-nomad up --local --json
    """
    from clipper_nomad.cli.finding import find_cluster, make_manager, read_status, stop_interrupted
    from clipper_nomad.cli.output import Output
    from clipper_nomad.local_stack.parts import START_EACH_S, START_WITHIN_S

    if not local:
        raise WrongUsage(
            "This version of clipper-nomad starts clusters on this machine only; Nomad clusters come in a later version.",
            hint="Start one here: clipper-nomad up --local",
        )
    output = Output(as_json=as_json)
    before = read_status(find_cluster(cluster))
    manager = make_manager(output, cluster, port=port, frontends=frontends, keep=True)
    began = time.monotonic()
    try:
        starting = f"starting store, admin and {_frontends(frontends or 1)}"
        with output.progress(starting, at_most_s=START_WITHIN_S + START_EACH_S * (frontends or 1)):
            manager.start_clipper()
    except KeyboardInterrupt:
        if before is None:
            stop_interrupted(manager, cluster)
        raise
    now = manager.status()
    _say(output, now, took_s=time.monotonic() - began, was_up=before is not None, url=manager.predict_url("APP"))


def _say(output: Output, now: StackStatus, *, took_s: float, was_up: bool, url: str) -> None:
    from clipper_nomad.cli.finding import command

    running = sum(part.kind == "frontend" for part in now.parts)
    if was_up:
        output.done(f"cluster {now.cluster!r} was up already, since {now.age_s:.0f} s; it is left as it was")
    else:
        output.done(f"cluster {now.cluster!r} is up on this machine", took_s=took_s)
    output.detail("predict", f"POST {url}")
    output.detail("runs", f"store, admin, {_frontends(running)}")
    output.detail("state", f"{now.data}, kept until {command('down --volumes', now.cluster)}")
    deploy = "deploy model.py:predict --name digits --sample '[1.5]'"
    output.next_step(command(deploy, now.cluster), command("status", now.cluster))
    output.document(
        {
            "cluster": now.cluster,
            "state": now.state,
            "was_up": was_up,
            "toolkit": now.toolkit,
            "query_url": f"http://{now.query_addr}",
            "predict_url": url,
            "admin_url": f"http://{now.admin_addr}",
            "frontends": running,
            "data": now.data,
            "took_s": round(took_s, 3),
        }
    )


def _frontends(count: int) -> str:
    return "1 query frontend" if count == 1 else f"{count} query frontends"
