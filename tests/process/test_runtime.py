"""The model runtime as a real process, against the other end of our own protocol: what works, and what leaves."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from clipper_nomad.protocol.datatypes import InputType
from clipper_nomad.protocol.wire import ErrorKind, OutputType
from tests.process.bundles import pack
from tests.process.replicas import Bench, numbers, texts

pytestmark = pytest.mark.process


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_replica_says_hello_once_its_model_is_ready(bench: Bench) -> None:
    ready = bench.folder / "ready"
    ready.write_text("left by a predecessor")

    with bench.frontend() as frontend, bench.replica("echo_sum", sample=[1.0, 2.0], READY_FILE=ready) as replica:
        hello = frontend.welcome()

        assert (hello.model, hello.version, hello.uid) == ("iris", "3", "uid-of-iris-3")
        assert (hello.input_type, hello.replica, hello.role) == ("doubles", "iris-3-0", "replica")
        assert ready.read_text() == "READY"
        assert "model is warm" in replica.log


def test_a_replica_dials_until_a_frontend_is_there(bench: Bench) -> None:
    with bench.replica("echo_sum") as replica:
        replica.wait_for_log("no frontend at this address yet")
        assert 'reason="its connection ended"' in replica.log  # heard at once, not by waiting DIAL_S

        with bench.frontend() as frontend:
            frontend.welcome()

            assert numbers(frontend.ask([[1.0, 2.0], [3.0, 4.0]])) == [3.0, 7.0]


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs"),
    [
        (InputType.DOUBLES, [[0.1, 2.0], [3.0, 4.0]], [[0.1, 2.0], [3.0, 4.0]]),
        (InputType.FLOATS, [[0.1], [2.5]], [[0.1], [2.5]]),
        (InputType.INTEGERS, [[1, -2]], [[1, -2]]),
        (InputType.BYTES, [b"\x01\xff", b"\x02"], [[1, -1], [2]]),
        (InputType.BYTES, [b"\x01", b"\x02"], [[1], [2]]),
    ],
)
def test_inputs_of_each_type_reach_the_function(
    bench: Bench, kind: InputType, inputs: list[object], outputs: list[object]
) -> None:
    with bench.frontend() as frontend, bench.replica("identity", input_type=kind.word):
        frontend.welcome()

        assert [json.loads(text) for text in texts(frontend.ask(inputs, kind=kind))] == outputs


def test_texts_reach_the_function_as_they_are(bench: Bench) -> None:
    inputs = ["", "plain", "naïve ☃", "[1, 2]"]

    with bench.frontend() as frontend, bench.replica("identity", input_type="strings"):
        frontend.welcome()

        assert texts(frontend.ask(inputs, kind=InputType.STRINGS)) == inputs


def test_outputs_keep_their_type_on_the_way(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("float32_outputs"):
        frontend.welcome()
        result = frontend.ask([[0.1]])

    assert result.output_type is OutputType.FLOAT32
    assert numbers(result) == pytest.approx([0.1], rel=1e-6)


def test_an_exception_of_the_function_answers_its_batch_and_the_process_goes_on(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("raises") as replica:
        frontend.welcome()

        (error,) = frontend.ask([[1.0], [-1.0]]).errors

        assert (error.index, error.kind) == (None, ErrorKind.RAISED)
        assert error.message == "ValueError: a number below 0"
        replica.wait_for_log("ValueError: a number below 0")
        assert f"traceback_id={error.traceback_id}" in replica.log
        assert "raises.py" in replica.log
        assert numbers(frontend.ask([[1.0]], batch=2)) == [1.0]


def test_the_same_exception_again_is_not_logged_again(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("raises") as replica:
        frontend.welcome()

        first, second = (frontend.ask([[-1.0]], batch=batch).errors[0] for batch in (1, 2))

        assert first.traceback_id == second.traceback_id
        assert replica.log.count("Traceback") == 1


@pytest.mark.parametrize(("model", "name"), [("exits_politely", "SystemExit"), ("out_of_memory", "MemoryError")])
def test_no_exception_of_any_kind_ends_the_process(bench: Bench, model: str, name: str) -> None:
    with bench.frontend() as frontend, bench.replica(model):
        frontend.welcome()

        errors = [frontend.ask([[1.0]], batch=batch).errors[0] for batch in (1, 2)]

        assert all(name in error.message for error in errors)


def test_a_wrong_count_is_an_error_that_says_what_to_do(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("wrong_count"):
        frontend.welcome()

        (error,) = frontend.ask([[1.0], [2.0]]).errors

        assert (error.index, error.kind) == (None, ErrorKind.WRONG_COUNT)
        assert error.message.startswith("Expected model to return 2 outputs, found 1 outputs. Model 'iris'")
        assert "deploy it as a new version" in error.message


def test_a_wrong_output_does_not_harm_its_batch_mates(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("wrong_types"):
        frontend.welcome()

        result = frontend.ask([[0.0], [9.0], [1.0], [2.0], [3.0]])

        assert [error.index for error in result.errors] == [0, 2, 3, 4]
        assert {error.kind for error in result.errors} == {ErrorKind.WRONG_TYPE}
        assert "Model must return a list of strs. Found None for input 0 of 5." in result.errors[0].message
        assert texts(result)[1] == "1.0"


def test_a_function_that_writes_into_its_inputs_harms_no_later_batch(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("mutates"):
        frontend.welcome()

        assert [numbers(frontend.ask([[1.0, 2.0]], batch=batch)) for batch in (1, 2)] == [[3.0], [3.0]]


def test_what_the_model_prints_and_logs_is_all_there(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("prints") as replica:
        frontend.welcome()
        frontend.ask([[1.0]])

        log = replica.log
        assert all(f"line {number} of a model that prints\n" in log for number in range(200))
        assert "WARNING a warning of the model" in log


def test_a_model_may_fork_and_end_its_children(bench: Bench) -> None:
    def predict(inputs: object) -> list[int]:
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        os.kill(child, signal.SIGTERM)
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]

    pack(bench.bundle, predict)
    with bench.frontend() as frontend, bench.replica(None) as replica:
        frontend.welcome()

        assert numbers(frontend.ask([[1.0]])) == [-signal.SIGTERM]
        assert numbers(frontend.ask([[1.0]])) == [-signal.SIGTERM]
        assert replica.process.poll() is None


def test_the_modules_of_a_bundle_can_be_imported_and_the_bundle_stays_as_it_was(bench: Bench) -> None:
    def predict(inputs: object) -> list[float]:
        import its_own_module  # type: ignore[import-not-found]  # noqa: PLC0415  # in the bundle only

        return [its_own_module.ANSWER]

    pack(bench.bundle, predict, modules={"its_own_module.py": "ANSWER = 42.0\n"})

    for _ in range(2):  # a compiled file beside it would make the second start fail
        with bench.frontend() as frontend, bench.replica(None):
            frontend.welcome()
            assert numbers(frontend.ask([[1.0]])) == [42.0]
