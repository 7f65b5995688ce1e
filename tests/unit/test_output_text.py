"""Outputs become JSON by the rules of docs/behaviour.md: what a model returned, as a client reads it."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clipper_nomad.protocol.wire import OUTPUT_WIDTH, Header, MessageType, OutputType, Result
from clipper_nomad_frontend.output_text import output_texts, text_as_json
from clipper_nomad_runtime.outputs import pack_outputs

QUICK = settings(max_examples=30, deadline=None)


def result(kind: OutputType, data: bytes, count: int, lengths: list[int] | None = None) -> Result:
    header = Header(MessageType.RESULT, 0, count, 1, 1, 1)
    return Result(header, kind, 0, 0, None if lengths is None else np.array(lengths, np.uint32), data, ())


def texts_of(values: Sequence[object] | NDArray[Any]) -> list[bytes]:
    """The whole way: what a predict function returned → the runtime's block → JSON texts."""
    outputs = pack_outputs(values)
    assert not outputs.wrong
    lengths = None if outputs.lengths is None else outputs.lengths.tolist()
    return output_texts(result(outputs.type, outputs.data, len(values), lengths))


def read(text: bytes) -> object:
    """The value of a JSON text, read by another reader than the one that wrote it."""
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


# ---- texts: Clipper's rule


def clippers_rule(text: str) -> object:
    """The output string parsed as JSON if it parses, else the string itself."""
    try:
        value: object = json.loads(text, parse_constant=_no_constant)
        json.dumps(value).encode()
    except (ValueError, AssertionError, UnicodeEncodeError, RecursionError):
        return text
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("0.5", 0.5),
        ("-1.0", -1.0),
        ("[1,2]", [1, 2]),
        ('{"a": [true, null]}', {"a": [True, None]}),
        ("true", True),
        ("null", None),
        ('"quoted"', "quoted"),
        (" 7 ", 7),
        ("NaN", "NaN"),
        ("nan", "nan"),
        ("Infinity", "Infinity"),
        ("-Infinity", "-Infinity"),
        ("True", "True"),
        ("None", "None"),
        ("DEFAULT", "DEFAULT"),
        ("", ""),
        (" ", " "),
        ("1.", "1."),
        ("01", "01"),
        ("0x10", "0x10"),
        ("[1,]", "[1,]"),
        ("[1 2]", "[1 2]"),
        ('"open', '"open'),
        ('"new\nline"', '"new\nline"'),
        ('"\\ud800"', '"\\ud800"'),
        ("tru", "tru"),
        ("1 2", "1 2"),
        ("\ufeff1", "\ufeff1"),
        ("1e400", "1e400"),
        ("a\x00b", "a\x00b"),
        ("[" * 100_000, "[" * 100_000),
        ("9" * 5000, "9" * 5000),  # more digits than this Python reads
        (str(2**100), 2**100),
    ],
)
def test_a_text_is_json_if_it_parses_else_a_string(text: str, value: object) -> None:
    assert read(text_as_json(text.encode())) == value


@QUICK
@given(st.one_of(st.text(), st.text('[]{}",:0123456789.eE+-truefalsn \n\\', max_size=12)))
def test_any_text_follows_clippers_rule(text: str) -> None:
    value = clippers_rule(text)

    assert read(text_as_json(text.encode())) == value or _is_too_large(value)


def _is_too_large(value: object) -> bool:
    """A number that JSON can write and a double cannot hold stays a string, as in Clipper; Python's reader makes it inf."""
    return "inf" in repr(value)


@QUICK
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10))  # fmt: skip
def test_json_is_handed_on_as_it_is(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False).encode()

    assert text_as_json(text) == text


@QUICK
@given(st.binary(max_size=20))
def test_any_bytes_give_json_that_is_utf8(raw: bytes) -> None:
    text_as_json(raw).decode()
    read(text_as_json(raw))


def test_what_is_not_utf8_shows_where() -> None:
    assert read(text_as_json(b"a\xffb")) == "a\ufffdb"
    assert read(text_as_json(b'"a\xffb"')) == '"a\ufffdb"'


def test_texts_of_a_block_are_parted_by_their_lengths() -> None:
    assert output_texts(result(OutputType.TEXT, b'1abc"d"', 4, [1, 3, 0, 3])) == [b"1", b'"abc"', b'""', b'"d"']


# ---- numbers: shortest form of their width


NAMES = [b'"NaN"', b'"Infinity"', b'"-Infinity"']


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (OutputType.INT64, [0, -1, 2**63 - 1, -(2**63)], [b"0", b"-1", b"9223372036854775807", b"-9223372036854775808"]),
        (OutputType.FLOAT64, [0.1, 1.0, -0.0, 5e-324], [b"0.1", b"1.0", b"-0.0", b"5e-324"]),
        (OutputType.FLOAT32, [0.1, 1.0, 2.0**24], [b"0.1", b"1.0", b"1.6777216e+07"]),
        (OutputType.FLOAT16, [0.1, 65504.0], [b"0.1", b"6.55e+04"]),
        (OutputType.BOOL, [True, False], [b"true", b"false"]),
        (OutputType.FLOAT64, [1.5, math.nan, math.inf, -math.inf], [b"1.5", *NAMES]),
        (OutputType.FLOAT32, [math.nan, math.inf, -math.inf], NAMES),
    ],
)
def test_numbers_have_the_form_of_the_table(kind: OutputType, values: list[float], expected: list[bytes]) -> None:
    block = np.array(values, OUTPUT_WIDTH[kind]).tobytes()

    assert output_texts(result(kind, block, len(values))) == expected


@QUICK
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_integers_come_back_exactly(values: list[int]) -> None:
    texts = output_texts(result(OutputType.INT64, np.array(values, "<i8").tobytes(), len(values)))

    assert [int(text) for text in texts] == values


@QUICK
@given(st.lists(st.floats(), min_size=1))
def test_doubles_come_back_exactly_or_by_name(values: list[float]) -> None:
    texts = output_texts(result(OutputType.FLOAT64, np.array(values).tobytes(), len(values)))

    assert [read(text) for text in texts] == [named(value) for value in values]
    finite = [(text.decode(), repr(value)) for text, value in zip(texts, values, strict=True) if math.isfinite(value)]
    assert [digits(text) for text, _ in finite] == [digits(text) for _, text in finite]


def digits(number: str) -> str:
    """The digits that a number is written with, without the zeros that only say where its point is."""
    return number.partition("e")[0].replace(".", "").lstrip("-0").rstrip("0")


def named(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")


@QUICK
@given(st.lists(st.floats(width=32), min_size=1))
def test_floats_of_32_bits_have_the_shortest_form_that_is_theirs(values: list[float]) -> None:
    array = np.array(values, "<f4")

    texts = output_texts(result(OutputType.FLOAT32, array.tobytes(), len(values)))

    for text, number in zip(texts, array, strict=True):
        if np.isfinite(number):
            assert np.float32(text.decode()) == number
            assert len(text) <= len(str(number))
        else:
            assert read(text) == named(float(number))


# ---- the whole way, from what a model returned

FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.booleans() | st.integers() | FINITE | st.lists(st.integers() | FINITE, max_size=4)


@pytest.mark.parametrize(
    ("values", "read_as"),
    [
        ([1, 2], [1, 2]),
        ([1.5, 2.0], [1.5, 2.0]),
        ([True, False], [True, False]),
        ([True, 1, "x"], [True, 1, "x"]),
        ([2**70, -(2**70)], [2**70, -(2**70)]),
        ([math.nan, 1.0, math.inf], ["NaN", 1.0, "Infinity"]),
        ([[math.nan, -math.inf], [1.0]], [["NaN", "-Infinity"], [1.0]]),
        (["1", "[1,2]", "NaN", "True", ""], [1, [1, 2], "NaN", "True", ""]),
        ([np.float32(0.1), np.float64(0.1), np.float16(0.1)], [0.1, 0.1, 0.1]),
        ([np.float32(0.1), np.float32(0.3)], [0.1, 0.3]),
        (np.array([0.1, 0.3], np.float32), [0.1, 0.3]),
        (np.array([[0.1, 0.2], [1, 2]], np.float32), [[0.1, 0.2], [1.0, 2.0]]),
        (np.array([1, 2], np.uint8), [1, 2]),
        (np.array([2**64 - 1], np.uint64), [2**64 - 1]),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(["a", "1"]), ["a", 1]),
        ([{"label": "cat", "p": 0.5}, {"label": "dog", "p": 1}], [{"label": "cat", "p": 0.5}, {"label": "dog", "p": 1}]),
        ([(1, 2), []], [[1, 2], []]),
    ],
)
def test_what_a_model_returns_is_what_a_client_reads(values: Sequence[object], read_as: list[object]) -> None:
    assert [read(text) for text in texts_of(values)] == read_as


@QUICK
@given(st.lists(PLAIN, min_size=1, max_size=8))
def test_plain_values_come_back_as_they_were(values: list[object]) -> None:
    texts = texts_of(values)

    assert [read(text) for text in texts] == values
    assert [type(read(text)) for text in texts] == [type(value) for value in values]


@QUICK
@given(st.lists(st.text(), min_size=1, max_size=8))
def test_texts_come_back_by_clippers_rule(values: list[str]) -> None:
    for text, value in zip(texts_of(values), values, strict=True):
        wanted = clippers_rule(value)

        assert read(text) == wanted or _is_too_large(wanted)


@QUICK
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_floats_of_32_bits_read_as_in_clipper(values: list[float]) -> None:
    """Clipper sent `str()` of the number."""
    array = [struct.unpack("f", struct.pack("f", value))[0] for value in values]

    texts = texts_of([np.float32(value) for value in array])

    assert [read(text) for text in texts] == [float(str(np.float32(value))) for value in array]
