"""The body of a V2 inference request → packed inputs. Pure. Source: docs/behaviour.md, "V2".

JSON, and the binary tensor data extension: with `Inference-Header-Content-Length` the body is so much JSON, then the data
of the tensors that say `binary_data_size`. An app takes one tensor; its rows are the inputs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Raw
from numpy.typing import NDArray

from clipper_nomad.protocol.datatypes import FIXED_WIDTH, InputType, decode_base64
from clipper_nomad.protocol.wire import MAX_BATCH_COUNT, MAX_FRAME_BYTES
from clipper_nomad_frontend.v2_tensors import NUMBERS, TAKEN, TEXTS, TensorError, elements_of, numbers_of, packed_rows

INPUT, OUTPUT = "input", "output"  # names in an app's metadata; an input may have any
_NESTED = re.compile(rb"\s*\[\s*\[")
_NOT_SUPPORTED = {
    "shared_memory_region": "shared memory",
    "classification": "classification",
}  # extensions that would change what is meant; other parameters are ignored, as the protocol has it

Parameters = dict[str, Any]  # Any: the protocol leaves open what a parameter is
_Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class _Input(msgspec.Struct):
    name: str
    shape: list[_Size]
    datatype: str
    parameters: Parameters | None = None
    data: Raw = Raw()

    @property
    def has_data(self) -> bool:
        return bytes(memoryview(self.data)[:4]) not in (b"", b"null")


class _Output(msgspec.Struct):
    name: str
    parameters: Parameters | None = None


class _Body(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[_Output] | None = None


_decode_body = msgspec.json.Decoder(_Body).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class V2Request:
    """Packed inputs with their item lengths. `id`: the caller's, or "". `is_binary`: so the output is to be sent."""

    inputs: list[tuple[bytes, int]]
    id: str
    is_binary: bool


def read_v2(kind: InputType, body: bytes, json_size: str | None) -> V2Request:
    """Return what `body` asks of an app of this type. `json_size`: the header of the binary extension, if it came.

    Raises: TensorError: it is no inference request that the app takes.
    """
    split = _json_size(json_size, len(body))
    try:
        decoded = _decode_body(body[:split] if split < len(body) else body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise TensorError(f"the request is not of the protocol's form: {exc}") from exc
    if len(decoded.inputs) != 1:
        raise TensorError(
            f"the request has {len(decoded.inputs)} input tensors; an application takes one, whose rows are the inputs"
        )
    tensor = decoded.inputs[0]
    parameters = tensor.parameters or {}
    _refuse_extensions(parameters)
    binary = _binary_part(tensor, parameters, memoryview(body)[split:])
    count, length = _count_and_length(kind, tensor)
    if tensor.datatype == TEXTS:
        elements = _texts(tensor) if binary is None else elements_of(binary, count)
        if len(elements) != count:
            raise TensorError(f"the shape {tensor.shape} has {count} elements, and data has {len(elements)}")
        inputs = [(_as_input(element, kind, parameters), 0) for element in elements]
    else:
        array = _numbers(tensor) if binary is None else _numbers_in(binary, tensor.datatype)
        if array.size != count * length:
            raise TensorError(f"the shape {tensor.shape} has {count * length} elements, and the data has {array.size}")
        inputs = packed_rows(array.reshape(count, length), kind)
    return V2Request(inputs=inputs, id=decoded.id or "", is_binary=_wants_binary(decoded))


def _json_size(header: str | None, size: int) -> int:
    if header is None:
        return size
    if not (header.isascii() and header.isdigit() and len(header) <= len(str(size)) and int(header) <= size):
        raise TensorError(
            f"Inference-Header-Content-Length is {header[:40]!r}, and must be the size of the JSON: 0 to {size} bytes"
        )
    return int(header)


def _refuse_extensions(parameters: Parameters) -> None:
    for name, extension in _NOT_SUPPORTED.items():
        if name in parameters:
            raise TensorError(f"the parameter {name} belongs to the extension for {extension}, which is not supported here")


def _binary_part(tensor: _Input, parameters: Parameters, rest: memoryview) -> memoryview | None:
    """Return the binary data of the one tensor; None if its data is in the JSON."""
    size = parameters.get("binary_data_size")
    if size is None:
        if len(rest):
            raise TensorError(
                f"{len(rest)} bytes follow the JSON, and no input says binary_data_size; is "
                "Inference-Header-Content-Length right?"
            )
        if not tensor.has_data:
            raise TensorError(f"input '{tensor.name}' has neither data nor binary_data_size")
        return None
    if isinstance(size, bool) or not isinstance(size, int) or size != len(rest):
        raise TensorError(
            f"binary_data_size is {size!r}, and {len(rest)} bytes follow the JSON; Inference-Header-Content-Length must be "
            "the size of the JSON"
        )
    if tensor.has_data:
        raise TensorError(f"input '{tensor.name}' has both data and binary_data_size; send one of them")
    return rest


def _count_and_length(kind: InputType, tensor: _Input) -> tuple[int, int]:
    """Return how many inputs a tensor has, and how many elements each."""
    datatype, shape = tensor.datatype, tensor.shape
    if datatype not in TAKEN[kind]:
        taken = ", ".join(TAKEN[kind])
        raise TensorError(
            f"the datatype of input '{tensor.name}' is {datatype!r}; this application takes {kind.word}: {taken}"
        )
    if datatype == TEXTS:
        if len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
            raise TensorError(f"the shape {shape} of input '{tensor.name}' must be [count] or [count, 1]: one text each")
        count, length = shape[0], 1
    else:
        if len(shape) not in (1, 2):
            raise TensorError(
                f"the shape {shape} of input '{tensor.name}' must be [count, length], or [length] for one input: inputs are "
                "vectors; reshape the tensor"
            )
        count, length = (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])
    if not 1 <= count <= MAX_BATCH_COUNT:
        raise TensorError(f"input '{tensor.name}' holds {count} inputs; 1 to {MAX_BATCH_COUNT} are taken")
    if count > 1 and not length:  # a body of 80 bytes would ask for 65,536 predictions
        raise TensorError(f"the shape {shape} of input '{tensor.name}' is {count} inputs without an element")
    if kind in FIXED_WIDTH and length * FIXED_WIDTH[kind].itemsize > MAX_FRAME_BYTES:
        raise TensorError(f"an input of {length} numbers is too long; at most {MAX_FRAME_BYTES} bytes can be sent")
    return count, length


@cache
def _decoder(datatype: str, *, is_nested: bool) -> msgspec.json.Decoder[Any]:
    item: Any = str if datatype == TEXTS else float if NUMBERS[datatype].kind == "f" else int
    return msgspec.json.Decoder(list[list[item]] if is_nested else list[item])


def _elements(tensor: _Input) -> list[Any]:
    """Return the elements in the JSON: row by row, or in one list."""
    is_nested = _NESTED.match(tensor.data) is not None and len(tensor.shape) > 1
    try:
        found: list[Any] = _decoder(tensor.datatype, is_nested=is_nested).decode(tensor.data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise TensorError(f"data of input '{tensor.name}' is no {tensor.datatype}: {exc}") from exc
    if not is_nested:
        return found
    if len(found) != tensor.shape[0] or any(len(row) != tensor.shape[1] for row in found):
        raise TensorError(f"data of input '{tensor.name}' has not the shape {tensor.shape}")
    return [element for row in found for element in row]


def _texts(tensor: _Input) -> list[bytes]:
    return [text.encode() for text in _elements(tensor)]


def _numbers(tensor: _Input) -> NDArray[Any]:
    return numbers_of(_elements(tensor), tensor.datatype)


def _numbers_in(binary: memoryview, datatype: str) -> NDArray[Any]:
    dtype = NUMBERS[datatype]
    if len(binary) % dtype.itemsize:
        raise TensorError(f"{len(binary)} bytes of binary data are no whole number of {datatype}")
    return np.frombuffer(binary, dtype)


def _as_input(element: bytes, kind: InputType, parameters: Parameters) -> bytes:
    if kind is InputType.STRINGS:
        try:
            element.decode()
        except UnicodeDecodeError as exc:
            raise TensorError(f"an element is no UTF-8, and this application takes strings: {exc}") from exc
    elif parameters.get("content_type") == "base64":
        try:
            return decode_base64(element)
        except ValueError as exc:
            raise TensorError(f"the content_type is base64, and an element is none: {exc}") from exc
    return element


def _wants_binary(body: _Body) -> bool:
    """Return how the one output is to be sent; its own parameter comes before the request's."""
    wanted = (body.parameters or {}).get("binary_data_output")
    named = ("binary_data_output", wanted)
    for output in body.outputs or ():
        if output.name != OUTPUT:
            raise TensorError(f"output '{output.name}' is not there: an application has one output, '{OUTPUT}'")
        parameters = output.parameters or {}
        _refuse_extensions(parameters)
        if parameters.get("binary_data") is not None:
            named = ("binary_data", parameters["binary_data"])
    name, wanted = named
    if wanted is not None and not isinstance(wanted, bool):
        raise TensorError(f"the parameter {name} is {wanted!r}, and must be true or false")
    return bool(wanted)
