"""`clipper-nomad dev` as somebody at a shell has it: real agents, a model on them, faults, and nothing left."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from clipper_nomad.cluster.endpoints import Endpoint
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.dev_cluster.leftovers import containers_of, end_leftovers, mounts_below, processes_of
from clipper_nomad.dev_cluster.place import DevPlace, find_dev_place
from clipper_nomad.dev_cluster.running import running_at
from clipper_nomad.dev_cluster.state import State
from clipper_nomad.images.image_set import ImageSet
from tests.cluster.parts import BASE, redis_image
from tests.cluster.processes import shell_environment
from tests.cluster.rig import docker_answers, what_is_missing
from tests.cluster.shell import COMMAND, Said, interrupted
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

WITHIN_S = 300.0
MODEL = "def total(inputs):\n    return [float(one.sum()) for one in inputs]\n"
SLEEPER = """
job "sleeper" {
  group "g" {
    task "t" {
      driver = "docker"
      config {
        image   = "IMAGE"
        command = "sh"
        args    = ["-c", "trap 'exit 0' TERM; sleep 3600 & wait"]
      }
      resources {
        cpu    = 50
        memory = 32
      }
    }
  }
}
"""


@dataclass(frozen=True, slots=True)
class Developer:
    """Somebody with a home of their own, at a shell whose environment names no cluster."""

    home: Path

    @property
    def place(self) -> DevPlace:
        return find_dev_place({"CLIPPER_HOME": str(self.home)})

    @property
    def state(self) -> State:
        found = running_at(self.place)
        assert found is not None
        return found

    def kill_supervisor(self) -> None:
        state = self.state
        os.kill(state.pid, signal.SIGKILL)
        wait_until(lambda: not state.is_alive, "the supervisor to end", within_s=10)

    @property
    def nomad(self) -> NomadApi:
        return NomadApi(Endpoint(url=f"http://127.0.0.1:{self.state.settings.ports.nomad_http}"))

    def tries(self, *words: str) -> Said:
        """Run a command to its end, however it ends."""
        done = subprocess.run([*COMMAND, *words], capture_output=True, check=False, timeout=WITHIN_S, **self._how())
        return Said(done.returncode, done.stdout, done.stderr)

    def types(self, *words: str, expect: int = 0) -> Said:
        said = self.tries(*words)
        assert said.exit_code == expect, f"{words} ended with {said.exit_code}\n{said.stdout}\n{said.stderr}"
        return said

    def starts(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **self._how())

    def _how(self) -> dict[str, Any]:  # Any: arguments of subprocess
        found = shell_environment()
        path = os.pathsep.join(each for each in sys.path if each)
        environ = {**found, "CLIPPER_HOME": str(self.home), "COLUMNS": "120", "PYTHONPATH": path}
        return {"cwd": self.home, "env": environ, "stdin": subprocess.DEVNULL, "text": True}

    def left(self) -> list[str]:
        """What is left of the cluster on this machine."""
        found = [*containers_of(self.place), *map(str, processes_of(self.place)), *map(str, mounts_below(self.home))]
        return found if running_at(self.place) is None else ["supervisor", *found]


@pytest.fixture
def developer() -> Iterator[Developer]:
    if why := what_is_missing() or ("" if docker_answers() else "`docker info` got no answer"):
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="clipper-dev-") as home:
        somebody = Developer(Path(home))
        try:
            yield somebody
        finally:
            somebody.types("dev", "down", "--volumes")
            end_leftovers(somebody.place)


def agent_pid(developer: Developer, name: str) -> int:
    pid = developer.state.agent(name).pid
    assert pid is not None
    return pid


def kill_agent(developer: Developer, name: str) -> None:
    """End it with kill -9, and wait until the supervisor has started it again."""
    before = agent_pid(developer, name)
    os.kill(before, signal.SIGKILL)
    wait_until(
        lambda: developer.state.agent(name).restarts == 1 and developer.state.agent(name).pid not in {None, before},
        f"{name} to be started again",
        within_s=30,
    )


def run_sleeper(developer: Developer, daemon: docker.DockerClient) -> str:
    """Run a container by Nomad and return its name."""
    nomad = developer.nomad
    nomad.register(nomad.parse(SLEEPER.replace("IMAGE", BASE)), modify_index=0)
    wait_until(
        lambda: [each["ClientStatus"] for each in nomad.allocations("sleeper")] == ["running"], "a container", within_s=60
    )
    (name,) = containers_of(developer.place)
    assert daemon.containers.get(name).status == "running"
    return name


@pytest.mark.slow
def test_a_model_is_served_through_faults_and_over_a_stop(
    developer: Developer, docker_host: docker.DockerClient, images: ImageSet
) -> None:
    (developer.home / "model.py").write_text(MODEL)

    up = developer.types("dev", "up", "--json").document

    assert up["was_up"] is False
    assert [each["name"] for each in up["agents"]] == ["consul", "nomad", "nomad-client", "fabio"]
    developer.types("up", "--redis-image", redis_image(docker_host), *registry_of(images))
    deployed = developer.types("deploy", "model.py:total", "--name", "sums", "--sample", "[0.5, 1.0]")
    assert f"http://127.0.0.1:{up['ports']['fabio_http']}/clipper/sums/predict" in deployed.stdout
    assert developer.types("predict", "sums", "[1.0, 2.5]").stdout == "3.5\n"

    for agent in ("consul", "nomad", "nomad-client", "fabio"):
        kill_agent(developer, agent)
        assert developer.types("predict", "sums", "[1.0, 2.5]").stdout == "3.5\n"
    developer.types("dev", "up")  # returns when all are ready again
    agents = developer.types("dev", "status", "--json").document["agents"]
    assert [(each["state"], each["restarts"]) for each in agents] == [("running", 1)] * 4

    down = developer.types("dev", "down", "--json").document

    assert down["allocations"] == 4
    assert developer.left() == []
    assert not down["leftovers"]
    developer.types("dev", "status", expect=1)

    developer.types("dev", "up")

    wait_until(
        lambda: developer.tries("predict", "sums", "[1.0, 2.5]").stdout == "3.5\n",
        "the model that was deployed before the stop to answer",
        within_s=120,
    )
    developer.types("dev", "down", "--volumes")
    assert developer.left() == []
    assert not developer.place.data.exists()


def registry_of(images: ImageSet) -> list[str]:
    return ["--registry", images.registry] if images.registry else []


@pytest.mark.slow
def test_it_takes_other_ports_beside_what_is_there_and_says_that_it_runs(developer: Developer) -> None:
    with socket.socket() as theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # somebody else's Nomad holds it: as well
            theirs.bind(("127.0.0.1", 4646))
        theirs.listen()

        said = developer.types("dev", "up")
        again = developer.types("dev", "up")

        nomad_http = developer.state.settings.ports.nomad_http
        assert nomad_http != 4646
        assert f"Nomad's http {nomad_http}, not 4646" in said.stdout
        assert again.stdout.startswith("✔ the development cluster runs already")
        assert f"export NOMAD_ADDR=http://127.0.0.1:{nomad_http}" in developer.types("dev", "env").stdout
        developer.types("dev", "down")

    developer.types("dev", "up")
    assert developer.state.settings.ports.nomad_http == nomad_http  # kept, though 4646 may be free now
    developer.types("dev", "down")
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", nomad_http))
        holder.listen()
        refused = developer.types("dev", "up", expect=1)
    assert f"{nomad_http} (Nomad's http) by process {os.getpid()}" in refused.stderr
    assert developer.left() == []


def test_containers_end_with_it_also_where_the_supervisor_was_killed(
    developer: Developer, docker_host: docker.DockerClient
) -> None:
    developer.types("dev", "up")
    name = run_sleeper(developer, docker_host)
    developer.kill_supervisor()
    developer.types("dev", "status", expect=1)

    said = developer.types("dev", "down")

    assert f"container {name}, ended too" in said.stdout
    assert developer.left() == []


@pytest.mark.slow
def test_after_a_killed_supervisor_the_next_up_finds_what_runs(
    developer: Developer, docker_host: docker.DockerClient
) -> None:
    developer.types("dev", "up")
    name = run_sleeper(developer, docker_host)
    developer.kill_supervisor()

    developer.types("dev", "up")

    assert containers_of(developer.place) == [name]
    assert docker_host.containers.get(name).status == "running"
    developer.types("dev", "down")
    assert developer.left() == []


def test_an_interrupted_start_leaves_nothing(developer: Developer) -> None:
    process = developer.starts("dev", "up")
    wait_until(lambda: running_at(developer.place) is not None, "the supervisor to run", within_s=60)

    said = interrupted(process)

    assert said.exit_code == 130
    assert "What had been started was ended again." in said.stderr
    assert developer.left() == []


def test_without_docker_nothing_is_started(developer: Developer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")

    said = developer.types("dev", "up", expect=1)

    assert "Docker does not answer" in said.stderr
    assert "clipper-nomad up --local" in said.stderr
    assert not developer.place.data.exists()
