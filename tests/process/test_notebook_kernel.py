"""A local stack that a real Jupyter kernel owns: interrupted cells leave it alone, and it ends with its kernel."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.checked_answers import Verdict
from benchmarks.checked_load import Address
from clipper_nomad.local_stack.manager import LocalContainerManager
from clipper_nomad.local_stack.parts import Programs
from tests.process.local_stack_rig import Home, home_of_its_own
from tests.process.notebooks import Notebook, open_notebook
from tests.process.steady_load import SteadyLoad
from tests.waiting import wait_until

pytestmark = pytest.mark.process

RATE_PER_S = 100.0

CONNECT = """
import itertools, time
import clipper_nomad
from clipper_nomad.deployers.python import deploy_python_closure

conn = clipper_nomad.local(home={home!r}, port=0)
"""
DEPLOY = """
def sums_with(offset):
    def add_up(inputs):
        return [float(row.sum()) + offset for row in inputs]
    return add_up

conn.register_application("sums", "doubles", "-1", 500_000)
deploy_python_closure(conn, "sums", 1, "doubles", sums_with(0.0), sample=[1.0, 0.5])
conn.link_model_to_app("sums", "sums")
"""
PREDICT = 'print(conn.predict("sums", [1.0, 0.5]).output)'
PREDICT_ON_AND_ON = """
for number in itertools.count():
    assert conn.predict("sums", [number, 0.25]).output == number + 0.25
    if number == 20:
        print("begun", flush=True)
"""
WAIT = """
print("begun", flush=True)
time.sleep(60)
"""
DEPLOY_SLOWLY = """
def slow_to_load():
    class Slow:
        def __setstate__(self, state):
            time.sleep(1)
        def __getstate__(self):
            return {"kept": 1}
        def __call__(self, inputs):
            return [7.0] * len(inputs)
    return Slow()

print("begun", flush=True)
conn.deploy(slow_to_load(), "other", sample=[1.0])
"""
FORK_A_POOL = """
import multiprocessing
pool = multiprocessing.get_context("fork").Pool(2)
print(pool.map(abs, [-1, -2]))
"""


@pytest.fixture
def home() -> Iterator[Home]:
    with home_of_its_own(programs=Programs()) as one:
        yield one


@pytest.fixture
def notebook(home: Home, tmp_path: Path) -> Iterator[Notebook]:  # closed before its home: the stack ends with it
    with open_notebook(tmp_path) as one:
        yield one


def serve(notebook: Notebook, home: Home) -> None:
    """Run the cells of a user who deploys a model and asks it."""
    notebook.run(CONNECT.format(home=str(home.path)))
    notebook.run(DEPLOY)
    assert notebook.run(PREDICT) == "1.5"


def load_on(notebook: Notebook) -> SteadyLoad:
    host, _, port = notebook.run("print(conn.get_query_addr())").partition(":")
    return SteadyLoad([Address(host, int(port))], app="sums", connections=4, timeout_s=1.0)


def wait_for_load(load: SteadyLoad) -> None:
    wait_until(lambda: load.answered > RATE_PER_S / 4, "a quarter of a second of load")


# ---- interrupted -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [WAIT, PREDICT_ON_AND_ON], ids=["that waits", "that predicts"])
def test_an_interrupted_cell_leaves_stack_and_connection_as_they_were(home: Home, notebook: Notebook, cell: str) -> None:
    serve(notebook, home)
    load = load_on(notebook)
    before = home.processes().keys()

    with load.running(rate_per_s=RATE_PER_S, seconds=1.0) as running:
        for _ in range(3):
            running_cell = notebook.begin(cell)
            notebook.wait_for_print(running_cell)
            notebook.interrupt()
            assert notebook.end_of(running_cell).error == "KeyboardInterrupt"
            assert notebook.run(PREDICT) == "1.5"
        tally = running.result()

    assert tally.verdicts[Verdict.RIGHT] == tally.queries, tally.describe()
    assert home.processes().keys() == before


def has_replica(manager: LocalContainerManager) -> bool:
    """Whether the slow deployment has come as far as to start its replica."""
    return any(part.name == "model-other-1-0" for part in manager.status().parts)


def test_an_interrupted_deployment_is_undone_and_can_be_run_again(home: Home, notebook: Notebook) -> None:
    serve(notebook, home)
    manager = home.manager()
    deployment = notebook.begin(DEPLOY_SLOWLY)
    wait_until(lambda: has_replica(manager), "a replica is started")

    notebook.interrupt()

    assert notebook.end_of(deployment).error == "KeyboardInterrupt"
    assert notebook.run("print(conn.get_all_apps(), conn.get_all_models())") == "['sums'] ['sums:1']"
    wait_until(lambda: not has_replica(manager), "it is gone")
    notebook.run(DEPLOY_SLOWLY)
    assert notebook.run('print(conn.predict("other", [1.0]).output)') == "7.0"


# ---- restarted -------------------------------------------------------------------------------------------------------


def test_nothing_is_left_of_the_stack_of_a_kernel_that_is_restarted(home: Home, notebook: Notebook) -> None:
    serve(notebook, home)

    notebook.restart(at_once=False)

    home.assert_nothing_left()
    assert list(notebook.temporary.iterdir()) == []


def test_restart_and_run_all_gets_a_stack_of_its_own_under_load_too(home: Home, notebook: Notebook) -> None:
    serve(notebook, home)
    load = load_on(notebook)
    before = home.processes().keys()

    with load.running(rate_per_s=RATE_PER_S, seconds=1.0) as running:
        wait_for_load(load)
        notebook.restart(at_once=True)
        serve(notebook, home)
        tally = running.result()

    assert tally.wrong == 0, tally.describe()
    assert not before & home.processes().keys()


# ---- killed ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def children_ended(pid: int) -> Iterator[None]:
    """End what the process has forked until now: nobody else would."""
    children = psutil.Process(pid).children()
    try:
        yield
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)


def test_nothing_is_left_of_a_stack_whose_kernel_is_killed_under_load_with_its_workers(
    home: Home, notebook: Notebook
) -> None:
    serve(notebook, home)
    assert notebook.run(FORK_A_POOL) == "[1, 2]"
    load = load_on(notebook)

    with children_ended(notebook.pid), load.running(rate_per_s=RATE_PER_S, seconds=1.0) as running:
        wait_for_load(load)
        notebook.kill()
        home.assert_nothing_left()
        tally = running.result()

    assert set(tally.verdicts) <= {Verdict.RIGHT, Verdict.BROKEN, Verdict.TURNED_AWAY, Verdict.UNSENT}, tally.describe()
    assert tally.wrong == 0, tally.describe()


def test_nothing_is_left_of_a_deployment_whose_kernel_is_killed(home: Home, notebook: Notebook) -> None:
    serve(notebook, home)
    notebook.begin(DEPLOY_SLOWLY)
    wait_until(lambda: has_replica(home.manager()), "a replica is started")

    notebook.kill()

    home.assert_nothing_left()
    assert list(notebook.temporary.iterdir()) == []
