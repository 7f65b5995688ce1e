"""`up` on Nomad: rolls out the parts, shows how each comes along, and says what came of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from clipper_nomad.cli.command_line import command
from clipper_nomad.cli.on_nomad.planning import running_frontends
from clipper_nomad.cli.on_nomad.reaching import ImageLines, as_it_runs, image_set, new_manager, part_names, registry_of
from clipper_nomad.cli.options import Building, Shape, Where
from clipper_nomad.cluster.rollout.events import BecameHealthy, Registered, RolloutEvent, Unchanged
from clipper_nomad.cluster.rollout.lines import rollout_line
from clipper_nomad.errors import ClipperException, ImageError

if TYPE_CHECKING:
    from clipper_nomad.cli.board import Board
    from clipper_nomad.cli.output import Output
    from clipper_nomad.cluster.manager import NomadContainerManager

SCALED_WITHIN_S = 300.0
SERVES_WITHIN_S = 60.0  # Fabio asks Consul every second
LOOK_EVERY_S = 0.25


def image_lines(board: Board, row: str = "image") -> ImageLines:
    """Return what shows a builder's lines: the newest one of each image."""

    def said(image: str, line: str) -> None:
        name = image.partition("@")[0].rpartition("/")[2]
        if line.strip():
            board.show(row, f"{name.removeprefix('clipper-nomad-')}: {' '.join(line.split())[:100]}")

    return said


def bring_up(output: Output, where: Where, shape: Shape, building: Building, *, frontends: int | None, builds: bool) -> None:
    """Bring the cluster up, or see that it is up as it is wanted. Raises: as NomadContainerManager.start_clipper."""
    try:
        _bring_up(output, where, shape, building, frontends=frontends, builds=builds)
    except KeyboardInterrupt as exc:
        exc.add_note(f"`{command('up', where)}` goes on from here; `{command('down', where)}` removes what is there.")
        raise


def _bring_up(
    output: Output, where: Where, shape: Shape, building: Building, *, frontends: int | None, builds: bool
) -> None:
    output.show_warnings_of("clipper_nomad")
    began = time.monotonic()
    became: dict[str, str] = {}
    shape, building = as_it_runs(where, shape, building)
    names = part_names(new_manager(where, shape, building).names)
    with output.board() as board:

        def told(event: RolloutEvent) -> None:
            name = names.get(event.job_id, event.job_id)
            board.show(name, rollout_line(event))
            if isinstance(event, Registered | Unchanged | BecameHealthy):
                became.setdefault(name, "unchanged" if isinstance(event, Unchanged) else "rolled out")

        if builds:
            images = image_set(building, progress=image_lines(board))
            images.build_parts()
            if registry_of(building):
                images.push_parts()
        manager = new_manager(where, shape, building, events=told, image_lines=image_lines(board))
        before = running_frontends(manager)
        try:
            manager.start_clipper(num_frontend_replicas=frontends or before or 1)
        except ImageError as exc:
            if exc.hint is None:
                exc.hint = f"Build and push the images: clipper-nomad images push --registry {registry_of(building)}"
            raise
        if frontends is not None and before is not None and before != frontends:
            board.show("frontend", f"from {before} to {frontends}")
            _scale(manager, frontends)
            became["frontend"] = f"scaled from {before}"
        if manager.load_balancer is not None:
            board.show("fabio", f"waits for the routes on {manager.load_balancer.http()}")
            _await_route(f"http://{manager.load_balancer.http()}{manager.names.query_path}")
            board.show("fabio", f"routes stand on {manager.load_balancer.http()}")
    count = running_frontends(manager) or 0
    _say(output, where, manager, became, frontends=count, took_s=time.monotonic() - began)


def _without(became: dict[str, str], part: str) -> list[str]:
    return [each for each in became if each != part]


def _scale(manager: NomadContainerManager, count: int) -> None:
    """Set the number of query frontends and return when so many are healthy."""
    job = manager.names.frontend_job
    manager.nomad.scale(
        job,
        group=manager.names.group,
        count=count,
        message=f"clipper-nomad: {count} query frontends",
        deadline_s=SCALED_WITHIN_S,
    )
    deadline = time.monotonic() + SCALED_WITHIN_S
    while len(manager.consul.instances(manager.names.query_service).found) != count:
        if time.monotonic() > deadline:
            failure = manager.failures.now(job)
            raise ClipperException(
                f"Gave up after {SCALED_WITHIN_S:g} s: there are not {count} healthy query frontends"
                + (f": {failure.cause}." if failure else "."),
                hint=failure.hint if failure else f"`nomad job status {job}` says how they are.",
            )
        time.sleep(LOOK_EVERY_S)


def _await_route(base: str) -> None:
    """Return when a query frontend answers at `base`, through Fabio."""
    from clipper_nomad.connection.prediction import PredictClient

    deadline = time.monotonic() + SERVES_WITHIN_S
    client = PredictClient()
    while not client.is_up(base, within_s=3.0):
        if time.monotonic() > deadline:
            raise ClipperException(
                f"All parts are healthy, and no query frontend answers at {base} within {SERVES_WITHIN_S:g} s.",
                hint="See that this Fabio reads the same Consul; its log and /api/routes show its routes.",
            )
        time.sleep(LOOK_EVERY_S)


def _say(
    output: Output,
    where: Where,
    manager: NomadContainerManager,
    became: dict[str, str],
    *,
    frontends: int,
    took_s: float,
) -> None:
    was_up = bool(became) and set(became.values()) == {"unchanged"}
    url = manager.predict_url("APP")
    admin = manager.get_admin_addr()
    if was_up:
        output.done(f"cluster {where.cluster!r} was up already on Nomad; nothing was changed", took_s=took_s)
    else:
        output.done(f"cluster {where.cluster!r} is up on Nomad at {manager.nomad.endpoint.url}", took_s=took_s)
    changed = [f"{part} ({what})" for part, what in became.items() if what != "unchanged"]
    if changed and not was_up:
        kept = [part for part, what in became.items() if what == "unchanged"]
        output.detail("changed", ", ".join(changed) + (f"; unchanged: {', '.join(kept)}" if kept else ""))
    output.detail("predict", f"POST {url}")
    output.detail(
        "runs", f"{', '.join(_without(became, 'frontend'))}, {frontends} query frontend{'' if frontends == 1 else 's'}"
    )
    output.detail("admin", f"http://{admin}")
    rpc_addr = manager.get_rpc_addr() if manager.blueprint.legacy_rpc else None
    if rpc_addr is not None:
        output.detail("rpc 3", f"containers of Clipper's dial {rpc_addr}; whoever reaches it may, and nothing is encrypted")
    output.detail("token", "travels in clear: this is HTTP without TLS. Let only those near who may read it", "yellow")
    output.next_step(
        command("deploy model.py:predict --name digits --sample '[1.5]'", where),
        command("status", where),
    )
    output.document(
        {
            "cluster": where.cluster,
            "state": "up",
            "was_up": was_up,
            "toolkit": manager.blueprint.toolkit,
            "query_url": url.partition(manager.names.query_path)[0],
            "predict_url": url,
            "admin_url": f"http://{admin}",
            "rpc_addr": rpc_addr,
            "frontends": frontends,
            "data": manager.nomad.endpoint.url,
            "took_s": round(took_s, 3),
            "parts": became,
        }
    )
