"""Tensors of the Open Inference Protocol V2: the elements of an input → packed inputs, outputs → a tensor. Pure.

An input is one row of a tensor. What an app takes and what it answers: docs/behaviour.md, "V2". Little-endian and
row-major, as the protocol has it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from clipper_nomad.protocol.datatypes import FIXED_WIDTH, InputType

NUMBERS: dict[str, np.dtype[Any]] = {
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
TEXTS = "BYTES"
_INTEGERS = tuple(name for name, dtype in NUMBERS.items() if dtype.kind in "iu")
TAKEN: dict[InputType, tuple[str, ...]] = {  # an app's own datatype first
    InputType.DOUBLES: ("FP64", *(name for name in NUMBERS if name != "FP64")),
    InputType.FLOATS: ("FP32", *(name for name in NUMBERS if name != "FP32")),
    InputType.INTEGERS: ("INT32", *(name for name in _INTEGERS if name != "INT32")),
    InputType.STRINGS: (TEXTS,),
    InputType.BYTES: (TEXTS, "UINT8", "INT8"),
}
NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})  # as outputs are written: docs/behaviour.md, "Outputs"
MOST_DIMENSIONS = 32  # NumPy 1 reads no more; deeper lists stay JSON
_LENGTH = struct.Struct("<I")
_encode = msgspec.json.Encoder().encode


class TensorError(ValueError):
    """A tensor that cannot be taken; the message is for the client."""


# ---- inputs ----------------------------------------------------------------------------------------------------------


def numbers_of(values: list[Any], datatype: str) -> NDArray[Any]:
    """Return JSON numbers as the datatype's array. Raises: TensorError: one does not fit into it."""
    dtype = NUMBERS[datatype]
    if dtype.kind == "f":
        return _narrowed(np.array(values, np.float64), dtype, datatype)
    bounds = np.iinfo(dtype)
    if values and (min(values) < bounds.min or max(values) > bounds.max):
        raise TensorError(f"a number of the input is no {datatype}: it is below {bounds.min} or above {bounds.max}")
    return np.array(values, dtype)


def packed_rows(array: NDArray[Any], kind: InputType) -> list[tuple[bytes, int]]:
    """Return each row of `array`, shape (count, length), as a packed input of this type.

    Raises: TensorError: a number does not fit into the type.
    """
    if kind is InputType.BYTES:
        return [(row.tobytes(), 0) for row in array]
    dtype = FIXED_WIDTH[kind]
    count, length = array.shape
    if kind is InputType.INTEGERS:
        bounds = np.iinfo(dtype)
        if array.size and (int(array.min()) < bounds.min or int(array.max()) > bounds.max):
            raise TensorError("a number of the input is beyond 32 bits, and this application takes integers of 32 bits")
        data = array.astype(dtype).tobytes()
    else:
        data = _narrowed(array, dtype, f"number of {8 * dtype.itemsize} bits").tobytes()
    size = length * dtype.itemsize
    return [(data[row * size : (row + 1) * size], length) for row in range(count)]


def _narrowed(array: NDArray[Any], dtype: np.dtype[Any], what: str) -> NDArray[Any]:
    """Return `array` as `dtype`, rounded; what is NaN or infinite stays so, what would become infinite is refused."""
    with np.errstate(over="ignore"):
        narrowed = array.astype(dtype)
    if array.dtype != dtype and bool(np.any(np.isinf(narrowed) & np.isfinite(array))):
        raise TensorError(f"a number of the input is too large for a {what}")
    return narrowed


def elements_of(data: memoryview, count: int) -> list[bytes]:
    """Return the elements of a BYTES tensor: each has its length before it. Raises: TensorError: they are not `count`."""
    elements: list[bytes] = []
    at = 0
    for _ in range(count):
        end = at + _LENGTH.size
        if end > len(data):
            raise TensorError(f"the binary data ends after {len(elements)} of {count} elements")
        (length,) = _LENGTH.unpack_from(data, at)
        at = end + length
        if at > len(data):
            raise TensorError(f"element {len(elements)} is to have {length} bytes, and the binary data ends before that")
        elements.append(bytes(data[end:at]))
    if at != len(data):
        raise TensorError(f"the binary data goes on for {len(data) - at} bytes after the last of {count} elements")
    return elements


# ---- outputs ---------------------------------------------------------------------------------------------------------


class Tensor(NamedTuple):
    """Outputs as a tensor: `flat` are its elements, as JSON has them. `is_json`: each element is a text in JSON."""

    datatype: str
    shape: list[int]
    flat: list[Any]
    is_json: bool = False

    def as_json(self) -> bytes:
        """Return the elements as a JSON list; NaN and infinities are texts."""
        return _encode(self.flat)

    def as_bytes(self) -> bytes:
        """Return the elements as binary data."""
        match self.datatype:
            case "BYTES":
                return b"".join(_with_lengths(self.flat))
            case "BOOL":
                return np.array(self.flat, np.bool_).tobytes()
            case "INT64":
                return np.array(self.flat, "<i8").tobytes()
            case _:
                return np.array([float(number) for number in self.flat], "<f8").tobytes()


def _with_lengths(texts: list[str]) -> Iterator[bytes]:
    for text in texts:
        data = text.encode()
        yield _LENGTH.pack(len(data))
        yield data


def tensor_of(outputs: list[bytes]) -> Tensor:
    """Return the tensor that outputs (JSON texts, at least one) make: a function of what /predict shows, and nothing else.

    All booleans → BOOL; integers of 64 bits → INT64; numbers, and the texts for NaN and infinities → FP64; texts → BYTES;
    lists of these, equally long, have a shape with more dimensions. Anything else → BYTES, each element in JSON.
    """
    try:
        shape, flat = _flattened([msgspec.json.decode(output) for output in outputs])
    except RecursionError:  # nested so deeply that it could just be written
        shape, flat = [], [None]
    datatype = _datatype(flat) if len(shape) <= MOST_DIMENSIONS else None
    if datatype is None:
        return Tensor(TEXTS, [len(outputs)], [output.decode() for output in outputs], is_json=True)
    return Tensor(datatype, shape, flat)


def _flattened(values: list[Any]) -> tuple[list[int], list[Any]]:
    shape = [len(values)]
    while values and len(shape) <= MOST_DIMENSIONS and all(type(value) is list for value in values):
        length = len(values[0])
        if any(len(value) != length for value in values):
            break
        shape.append(length)
        values = [item for value in values for item in value]
    return shape, values


def _datatype(flat: list[Any]) -> str | None:
    """Return the datatype that has all these values, exactly; None if there is none."""
    types = {type(value) for value in flat}
    if types == {bool}:
        return "BOOL"
    if types == {int}:
        return "INT64" if all(-(2**63) <= value < 2**63 for value in flat) else None
    if types <= {int, float, str} and all(_is_double(value) for value in flat):
        return "FP64"  # of no elements at all, too
    return TEXTS if types == {str} else None


def _is_double(value: float | str) -> bool:
    if isinstance(value, str):
        return value in NOT_FINITE
    try:
        return float(value) == value
    except OverflowError:
        return False
