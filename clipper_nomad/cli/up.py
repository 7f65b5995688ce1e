"""`clipper-nomad up`: start a cluster, or keep the one that runs. Of this machine it is here; on Nomad: bringing_up.py."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from clipper_nomad.cli.options import Building, Frontends, Json, Shape, Where, WrongUsage
from clipper_nomad.cli.plan import end_with_plan

if TYPE_CHECKING:
    from clipper_nomad.cli.output import Output
    from clipper_nomad.local_stack.control import StackStatus


def up(
    *,
    where: Where,
    frontends: Frontends = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=1,
            max=65535,
            metavar="N",
            help="The predict port, of --local.  [default: 9999, or the next that is free]",
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="On Nomad: say what would change, and change nothing.")] = False,
    build: Annotated[bool, typer.Option("--build", help="On Nomad: build (and push) the images first.")] = False,
    shape: Shape,
    building: Building,
    as_json: Json = False,
) -> None:
    """Start a cluster on this machine, or on Nomad.

    With --local: store, admin and query frontends as processes of yours. With --nomad or NOMAD_ADDR: as jobs, found
    through Consul and reached through Fabio. It runs until `clipper-nomad down`. What is as it is wanted is left as it
    is; a query frontend is replaced only when its successor is ready. An option that
    is left out is as the cluster runs.

    Examples:
      clipper-nomad up --local
      clipper-nomad up --local --cluster team-a --port 9100 --frontends 2
      clipper-nomad up --local --cache 64
      clipper-nomad up --nomad 10.0.0.5 --consul 10.0.0.5 --frontends 2
      clipper-nomad up --plan --registry registry.example/team
      clipper-nomad up --set redis.memory=1024 --set frontend.cpu=2000
    """
    from clipper_nomad.cli.finding import is_on_nomad, refuse_nomad_options
    from clipper_nomad.cli.output import Output

    output = Output(as_json=as_json)
    if is_on_nomad(where):
        if port is not None:
            raise WrongUsage("--port is of a cluster of this machine.", hint="On Nomad say --http-port, which is Fabio's.")
        if plan:
            end_with_plan(output, where, shape, building, frontends)
        from clipper_nomad.cli.on_nomad.bringing_up import bring_up

        bring_up(output, where, shape, building, frontends=frontends, builds=build)
        return
    if not where.local:
        raise WrongUsage(
            "It is not said where the cluster shall run: on this machine, or on Nomad.",
            hint="On this machine: clipper-nomad up --local. On Nomad: set NOMAD_ADDR, or"
            " clipper-nomad up --nomad ADDR; without a Nomad: clipper-nomad dev up starts one here.",
        )
    refuse_nomad_options({**asdict(replace(shape, cache=None)), **asdict(building), "plan": plan, "build": build})
    cache_size = None if shape.cache is None else round(shape.cache * 1024**2)
    _up_local(output, where, port=port, frontends=frontends, cache_size=cache_size)


def _up_local(output: Output, where: Where, *, port: int | None, frontends: int | None, cache_size: int | None) -> None:
    from clipper_nomad.cli.finding import find_cluster, make_manager, read_status, stop_interrupted
    from clipper_nomad.local_stack.parts import START_EACH_S, START_WITHIN_S

    cluster = where.cluster
    before = read_status(find_cluster(cluster))
    manager = make_manager(output, cluster, port=port, frontends=frontends, keep=True)
    began = time.monotonic()
    try:
        starting = f"starting store, admin and {_frontends(frontends or 1)}"
        with output.progress(starting, at_most_s=START_WITHIN_S + START_EACH_S * (frontends or 1)):
            manager.start_clipper(cache_size=cache_size)
    except KeyboardInterrupt:
        if before is None:
            stop_interrupted(manager, cluster)
        raise
    now = manager.status()
    took_s = time.monotonic() - began
    _say(output, where, now, took_s=took_s, was_up=before is not None, url=manager.predict_url("APP"))


def _say(output: Output, where: Where, now: StackStatus, *, took_s: float, was_up: bool, url: str) -> None:
    from clipper_nomad.cli.command_line import command

    running = sum(part.kind == "frontend" for part in now.parts)
    if was_up:
        output.done(f"cluster {now.cluster!r} was up already, since {now.age_s:.0f} s; it is left as it was")
    else:
        output.done(f"cluster {now.cluster!r} is up on this machine", took_s=took_s)
    output.detail("predict", f"POST {url}")
    output.detail("runs", f"store, admin, {_frontends(running)}")
    output.detail("state", f"{now.data}, kept until {command('down --volumes', where)}")
    deploy = "deploy model.py:predict --name digits --sample '[1.5]'"
    output.next_step(command(deploy, where), command("status", where))
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
