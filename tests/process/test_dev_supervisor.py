"""The supervisor of the development cluster with stand-ins for its agents: it starts, restarts, gives up, ends all."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from clipper_nomad.dev_cluster.agents import AGENTS
from clipper_nomad.dev_cluster.place import DevPlace, find_dev_place, make_dev_place
from clipper_nomad.dev_cluster.ports import Ports
from clipper_nomad.dev_cluster.releases import PRODUCTS
from clipper_nomad.dev_cluster.running import end_supervisor, revive, running_at
from clipper_nomad.dev_cluster.state import Program, Settings, State
from clipper_nomad.local_stack.exits import started_at
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.skipif(sys.platform != "linux", reason="the development cluster is Linux's")]
HERE = Path(__file__).parent


@dataclass
class Supervised:
    """A cluster of stand-ins, and how to say what they do when they start next."""

    place: DevPlace
    port: int

    @property
    def state(self) -> State:
        found = running_at(self.place)
        assert found is not None
        return found

    @property
    def settings(self) -> Settings:
        programs = tuple(Program(name=name, path=str(self.place.data / "bin" / name), version="1.0.0") for name in PRODUCTS)
        return Settings(data=str(self.place.data), programs=programs, ports=Ports(nomad_http=self.port))

    def lets(self, name: str, do: str) -> None:
        (self.place.data / f"{name}.does").write_text(do)

    def log(self, name: str) -> str:
        return self.place.log(name).read_text()

    def starts(self) -> None:
        (self.place.data / "bin").mkdir(exist_ok=True)
        for name in PRODUCTS:
            script = self.place.data / "bin" / name
            script.write_text(f'#!/bin/sh\nexec {sys.executable} -S {HERE / "dev_agent.py"} {name} {self.port} "$@"\n')
            script.chmod(0o755)
        assert self.spawns() == 0
        wait_until(lambda: running_at(self.place), "the supervisor to say how it is")

    def spawns(self) -> int:
        argv = [sys.executable, "-m", "clipper_nomad.dev_cluster.supervisor", self.settings.to_json()]
        # its standard error is closed when it has the lock, or has ended
        done = subprocess.run(argv, check=False, timeout=30, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return done.returncode

    def all_run(self) -> bool:
        found = running_at(self.place)
        return found is not None and all(each.state == "running" and each.pid for each in found.agents)

    def pids(self) -> list[int]:
        return [self.state.pid, *(each.pid for each in self.state.agents if each.pid)]


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for its exit code does not."""
    try:
        started_at(pid)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    place = find_dev_place({"CLIPPER_HOME": str(tmp_path)})
    make_dev_place(place)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        made = Supervised(place, probe.getsockname()[1])
    yield made
    if found := running_at(place):
        end_supervisor(found, within_s=30)


def test_it_starts_all_of_them_and_says_how_they_are(supervised: Supervised) -> None:
    began = time.time()

    supervised.starts()

    wait_until(supervised.all_run, "all agents to run")
    assert [each.name for each in supervised.state.agents] == list(AGENTS)
    assert all(began - 1 < each.since < time.time() + 1 for each in supervised.state.agents)
    assert all(psutil.Process(each.pid).cwd() == str(supervised.place.data) for each in supervised.state.agents)


def test_the_client_of_nomad_waits_until_its_server_has_keys(supervised: Supervised) -> None:
    supervised.lets("nomad", "keyless")
    supervised.starts()
    wait_until(lambda: supervised.state.agent("nomad").state == "running", "the server to run")
    assert supervised.state.agent("nomad-client").pid is None

    supervised.lets("nomad", "")

    wait_until(supervised.all_run, "the client to run")


def test_an_agent_that_is_killed_is_started_again(supervised: Supervised) -> None:
    supervised.starts()
    wait_until(supervised.all_run, "all agents to run")
    before = supervised.state.agent("nomad").pid
    assert before is not None

    os.kill(before, signal.SIGKILL)

    wait_until(lambda: supervised.state.agent("nomad").pid not in {None, before}, "another nomad")
    assert supervised.state.agent("nomad").restarts == 1
    assert supervised.state.agent("consul").restarts == 0


def test_one_that_ends_again_and_again_is_given_up_until_it_is_asked_for(supervised: Supervised) -> None:
    supervised.lets("fabio", "exit 3")
    supervised.starts()

    wait_until(lambda: supervised.state.agent("fabio").state == "failed", "fabio to be given up", within_s=30)
    assert supervised.state.agent("fabio").restarts == 5
    assert supervised.state.agent("fabio").last_error == "fabio says ['exit', '3']"
    assert supervised.state.agent("consul").state == "running"

    supervised.lets("fabio", "")
    revive(supervised.state)

    wait_until(supervised.all_run, "fabio to run", within_s=30)


def test_it_ends_all_of_them_and_its_state(supervised: Supervised) -> None:
    supervised.starts()
    wait_until(supervised.all_run, "all agents to run")
    pids = supervised.pids()

    assert end_supervisor(supervised.state, within_s=30)

    assert not any(map(runs, pids))
    assert not supervised.place.state.exists()


def test_a_second_signal_does_not_wait_for_an_agent_that_hears_none(supervised: Supervised) -> None:
    supervised.lets("fabio", "deaf")
    supervised.starts()
    wait_until(supervised.all_run, "all agents to run")
    wait_until(lambda: "deaf" in supervised.log("fabio"), "fabio to hear nothing")
    state, pids = supervised.state, supervised.pids()
    os.kill(state.pid, signal.SIGTERM)
    wait_until(lambda: supervised.state.agent("fabio").state == "stopping", "the end to begin")

    os.kill(state.pid, signal.SIGTERM)

    wait_until(lambda: not any(map(runs, pids)), "all to end", within_s=10)


def test_a_killed_supervisor_takes_its_agents_along(supervised: Supervised) -> None:
    supervised.starts()
    wait_until(supervised.all_run, "all agents to run")
    pids = supervised.pids()

    os.kill(supervised.state.pid, signal.SIGKILL)

    wait_until(lambda: not any(map(runs, pids)), "all to end")
    assert running_at(supervised.place) is None
    supervised.starts()  # what it left is no hindrance
    wait_until(supervised.all_run, "all agents to run")


def test_a_second_supervisor_leaves_the_first_alone(supervised: Supervised) -> None:
    supervised.starts()
    wait_until(supervised.all_run, "all agents to run")
    before = supervised.pids()

    assert supervised.spawns() == 0

    assert supervised.pids() == before


def test_a_program_that_cannot_be_started_is_named(supervised: Supervised) -> None:
    supervised.starts()
    end_supervisor(supervised.state, within_s=30)
    (supervised.place.data / "bin/nomad").unlink()
    assert supervised.spawns() == 0
    wait_until(lambda: running_at(supervised.place), "the supervisor")

    wait_until(lambda: supervised.state.agent("nomad").last_error is not None, "nomad to fail")

    assert "cannot be started" in (supervised.state.agent("nomad").last_error or "")
