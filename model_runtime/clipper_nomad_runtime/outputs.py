"""What a predict function returned → the output block of a result. Pure; the frontend holds the inverse.

    returned, for each input             block          what a client gets
    int within 64 bits                   INT64          an integer            beyond: TEXT of its digits
    float                                FLOAT64        shortest form; NaN, Infinity, -Infinity as strings
    numpy float32, float16               FLOAT32, 16    shortest form of that width
    bool                                 BOOL           true, false
    str                                  TEXT           Clipper's rule: JSON if it parses, else a string
    list, tuple, array, dict of these    TEXT           JSON by the same rules
    anything else: None, bytes, objects  TEXT, empty    the error of that input; its batch mates are not harmed

Outputs of different kinds in one batch travel as TEXT, each as the JSON it would have been in its own block.
Source: docs/behaviour.md, "Outputs".
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipper_nomad.protocol.wire import OUTPUT_WIDTH, OutputType

# Any in this file: what a model returns is known only by looking at it.

_FLOAT64_BYTES = 8
_TEXT_BYTES_SHOWN = 40


@dataclass(frozen=True, slots=True)
class WrongOutput:
    """The output at `index` is none; `what` says what it is: "None", "a bytes"."""

    index: int
    what: str


@dataclass(frozen=True, slots=True)
class Outputs:
    """A result's output block; the place of each wrong output is empty."""

    type: OutputType
    lengths: NDArray[np.uint32] | None
    data: bytes
    wrong: tuple[WrongOutput, ...] = ()


class NotAnOutput(ValueError):
    """A value cannot be an output; the message says what it is."""


def pack_outputs(values: Sequence[Any] | NDArray[Any]) -> Outputs:
    """Return the block of `values`, the outputs of one batch in the order of its inputs."""
    if isinstance(values, np.ndarray):
        return _pack_array(values)
    kinds = set(map(type, values))
    block = _BLOCKS_OF_LISTS.get(kinds.pop()) if len(kinds) == 1 else None
    if block is None:
        return _pack_one_by_one(values)
    output_type, dtype = block
    if output_type is OutputType.TEXT:
        return _pack_texts(values)
    try:
        return Outputs(output_type, None, np.array(values, dtype).tobytes())
    except OverflowError:  # an integer beyond 64 bits
        return _pack_one_by_one(values)


def as_texts(outputs: Outputs) -> list[bytes]:
    """Return each output as a text, for RPC version 3, which has nothing else: numbers as in JSON, NaN as "NaN"."""
    if outputs.lengths is not None:
        ends = np.cumsum(outputs.lengths, dtype=np.int64).tolist()
        return [outputs.data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    numbers = np.frombuffer(outputs.data, OUTPUT_WIDTH[outputs.type])
    if outputs.type is OutputType.BOOL:
        return [b"true" if flag else b"false" for flag in numbers.tolist()]
    if outputs.type is not OutputType.INT64 and not np.isfinite(numbers).all():
        return [str(each).encode() if math.isfinite(each) else _name_of(each).encode() for each in numbers]
    return [str(each).encode() for each in numbers]  # str of a NumPy scalar is the shortest form of its width


_TEXT = (OutputType.TEXT, None)
_BLOCKS_OF_LISTS: dict[type, tuple[OutputType, Any]] = {
    float: (OutputType.FLOAT64, "<f8"),
    np.float64: (OutputType.FLOAT64, "<f8"),
    np.float32: (OutputType.FLOAT32, "<f4"),
    np.float16: (OutputType.FLOAT16, "<f2"),
    int: (OutputType.INT64, "<i8"),
    **dict.fromkeys((np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32), (OutputType.INT64, "<i8")),
    bool: (OutputType.BOOL, "?"),
    np.bool_: (OutputType.BOOL, "?"),
    str: _TEXT,
    np.str_: _TEXT,
}
_BLOCKS_OF_ARRAYS: dict[np.dtype[Any], OutputType] = {
    np.dtype("<f8"): OutputType.FLOAT64,
    np.dtype("<f4"): OutputType.FLOAT32,
    np.dtype("<f2"): OutputType.FLOAT16,
    np.dtype("<i8"): OutputType.INT64,
    np.dtype("?"): OutputType.BOOL,
}


def _pack_array(array: NDArray[Any]) -> Outputs:
    if _is_masked(array):
        return _pack_one_by_one(array)
    if array.ndim == 1:
        output_type = _BLOCKS_OF_ARRAYS.get(array.dtype)
        if output_type is not None:
            return Outputs(output_type, None, array.tobytes())
        if array.dtype.byteorder == ">":
            return _pack_array(array.astype(array.dtype.newbyteorder("<")))
        if _is_integer_within_64_bits(array):
            return Outputs(OutputType.INT64, None, array.astype("<i8").tobytes())
        if array.dtype.kind == "f":  # a long double
            return Outputs(OutputType.FLOAT64, None, array.astype("<f8").tobytes())
        if array.dtype.kind == "U":
            return _pack_texts(array.tolist())
    elif array.dtype.kind in "fiu" and array.dtype.itemsize == _FLOAT64_BYTES and np.isfinite(array).all():
        # Python writes a list of such numbers as JSON does.
        return _join([str(row).encode() for row in array.tolist()])
    return _pack_one_by_one(array)


def _is_masked(array: NDArray[Any]) -> bool:
    """Whether some places of the array may hold no value; its bytes then show made-up ones."""
    return type(array) is not np.ndarray and hasattr(array, "mask")


def _is_integer_within_64_bits(array: NDArray[Any]) -> bool:
    if array.dtype.kind == "i":
        return True
    return array.dtype.kind == "u" and (array.size == 0 or int(array.max()) < 2**63)


def _pack_texts(values: Sequence[str]) -> Outputs:
    try:
        return _join([text.encode() for text in values])
    except UnicodeEncodeError:
        return _pack_one_by_one(values)


def _pack_one_by_one(values: Iterable[Any]) -> Outputs:
    texts: list[bytes] = []
    wrong: list[WrongOutput] = []
    for index, value in enumerate(values):
        try:
            texts.append(_text(value))
        except NotAnOutput as exc:
            texts.append(b"")
            wrong.append(WrongOutput(index, str(exc)))
    return _join(texts, tuple(wrong))


def _join(texts: list[bytes], wrong: tuple[WrongOutput, ...] = ()) -> Outputs:
    lengths = np.fromiter(map(len, texts), np.uint32, len(texts))
    return Outputs(OutputType.TEXT, lengths, b"".join(texts), wrong)


def _text(value: object) -> bytes:
    """Return one output as it travels in a TEXT block. Raises: NotAnOutput."""
    try:
        if isinstance(value, str):
            return value.encode()
        if type(value) is list and _is_written_as_in_json(value):
            return str(value).encode()
        return _to_json(_plain(value)).encode()
    except UnicodeEncodeError as exc:
        raise NotAnOutput("a text that cannot be encoded: it holds half of a surrogate pair") from exc
    except RecursionError as exc:
        raise NotAnOutput("a value nested too deeply, or holding itself") from exc
    except ValueError as exc:
        if isinstance(exc, NotAnOutput):
            raise
        raise NotAnOutput(f"a value that cannot be written: {str(exc)[:200]}") from exc


def _is_written_as_in_json(values: list[Any]) -> bool:
    """Whether Python writes this list as JSON does: the common lists of plain numbers need no second look."""
    kinds = set(map(type, values))
    if kinds == {float}:
        return math.isfinite(sum(values))  # a sum that overflows only costs the second look
    return kinds == {int}


_to_json: Callable[[Any], str] = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode


_BOOLS, _INTEGERS, _LISTS, _ARRAYS = (bool, np.bool_), (int, np.integer), (list, tuple), (np.ndarray, np.floating)


def _plain(value: object) -> object:
    """Return `value` made of str, int, finite float, bool, list and dict only. Raises: NotAnOutput."""
    if isinstance(value, float):  # numpy's float64 is one
        return float(value) if math.isfinite(value) else _name_of(value)
    if isinstance(value, _BOOLS):
        return bool(value)
    if isinstance(value, _INTEGERS):
        return int(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, _LISTS):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_key(key): _plain(item) for key, item in value.items()}
    if not isinstance(value, _ARRAYS):
        value = _as_array(value)
    return _plain_array(np.asanyarray(value))


def _plain_array(array: NDArray[Any]) -> object:
    kind = array.dtype.kind
    if _is_masked(array):
        return _plain(array.tolist())  # where there is no value this list has None
    if kind == "f":
        if array.dtype.itemsize < _FLOAT64_BYTES:
            array = array.astype(np.str_)  # the shortest form of that width, which no double of the same value has
        array = array.astype(np.float64)
        if np.isfinite(array).all():
            return array.tolist()
    elif kind not in "biuUO":
        raise NotAnOutput(f"an array of {array.dtype}")
    elif kind in "biu":
        return array.tolist()
    return _plain(array.tolist())


def _as_array(value: object) -> NDArray[Any]:
    """Return a tensor, series or frame of another library as an array. Raises: NotAnOutput."""
    if value is None:
        raise NotAnOutput("None")
    # `np.generic`: numpy's own scalars that are no numbers, such as dates and bytes
    if not hasattr(type(value), "__array__") or isinstance(value, np.generic):
        raise NotAnOutput(f"a {type(value).__name__[:_TEXT_BYTES_SHOWN]}")
    try:
        array = np.asarray(value)
    except Exception as exc:  # the other library's code
        raise NotAnOutput(f"a {type(value).__name__[:_TEXT_BYTES_SHOWN]} that is no array: {exc!s:.200}") from exc
    if array.dtype.kind == "O" and array.ndim == 0:
        raise NotAnOutput(f"a {type(value).__name__[:_TEXT_BYTES_SHOWN]}")
    return array


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise NotAnOutput(f"a dict with a key that is a {type(key).__name__[:_TEXT_BYTES_SHOWN]}, not a text")
    return str(key)


def _name_of(value: float) -> str:
    """Return JSON's stand-in for a number that it does not have."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
