"""The five input types: their words, and a batch of each as the array that a predict function takes."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipper_nomad.protocol.datatypes import FIXED_WIDTH, InputType, decode_base64, input_type, unpack_inputs
from clipper_nomad.protocol.wire import WireError

CLIPPERS_WORDS = {
    InputType.BYTES: "bytes byte b",
    InputType.INTEGERS: "integers ints integer int i",
    InputType.FLOATS: "floats float f",
    InputType.DOUBLES: "doubles double d",
    InputType.STRINGS: "strings string str strs s",
}


@pytest.mark.parametrize(("kind", "words"), CLIPPERS_WORDS.items())
def test_every_word_of_clipper_is_understood(kind: InputType, words: str) -> None:
    assert {input_type(word) for word in words.split()} == {kind}
    assert input_type(kind.word) is kind


@pytest.mark.parametrize("word", ["", "Doubles", "complex", "doubles "])
def test_another_word_is_refused_with_those_that_would_do(word: str) -> None:
    with pytest.raises(ValueError, match="expected one of bytes, integers, floats, doubles, strings"):
        input_type(word)


@given(data=st.binary(max_size=9), as_text=st.booleans())
def test_base64_may_come_without_its_padding(data: bytes, *, as_text: bool) -> None:
    text = base64.b64encode(data)

    for each in (text, text.rstrip(b"=")):
        assert decode_base64(each.decode() if as_text else each) == data


@pytest.mark.parametrize("text", ["A", "A===", "no base64!", "aGk=aGk=", "YQ-_", "ä", b"\xff\xff\xff\xff"])
def test_what_is_no_base64_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"base64|padding|data|ASCII"):
        decode_base64(text)


def test_only_numbers_have_a_fixed_width() -> None:
    assert [kind for kind in InputType if kind.is_fixed_width] == list(FIXED_WIDTH)


@given(
    kind=st.sampled_from(sorted(FIXED_WIDTH)),
    rows=st.integers(0, 4).flatmap(
        lambda length: st.lists(st.lists(st.integers(-1000, 1000), min_size=length, max_size=length), min_size=1, max_size=5)
    ),
)
def test_numbers_are_rows_of_an_array_that_may_be_written_to(kind: InputType, rows: list[list[int]]) -> None:
    sent = np.array(rows, FIXED_WIDTH[kind])

    inputs = unpack_inputs(kind, len(rows), len(rows[0]), None, sent.tobytes())

    assert inputs.dtype == FIXED_WIDTH[kind]
    assert inputs.shape == (len(rows), len(rows[0]))
    assert inputs.tolist() == sent.tolist()
    assert inputs.flags.writeable


def lengths_of(items: list[bytes]) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return np.array([len(item) for item in items], np.uint32)


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), min_size=1, max_size=6))
def test_strings_are_texts(texts: list[str]) -> None:
    items = [text.encode() for text in texts]

    inputs = unpack_inputs(InputType.STRINGS, len(items), 0, lengths_of(items), b"".join(items))

    assert inputs.shape == (len(texts),)
    assert inputs.tolist() == texts


@given(length=st.integers(0, 6), count=st.integers(1, 4), data=st.data())
def test_bytes_of_one_length_are_rows_of_int8_as_in_clipper(length: int, count: int, data: st.DataObject) -> None:
    items = data.draw(st.lists(st.binary(min_size=length, max_size=length), min_size=count, max_size=count))

    inputs = unpack_inputs(InputType.BYTES, count, 0, lengths_of(items), b"".join(items))

    assert (inputs.dtype, inputs.shape) == (np.dtype(np.int8), (count, length))
    assert [row.tobytes() for row in inputs] == items
    assert inputs.flags.writeable


@given(items=st.lists(st.binary(max_size=6), min_size=2, max_size=6).filter(lambda items: len({*map(len, items)}) > 1))
def test_bytes_of_several_lengths_are_an_array_of_arrays_as_in_clipper(items: list[bytes]) -> None:
    inputs = unpack_inputs(InputType.BYTES, len(items), 0, lengths_of(items), b"".join(items))

    assert (inputs.dtype, inputs.shape) == (np.dtype(object), (len(items),))
    assert [row.tobytes() for row in inputs] == items
    assert {row.dtype for row in inputs} == {np.dtype(np.int8)}


def test_a_string_that_is_not_utf_8_breaks_the_protocol() -> None:
    with pytest.raises(WireError, match="not UTF-8"):
        unpack_inputs(InputType.STRINGS, 2, 0, lengths_of([b"ok", b"\xff"]), b"ok\xff")


def test_strings_without_lengths_break_the_protocol() -> None:
    with pytest.raises(WireError, match="without lengths"):
        unpack_inputs(InputType.STRINGS, 1, 0, None, b"x")
