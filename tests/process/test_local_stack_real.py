"""Local mode with the real frontend, admin and runtime: start, end, data that are kept, and cost.

What happens when its parts are killed or stand still is in test_kills_under_load.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import pytest

from clipper_nomad.local_stack.parts import Programs
from tests.process.local_stack_rig import Home, home_of_its_own
from tests.process.local_stack_sums import deploy_sum, predict
from tests.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def home() -> Iterator[Home]:
    with home_of_its_own(programs=Programs()) as one:
        yield one


def test_two_replicas_behind_two_frontends_end_with_their_owner(home: Home) -> None:
    manager = home.manager(frontends=2)
    owner = home.owner(frontends=2)
    owner.up()
    manager.connect()
    deploy_sum(home, manager, replicas=2)
    assert {predict(manager, [float(number), 1.0]) for number in range(50)} == {number + 1.0 for number in range(50)}
    manager.detach()

    owner.kill()

    home.assert_nothing_left()


def test_a_kept_stack_comes_back_with_its_app_and_its_model(home: Home) -> None:
    manager = home.manager(keep=True)
    manager.start_clipper()
    deploy_sum(home, manager)
    manager.stop_all()

    manager.start_clipper()

    wait_until(lambda: predict(manager, [2.0, 3.0]) == 5.0, "the model answers", within_s=20)


def test_a_stack_with_one_replica_is_six_processes(home: Home) -> None:
    """How soon it is up, and what it costs when idle, is measured in benchmarks/."""
    manager = home.manager()
    manager.start_clipper()
    deploy_sum(home, manager)
    predict(manager, [1.0, 2.0])

    assert len(home.processes()) == 6


def test_programs_are_the_packages_own_by_default() -> None:
    assert asdict(Programs())["frontend"][-1] == "clipper_nomad_frontend"
