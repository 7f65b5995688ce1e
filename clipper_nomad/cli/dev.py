"""`clipper-nomad dev`: a real Consul, Nomad and Fabio on this machine. The work is in clipper_nomad.dev_cluster."""

from __future__ import annotations

import os
import shlex
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from clipper_nomad.cli.options import Json, WrongUsage

if TYPE_CHECKING:
    from clipper_nomad.cli.board import Board
    from clipper_nomad.cli.output import Output
    from clipper_nomad.dev_cluster.bringing_up import Teller
    from clipper_nomad.dev_cluster.state import State

_STYLES = {"running": "green", "waiting": "yellow", "stopping": "yellow", "failed": "red", "stopped": "red"}


class Act(StrEnum):
    """What is to be done."""

    UP = "up"
    STATUS = "status"
    ENV = "env"
    DOWN = "down"


def dev(
    act: Annotated[Act, typer.Argument(metavar="ACT", help="up, status, env or down.")],
    *,
    download: Annotated[
        bool, typer.Option("--download", help="up: take official releases, also where programs are on PATH.")
    ] = False,
    volumes: Annotated[bool, typer.Option("--volumes", help="down: delete jobs, data and logs too.")] = False,
    as_json: Json = False,
) -> None:
    """Run Nomad, Consul and Fabio on this machine, for development.

    Real ones, on loopback, for containers of this machine's Docker; from PATH, or downloaded from the official releases,
    with checksum and signature checked. They run until `dev down`, and are started anew when one ends. While they run, the
    other verbs find them where neither --local nor a Nomad is named; `env` prints what leads other tools there. `down` ends
    all containers; jobs and data come back with the next `up`, unless --volumes is given.

    Examples:
      clipper-nomad dev up
      clipper-nomad dev up --download
      clipper-nomad dev status --json
      eval "$(clipper-nomad dev env)"
      clipper-nomad dev down --volumes
    """
    from clipper_nomad.cli.output import Output

    for given, option, its in ((download, "--download", Act.UP), (volumes, "--volumes", Act.DOWN)):
        if given and act is not its:
            raise WrongUsage(f"{option} is of `dev {its}`.", hint="Leave it out.")
    output = Output(as_json=as_json)
    match act:
        case Act.UP:
            _up(output, download=download)
        case Act.STATUS:
            _status(output)
        case Act.ENV:
            _env(output)
        case Act.DOWN:
            _down(output, volumes=volumes)


def _up(output: Output, *, download: bool) -> None:
    from clipper_nomad.dev_cluster.bringing_up import address_of, bring_up
    from clipper_nomad.dev_cluster.running import environment_of

    began = time.monotonic()
    with output.board() as board:
        done = bring_up(os.environ, _teller(output, board), download=download)
    took_s = time.monotonic() - began
    settings = done.state.settings
    if done.moved:
        moved = ", ".join(f"{each.purpose} {each.instead}, not {each.standard}" for each in done.moved)
        output.warn(f"ports that others have: {moved}")
    if done.was_up:
        output.done(f"the development cluster runs already, for {_since(done.state.since)}", took_s=took_s)
    else:
        output.done("the development cluster is up on this machine", took_s=took_s)
    for program in settings.programs:
        output.detail(program.name, f"{program.version}  {address_of(program.name, settings.ports)}  {program.path}")
    output.detail("state", f"{settings.data}, kept until clipper-nomad dev down --volumes")
    for note in _notes():
        output.warn(note)
    output.next_step("clipper-nomad up", 'eval "$(clipper-nomad dev env)"   for nomad, consul and notebooks')
    output.document(
        {**_document(done.state), "was_up": done.was_up, "took_s": round(took_s, 3)}
        | {"environment": environment_of(done.state)}
    )


def _notes() -> list[str]:
    """Return what does not work for this user."""
    if os.geteuid() == 0:
        return []
    return [
        "not as root: Nomad runs containers for you, but no tasks of its other drivers, and cannot hide secrets in memory"
    ]


def _teller(output: Output, board: Board) -> Teller:
    from clipper_nomad.dev_cluster.bringing_up import Teller
    from clipper_nomad.dev_cluster.releases import Release

    def fetches(releases: tuple[Release, ...]) -> None:
        names = ", ".join(map(str, releases))
        output.note(f"downloading {names}: their makers' releases, checksums and signatures checked")

    def progress(file: str, here: int, total: int | None) -> None:
        board.show(file.partition("_")[0].partition("-")[0], _bar(here, total))

    return Teller(
        show=board.show, fetches=fetches, progress=progress, remark=lambda text: output.note(f"! {text}", "yellow")
    )


def _bar(here: int, total: int | None) -> str:
    if not total:
        return f"{here / 1e6:.0f} MB"
    filled = 30 * here // total
    return f"{'━' * filled}{'─' * (30 - filled)} {here / 1e6:.0f} of {total / 1e6:.0f} MB"


def _status(output: Output) -> None:
    from clipper_nomad.cli.status_rows import NOTHING
    from clipper_nomad.dev_cluster.bringing_up import address_of
    from clipper_nomad.dev_cluster.place import find_dev_place
    from clipper_nomad.dev_cluster.running import running_at

    place = find_dev_place(os.environ)
    state = running_at(place)
    if state is None:
        output.line("the development cluster does not run")
        if place.data.is_dir():
            output.detail("kept", f"jobs, data and logs in {place.data}")
        output.next_step("clipper-nomad dev up")
        output.document({"state": "stopped", "data": str(place.data), "agents": []})
        raise typer.Exit(1)
    document = _document(state)
    if document["state"] == "up":
        output.done(f"the development cluster runs, for {_since(state.since)}")
    else:
        output.warn("the development cluster runs, and an agent of it does not")
    from rich.text import Text

    output.table(
        ("process", "version", "address", "pid", "state", "since", "restarts", "last error"),
        [
            (
                each.name,
                state.settings.program(each.name).version,
                address_of(each.name, state.settings.ports),
                str(each.pid or NOTHING),
                Text(each.state, _STYLES.get(each.state, "")),
                _since(each.since),
                str(each.restarts),
                each.last_error or NOTHING,
            )
            for each in state.agents
        ],
        right=frozenset({"pid", "restarts"}),
    )
    output.detail("state", state.settings.data)
    output.detail("logs", str(place.logs))
    is_up = document["state"] == "up"
    output.next_step("clipper-nomad up" if is_up else "clipper-nomad dev up, which starts it anew")
    output.document(document)
    if not is_up:
        raise typer.Exit(1)


def _env(output: Output) -> None:
    from clipper_nomad.dev_cluster.running import environment_of, running
    from clipper_nomad.errors import DevClusterError

    state = running(os.environ)
    if state is None:
        raise DevClusterError("The development cluster does not run.", hint="Start it: clipper-nomad dev up")
    found = environment_of(state)
    for name, value in found.items():
        output.line(f"export {name}={shlex.quote(value)}")
    output.document(found)


def _down(output: Output, *, volumes: bool) -> None:
    from clipper_nomad.dev_cluster.taking_down import take_down

    began = time.monotonic()
    try:
        with output.board() as board:
            done = take_down(os.environ, volumes=volumes, show=board.show)
    except KeyboardInterrupt as exc:
        exc.add_note("`clipper-nomad dev down` goes on from here; `clipper-nomad dev up` brings it back.")
        raise
    took_s = time.monotonic() - began
    if done.was_up:
        output.done("the development cluster is stopped", took_s=took_s)
        output.detail("ended", f"{done.allocations} allocations, {', '.join(done.agents)}")
    else:
        output.done("the development cluster does not run" + ("" if done.leftovers else ": nothing to stop"))
    for each in done.leftovers:
        output.detail("left over", f"{each}, ended too")
    if done.deleted is not None:
        output.detail("deleted", str(done.deleted))
    if done.kept is not None:
        output.detail("kept", f"jobs, data and logs in {done.kept}")
        output.next_step("clipper-nomad dev up brings it back", "clipper-nomad dev down --volumes deletes")
    else:
        output.next_step("clipper-nomad dev up")
    output.document(
        {
            "state": "stopped",
            "was_up": done.was_up,
            "agents": list(done.agents),
            "allocations": done.allocations,
            "leftovers": list(done.leftovers),
            "deleted": None if done.deleted is None else str(done.deleted),
            "kept": None if done.kept is None else str(done.kept),
            "took_s": round(took_s, 3),
        }
    )


def _document(state: State) -> dict[str, object]:
    from dataclasses import asdict

    is_up = all(each.state == "running" for each in state.agents)
    return {
        "state": "up" if is_up else "troubled",
        "pid": state.pid,
        "since": state.since,
        "data": state.settings.data,
        "ports": state.settings.ports.of_agents,
        "agents": [{**asdict(state.settings.program(each.name)), **asdict(each)} for each in state.agents],
    }


def _since(when: float) -> str:
    from clipper_nomad.cli.status_rows import duration

    return duration(time.time() - when)
