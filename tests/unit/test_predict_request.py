"""Bodies of predict requests, as far as tests/process/test_predict_bodies.py cannot try them quickly."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipper_nomad.protocol.datatypes import FIXED_WIDTH, InputType, unpack_inputs
from clipper_nomad_frontend import feedback_request, predict_request
from clipper_nomad_frontend.feedback_request import read_feedback
from clipper_nomad_frontend.predict_request import NO_OBJECT, RequestError, RequestReader

NUMBERS = 1000  # more than struct packs


@pytest.mark.parametrize(("kind", "width"), [(InputType.DOUBLES, 8), (InputType.FLOATS, 4), (InputType.INTEGERS, 4)])
def test_an_input_too_large_for_a_frame_is_refused_before_a_replica_gets_it(
    monkeypatch: pytest.MonkeyPatch, kind: InputType, width: int
) -> None:
    """Two bytes of JSON are eight of a double, so a body within its limit can be a frame beyond the channel's."""
    monkeypatch.setattr(predict_request, "MAX_FRAME_BYTES", width * NUMBERS)
    reader = RequestReader(kind)

    assert len(reader.read(json.dumps({"input": [1] * NUMBERS}).encode()).inputs[0][0]) == width * NUMBERS
    with pytest.raises(RequestError, match=f"{NUMBERS + 1} numbers takes {width * (NUMBERS + 1)} bytes"):
        reader.read(json.dumps({"input": [1] * (NUMBERS + 1)}).encode())


def test_a_large_body_is_not_looked_at_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second look at 16 MiB kept every other client waiting for two seconds."""

    def never(*_: object) -> str:
        raise AssertionError("looked at again")

    monkeypatch.setattr(predict_request, "explain", never)

    with pytest.raises(RequestError, match="null"):
        RequestReader(InputType.DOUBLES).read(b'{"input": [' + b"1," * 50_000 + b"null]}")


def test_large_feedback_is_not_looked_at_twice_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> str:
        raise AssertionError("looked at again")

    monkeypatch.setattr(feedback_request, "explain_input", never)

    with pytest.raises(RequestError, match="null"):
        read_feedback(InputType.DOUBLES, b'{"uid": 0, "label": 1, "input": [' + b"1," * 50_000 + b"null]}")


@pytest.mark.parametrize("size", [1, 2 * predict_request.LARGEST_EXPLAINED])
def test_a_body_that_is_no_json_is_said_to_be_none_however_large(size: int) -> None:
    for body in (b'{"input": [NaN]}', b'{"input": [1.0', b'{"x": ' + b"[" * 100_000):
        with pytest.raises(RequestError, match="Error parsing JSON: JSON parse error: "):
            RequestReader(InputType.DOUBLES).read(b" " * size + body)


# ---- JSON → bytes → what a function gets, and back -------------------------------------------------------------------

INT32 = st.integers(-(2**31), 2**31 - 1)
FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
DOUBLE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text()  # without surrogates, as JSON's texts are
INPUTS: dict[InputType, st.SearchStrategy[Any]] = {
    InputType.DOUBLES: st.lists(DOUBLE | st.integers(-(2**53), 2**53), max_size=600),
    InputType.FLOATS: st.lists(FLOAT32, max_size=600),
    InputType.INTEGERS: st.lists(INT32, max_size=600),
    InputType.STRINGS: TEXT,
    InputType.BYTES: st.binary(),
}
KINDS = st.sampled_from(list(INPUTS))


def as_json(kind: InputType, value: Any) -> Any:  # noqa: ANN401  # JSON
    return base64.b64encode(value).decode() if kind is InputType.BYTES else value


def as_a_function_gets_it(kind: InputType, packed: list[tuple[bytes, int]]) -> list[Any]:
    data = b"".join(each for each, _ in packed)
    lengths = np.array([len(each) for each, _ in packed], np.uint32)
    array = unpack_inputs(kind, len(packed), packed[0][1], None if kind in FIXED_WIDTH else lengths, data)
    return [each.astype(np.int8).tobytes() for each in array] if kind is InputType.BYTES else array.tolist()


@given(data=st.data(), kind=KINDS, ascii_only=st.booleans())
def test_an_input_arrives_as_it_was_sent(data: st.DataObject, kind: InputType, *, ascii_only: bool) -> None:
    value = data.draw(INPUTS[kind])
    body = json.dumps({"input": as_json(kind, value)}, ensure_ascii=ascii_only).encode()

    request = RequestReader(kind).read(body)

    assert (request.is_batch, request.version) == (False, None)
    assert as_a_function_gets_it(kind, request.inputs) == [value]


@given(data=st.data(), kind=KINDS, version=st.none() | TEXT)
def test_a_batch_arrives_in_order(data: st.DataObject, kind: InputType, version: str | None) -> None:
    batch = data.draw(st.lists(INPUTS[kind], max_size=5))
    more = {} if version is None else {"version": version}
    body = json.dumps({"input_batch": [as_json(kind, each) for each in batch], **more}).encode()

    request = RequestReader(kind).read(body)

    assert (request.is_batch, request.version) == (True, version)
    assert [as_a_function_gets_it(kind, [each])[0] for each in request.inputs] == batch


@given(value=st.binary(min_size=1))
def test_the_padding_of_base64_may_be_left_out(value: bytes) -> None:
    text = base64.b64encode(value).decode().rstrip("=")

    assert RequestReader(InputType.BYTES).read(json.dumps({"input": text}).encode()).inputs == [(value, 0)]


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
REQUEST_LIKE = st.dictionaries(st.sampled_from(["input", "input_batch", "version", "uid", "label", "x"]), ANY_JSON)
BODIES = st.binary() | (REQUEST_LIKE | ANY_JSON).map(lambda value: json.dumps(value).encode())


def check_reason(exc: RequestError) -> None:
    assert str(exc) == NO_OBJECT or str(exc).startswith("Error parsing JSON: ")


@given(body=BODIES, kind=KINDS)
def test_any_body_is_a_request_or_is_refused_with_a_reason(body: bytes, kind: InputType) -> None:
    try:
        request = RequestReader(kind).read(body)
    except RequestError as exc:
        check_reason(exc)
        return
    read = json.loads(body)
    expected = [read["input"]] if "input" in read else read["input_batch"]
    assert len(request.inputs) == len(expected)


@given(body=BODIES, kind=KINDS)
def test_any_body_is_feedback_or_is_refused_with_a_reason(body: bytes, kind: InputType) -> None:
    try:
        said = read_feedback(kind, body)
    except RequestError as exc:
        check_reason(exc)
        return
    read = json.loads(body)
    assert (said.uid, said.label) == (read["uid"], read["label"])
    assert json.loads(said.input) == read["input"]


@given(data=st.data(), kind=KINDS, uid=st.integers(-(2**63), 2**63 - 1), label=DOUBLE)
def test_feedback_arrives_as_it_was_sent(data: st.DataObject, kind: InputType, uid: int, label: float) -> None:
    value = as_json(kind, data.draw(INPUTS[kind]))

    said = read_feedback(kind, json.dumps({"uid": uid, "input": value, "label": label}).encode())

    assert (said.uid, said.label) == (uid, label)
    assert said.input == "" or json.loads(said.input) == value
    assert len(said.input_sha256) == 64
