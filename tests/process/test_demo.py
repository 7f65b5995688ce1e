"""`clipper-nomad demo`, with the real frontend, admin and runtime."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from clipper_nomad.cli.diabetes import train
from clipper_nomad.local_stack.parts import Programs
from tests.process.commands import Said, User, interrupted
from tests.process.local_stack_rig import home_of_its_own
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


@pytest.fixture
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A user without a cluster; at the end nothing may be left of one."""
    with home_of_its_own(programs=Programs()) as home:
        yield User(home, tmp_path_factory.mktemp("user"))


def test_the_demo_tells_the_whole_way_with_scikit_learns_own_answers_and_leaves_nothing(newcomer: User) -> None:
    kept = newcomer.types("demo", "--keep")
    curl = re.search(r"curl .*\\\n.*'", kept.stdout)
    assert curl is not None

    answer = subprocess.run(["/bin/sh", "-c", f"{curl.group()} --silent"], capture_output=True, check=True, timeout=20)
    again = newcomer.types("demo")

    own_answer = train().example_answer
    assert json.loads(answer.stdout)["output"] == own_answer
    assert kept.lines[-1].strip() == "clipper-nomad down --volumes --cluster demo"
    assert_tells_the_whole_way(again, own_answer)
    newcomer.home.assert_nothing_left()


def assert_tells_the_whole_way(said: Said, own_answer: float) -> None:
    steps = [line.split()[1] for line in said.lines if line.startswith("✔")]
    assert steps == ["trained", "started", "registered", "deployed", "linked", "asked", "asked", "stopped"]
    told = " ".join(said.stdout.split())
    assert '"default_explanation": "No connected models found for query"' in told
    assert f'"output": {own_answer!r}, "default": false' in told
    assert "all 89 test rows: each answer is exactly scikit-learn's own" in told
    assert re.search(r"throughput  [\d,]+ answers a second over 32 connections", said.stdout)
    assert max(map(len, said.lines)) <= 80


def test_a_demo_that_is_interrupted_leaves_nothing(newcomer: User) -> None:
    process = newcomer.starts("demo")
    wait_until(lambda: list(newcomer.home.path.glob("run/*/control")), "the cluster comes up")

    said = interrupted(process, lambda: process.send_signal(signal.SIGINT))

    # CPython 3.12 ends by the signal itself if that came while a C extension ran code, as scikit-learn's imports do,
    # also where the exception was handled; a shell shows 130 for both
    assert said.exit_code in {130, -signal.SIGINT}
    assert "Traceback" not in said.stderr
    newcomer.home.assert_nothing_left()
