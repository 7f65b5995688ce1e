"""V2 requests become the inputs that a model gets: JSON and binary data, each datatype, and what is refused."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from clipper_nomad.protocol.datatypes import FIXED_WIDTH, InputType, unpack_inputs
from clipper_nomad.protocol.wire import MAX_BATCH_COUNT
from clipper_nomad_frontend.v2_request import V2Request, read_v2
from clipper_nomad_frontend.v2_tensors import NUMBERS, TAKEN, TEXTS, TensorError

QUICK = settings(max_examples=40, deadline=None)
NUMERIC = [InputType.DOUBLES, InputType.FLOATS, InputType.INTEGERS]
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6)
ELEMENTS = st.lists(st.binary(max_size=12), min_size=1, max_size=8)
TEXT_ELEMENTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=8)


def body_of(datatype: str, shape: list[int], data: object = None, **more: object) -> bytes:
    """A request with one tensor, written by Python's own JSON."""
    tensor = {"name": "any", "datatype": datatype, "shape": shape, "data": data, **more}
    return json.dumps({"inputs": [{key: value for key, value in tensor.items() if value is not None}]}).encode()


def binary_body_of(datatype: str, shape: list[int], data: bytes, **parameters: object) -> tuple[bytes, str]:
    """A request with binary data, and its header."""
    head = body_of(datatype, shape, parameters={"binary_data_size": len(data), **parameters})
    return head + data, str(len(head))


def inputs_of(request: V2Request, kind: InputType) -> list[Any]:
    """The inputs as a predict function gets them, one at a time."""
    unpacked = []
    for data, length in request.inputs:
        lengths = None if kind in FIXED_WIDTH else np.array([len(data)], np.uint32)
        unpacked.append(unpack_inputs(kind, 1, length, lengths, data)[0])
    return unpacked


def with_lengths(elements: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def outcome(kind: InputType, body: bytes, json_size: str | None) -> V2Request | str:
    """What comes of a body: a request, or why it is none."""
    try:
        return read_v2(kind, body, json_size)
    except TensorError as exc:
        return str(exc)


def refusal(kind: InputType, body: bytes, json_size: str | None = None) -> str:
    with pytest.raises(TensorError) as caught:
        read_v2(kind, body, json_size)
    return str(caught.value)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, NDArray[Any]]:
    """A tensor of any datatype of numbers, NaN and infinities too."""
    datatype = draw(st.sampled_from(list(NUMBERS)))
    return datatype, draw(hnp.arrays(NUMBERS[datatype], SHAPES))


# ---- numbers ---------------------------------------------------------------------------------------------------------


@QUICK
@given(tensor=tensors(), kind=st.sampled_from(NUMERIC))
def test_binary_numbers_arrive_as_numpy_converts_them_or_are_refused(
    tensor: tuple[str, NDArray[Any]], kind: InputType
) -> None:
    datatype, array = tensor
    body, size = binary_body_of(datatype, list(array.shape), array.tobytes())
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = array.astype(FIXED_WIDTH[kind])
    if kind is InputType.INTEGERS:
        fits = array.dtype.kind in "iu" and bool((wanted.astype(object) == array.astype(object)).all())
    else:
        fits = bool((np.isinf(wanted) == np.isinf(array)).all())

    if not fits:
        refusal(kind, body, size)
        return

    np.testing.assert_array_equal(np.array(inputs_of(read_v2(kind, body, size), kind)), wanted)


@QUICK
@given(tensor=tensors(), kind=st.sampled_from(NUMERIC), is_nested=st.booleans())
def test_numbers_in_json_are_those_in_binary(tensor: tuple[str, NDArray[Any]], kind: InputType, is_nested: bool) -> None:  # noqa: FBT001
    datatype, array = tensor
    if not np.isfinite(array.astype(np.float64)).all():
        return  # JSON has no such numbers
    binary, size = binary_body_of(datatype, list(array.shape), array.tobytes())
    in_json = body_of(datatype, list(array.shape), (array if is_nested else array.ravel()).tolist())

    assert outcome(kind, in_json, None) == outcome(kind, binary, size)


def test_a_vector_is_one_input() -> None:
    request = read_v2(InputType.DOUBLES, body_of("FP64", [3], [1, 2.5, -3]), None)

    assert request.inputs == [(struct.pack("<3d", 1, 2.5, -3), 3)]


def test_nan_and_infinities_come_in_binary_only() -> None:
    numbers = [math.nan, math.inf, -math.inf]
    body, size = binary_body_of("FP32", [1, 3], np.array(numbers, "<f4").tobytes())

    for kind in (InputType.DOUBLES, InputType.FLOATS):
        np.testing.assert_array_equal(inputs_of(read_v2(kind, body, size), kind)[0], numbers)
        assert "no FP32" in refusal(kind, body_of("FP32", [1, 1], ["NaN"]))
        assert "not of the protocol's form" in refusal(
            kind, b'{"inputs":[{"name":"a","datatype":"FP32","shape":[1],"data":[NaN]}]}'
        )


@pytest.mark.parametrize(
    ("datatype", "number"), [("UINT8", 256), ("UINT8", -1), ("INT64", 2**63), ("FP16", 1e6), ("FP32", 1e39)]
)
def test_a_number_must_fit_into_its_datatype(datatype: str, number: float) -> None:
    assert datatype in refusal(InputType.DOUBLES, body_of(datatype, [1, 1], [number]))


def test_numbers_must_fit_into_the_app_s_type() -> None:
    assert "beyond 32 bits" in refusal(InputType.INTEGERS, body_of("INT64", [1, 2], [1, 2**31]))
    assert "too large for a number of 32 bits" in refusal(InputType.FLOATS, body_of("FP64", [1, 2], [1, 1e39]))


# ---- texts and bytes -------------------------------------------------------------------------------------------------


@QUICK
@given(texts=TEXT_ELEMENTS, is_nested=st.booleans())
def test_texts_arrive_as_they_were_in_json_and_in_binary(texts: list[str], is_nested: bool) -> None:  # noqa: FBT001
    shape = [len(texts), 1] if is_nested else [len(texts)]
    in_json = body_of(TEXTS, shape, [[text] for text in texts] if is_nested else texts)
    binary, size = binary_body_of(TEXTS, shape, with_lengths([text.encode() for text in texts]))

    assert inputs_of(read_v2(InputType.STRINGS, in_json, None), InputType.STRINGS) == texts
    assert read_v2(InputType.STRINGS, binary, size) == read_v2(InputType.STRINGS, in_json, None)
    assert [data for data, _ in read_v2(InputType.BYTES, in_json, None).inputs] == [text.encode() for text in texts]


@QUICK
@given(elements=ELEMENTS)
def test_bytes_arrive_as_they_were_in_binary_and_in_base64(elements: list[bytes]) -> None:
    binary, size = binary_body_of(TEXTS, [len(elements)], with_lengths(elements))
    texts = [base64.b64encode(element).decode() for element in elements]
    in_base64 = body_of(TEXTS, [len(elements)], texts, parameters={"content_type": "base64"})

    assert read_v2(InputType.BYTES, binary, size).inputs == [(element, 0) for element in elements]
    assert read_v2(InputType.BYTES, in_base64, None).inputs == [(element, 0) for element in elements]


@pytest.mark.parametrize("datatype", ["UINT8", "INT8"])
def test_rows_of_bytes_are_inputs_of_an_app_of_bytes(datatype: str) -> None:
    array = np.arange(-3, 3, dtype=np.int8).reshape(2, 3).view(NUMBERS[datatype])
    binary, size = binary_body_of(datatype, [2, 3], array.tobytes())

    assert read_v2(InputType.BYTES, binary, size).inputs == [(b"\xfd\xfe\xff", 0), (b"\x00\x01\x02", 0)]
    assert read_v2(InputType.BYTES, body_of(datatype, [2, 3], array.tolist()), None) == read_v2(
        InputType.BYTES, binary, size
    )


# ---- what is refused -------------------------------------------------------------------------------------------------

FLAT = {"name": "a", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}


@pytest.mark.parametrize(
    ("request_", "because"),
    [
        ([], "protocol's form"),
        ({}, "`inputs`"),
        ({"inputs": []}, "0 input tensors"),
        ({"inputs": [FLAT, FLAT]}, "2 input tensors"),
        ({"inputs": [{**FLAT, "data": [1]}]}, "has 2 elements, and the data has 1"),
        ({"inputs": [{**FLAT, "data": [1, 2, 3]}]}, "has 2 elements, and the data has 3"),
        ({"inputs": [{**FLAT, "data": [[1], [2]]}]}, "has not the shape"),
        ({"inputs": [{**FLAT, "data": [[1, 2], 3]}]}, "data of input 'a' is no FP64"),
        ({"inputs": [{**FLAT, "data": [1, True]}]}, "is no FP64"),
        ({"inputs": [{**FLAT, "data": "1,2"}]}, "is no FP64"),
        ({"inputs": [{**FLAT, "data": None}]}, "neither data nor binary_data_size"),
        ({"inputs": [{**FLAT, "shape": [1, -2]}]}, "`$.inputs[0].shape[1]`"),
        ({"inputs": [{**FLAT, "shape": [1, 1, 2]}]}, "reshape the tensor"),
        ({"inputs": [{**FLAT, "shape": []}]}, "must be [count, length]"),
        ({"inputs": [{**FLAT, "shape": [0, 2], "data": []}]}, "holds 0 inputs"),
        ({"inputs": [{**FLAT, "shape": [MAX_BATCH_COUNT + 1, 0], "data": []}]}, f"1 to {MAX_BATCH_COUNT}"),
        ({"inputs": [{**FLAT, "shape": [1, 2**62], "data": []}]}, "is too long"),
        ({"inputs": [{**FLAT, "shape": [2, 0], "data": []}]}, "is 2 inputs without an element"),
        ({"inputs": [{**FLAT, "shape": [2**63, 1]}]}, "`$.inputs[0].shape[0]`"),
        ({"inputs": [{**FLAT, "datatype": "BF16"}]}, "takes doubles: FP64"),
        ({"inputs": [{**FLAT, "datatype": "BOOL"}]}, "takes doubles: FP64"),
        ({"inputs": [{**FLAT, "datatype": "BYTES"}]}, "takes doubles: FP64"),
        ({"inputs": [{**FLAT, "parameters": {"shared_memory_region": "r"}}]}, "shared memory"),
        ({"inputs": [{**FLAT, "parameters": {"binary_data_size": 16}}]}, "0 bytes follow the JSON"),
        ({"inputs": [{**FLAT, "parameters": {"binary_data_size": True}}]}, "binary_data_size is True"),
        ({"inputs": [FLAT], "outputs": [{"name": "other"}]}, "one output, 'output'"),
        ({"inputs": [FLAT], "outputs": [{"name": "output", "parameters": {"classification": 3}}]}, "classification"),
        ({"inputs": [FLAT], "outputs": [{"name": "output", "parameters": {"binary_data": "yes"}}]}, "must be true or false"),
        ({"inputs": [FLAT], "parameters": {"binary_data_output": 1}}, "must be true or false"),
        ({"inputs": [FLAT], "id": 7}, "`$.id`"),
    ],
)
def test_what_is_wrong_is_said(request_: object, because: str) -> None:
    assert because in refusal(InputType.DOUBLES, json.dumps(request_).encode())


@pytest.mark.parametrize(
    ("data", "because"),
    [
        (b"", "ends after 0 of 2 elements"),
        (b"\x01\0\0\0a", "ends after 1 of 2 elements"),
        (b"\x01\0\0\0a\xff\xff\xff\xff", "element 1 is to have 4294967295 bytes"),
        (b"\x01\0\0\0a\x00\0\0\0b", "goes on for 1 bytes"),
        (b"\x01\0\0\0a\x01\0\0\0\xff", "no UTF-8"),
    ],
)
def test_binary_texts_must_be_whole(data: bytes, because: str) -> None:
    body, size = binary_body_of(TEXTS, [2], data)

    assert because in refusal(InputType.STRINGS, body, size)


def test_binary_data_must_be_of_the_size_that_is_said() -> None:
    body, size = binary_body_of("FP64", [1, 1], bytes(8))

    assert "7 bytes follow" in refusal(InputType.DOUBLES, body[:-1], size)
    assert "has 1 elements, and the data has 2" in refusal(InputType.DOUBLES, *binary_body_of("FP64", [1, 1], bytes(16)))
    assert "no whole number of FP64" in refusal(InputType.DOUBLES, *binary_body_of("FP64", [1, 1], bytes(9)))
    assert "9 bytes follow the JSON, and no input says" in refusal(
        InputType.DOUBLES, body_of("FP64", [1, 1], [1]) + bytes(9), str(len(body_of("FP64", [1, 1], [1])))
    )
    assert "both data and" in refusal(
        InputType.DOUBLES, (both := body_of("FP64", [1], [1], parameters={"binary_data_size": 1})) + b"1", str(len(both))
    )


@pytest.mark.parametrize("header", ["", "-1", "1.5", "x", "+3", "\u0663", "9" * 5000, "1000"])
def test_the_header_must_be_a_size_within_the_body(header: str) -> None:
    assert "must be the size of the JSON" in refusal(InputType.DOUBLES, body_of("FP64", [1], [1]), header)


def test_base64_must_be_some() -> None:
    body = body_of(TEXTS, [1], ["not base64!"], parameters={"content_type": "base64"})

    assert "the content_type is base64" in refusal(InputType.BYTES, body)


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(list(InputType)),
    datatype=st.sampled_from([*NUMBERS, TEXTS, "BOOL", ""]),
    shape=st.lists(st.one_of(st.integers(-1, 4), st.sampled_from([2**31, 2**63 - 1, 2**64])), max_size=3),
    data=st.one_of(st.none(), st.recursive(st.one_of(st.floats(), st.integers(), st.text(max_size=3), st.none()), st.lists)),
    tail=st.binary(max_size=40),
    cut=st.integers(-40, 400),
    noise=st.binary(max_size=4),
)
def test_any_other_body_is_refused_in_words_and_nothing_else_happens(
    kind: InputType, datatype: str, shape: list[int], data: object, tail: bytes, cut: int, noise: bytes
) -> None:
    body = bytearray(body_of(datatype, shape, data, parameters={"binary_data_size": len(tail)}))
    body[cut:cut] = noise

    for header in (None, str(len(body))):
        found = outcome(kind, bytes(body) + tail, header)
        assert found if isinstance(found, str) else found.inputs
        assert isinstance(found, str) or datatype in TAKEN[kind] or noise
