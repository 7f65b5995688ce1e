"""The contract of a predict function: what breaks it becomes an error that says what to do, and nothing ends the process."""

from __future__ import annotations

import collections
import itertools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from clipper_nomad.protocol.wire import (
    MAX_BATCH_COUNT,
    MAX_FRAME_BYTES,
    ErrorKind,
    Header,
    MessageType,
    OutputError,
    OutputType,
    decode_result,
    encode_result,
    header_of,
)
from clipper_nomad_runtime.predict import Answer, Predictor

TWO_INPUTS = np.zeros((2, 3))


def answer(function: Callable[..., Any], *, count: int = 2) -> Answer:
    return Predictor(function, model="iris", version="3").answer(np.zeros((count, 3)))


def only_error(function: Callable[..., Any]) -> OutputError:
    (error,) = answer(function).errors
    assert error.index is None
    return error


class Frame:
    """A table of another library: iterating it gives its columns, as an array it has rows."""

    def __iter__(self) -> Any:  # noqa: ANN401  # as such libraries do
        return iter(["column"])

    def __len__(self) -> int:
        return 2

    def __array__(self, dtype: object = None, copy: object = None) -> Any:  # noqa: ANN401  # numpy's protocol
        return np.array([[1.0], [2.0]])


@pytest.mark.parametrize(
    "result",
    [
        [1.0, 2.0],
        (1.0, 2.0),
        np.array([1.0, 2.0]),
        collections.deque([1.0, 2.0]),
        map(float, [1, 2]),
        (number for number in [1.0, 2.0]),
        dict.fromkeys([1.0, 2.0]).keys(),
    ],
)
def test_any_list_of_outputs_in_the_order_of_the_inputs_will_do(result: object) -> None:
    got = answer(lambda _: result)

    assert got.errors == ()
    assert got.outputs.type is OutputType.FLOAT64
    assert np.frombuffer(got.outputs.data).tolist() == [1.0, 2.0]


def test_a_table_gives_its_rows() -> None:
    assert answer(lambda _: Frame()).outputs.data == b"[1.0][2.0]"


@pytest.mark.parametrize(
    ("result", "what"),
    [
        (None, "None"),
        ("ab", "a str"),
        (b"ab", "a bytes"),
        ({"a": 1, "b": 2}, "a dict"),
        ({1, 2}, "a set"),
        (1.5, "a float"),
        (np.float64(1.5), "a float64"),
        (np.array(1.5), "a ndarray"),
        (object(), "a object"),
    ],
)
def test_what_is_no_list_is_refused_by_name(result: object, what: str) -> None:
    error = only_error(lambda _: result)

    assert error.kind is ErrorKind.WRONG_TYPE
    assert error.message.startswith(
        f"Model did not return a list. Model 'iris' version '3' returned {what} for a batch of 2 inputs;"
    )
    assert error.message.endswith("Fix the function and deploy it as a new version.")


@pytest.mark.parametrize(
    ("result", "length"),
    [([], "0"), ([1.0], "1"), (np.zeros(3), "3"), (iter([1.0]), "1"), (itertools.count(), "more than 2")],
)
def test_another_number_of_outputs_is_refused_with_both_lengths(result: object, length: str) -> None:
    error = only_error(lambda _: result)

    assert error.kind is ErrorKind.WRONG_COUNT
    assert error.message.startswith(
        f"Expected model to return 2 outputs, found {length} outputs. Model 'iris' version '3' must return"
    )


class Rude(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def raising(exc: BaseException) -> Callable[..., Any]:
    def function(_: object) -> None:
        raise exc

    return function


@pytest.mark.parametrize(
    ("exc", "message"),
    [
        (ValueError("a word"), "ValueError: a word"),
        (KeyError("k"), "KeyError: 'k'"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
        (GeneratorExit(), "GeneratorExit: "),
        (MemoryError("much"), "MemoryError: much"),
        (Rude(), "Rude: (its text cannot be had)"),
        (OSError("\udcff"), "OSError: \\udcff"),
        (ValueError("x" * 5000), "ValueError: " + "x" * 2000),
    ],
)
def test_whatever_the_function_raises_is_an_error_with_a_traceback_id(
    exc: BaseException, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # pytest-xdist cannot carry a log with half of a surrogate pair

    error = only_error(raising(exc))

    assert (error.kind, error.message) == (ErrorKind.RAISED, message)
    assert error.traceback_id


def test_an_exception_while_the_outputs_are_made_is_the_functions_too() -> None:
    assert only_error(lambda _: (1 / number for number in [1, 0])).message == "ZeroDivisionError: division by zero"


def test_the_log_has_the_traceback_from_the_function_on(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        error = only_error(raising(ValueError("a word")))

    (record,) = caplog.records
    assert vars(record)["traceback_id"] == error.traceback_id
    assert caplog.text.count('File "') == 1
    assert "in function" in caplog.text


def test_each_failing_line_has_a_traceback_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    def function(inputs: Any) -> None:  # noqa: ANN401  # an array
        if len(inputs) == 1:
            raise ValueError("one")
        raise ValueError("several")

    predictor = Predictor(function, model="iris", version="3")

    ids = [predictor.answer(np.zeros((count, 1))).errors[0].traceback_id for count in (1, 2, 1, 2, 3)]

    assert ids == [ids[0], ids[1], ids[0], ids[1], ids[1]]
    assert len(set(ids)) == 2
    assert len(caplog.records) == 2


def test_outputs_beyond_a_frame_are_refused_and_not_sent() -> None:
    error = only_error(lambda _: ["x" * (MAX_FRAME_BYTES // 2), "x" * (MAX_FRAME_BYTES // 2 + 1)])

    assert error.kind is ErrorKind.WRONG_TYPE
    assert "batch_size" in error.message


def test_the_errors_of_the_largest_batch_fit_the_wire() -> None:
    got = answer(lambda inputs: [None] * len(inputs), count=MAX_BATCH_COUNT)

    frames = encode_result(
        answers=Header(MessageType.PREDICT, 0, MAX_BATCH_COUNT, 1, 2, 3),
        output_type=got.outputs.type,
        backlog=0,
        exec_micros=0,
        lengths=got.outputs.lengths,
        data=got.outputs.data,
        errors=got.errors,
    )
    errors = decode_result(header_of(frames[0]), frames).errors

    assert len(errors) == MAX_BATCH_COUNT
    assert "Found None for input 99 of 65536" in errors[99].message
    assert errors[-1].message == "no output; see input 0"


def test_the_time_of_the_function_is_told_also_when_it_raises() -> None:
    def function(_: object) -> None:
        sum(range(10_000))
        raise ValueError

    assert answer(function).exec_s > 0
    assert answer(lambda _: [sum(range(10_000)), 1]).exec_s > 0
