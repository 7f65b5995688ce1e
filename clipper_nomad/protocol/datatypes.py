"""The five input types of Clipper, and how a batch of inputs lies in memory.

Fixed-width inputs (integers, floats, doubles) of one batch share a length and travel as one contiguous block.
Inputs of variable width (bytes, strings) travel as lengths and one run of bytes. The frontend packs, the model runtime
unpacks; wire.py only frames what is made here.
"""

from __future__ import annotations

import base64
import enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipper_nomad.protocol.wire import WireError


class InputType(enum.IntEnum):
    """Clipper's input types, with the numbers of its RPC version 3."""

    BYTES = 0
    INTEGERS = 1
    FLOATS = 2
    DOUBLES = 3
    STRINGS = 4

    @property
    def word(self) -> str:
        """The canonical word, as in replies of the REST API."""
        return self.name.lower()

    @property
    def is_fixed_width(self) -> bool:
        """Whether an input is a vector of numbers, so that inputs of one length make one block."""
        return self in FIXED_WIDTH


FIXED_WIDTH: dict[InputType, np.dtype[Any]] = {
    InputType.INTEGERS: np.dtype("<i4"),
    InputType.FLOATS: np.dtype("<f4"),
    InputType.DOUBLES: np.dtype("<f8"),
}

INPUT_TYPE_WORDS: dict[str, InputType] = {  # every word that Clipper takes
    word: kind
    for kind, words in {
        InputType.BYTES: ("bytes", "byte", "b"),
        InputType.INTEGERS: ("integers", "ints", "integer", "int", "i"),
        InputType.FLOATS: ("floats", "float", "f"),
        InputType.DOUBLES: ("doubles", "double", "d"),
        InputType.STRINGS: ("strings", "string", "str", "strs", "s"),
    }.items()
    for word in words
}


def input_type(word: str) -> InputType:
    """Return the input type that `word` names, by Clipper's list of accepted words.

    Raises: ValueError: the word is none of them; the message lists the canonical ones.
    """
    try:
        return INPUT_TYPE_WORDS[word]
    except KeyError:
        known = ", ".join(kind.word for kind in InputType)
        raise ValueError(f"unknown input type {word!r}; expected one of {known}") from None


def decode_base64(text: str | bytes) -> bytes:
    """Return the bytes that a text in base64 stands for; its padding may be left out, as in Clipper.

    Raises: ValueError: it is none.
    """
    missing = -len(text) % 4
    if missing:
        text = text + "=" * missing if isinstance(text, str) else text + b"=" * missing
    return base64.b64decode(text, validate=True)


def unpack_inputs(
    kind: InputType, count: int, item_length: int, lengths: NDArray[np.uint32] | None, data: bytes | memoryview
) -> NDArray[Any]:
    """Return the `count` inputs of a batch as the array a predict function takes.

    Fixed width: shape (count, item_length), writable. Strings: shape (count,), objects, `str`. Bytes: `int8`, shape
    (count, length) if all inputs are equally long, else (count,) of one-dimensional arrays, as in Clipper.
    Raises: WireError: a string is not UTF-8.
    """
    if kind in FIXED_WIDTH:
        return np.frombuffer(data, FIXED_WIDTH[kind]).reshape(count, item_length).copy()
    if lengths is None:
        raise WireError(f"a batch of {kind.word} came without lengths")
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    starts = [0, *ends[:-1]]
    if kind is InputType.STRINGS:
        view = bytes(data)
        try:
            texts = [view[start:end].decode() for start, end in zip(starts, ends, strict=True)]
        except UnicodeDecodeError as exc:
            raise WireError(f"an input string is not UTF-8: {exc}") from exc
        strings = np.empty(count, dtype=object)
        strings[:] = texts
        return strings
    flat = np.frombuffer(data, np.int8).copy()
    if count and (lengths == lengths[0]).all():
        return flat.reshape(count, int(lengths[0]))
    ragged = np.empty(count, dtype=object)
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        ragged[index] = flat[start:end]
    return ragged
