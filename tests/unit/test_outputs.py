"""What a predict function may return, and what a client gets for it: the rules of docs/behaviour.md, "Outputs"."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clipper_nomad.protocol.wire import OUTPUT_WIDTH, OutputType
from clipper_nomad_runtime.outputs import Outputs, pack_outputs

HALF_A_PAIR = "\ud800"


def clipper_rule(text: str) -> object:
    """What Clipper makes of an output's text: JSON if it parses, else a string. JSON has no NaN and no Infinity."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        return json.loads(text, parse_constant=refuse)
    except ValueError:
        return text


def named(number: float) -> float | str:
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def client_sees(outputs: Outputs) -> list[Any]:
    """Read a block as a frontend does, into the values of the reply's JSON."""
    if outputs.type is OutputType.TEXT:
        assert outputs.lengths is not None
        ends = np.cumsum(outputs.lengths, dtype=np.int64).tolist()
        lengths = outputs.lengths.tolist()
        texts = [outputs.data[end - length : end].decode() for end, length in zip(ends, lengths, strict=True)]
        return [clipper_rule(text) for text in texts]
    assert outputs.lengths is None
    block = np.frombuffer(outputs.data, OUTPUT_WIDTH[outputs.type])
    if outputs.type in {OutputType.FLOAT32, OutputType.FLOAT16}:
        return [named(float(str(number))) for number in block]
    return [named(value) if isinstance(value, float) else value for value in block.tolist()]


def wanted(value: object, *, inside: bool = False) -> object:
    """The rules, said once more in the simplest way."""
    if isinstance(value, str):
        return str(value) if inside else clipper_rule(value)
    if isinstance(value, np.ndarray):
        return [wanted(item, inside=True) for item in value]
    if isinstance(value, list | tuple):
        return [wanted(item, inside=True) for item in value]
    if isinstance(value, dict):
        return {key: wanted(item, inside=True) for key, item in value.items()}
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    return named(float(str(value)))


words = st.text(st.characters(exclude_categories=["Cs"]))
texts = words | st.sampled_from(["1", "NaN", "[1]", "null", '"x"', "1e999", "-0", " 2 ", "{", "true"])
plain_numbers = st.integers() | st.floats() | st.booleans()
numpy_numbers = (
    st.floats(width=32).map(np.float32)
    | st.floats(width=16).map(np.float16)
    | st.floats().map(np.float64)
    | st.integers(-(2**63), 2**63 - 1).map(np.int64)
    | st.integers(0, 2**64 - 1).map(np.uint64)
    | st.integers(-128, 127).map(np.int8)
    | st.booleans().map(np.bool_)
)
arrays = (
    st.lists(st.floats(width=32)).map(lambda numbers: np.array(numbers, np.float32))
    | st.lists(st.floats()).map(lambda numbers: np.array(numbers, np.float64))
    | st.lists(st.integers(-5, 5)).map(lambda numbers: np.array(numbers, np.int16))
    | st.lists(st.booleans()).map(lambda values: np.array(values, np.bool_))
    | st.lists(words.filter(lambda text: not text.endswith("\0"))).map(lambda values: np.array(values, np.str_))
)
values = st.recursive(
    texts | plain_numbers | numpy_numbers | arrays,
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(values, max_size=6))
def test_a_client_sees_each_output_by_the_rules_whatever_its_batch_mates_are(outputs: list[Any]) -> None:
    packed = pack_outputs(outputs)

    assert packed.wrong == ()
    assert client_sees(packed) == [wanted(output) for output in outputs]


@given(st.lists(texts | st.integers() | st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4))
def test_texts_and_finite_numbers_are_what_clipper_made_of_them(outputs: list[Any]) -> None:
    assert client_sees(pack_outputs(outputs)) == [clipper_rule(str(output)) for output in outputs]


@given(st.lists(numpy_numbers, min_size=1, max_size=5))
def test_an_array_gives_what_the_list_of_its_items_gives(numbers: list[Any]) -> None:
    for dtype in {number.dtype for number in numbers}:
        array = np.array([number for number in numbers if number.dtype == dtype], dtype)

        assert client_sees(pack_outputs(array)) == [wanted(number) for number in array]


FLAT: list[tuple[Any, OutputType]] = [
    ([1.5, 2.0], OutputType.FLOAT64),
    ([1, -2], OutputType.INT64),
    ([True, False], OutputType.BOOL),
    (["a", "b"], OutputType.TEXT),
    ([np.float32(0.1)], OutputType.FLOAT32),
    ([np.float16(0.1)], OutputType.FLOAT16),
    ([np.float64(0.1)], OutputType.FLOAT64),
    ([np.uint8(1)], OutputType.INT64),
    ([np.bool_(1)], OutputType.BOOL),
    (np.array([1.0]), OutputType.FLOAT64),
    (np.array([1.0], np.float32), OutputType.FLOAT32),
    (np.array([1.0], ">f4"), OutputType.FLOAT32),
    (np.array([1.0], np.longdouble), OutputType.FLOAT64),
    (np.array([1], np.int8), OutputType.INT64),
    (np.array([1], np.uint64), OutputType.INT64),
    (np.array([], np.uint64), OutputType.INT64),
    (np.array([True]), OutputType.BOOL),
    (np.array(["a"]), OutputType.TEXT),
]


@pytest.mark.parametrize(("outputs", "block"), FLAT)
def test_outputs_of_one_kind_travel_in_a_block_of_their_own(outputs: Sequence[Any], block: OutputType) -> None:
    packed = pack_outputs(outputs)

    assert packed.type is block
    assert client_sees(packed) == [wanted(output) for output in outputs]


@pytest.mark.parametrize(
    "outputs",
    [
        [2**63, 1],
        [-(2**63) - 1],
        [10**400],
        np.array([2**64 - 1, 0], np.uint64),
        np.array([[0.1, 2.0], [3.0, 4.0]]),
        np.array([[0.1, math.nan], [3.0, -math.inf]]),
        np.array([[0.1, 2.0]], np.float32),
        np.array([[1, 2], [3, 4]]),
        np.array([[True]]),
        np.array([["a", "1"]]),
        np.array([[[1.0]]]),
        np.array([1.5, "a", 2, True], object),
        np.zeros((2, 0)),
        [math.nan, 1, "x"],
    ],
)
def test_what_fits_no_block_travels_as_text(outputs: Sequence[Any]) -> None:
    packed = pack_outputs(outputs)

    assert packed.type is OutputType.TEXT
    assert client_sees(packed) == [wanted(output) for output in outputs]


class Tensor:
    """An array of another library."""

    def __init__(self, array: NDArray[Any] | None) -> None:
        self._array = array

    def __array__(self, dtype: object = None, copy: object = None) -> NDArray[Any]:
        if self._array is None:
            raise RuntimeError("it is on the GPU")
        return self._array


def test_arrays_of_other_libraries_are_arrays() -> None:
    outputs = [Tensor(np.array([1.0, 2.0])), Tensor(np.array(0.5, np.float32)), {"scores": Tensor(np.array([1]))}]

    assert client_sees(pack_outputs(outputs)) == [[1.0, 2.0], 0.5, {"scores": [1]}]


def endless() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


@pytest.mark.parametrize(
    ("output", "what"),
    [
        (None, "None"),
        (b"bytes", "a bytes"),
        (np.bytes_(b"bytes"), "a bytes_"),
        (object(), "a object"),
        (1j, "a complex"),
        (Decimal(1), "a Decimal"),
        (np.datetime64("2026-11-23"), "a datetime64"),
        (np.array([b"x"]), "an array of |S1"),
        (np.array([1j]), "an array of complex128"),
        ({1, 2}, "a set"),
        ([1, None], "None"),
        ({"a": [b"x"]}, "a bytes"),
        ({1: "a"}, "a dict with a key that is a int, not a text"),
        (HALF_A_PAIR, "a text that cannot be encoded"),
        ([HALF_A_PAIR], "a text that cannot be encoded"),
        (endless(), "a value nested too deeply"),
        pytest.param(10**5000, "a value that cannot be written", id="huge"),
        (Tensor(None), "a Tensor that is no array: it is on the GPU"),
        (Tensor(np.array(None)), "a Tensor"),
        (np.ma.masked, "None"),
    ],
)
def test_what_is_no_output_is_named_and_its_batch_mates_are_not_harmed(output: object, what: str) -> None:
    packed = pack_outputs([1.5, output, "mate"])

    assert [wrong.index for wrong in packed.wrong] == [1]
    assert packed.wrong[0].what.startswith(what)
    assert client_sees(packed) == [1.5, "", "mate"]


def test_texts_with_one_that_cannot_be_encoded_fail_only_there() -> None:
    packed = pack_outputs(["a", HALF_A_PAIR])

    assert [wrong.index for wrong in packed.wrong] == [1]
    assert client_sees(packed) == ["a", ""]


@pytest.mark.parametrize("rows", [np.array([1.0, 2.0]), np.array([[1.0], [2.0]])])
def test_a_masked_place_of_an_array_is_no_output(rows: NDArray[Any]) -> None:
    masked = np.ma.masked_array(rows, mask=rows == 2.0)

    assert [wrong.index for wrong in pack_outputs(masked).wrong] == [1]
