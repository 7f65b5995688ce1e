"""Starts the development cluster, or finds the one that runs, and returns when all of it can be used."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clipper_nomad.dev_cluster.agent_api import AgentApi
from clipper_nomad.dev_cluster.agents import write_configuration
from clipper_nomad.dev_cluster.place import DevPlace, find_dev_place, make_dev_place
from clipper_nomad.dev_cluster.ports import Moved, Ports, choose, ports_from, purpose_of
from clipper_nomad.dev_cluster.programs import download as download_programs
from clipper_nomad.dev_cluster.programs import find_programs
from clipper_nomad.dev_cluster.releases import Release
from clipper_nomad.dev_cluster.running import LOOK_EVERY_S, end_supervisor, revive, running_at
from clipper_nomad.dev_cluster.state import Program, Settings, State
from clipper_nomad.dev_cluster.supervisor import NAME
from clipper_nomad.dev_cluster.transfer import Progress
from clipper_nomad.errors import DevClusterError
from clipper_nomad.local_stack.logs import last_words, read_tail
from clipper_nomad.local_stack.ports import answers, holder_words

READY_WITHIN_S = 90.0  # measured: 6 to 9 s; a busy machine takes several times as long
SPAWN_WITHIN_S = 20.0
STOP_WITHIN_S = 60.0
SHOWS_WITHIN_S = 3.0  # from the start of a supervisor until it says how it is; several times what it takes
_DOCKER = "Nomad runs the cluster's parts and models in Docker containers."


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """Who is told what goes on. `show`: the newest line of a part. `fetches`: releases that are downloaded now."""

    show: Callable[[str, str], None]
    fetches: Callable[[tuple[Release, ...]], None]
    progress: Progress
    remark: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BroughtUp:
    """What runs. `was_up`: it did before. `moved`: standard ports that were taken."""

    state: State
    was_up: bool
    moved: tuple[Moved, ...]


def bring_up(environ: Mapping[str, str], teller: Teller, *, download: bool = False) -> BroughtUp:
    """Start the cluster, or complete one that runs.

    `download`: releases, also where programs are on PATH. What was started is ended again if it does not become ready, and
    at Ctrl-C. Raises: DevClusterError, DownloadFailed, InvalidSetting.
    """
    place = find_dev_place(environ)
    state = running_at(place)
    if state is not None:
        if any(each.state == "failed" for each in state.agents):
            revive(state)
        _await_ready(place, state, teller)
        return BroughtUp(state=_now(place, state), was_up=True, moved=())
    _check_machine()
    programs = _programs(environ, place, teller, download=download)
    make_dev_place(place)
    ports, moved = _ports(place)
    settings = Settings(data=str(place.data), programs=programs, ports=ports)
    write_configuration(place, settings)
    try:
        state = _spawn(place, settings)
        _await_ready(place, state, teller)
    except BaseException as exc:
        if started := _shows_itself(place):
            end_supervisor(started, within_s=STOP_WITHIN_S)
            exc.add_note("What had been started was ended again.")
        raise
    return BroughtUp(state=_now(place, state), was_up=False, moved=moved)


def _shows_itself(place: DevPlace) -> State | None:
    """Return what was started; it may just be coming up, and not say how it is yet."""
    deadline = time.monotonic() + SHOWS_WITHIN_S
    while (state := running_at(place)) is None and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
    return state


def _check_machine() -> None:
    """Raises: DevClusterError: Nomad could not run containers here."""
    if sys.platform != "linux":
        raise DevClusterError(
            "The development cluster runs on Linux; elsewhere Docker's containers are in a virtual machine, which does not"
            " reach this one's loopback.",
            hint="Run it in a Linux machine, or use local mode, which needs no Docker: clipper-nomad up --local",
        )
    import docker  # noqa: PLC0415  # seldom needed
    from docker.errors import DockerException  # noqa: PLC0415

    try:
        client = docker.from_env(timeout=10)
        with contextlib.closing(client):
            client.ping()
    except (DockerException, OSError) as exc:
        is_forbidden = _is_forbidden(exc)
        raise DevClusterError(
            f"Docker {'may not be used by you' if is_forbidden else 'does not answer'}: {exc}. {_DOCKER}",
            hint="Let yourself use it: `sudo usermod -aG docker $USER`, then log in anew."
            if is_forbidden
            else "Install and start Docker (`docker info` must answer); without it: clipper-nomad up --local",
        ) from exc


def _is_forbidden(failure: BaseException | None) -> bool:
    """Return whether the system does not let this user at something: the Docker SDK wraps that in errors of its own."""
    while failure is not None and not isinstance(failure, PermissionError):
        failure = failure.__cause__ or failure.__context__
    return failure is not None


def _programs(environ: Mapping[str, str], place: DevPlace, teller: Teller, *, download: bool) -> tuple[Program, ...]:
    found = find_programs(environ, place.cache, download=download)
    for each in found.programs:
        teller.show(each.name, f"{each.version}  {each.path}")
    if not found.missing:
        return found.programs
    teller.fetches(found.missing)
    fetched = download_programs(found.missing, place.cache, environ, progress=teller.progress, remark=teller.remark)
    return (*found.programs, *fetched)


def _ports(place: DevPlace) -> tuple[Ports, tuple[Moved, ...]]:
    """Return the ports of before if there are any, else choose. Raises: DevClusterError: one of before is taken."""
    try:
        ports = ports_from(place.ports.read_text())
    except FileNotFoundError:
        ports, moved = choose(is_free)
        place.ports.write_text(ports.to_json())
        return ports, moved
    except ValueError as exc:
        raise DevClusterError(
            f"{place.ports} cannot be read: {exc}.", hint="`clipper-nomad dev down --volumes` begins anew, without its data."
        ) from exc
    taken = [
        f"{port} ({purpose_of(name)}){holder_words(port)}" for name, port in ports.of_agents.items() if not is_free(port)
    ]
    if taken:
        raise DevClusterError(
            f"Ports that this cluster has had before are taken: {'; '.join(taken)}.",
            hint="Stop what holds them; or `clipper-nomad dev down --volumes`: without its data it may choose others.",
        )
    return ports, ()


def is_free(port: int) -> bool:
    """Return whether an agent could listen on a loopback port, for TCP and UDP."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                if kind == socket.SOCK_STREAM:
                    probe.listen(1)
            except OSError:
                return False
    return True


def _spawn(place: DevPlace, settings: Settings) -> State:
    """Start a supervisor and return what it tells. Another one that was quicker will do as well."""
    place.state.unlink(missing_ok=True)
    environ = dict(os.environ)
    environ["PYTHONPATH"] = os.pathsep.join(str(Path(each).absolute()) for each in sys.path if each)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "clipper_nomad.dev_cluster.supervisor", settings.to_json()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environ,
        cwd="/",
        text=True,
    )
    _, said = process.communicate(timeout=SPAWN_WITHIN_S)  # it leaves a grandchild, and logs to its file from then on
    deadline = time.monotonic() + SPAWN_WITHIN_S
    while (state := running_at(place)) is None:
        if process.returncode != 0 or time.monotonic() > deadline:
            raise DevClusterError(
                f"The supervisor did not start: {said.strip() or 'it does not say how it is.'}",
                hint=f"Its log: {place.log(NAME)}",
            )
        time.sleep(LOOK_EVERY_S)
    return state


def _await_ready(place: DevPlace, state: State, teller: Teller) -> None:
    """Return when everything can be used. Raises: DevClusterError: it cannot within READY_WITHIN_S, and why."""
    api = AgentApi(state.settings.ports)
    deadline = time.monotonic() + READY_WITHIN_S
    steps = {
        "consul": ("waits for a leader", api.consul_leads),
        "nomad": ("waits for a leader", api.nomad_leads),
        "nomad-client": ("waits for its server and for Docker", lambda: _node_serves(api)),
        "fabio": ("waits for its ports", lambda: _fabio_serves(api, state.settings.ports)),
    }
    for agent, (what, is_done) in steps.items():
        program = state.settings.program(agent)
        label = agent.rpartition("-")[2]
        teller.show(label, f"{program.version}  {what}")
        while not is_done():
            now = running_at(place)
            if now is None:
                raise DevClusterError(f"The supervisor ended.{_log_of(place, NAME)}", hint=f"Its log: {place.log(NAME)}")
            if now.agent(agent).state == "failed":
                raise DevClusterError(
                    f"{agent.capitalize()} ends again and again.{_log_of(place, agent)}", hint=f"Its log: {place.log(agent)}"
                )
            if time.monotonic() > deadline:
                raise DevClusterError(
                    f"Gave up after {READY_WITHIN_S:g} s: {agent} {what}.{_log_of(place, agent)}",
                    hint=f"Its log: {place.log(agent)}",
                )
            time.sleep(LOOK_EVERY_S)
        teller.show(label, f"{program.version}  {address_of(agent, state.settings.ports)}")


def _node_serves(api: AgentApi) -> bool:
    """Return whether Nomad's client can run containers. Raises: DevClusterError: it says that it never will."""
    node = api.node() if api.client_has_registered() else None
    if node is None or node.status != "ready" or node.docker is None:
        return False
    if node.docker:
        raise DevClusterError(
            f"Nomad's Docker driver does not work: {node.docker}. {_DOCKER}", hint="`docker info` must answer."
        )
    api.serve(node)
    return True


def _fabio_serves(api: AgentApi, ports: Ports) -> bool:
    return api.fabio_is_well() and all(map(answers, (ports.fabio_http, ports.fabio_tcp, ports.fabio_rpc3)))


def address_of(agent: str, ports: Ports) -> str:
    """Return where an agent is asked, as people write it."""
    return {
        "consul": f"http://127.0.0.1:{ports.consul_http}",
        "nomad": f"http://127.0.0.1:{ports.nomad_http}",
        "nomad-client": f"http://127.0.0.1:{ports.nomad_client}",
        "fabio": f"http://127.0.0.1:{ports.fabio_http}, TCP {ports.fabio_tcp}",
    }[agent]


def _now(place: DevPlace, state: State) -> State:
    return running_at(place) or state


def _log_of(place: DevPlace, part: str) -> str:
    words = last_words(read_tail(place.log(part)))
    return f" {part}.log ends:\n{words}" if words else ""
