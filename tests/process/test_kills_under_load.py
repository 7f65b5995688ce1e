"""kill -9 and SIGSTOP of each part of a local stack while it answers and is written to: design.md's promises hold.

Every answer is checked, and every write that was acknowledged is looked for afterwards. One stack lives through all faults
but the supervisor's end, as a user's does; after its stop nothing may be left.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import psutil
import pytest

from benchmarks.checked_answers import Tally, Verdict
from benchmarks.checked_load import Address
from clipper_nomad import ClipperConnection
from clipper_nomad.admin.client import PATIENCE_S, AdminClient
from clipper_nomad.errors import ClipperException
from clipper_nomad.local_stack.manager import LocalContainerManager
from clipper_nomad.local_stack.parts import Programs
from tests.process.local_stack_rig import GONE_WITHIN_S, Home, home_of_its_own, pid_of_part, wait_restarted
from tests.process.steady_load import SteadyLoad
from tests.waiting import wait_until

pytestmark = pytest.mark.process

CONNECTIONS = 8
RATE_PER_S = 150.0
BACK_WITHIN_S = 4.0  # of a kill, with nobody to take over
GOES_ON_S = 0.7  # the longest pause of what a fault is not to touch: the pauses of a loaded machine are shorter
WRITE_EVERY_S = 0.05
FELT_S = 0.1  # a process needs longer to start
LINK_LOST_S = 2.5  # a link without a sign of life is given up after 2 s
STALL_S = 1.0  # of what is no end of a model link: longer than GOES_ON_S, so that it would be felt
REPLICA, FRONTEND = "model-sums-1-0", "frontend-0"
PARTS = (REPLICA, FRONTEND, "admin", "store")

_first_numbers = itertools.count(0, 1_000_000)  # no two loads on one stack ask the same


def add_up(inputs: np.ndarray) -> list[float]:
    return [float(row.sum()) for row in inputs]


class Writer:
    """Registers one app after the other, from a thread of its own, until it is told to end."""

    def __init__(self, admin: AdminClient, *, prefix: str) -> None:
        self.acknowledged: list[str] = []
        self.failures: list[ClipperException] = []
        self._admin = admin
        self._prefix = prefix
        self._is_over = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._write)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()

    def wait_for_another(self) -> None:
        """Return when a write that begins now, or later, is acknowledged."""
        before = len(self.acknowledged)
        wait_until(lambda: len(self.acknowledged) > before + 1, "writes go on", within_s=BACK_WITHIN_S)

    def _write(self) -> None:
        for number in itertools.count():
            name = f"{self._prefix}-{number}"
            try:
                self._admin.add_app(name, input_type="doubles", default_output="-1", slo_micros=1_000_000)
                self.acknowledged.append(name)
            except ClipperException as exc:
                self.failures.append(exc)
            if self._is_over.wait(WRITE_EVERY_S):
                return


@dataclass(frozen=True, slots=True)
class Stack:
    """A local stack whose app and model are `sums`."""

    home: Home
    manager: LocalContainerManager
    connection: ClipperConnection

    def load(self, *, timeout_s: float = 20.0) -> SteadyLoad:
        host, _, port = self.connection.get_query_addr().partition(":")
        return SteadyLoad(
            [Address(host, int(port))],
            app="sums",
            connections=CONNECTIONS,
            timeout_s=timeout_s,
            first_number=next(_first_numbers),
        )

    def writer(self, *, patience_s: float = PATIENCE_S) -> Writer:
        admin = AdminClient(self.manager.get_admin_addr, self.manager.get_admin_token, patience_s=patience_s)
        return Writer(admin, prefix=f"app-{next(_first_numbers)}")

    def pid_of(self, name: str) -> int:
        return self.manager.status().pid if name == "supervisor" else pid_of_part(self.manager, name)

    def wait_whole(self) -> None:
        wait_until(lambda: {part.state for part in self.manager.status().parts} == {"running", "ready"}, "every part runs")


def started(home: Home, *, keep: bool = False, frontends: int = 1) -> Stack:
    manager = home.manager(keep=keep, frontends=frontends)
    connection = ClipperConnection(manager)
    connection.start_clipper()
    return Stack(home, manager, connection)


def served(home: Home, *, keep: bool = False, of_each: int = 1) -> Stack:
    stack = started(home, keep=keep, frontends=of_each)
    stack.connection.deploy(add_up, "sums", sample=[1.0, 0.5], slo_micros=500_000, num_replicas=of_each)
    return stack


@pytest.fixture
def home() -> Iterator[Home]:
    with home_of_its_own(programs=Programs()) as one:
        yield one


@contextlib.contextmanager
def lasting_stack(*, of_each: int) -> Iterator[Stack]:
    """A stack that faults befall one after the other, with so many frontends and replicas."""
    with home_of_its_own(programs=Programs()) as home:
        stack = served(home, of_each=of_each)
        yield stack
        stack.connection.stop_all()
        home.assert_nothing_left()


@pytest.fixture(scope="module")
def lasting() -> Iterator[Stack]:
    with lasting_stack(of_each=1) as stack:
        yield stack


@pytest.fixture(scope="module")
def lasting_doubled() -> Iterator[Stack]:
    with lasting_stack(of_each=2) as stack:
        yield stack


@pytest.fixture
def stack(lasting: Stack) -> Stack:
    """One frontend and one replica: there is nobody to take over, so each fault is felt as much as it can be."""
    lasting.wait_whole()
    return lasting


@pytest.fixture
def doubled(lasting_doubled: Stack) -> Stack:
    """Two frontends and two replicas."""
    lasting_doubled.wait_whole()
    return lasting_doubled


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process does nothing meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, f"process {pid} is stopped")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def wait_for_load(load: SteadyLoad) -> None:
    wait_until(lambda: load.answered > RATE_PER_S / 2, "half a second of load")


def assert_none_lost(stack: Stack, writer: Writer) -> None:
    assert writer.failures == []
    assert set(writer.acknowledged) <= set(stack.connection.get_all_apps())


def assert_all_right(tally: Tally, *, broken: int = 0) -> None:
    """Every query got its own answer, but for at most so many whose frontend died with their connection."""
    counted = tally.verdicts[Verdict.RIGHT] + min(broken, tally.verdicts[Verdict.BROKEN])
    assert counted == tally.queries, tally.describe()
    assert tally.wrong == 0, tally.describe()


# ---- kill -9 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_is_killed_under_load_costs_no_answer_and_no_write(stack: Stack, name: str) -> None:
    gap_s = kill_under_load(stack, name)

    if name in {REPLICA, FRONTEND}:
        assert FELT_S < gap_s < BACK_WITHIN_S
    else:
        assert gap_s < GOES_ON_S


@pytest.mark.slow
@pytest.mark.parametrize("name", [REPLICA, FRONTEND])
def test_one_of_two_that_is_killed_under_load_is_not_missed(doubled: Stack, name: str) -> None:
    assert kill_under_load(doubled, name) < GOES_ON_S


def kill_under_load(stack: Stack, name: str) -> float:
    """Return the longest time without a right answer."""
    load, writer = stack.load(), stack.writer()
    killed = stack.pid_of(name)

    with load.running(rate_per_s=RATE_PER_S, seconds=1.5) as running, writer.running():
        wait_for_load(load)
        os.kill(killed, signal.SIGKILL)
        killed_at = time.monotonic()
        writer.wait_for_another()
        tally = running.result()

    wait_restarted(stack.manager, name, after=killed)
    assert_all_right(tally, broken=CONNECTIONS if name == FRONTEND else 0)
    assert_none_lost(stack, writer)
    return load.longest_gap_s(since=killed_at)


def test_nothing_is_left_of_a_stack_whose_supervisor_is_killed_under_load(home: Home) -> None:
    stack = served(home)
    load, writer = stack.load(timeout_s=0.5), stack.writer(patience_s=0.5)

    with load.running(rate_per_s=RATE_PER_S, seconds=1.0) as running, writer.running():
        wait_for_load(load)
        os.kill(stack.pid_of("supervisor"), signal.SIGKILL)
        home.assert_nothing_left()
        tally = running.result()

    verdicts = set(tally.verdicts)  # BROKEN only if a query was under way at that moment
    assert {Verdict.RIGHT, Verdict.UNSENT} <= verdicts <= {Verdict.RIGHT, Verdict.BROKEN, Verdict.UNSENT}, tally.describe()
    assert tally.wrong == 0, tally.describe()


def test_a_kept_stack_whose_supervisor_is_killed_under_load_comes_back_with_every_write(home: Home) -> None:
    stack = served(home, keep=True)
    load, writer = stack.load(timeout_s=0.5), stack.writer(patience_s=0.5)
    with load.running(rate_per_s=RATE_PER_S, seconds=1.0) as running, writer.running():
        wait_for_load(load)
        os.kill(stack.pid_of("supervisor"), signal.SIGKILL)
        wait_until(lambda: not home.processes(), "no process is left", within_s=GONE_WITHIN_S)
        tally = running.result()

    back = started(home, keep=True)

    assert tally.wrong == 0, tally.describe()
    assert back.connection.predict("sums", [1.0, 2.0]).output == 3.0
    assert set(writer.acknowledged) <= set(back.connection.get_all_apps())


# ---- SIGSTOP, and SIGCONT after a while ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PARTS, "supervisor"])
def test_a_part_that_stands_still_under_load_costs_no_answer_and_no_write(stack: Stack, name: str) -> None:
    gap_s = stop_under_load(stack, name)

    if name in {REPLICA, FRONTEND}:
        assert LINK_LOST_S - FELT_S < gap_s < LINK_LOST_S + GOES_ON_S
    else:
        assert gap_s < GOES_ON_S


@pytest.mark.slow
@pytest.mark.parametrize("name", [REPLICA, FRONTEND])
def test_one_of_two_that_stands_still_under_load_costs_no_answer_and_no_write(doubled: Stack, name: str) -> None:
    assert stop_under_load(doubled, name) < LINK_LOST_S + GOES_ON_S  # perhaps all of its connections met the stopped one


def stop_under_load(stack: Stack, name: str) -> float:
    """Return the longest time without a right answer."""
    load, writer = stack.load(), stack.writer()
    pid = stack.pid_of(name)
    stall_s = LINK_LOST_S if name in {REPLICA, FRONTEND} else STALL_S

    with load.running(rate_per_s=RATE_PER_S, seconds=stall_s + 1.0) as running, writer.running():
        wait_for_load(load)
        with stopped(pid):
            stopped_at = time.monotonic()
            time.sleep(stall_s)  # the stall that this test is about
        writer.wait_for_another()
        tally = running.result()

    assert stack.pid_of(name) == pid
    assert_all_right(tally)
    assert_none_lost(stack, writer)
    return load.longest_gap_s(since=stopped_at)


def test_a_stack_is_stopped_at_once_although_its_parts_stand_still_under_load(home: Home) -> None:
    stack = served(home)
    load = stack.load(timeout_s=0.5)

    with load.running(rate_per_s=RATE_PER_S, seconds=1.0) as running:
        wait_for_load(load)
        for name in PARTS:
            os.kill(stack.pid_of(name), signal.SIGSTOP)
        stack.manager.stop_all(graceful=False)
        home.assert_nothing_left()
        tally = running.result()

    assert tally.wrong == 0, tally.describe()
