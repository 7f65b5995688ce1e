"""What users hand in as an input, and what is posted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clipper_nomad.connection.inputs import input_of_function, input_type_of, made_up_input, one_input, sample_input
from clipper_nomad.errors import ClipperException
from clipper_nomad.protocol.datatypes import InputType


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ([1.0, 2.5], [1.0, 2.5]),
        ((1, 2), [1, 2]),
        (3.5, [3.5]),
        (np.array([1.0, 2.0]), [1.0, 2.0]),
        (np.array([[1.0, 2.0]]), [1.0, 2.0]),
        (np.array([1, 2], np.int32), [1, 2]),
        (np.float32(0.5), [0.5]),
        ("text", "text"),
        (np.str_("text"), "text"),
        (np.array(["text"]), "text"),
        (b"\x00\xff", "AP8="),
        (bytearray(b"a"), "YQ=="),
        ([], []),
    ],
)
def test_a_value_is_sent_as_one_input(value: object, sent: object) -> None:
    found = one_input(value)

    assert found == sent
    assert type(found) is type(sent)


@given(hnp.arrays(np.float64, st.integers(0, 20), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_numbers_arrive_exactly(values: np.ndarray) -> None:
    assert np.array_equal(np.array(json.loads(json.dumps(one_input(values)))), values)


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (np.zeros((2, 3)), "has the shape"),
        ([[1.0], [2.0]], "that is a batch"),
        ([[1.0], [2.0, 3.0]], "is no input"),
        ([1.0, float("nan")], "NaN or an infinity"),
        (np.array([np.inf], np.float32), "NaN or an infinity"),
        (None, "is no input"),
        ({"a": 1}, "is no input"),
        ([True, False], "of type bool"),
        (["a", "b"], "is no input"),
        (1 + 2j, "complex128"),
    ],
)
def test_what_is_no_input_is_said_to_be_none(value: object, cause: str) -> None:
    with pytest.raises(ClipperException, match=cause):
        one_input(value)


@pytest.mark.parametrize(
    ("sample", "kind", "found"),
    [
        (np.zeros((5, 3)), InputType.DOUBLES, [0.0, 0.0, 0.0]),
        ([1, 2], InputType.DOUBLES, [1.0, 2.0]),
        (np.ones(2, np.float32), InputType.FLOATS, [1.0, 1.0]),
        (np.array([[1, 2]]), InputType.INTEGERS, [1, 2]),
        (["one", "two"], InputType.STRINGS, "one"),
        ("one", InputType.STRINGS, "one"),
        ([b"a"], InputType.BYTES, "YQ=="),
        ("YQ==", InputType.BYTES, "YQ=="),
        (np.array(["one", "two"])[:1], InputType.STRINGS, "one"),
    ],
)
def test_a_sample_is_the_first_of_its_inputs(sample: object, kind: InputType, found: object) -> None:
    assert sample_input(sample, kind) == found


@pytest.mark.parametrize(
    ("sample", "kind"),
    [
        ("text", InputType.DOUBLES),
        ([1.0], InputType.STRINGS),
        (b"bytes", InputType.STRINGS),
        ("no base64!", InputType.BYTES),
        (None, InputType.BYTES),
        ([1.5], InputType.INTEGERS),
        ([2**31], InputType.INTEGERS),
        (np.zeros((0, 3)), InputType.DOUBLES),
    ],
)
def test_a_sample_of_another_type_is_refused(sample: object, kind: InputType) -> None:
    with pytest.raises(ClipperException, match="ample"):
        sample_input(sample, kind)


@pytest.mark.parametrize(
    ("sample", "kind"),
    [
        (np.zeros((1, 3)), InputType.DOUBLES),
        (np.zeros(3, np.float32), InputType.FLOATS),
        (np.zeros(3, np.float16), InputType.FLOATS),
        ([1, 2], InputType.INTEGERS),
        ([1.5], InputType.DOUBLES),
        ("a", InputType.STRINGS),
        (["a"], InputType.STRINGS),
        (b"a", InputType.BYTES),
    ],
)
def test_the_input_type_is_read_off_the_sample(sample: object, kind: InputType) -> None:
    assert input_type_of(sample) is kind


class Fitted:
    n_features_in_ = 3

    def predict(self, inputs: object) -> object:
        return inputs


class Unfitted:
    @property
    def n_features_in_(self) -> int:
        raise RuntimeError("not fitted yet")

    def predict(self, inputs: object) -> object:
        return inputs


def test_a_fitted_model_says_how_long_its_input_is() -> None:
    assert input_of_function(Fitted().predict, InputType.DOUBLES) == [1.0, 1.0, 1.0]
    assert input_of_function(Fitted().predict, InputType.INTEGERS) == [1, 1, 1]
    assert input_of_function(Fitted().predict, InputType.STRINGS) is None


def test_other_functions_do_not() -> None:
    assert input_of_function(Unfitted().predict, InputType.DOUBLES) is None
    assert input_of_function(len, InputType.DOUBLES) is None


@pytest.mark.parametrize("kind", InputType)
def test_an_input_can_be_made_up_for_every_type(kind: InputType) -> None:
    made_up = made_up_input(kind)

    assert len(made_up) >= 10
    if kind.is_fixed_width:
        assert sample_input(made_up, kind) == made_up
