"""Frontends share replicas whose batches take 50 ms, at 70 % load, as real processes: whoever dies, stands still or leaves
while frontends wait to be called, every query is answered right, and executed once.

How long they wait is measured elsewhere: tests/unit/test_fairness.py, benchmarks/fairness.py.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.checked_answers import Tally, Verdict
from benchmarks.checked_load import Address
from tests.models.written_sums import BATCH_S
from tests.process.bundles import pack_model
from tests.process.frontends import Frontend, a_version, an_app, uid_of
from tests.process.meshes import killed
from tests.process.replicas import Replica
from tests.process.steady_load import SteadyLoad
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

BATCH_SIZE = 8
LOAD = 0.7
SECONDS = 4.0
STOPPED_S = 1.0  # less than what ends a link
ELSEWHERE = 10_000_000  # numbers of queries that may be lost with their frontend


class Rig:
    """The frontends and replicas, all linked."""

    def __init__(self, folder: Path, stack: ExitStack, *, frontends: int, replicas: int) -> None:
        self.rate_per_s = LOAD * replicas * BATCH_SIZE / BATCH_S
        self.executed = folder / "executed"
        records = an_app(slo_s=20.0), a_version(batch_size=BATCH_SIZE)
        self.frontends: list[Frontend] = []
        for number in range(frontends):
            peers = {"PEER_ADDRESSES": self.frontends[0].rpc} if self.frontends else {}
            self.frontends.append(stack.enter_context(Frontend(*records, FRONTEND_ID=f"f{number}", **peers)))
        pack_model(folder / "bundle", "written_sums")
        names = {"MODEL_NAME": "m", "MODEL_VERSION": "1", "MODEL_UID": uid_of("m", "1"), "EXECUTED_PATH": self.executed}
        self.replicas = [
            stack.enter_context(
                Replica(folder, folder / "bundle", frontends=[self.frontends[0].rpc], **names, REPLICA_ID=f"r{number}")
            )
            for number in range(replicas)
        ]
        wait_until(self._is_whole, "every replica is linked to every frontend", within_s=20.0)

    def _is_whole(self) -> bool:
        return all(len(frontend.report()["replicas"]) == len(self.replicas) for frontend in self.frontends)

    def load(self, frontends: Sequence[Frontend], *, first_number: int = 0, timeout_s: float = 30.0) -> SteadyLoad:
        """Return a load on some of the frontends."""
        addresses = [Address(*frontend.http) for frontend in frontends]
        return SteadyLoad(addresses, app="a", connections=256, first_number=first_number, timeout_s=timeout_s)

    def executions(self) -> Counter[int]:
        """Return how often each query was executed that could not be lost with its frontend."""
        numbers = map(int, self.executed.read_text().split())
        return Counter(number for number in numbers if number < ELSEWHERE)

    def batch_sizes(self) -> list[int]:
        """Return the sizes of all batches."""
        return [len(line.split()) for line in self.executed.read_text().splitlines()]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(tmp_path, stack, frontends=3, replicas=2)


@pytest.fixture
def large_rig(tmp_path: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(tmp_path, stack, frontends=4, replicas=4)


def wait_for(load: SteadyLoad, answers: float) -> None:
    wait_until(lambda: load.answered > answers, f"{answers} answers", within_s=20.0)


def assert_all_right(running: Future[Tally]) -> Tally:
    tally = running.result(60)
    assert tally.verdicts[Verdict.RIGHT] == tally.queries, tally.describe()
    return tally


def test_batches_are_bound_late_and_every_query_is_executed_once(large_rig: Rig) -> None:
    load = large_rig.load(large_rig.frontends)
    with load.running(rate_per_s=large_rig.rate_per_s, seconds=SECONDS) as running:
        tally = assert_all_right(running)

    assert set(large_rig.executions().values()) == {1}
    assert len(large_rig.executions()) == tally.queries
    sizes = large_rig.batch_sizes()
    assert sum(sizes) / len(sizes) > 2  # they grew, although 16 pairs of a frontend and a replica could each have one
    assert sum(frontend.metric("clipper_protocol_errors_total") for frontend in large_rig.frontends) == 0
    assert sum(frontend.metric("clipper_stray_results_total") for frontend in large_rig.frontends) == 0


def test_a_frontend_that_is_killed_while_it_waits_to_be_called_holds_up_nobody(rig: Rig) -> None:
    *others, doomed = rig.frontends
    load, lost = rig.load(others), rig.load([doomed], first_number=ELSEWHERE, timeout_s=2.0)
    with (
        load.running(rate_per_s=2 / 3 * rig.rate_per_s, seconds=SECONDS) as running,
        lost.running(rate_per_s=1 / 3 * rig.rate_per_s, seconds=SECONDS),
    ):
        wait_for(load, rig.rate_per_s / 2)
        killed(doomed)
        tally = assert_all_right(running)

    assert set(rig.executions().values()) == {1}
    assert len(rig.executions()) == tally.queries


def test_a_frontend_that_stands_still_while_it_waits_to_be_called_holds_up_nobody(rig: Rig) -> None:
    *others, stopped = rig.frontends
    load, late = rig.load(others), rig.load([stopped], first_number=1_000_000)
    with (
        load.running(rate_per_s=2 / 3 * rig.rate_per_s, seconds=SECONDS) as running,
        late.running(rate_per_s=1 / 3 * rig.rate_per_s, seconds=SECONDS) as running_late,
    ):
        wait_for(load, rig.rate_per_s / 2)
        assert stopped.process is not None
        stopped.process.send_signal(signal.SIGSTOP)
        answered = load.answered
        time.sleep(STOPPED_S)  # it stands still for so long, whatever happens
        went_on = load.answered - answered
        stopped.process.send_signal(signal.SIGCONT)
        tally, tally_late = assert_all_right(running), assert_all_right(running_late)

    assert went_on > 0.2 * rig.rate_per_s * STOPPED_S
    assert set(rig.executions().values()) == {1}
    assert len(rig.executions()) == tally.queries + tally_late.queries


def test_a_replica_that_dies_with_frontends_in_line_costs_only_what_it_worked_on(rig: Rig) -> None:
    load = rig.load(rig.frontends)
    with load.running(rate_per_s=rig.rate_per_s / 2, seconds=SECONDS) as running:
        wait_for(load, rig.rate_per_s / 2)
        rig.replicas[0].process.kill()
        tally = assert_all_right(running)

    counts = Counter(rig.executions().values())
    assert set(counts) <= {1, 2}
    assert counts[2] <= 2 * BATCH_SIZE  # at its death it worked on one batch, and one answer may not have been read
    assert counts.total() == tally.queries


def test_a_replica_that_drains_with_frontends_in_line_loses_nothing(rig: Rig) -> None:
    load = rig.load(rig.frontends)
    with load.running(rate_per_s=rig.rate_per_s / 2, seconds=SECONDS) as running:
        wait_for(load, rig.rate_per_s / 2)
        rig.replicas[0].terminate()
        assert rig.replicas[0].exit_code() == 0
        tally = assert_all_right(running)

    assert set(rig.executions().values()) == {1}
    assert len(rig.executions()) == tally.queries
