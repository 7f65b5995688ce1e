"""What code written for Clipper's containers is given: methods by input type, texts as bytes, its module's names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clipper_nomad.protocol.datatypes import INPUT_TYPE_WORDS, InputType, unpack_inputs
from clipper_nomad_runtime import rpc
from clipper_nomad_runtime.clipper_forms import NoSuchMethod, given_bytes, method_for


class Whole:
    """Has every method, and does not inherit from Clipper's class."""

    def predict_ints(self, inputs: object) -> str:
        return "ints"

    def predict_floats(self, inputs: object) -> str:
        return "floats"

    def predict_doubles(self, inputs: object) -> str:
        return "doubles"

    def predict_bytes(self, inputs: object) -> str:
        return "bytes"

    def predict_strings(self, inputs: object) -> str:
        return "strings"


@pytest.mark.parametrize(
    ("kind", "said"),
    list(zip(InputType, ["bytes", "ints", "floats", "doubles", "strings"], strict=True)),
)
def test_the_method_of_an_input_type_has_clippers_name(kind: InputType, said: str) -> None:
    assert method_for(Whole(), kind)(np.zeros((1, 1))) == said


@pytest.mark.parametrize("container", [rpc.ModelContainerBase(), object()])
def test_a_method_that_the_class_does_not_write_is_named(container: object) -> None:
    with pytest.raises(NoSuchMethod, match=r"has no method predict_floats, and its input type is floats\. Write"):
        method_for(container, InputType.FLOATS)


def test_texts_as_bytes_are_utf_8_in_an_array_of_objects() -> None:
    got: list[NDArray[Any]] = []
    lengths = np.array([2, 0], np.uint32)

    given_bytes(got.append)(unpack_inputs(InputType.STRINGS, 2, 0, lengths, "ï".encode()))

    assert got[0].tolist() == ["ï".encode(), b""]
    assert (got[0].dtype, got[0].shape) == (np.dtype(object), (2,))


def test_the_names_of_clippers_module_are_there() -> None:
    numbers = [rpc.INPUT_TYPE_BYTES, rpc.INPUT_TYPE_INTS, rpc.INPUT_TYPE_FLOATS, rpc.INPUT_TYPE_DOUBLES]

    assert [*numbers, rpc.INPUT_TYPE_STRINGS] == [0, 1, 2, 3, 4]
    assert [rpc.string_to_input_type(f" {word.upper()}") for word in INPUT_TYPE_WORDS] == list(INPUT_TYPE_WORDS.values())
    assert rpc.string_to_input_type("complex") == -1
    assert [rpc.input_type_to_string(number) for number in range(6)] == [
        "bytes", "ints", "floats", "doubles", "string", None,
    ]  # fmt: skip
    dtypes = [np.dtype(number) for number in (np.int8, np.int32, np.float32, np.float64)]
    assert [repr(rpc.input_type_to_dtype(number)) for number in range(6)] == [repr(each) for each in (*dtypes, str, None)]
    assert issubclass(rpc.PredictionError, Exception)
