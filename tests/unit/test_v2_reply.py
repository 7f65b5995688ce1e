"""Outputs become a tensor that says the same, in JSON and in binary; answers become V2's replies."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipper_nomad_frontend import answers
from clipper_nomad_frontend.answers import Answer
from clipper_nomad_frontend.v2_reply import v2_reply
from clipper_nomad_frontend.v2_request import V2Request
from clipper_nomad_frontend.v2_tensors import MOST_DIMENSIONS, Tensor, tensor_of

QUICK = settings(max_examples=60, deadline=None)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["NaN", "Infinity", "-Infinity"]),
    TEXTS,
    st.none(),
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=2))
)
DTYPES = {"BOOL": "?", "INT64": "<i8", "FP64": "<f8"}


def tensor(*outputs: object) -> Tensor:
    return tensor_of([json.dumps(output).encode() for output in outputs])


def nested(flat: list[Any], shape: list[int]) -> Any:  # noqa: ANN401  # lists of lists
    """The elements in the shape: a client's work, done here by hand."""
    if len(shape) == 1:
        return flat
    size = math.prod(shape[1:])
    return [nested(flat[row * size : (row + 1) * size], shape[1:]) for row in range(shape[0])]


def read_binary(datatype: str, data: bytes) -> list[Any]:
    """The elements of binary data, read as the protocol's extension has it."""
    if datatype != "BYTES":
        return list(np.frombuffer(data, DTYPES[datatype]).tolist())
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return found


def same(left: object, right: object) -> bool:
    """Whether two values are the same; True is not 1, and the texts for what is not finite are such numbers."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, str) and isinstance(right, float):
        return left == {math.inf: "Infinity", -math.inf: "-Infinity"}.get(right, "NaN" if right != right else "")  # noqa: PLR0124
    return left == right


@settings(max_examples=300, deadline=None)
@given(outputs=st.one_of(st.lists(ANYTHING, min_size=1, max_size=5), st.lists(SCALARS, min_size=1, max_size=5)))
def test_a_tensor_says_what_the_outputs_say_in_json_and_in_binary(outputs: list[Any]) -> None:
    made = tensor(*outputs)

    in_json = json.loads(made.as_json(), parse_constant=pytest.fail)
    in_binary = read_binary(made.datatype, made.as_bytes())
    assert len(in_json) == len(in_binary) == math.prod(made.shape)
    if made.is_json:
        assert (made.datatype, made.shape, in_json) == ("BYTES", [len(outputs)], in_binary)
        assert same([json.loads(text) for text in in_json], outputs)
    else:
        assert same(nested(in_json, made.shape), outputs)
        assert same(outputs, nested(in_binary, made.shape))


@QUICK
@given(
    rows=st.integers(1, 4).flatmap(
        lambda length: st.lists(st.lists(st.floats(width=32), min_size=length, max_size=length), min_size=1, max_size=4)
    )
)
def test_vectors_of_one_length_are_a_matrix(rows: list[list[float]]) -> None:
    texts = {math.inf: "Infinity", -math.inf: "-Infinity"}
    written = [[number if math.isfinite(number) else texts.get(number, "NaN") for number in row] for row in rows]
    made = tensor(*written)

    assert (made.datatype, made.shape) == ("FP64", [len(rows), len(rows[0])])
    np.testing.assert_array_equal(np.frombuffer(made.as_bytes(), "<f8").reshape(made.shape), rows)


@pytest.mark.parametrize(
    ("outputs", "datatype", "shape"),
    [
        ([1.5, 2.5], "FP64", [2]),
        ([1, 2], "INT64", [2]),
        ([2**63 - 1, -(2**63)], "INT64", [2]),
        ([1, 2.5], "FP64", [2]),
        ([1.5, "NaN"], "FP64", [2]),
        (["NaN"], "FP64", [1]),
        ([True, False], "BOOL", [2]),
        (["a", ""], "BYTES", [2]),
        ([[1, 2], [3, 4]], "INT64", [2, 2]),
        ([[[True]]], "BOOL", [1, 1, 1]),
        ([[], []], "FP64", [2, 0]),
        ([["a", "b"]], "BYTES", [1, 2]),
    ],
)
def test_outputs_have_the_datatype_that_holds_them(outputs: list[Any], datatype: str, shape: list[int]) -> None:
    made = tensor(*outputs)

    assert (made.datatype, made.shape, made.is_json) == (datatype, shape, False)


DEEP: Any = 1.0
for _ in range(MOST_DIMENSIONS + 2):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "outputs",
    [
        [2**63],
        [2**63 + 1, 1.5],
        [2**53 + 1, 0.5],
        [None],
        [{"a": 1}],
        [[1], [2, 3]],
        [True, 1],
        ["a", 1.5],
        [1.5, [1.5]],
        [DEEP],
    ],
)
def test_what_no_datatype_holds_is_json(outputs: list[Any]) -> None:
    made = tensor(*outputs)

    assert made.is_json
    assert [json.loads(text) for text in made.flat] == outputs


def test_what_is_nested_too_deeply_to_be_read_is_json() -> None:
    deep = b"[" * 5000 + b"]" * 5000

    assert tensor_of([deep]) == Tensor("BYTES", [1], [deep.decode()], is_json=True)


# ---- replies ---------------------------------------------------------------------------------------------------------

HEADERS = b"X-Clipper-Model: m:7\r\nX-Clipper-Replica: r-0\r\n"


def reply_to(*parts: Answer, id_: str = "", is_binary: bool = False) -> Any:  # noqa: ANN401  # a reply with its JSON
    return v2_reply("a", V2Request(inputs=[], id=id_, is_binary=is_binary), "made-up", list(parts))


def answered(output: bytes, *, headers: bytes = HEADERS, is_late: bool = False) -> Answer:
    return answers.prediction(3, output, headers, is_late=is_late)


def test_predictions_are_one_tensor_with_who_computed_it() -> None:
    reply = reply_to(answered(b"1.5"), answered(b"2.5"), id_="mine")

    assert (reply.status, reply.content_type) == (200, "application/json")
    assert json.loads(reply.body) == {
        "model_name": "a",
        "model_version": "7",
        "id": "mine",
        "outputs": [{"name": "output", "datatype": "FP64", "shape": [2], "data": [1.5, 2.5]}],
    }
    assert reply.headers == {"X-Clipper-Model": "m:7", "X-Clipper-Replica": "r-0"}


def test_a_request_without_an_id_gets_the_one_that_was_made() -> None:
    assert json.loads(reply_to(answered(b"1")).body)["id"] == "made-up"


def test_a_binary_output_follows_the_json() -> None:
    reply = reply_to(answered(b"1.5"), is_binary=True)

    size = int(reply.headers["Inference-Header-Content-Length"])
    assert reply.content_type == "application/octet-stream"
    assert json.loads(reply.body[:size])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert reply.body[size:] == struct.pack("<d", 1.5)


def test_what_two_versions_or_replicas_computed_names_neither() -> None:
    other = HEADERS.replace(b"m:7", b"m:8").replace(b"r-0", b"r-1")
    reply = reply_to(answered(b"1"), answered(b"2", headers=other))

    assert "model_version" not in json.loads(reply.body)
    assert reply.headers == {}


def test_defaults_and_late_outputs_are_marked() -> None:
    default = answers.default(4, b"-1.0", answers.MISSED_SLO)
    some = json.loads(reply_to(answered(b"1.5"), default).body)
    all_ = reply_to(default, default)
    late = reply_to(answered(b"1.5", is_late=True), answered(b"2.5"))

    assert some["outputs"][0]["data"] == [1.5, -1.0]
    assert some["parameters"] == {"default": True, "default_rows": "1", "default_explanation": answers.MISSED_SLO}
    assert json.loads(all_.body)["parameters"] == {"default": True, "default_explanation": answers.MISSED_SLO}
    assert all_.headers == {"X-Clipper-SLO": "missed"}
    assert json.loads(late.body)["parameters"] == {"late": True}
    assert late.headers["X-Clipper-SLO"] == "missed"


def test_one_failed_row_fails_the_request_with_the_highest_status() -> None:
    full = answers.queue_full("m:7", "is full", 3)
    gone = answers.refused(503, "No connected models", "none", retry_after_s=1)
    reply = reply_to(answered(b"1.5"), full, gone)

    assert reply.status == 503
    assert json.loads(reply.body) == {"error": "input 2 of 3: No connected models: none"}
    assert reply.headers == {"Retry-After": "1"}


def test_what_all_rows_share_is_said_once() -> None:
    missing = answers.no_such_version("m", "9")

    assert json.loads(reply_to(missing, missing).body) == {"error": f"Query processing error: {missing.cause}"}
