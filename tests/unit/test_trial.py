"""ClipperConnection.test_predict_function: a function is tried on a query without any cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clipper_nomad import ClipperConnection, LocalContainerManager
from clipper_nomad.connection.trial import NOT_RELOADED, WRONG_KEY, WRONG_TYPE, try_function

WORDS = ["ints", "floats", "doubles", "strings", "bytes"]
LOCK = threading.Lock()


@pytest.fixture
def unconnected(tmp_path: Path) -> ClipperConnection:
    return ClipperConnection(LocalContainerManager(home=tmp_path))


def sums(inputs: NDArray[Any]) -> list[float]:
    return [sum(each) for each in inputs]


def seen(inputs: NDArray[Any]) -> tuple[str, tuple[int, ...], list[Any]]:
    return str(inputs.dtype), inputs.shape, inputs.tolist()


@pytest.mark.parametrize(
    ("query", "word", "result"),
    [
        ({"input": [1.5, 2.5]}, "doubles", [4.0]),
        ({"input": [1.5, 2.5]}, "floats", [4.0]),
        ({"input": [1, 2.5]}, "doubles", [3.5]),  # as the REST API takes it
        ({"input": [1, 2]}, "integers", [3]),
        ({"input": (1, 2)}, "i", [3]),
        ({"input": np.array([1.5, 2.5])}, "doubles", [4.0]),
        ({"input_batch": [[1.5], [2.5]]}, "doubles", [1.5, 2.5]),
        ({"input_batch": [[1.5], [2.5, 1.0]]}, "doubles", [1.5, 3.5]),
        ({"input": [1.5], "version": "2", "uid": 0}, "doubles", [1.5]),
        ({"input": [1.5], "input_batch": [[2.5]]}, "doubles", [1.5]),
    ],
)
def test_a_function_is_called_on_the_inputs_of_a_query(
    unconnected: ClipperConnection, query: dict[str, object], word: str, result: object
) -> None:
    assert unconnected.test_predict_function(query, sums, word) == result
    assert not unconnected.connected


@pytest.mark.parametrize(
    ("query", "word", "array"),
    [
        ({"input_batch": [[1.0, 2.0], [3.0, 4.0]]}, "doubles", ("float64", (2, 2), [[1.0, 2.0], [3.0, 4.0]])),
        ({"input": [0.5]}, "floats", ("float32", (1, 1), [[0.5]])),
        ({"input": [2**31 - 1, -(2**31)]}, "ints", ("int32", (1, 2), [[2**31 - 1, -(2**31)]])),
        ({"input": "text"}, "strings", ("object", (1,), ["text"])),
        ({"input_batch": ["a", "bc"]}, "str", ("object", (2,), ["a", "bc"])),
        ({"input": "aGk="}, "bytes", ("int8", (1, 2), [[104, 105]])),
        ({"input": "aGk"}, "bytes", ("int8", (1, 2), [[104, 105]])),  # the padding may be left out, as in the REST API
        ({"input": b"hi"}, "bytes", ("int8", (1, 2), [[104, 105]])),
        ({"input_batch": []}, "doubles", ("object", (0,), [])),
        ({"input_batch": []}, "strings", ("object", (0,), [])),
    ],
)
def test_a_function_gets_the_array_that_a_replica_gives_it(query: dict[str, object], word: str, array: object) -> None:
    assert try_function(query, seen, word, reload=lambda function: function) == array


@pytest.mark.parametrize(
    ("query", "word", "text"),
    [
        ({"inputs": [1.0]}, "doubles", WRONG_KEY),
        ({}, "doubles", WRONG_KEY),
        ({"input": 1.0}, "doubles", WRONG_KEY),
        ({"input": 1}, "strings", WRONG_KEY),
        ({"input_batch": [1.0, 2.0]}, "doubles", WRONG_KEY),
        ({"input_batch": 1.0}, "doubles", WRONG_KEY),
        ({"input": [1.5]}, "ints", WRONG_TYPE),
        ({"input": ["1.5"]}, "doubles", WRONG_TYPE),
        ({"input": "1.5"}, "doubles", WRONG_TYPE),
        ({"input": [True]}, "ints", WRONG_TYPE),
        ({"input": [[1.5]]}, "doubles", WRONG_TYPE),
        ({"input": ["a"]}, "strings", WRONG_TYPE),
        ({"input": "no base64"}, "bytes", WRONG_TYPE),
        ({"input": [2**31]}, "ints", WRONG_TYPE),
        ({"input": [-(2**31) - 1]}, "ints", WRONG_TYPE),
        ({"input": [1e39]}, "floats", WRONG_TYPE),
        ({"input": [10**400]}, "doubles", WRONG_TYPE),
        ({"input": [float("nan")]}, "doubles", WRONG_TYPE),
        ({"input": [1.5]}, "complex", WRONG_TYPE),
    ],
)
def test_a_query_that_is_none_is_told_in_clipper_s_words(
    unconnected: ClipperConnection, query: dict[str, object], word: str, text: str
) -> None:
    assert unconnected.test_predict_function(query, sums, word) == text


@pytest.mark.parametrize("function", [lambda _: LOCK, threading.Lock().acquire])
def test_a_function_that_does_not_pickle_is_told_and_the_log_says_why(
    unconnected: ClipperConnection, function: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    assert unconnected.test_predict_function({"input": [1.0]}, function, "doubles") == NOT_RELOADED
    assert any("lock" in message for message in caplog.messages)


class NotLoadable:
    def __call__(self, inputs: object) -> object:
        return inputs

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("no number",)


def test_a_function_that_does_not_load_is_told(unconnected: ClipperConnection) -> None:
    assert unconnected.test_predict_function({"input": [1.0]}, NotLoadable(), "doubles") == NOT_RELOADED


def test_what_the_function_raises_is_raised(unconnected: ClipperConnection) -> None:
    with pytest.raises(ZeroDivisionError):
        unconnected.test_predict_function({"input": [1.0]}, lambda _: 1 / 0, "doubles")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(["input", "input_batch", "other"]), JSON, max_size=2) | JSON,
    st.sampled_from([*WORDS, "complex"]),
)
def test_whatever_the_query_the_function_is_called_or_a_text_is_returned(query: Mapping[str, object], word: str) -> None:
    result = try_function(query, len, word, reload=lambda function: function)

    assert isinstance(result, int) or result in {WRONG_KEY, WRONG_TYPE}
