"""A function is called once, in a process of its own, before anything of it is built: what that finds and what it says."""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

import clipper_nomad
from clipper_nomad import ClipperConnection
from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.deployers.packing import packed
from clipper_nomad.deployers.python import create_endpoint, deploy_python_closure
from clipper_nomad.deployers.trial import Trial
from clipper_nomad.errors import DeployFailed
from clipper_nomad.protocol.datatypes import InputType
from tests.models import raises, segfaults, wrong_count
from tests.process.test_connection import Loading
from tests.waiting import wait_until

pytestmark = pytest.mark.process

Function = Callable[..., object]


def tried(function: Function, *, is_made_up: bool = False, within_s: float = 30.0, has_other_packages: bool = False) -> bool:
    trial = Trial(
        model="m",
        version="1",
        input=[-1.0, 2.0],
        is_made_up=is_made_up,
        within_s=within_s,
        has_other_packages=has_other_packages,
        env={"WHERE": "there"},
    )
    with packed(function, kind=InputType.DOUBLES, sample=None) as bundle:
        return trial.run(bundle)


def failure_of(function: Function, *, is_made_up: bool = False, within_s: float = 30.0) -> DeployFailed:
    with pytest.raises(DeployFailed, match="Model 'm' version '1' was not deployed: ") as caught:
        tried(function, is_made_up=is_made_up, within_s=within_s)
    return caught.value


def imports_what_is_nowhere(inputs: np.ndarray) -> object:
    return importlib.import_module("no_such_module").predict(inputs)


def test_a_function_that_answers_has_nothing_to_say() -> None:
    assert tried(lambda inputs: inputs.sum(axis=1)) is True


def test_it_gets_the_array_that_a_replica_gives_it_in_another_process_and_place() -> None:
    here, cwd = os.getpid(), str(Path.cwd())

    def sees(inputs: np.ndarray) -> list[float]:
        assert inputs.dtype == np.float64
        assert inputs.tolist() == [[-1.0, 2.0]]
        assert (os.environ["WHERE"], os.getpid() == here, str(Path.cwd()) == cwd) == ("there", False, False)
        return [1.0]

    assert tried(sees) is True


def test_clippers_own_names_can_be_imported_as_in_a_replica() -> None:
    def counts(inputs: np.ndarray) -> list[int]:
        from clipper_admin import metrics  # type: ignore[import-not-found]  # noqa: PLC0415  # nowhere but in a replica

        metrics.add_metric("custom_seen", "Counter", "Inputs that came")
        metrics.report_metric("custom_seen", len(inputs))
        return [1 for _ in inputs]

    assert tried(counts) is True


def test_the_line_that_raised_is_shown() -> None:
    message = failure_of(raises.predict)

    assert "its function raised ValueError: a number below 0" in message.msg
    assert f'File "{raises.__file__}", line ' in message.msg
    assert 'raise ValueError("a number below 0")' in message.msg
    assert message.hint is not None
    assert "[-1.0, 2.0]" in message.hint


def test_of_an_error_in_a_library_the_users_own_line_is_shown() -> None:
    def predict(inputs: np.ndarray) -> object:
        return np.linalg.inv(inputs[0])  # a line of the user's

    message = failure_of(predict).msg

    assert "its function raised LinAlgError: " in message
    assert message.endswith("return np.linalg.inv(inputs[0])  # a line of the user's")
    assert "site-packages" not in message


def test_a_made_up_input_may_be_refused_and_nothing_else_may_go_wrong() -> None:
    assert tried(raises.predict, is_made_up=True) is False
    assert "must return one output for each input" in failure_of(wrong_count.predict, is_made_up=True).msg
    assert "Found None" in failure_of(lambda _: [None], is_made_up=True).msg


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (lambda _: os._exit(7), "ended with exit code 7. What it said:\n  nothing"),
        (Loading(os._exit, 7), "ended with exit code 7"),
        (segfaults.predict, "ended by signal SIGSEGV. What it said:\n  Fatal Python error: Segmentation fault"),
        (Loading(int, "no number"), "cannot be loaded in another process: ValueError: invalid literal for int()"),
        (Loading(importlib.import_module, "no_such_module"), "lacks a package: No module named 'no_such_module'"),
        (imports_what_is_nowhere, "lacks a package: ModuleNotFoundError: No module named 'no_such_module'"),
    ],
    ids=["ends", "ends when loaded", "crashes", "cannot be loaded", "import when loaded", "import when called"],
)
def test_what_cannot_run_is_told_with_its_cause(function: Function, cause: str) -> None:
    assert cause in failure_of(function, is_made_up=True).msg


@pytest.mark.parametrize("function", [Loading(importlib.import_module, "no_such_module"), imports_what_is_nowhere])
def test_a_package_that_only_replicas_have_may_be_missing_here(function: Function) -> None:
    assert tried(function, has_other_packages=True) is False


def test_a_function_that_hangs_is_ended_and_shown_where() -> None:
    def sleeps(inputs: np.ndarray) -> object:
        time.sleep(3600)
        return inputs

    message = failure_of(sleeps, within_s=1.0).msg

    assert "gave up after 1 s: it had not answered one input" in message
    assert f'File "{__file__}", line {sleeps.__code__.co_firstlineno + 1} in sleeps' in message


def test_a_process_that_was_left_alone_ends() -> None:
    """Ctrl-C in the deploying process, and its death, end the one that tries the function."""

    def started() -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if "clipper_nomad_runtime.trial" in child.cmdline()]

    def interrupt() -> None:
        wait_until(lambda: bool(started()), "the function is being tried")
        found.extend(started())
        os.kill(os.getpid(), signal.SIGINT)

    found: list[psutil.Process] = []
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        tried(lambda _: time.sleep(3600))

    assert found
    assert not any(child.is_running() for child in found)


# --- in a deploy ---


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="module")
def clipper(home: Path) -> Iterator[ClipperConnection]:
    connection = clipper_nomad.local(home=home, port=0)
    try:
        yield connection
    finally:
        connection.stop_all()


def test_what_fails_in_its_trial_is_not_built_or_registered(home: Path, clipper: ClipperConnection) -> None:
    with pytest.raises(DeployFailed, match="raised ValueError: a number below 0"):
        create_endpoint(clipper, "m", "doubles", raises.predict, sample=[-1.0])

    assert (clipper.get_all_apps(), clipper.get_all_models()) == ([], [])
    assert not list(home.rglob("func.pkl"))


def test_what_can_only_run_where_it_serves_is_deployed_without_a_trial(clipper: ClipperConnection) -> None:
    def predict(inputs: np.ndarray) -> list[str]:
        return [os.environ["CLIPPER_MODEL_NAME"]] * len(inputs)

    with pytest.raises(DeployFailed, match="raised KeyError: 'CLIPPER_MODEL_NAME'"):
        deploy_python_closure(clipper, "there", 1, "doubles", predict, sample=[1.0])
    deployed = deploy_python_closure(clipper, "there", 1, "doubles", predict, sample=[1.0], trial=False)

    assert deployed.output == "there"


def test_the_trial_has_the_variables_that_replicas_get(clipper: ClipperConnection) -> None:
    def predict(inputs: np.ndarray) -> list[str]:
        return [os.environ["OF_THE_MODEL"]] * len(inputs)

    options = JobOptions(env={"OF_THE_MODEL": "a value"})
    deployed = deploy_python_closure(clipper, "env", 1, "doubles", predict, sample=[1.0], job_options=options)

    assert deployed.output == "a value"


@pytest.mark.parametrize(("word", "kind"), [("bytes", "bytes"), ("str", "str")])
def test_the_trial_gives_texts_in_the_form_that_replicas_get(clipper: ClipperConnection, word: str, kind: str) -> None:
    def predict(inputs: np.ndarray) -> list[str]:
        if {type(each).__name__ for each in inputs} != {kind}:
            raise TypeError("not these texts")
        return [kind] * len(inputs)

    options = JobOptions(env={"CLIPPER_STRINGS_AS": word})
    deployed = deploy_python_closure(clipper, f"as-{kind}", 1, "strings", predict, sample="naïve", job_options=options)

    assert deployed.output == kind
