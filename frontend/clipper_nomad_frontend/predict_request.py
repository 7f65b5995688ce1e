"""The body of a predict request → packed inputs. Pure.

One reader per input type, made once per app: msgspec decodes and checks in one step, struct packs. Only when that fails is
the body looked at again, to say what is wrong in Clipper's words. Source: docs/behaviour.md, "Requests".
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from clipper_nomad.protocol.datatypes import FIXED_WIDTH, InputType, decode_base64
from clipper_nomad.protocol.wire import MAX_BATCH_COUNT, MAX_FRAME_BYTES

NO_OBJECT = "JSON schema invalid"  # Clipper's whole cause for a body that is no JSON object
SCHEMA = '{\n   "input" := [double] | [int] | [string] | [byte] | [float],\n  }\n'
LARGEST_EXPLAINED = 64 * 1024  # a second look at 16 MiB would keep everybody else waiting for two seconds
_TOO_LARGE = "a number is too large for a float of 32 bits"
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
_PACKED_BY_STRUCT = 512  # longer inputs are packed by NumPy: quicker there, and no format per length is kept

Item = TypeVar("Item")
MALFORMED = (msgspec.DecodeError, UnicodeError, RecursionError)  # a ValidationError is a DecodeError too: it comes first


class RequestError(ValueError):
    """The body is no predict request; the message is the `cause` that the client gets."""

    def __init__(self, what: str, schema: str = SCHEMA) -> None:
        super().__init__(what if what == NO_OBJECT else f"Error parsing JSON: {what}. Expected JSON schema: \n  {schema}")


class _Body(msgspec.Struct, Generic[Item], gc=False):
    input: Item | UnsetType = UNSET
    input_batch: list[Item] | UnsetType = UNSET
    version: str | UnsetType = UNSET


class _OneInput(msgspec.Struct, Generic[Item], gc=False):
    input: Item
    version: str | UnsetType = UNSET


_Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
INPUTS: dict[InputType, Any] = {  # Any: types have no common static type
    InputType.DOUBLES: list[float],
    InputType.FLOATS: list[float],
    InputType.INTEGERS: list[_Int32],
    InputType.STRINGS: str,
    InputType.BYTES: str,
}


class PredictRequest:
    """Packed inputs with their item lengths; `is_batch` tells `input_batch` from `input`."""

    __slots__ = ("inputs", "is_batch", "version")

    def __init__(self, inputs: list[tuple[bytes, int]], version: str | None, *, is_batch: bool) -> None:
        self.inputs = inputs
        self.version = version
        self.is_batch = is_batch


class RequestReader:
    """Reads the predict requests of one input type."""

    __slots__ = ("_decode", "_decode_input", "_kind", "_pack")

    def __init__(self, kind: InputType) -> None:
        item: Any = INPUTS[kind]
        self._kind = kind
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(_Body[item]).decode
        self._decode_input: Callable[[bytes], Any] = msgspec.json.Decoder(_OneInput[item]).decode
        self._pack = packer(kind)

    def read(self, body: bytes) -> PredictRequest:
        """Return the inputs in `body`. `input` wins over `input_batch`. Raises: RequestError."""
        try:
            decoded = self._decode(body)
            version = None if decoded.version is UNSET else decoded.version
            if decoded.input is not UNSET:
                return PredictRequest([self._pack(decoded.input)], version, is_batch=False)
            if decoded.input_batch is not UNSET:
                if len(decoded.input_batch) > MAX_BATCH_COUNT:
                    raise RequestError(f"input_batch has {len(decoded.input_batch)} inputs; at most {MAX_BATCH_COUNT}")
                return PredictRequest([self._pack(item) for item in decoded.input_batch], version, is_batch=True)
        except msgspec.ValidationError as exc:
            if "$.input_batch" in str(exc) and (request := self._read_input(body)) is not None:  # the place, as a path
                return request
            raise RequestError(_reason(body, self._kind, str(exc))) from exc
        except MALFORMED as exc:
            raise RequestError(f"JSON parse error: {exc}") from exc
        except (OverflowError, struct.error) as exc:
            raise RequestError(_reason(body, self._kind, str(exc))) from exc
        except NotBase64 as exc:
            raise RequestError(str(exc)) from exc
        raise RequestError(_reason(body, self._kind, "JSON object does not have required keys input or input_batch"))

    def _read_input(self, body: bytes) -> PredictRequest | None:
        """Return the request without its `input_batch`, or None if that is no request either."""
        try:
            decoded = self._decode_input(body)
            version = None if decoded.version is UNSET else decoded.version
            return PredictRequest([self._pack(decoded.input)], version, is_batch=False)
        except (*MALFORMED, OverflowError, struct.error, NotBase64):
            return None


@lru_cache(maxsize=_PACKED_BY_STRUCT * len(FIXED_WIDTH))
def _struct(code: str, length: int) -> struct.Struct:
    return struct.Struct(f"<{length}{code}")


def packer(kind: InputType) -> Callable[[Any], tuple[bytes, int]]:
    """Return what packs one decoded input of this type. It raises struct.error, OverflowError, UnicodeError or NotBase64."""
    if kind is InputType.STRINGS:
        return lambda text: (text.encode(), 0)
    if kind is InputType.BYTES:
        return _unpack_base64
    dtype = FIXED_WIDTH[kind]
    code = {InputType.INTEGERS: "i", InputType.FLOATS: "f", InputType.DOUBLES: "d"}[kind]
    packers: dict[int, Callable[..., bytes]] = {}  # a plain dict: this is the hottest line of the parser

    def pack(numbers: list[float]) -> tuple[bytes, int]:
        length = len(numbers)
        packer = packers.get(length)
        if packer is None:
            if length > _PACKED_BY_STRUCT:
                return _pack_long(numbers, dtype), length
            packer = packers[length] = _struct(code, length).pack
        return packer(*numbers), length

    return pack


class NotBase64(ValueError):
    """A text is no base64; the message says so in Clipper's words."""


def _unpack_base64(text: str) -> tuple[bytes, int]:
    try:
        return decode_base64(text), 0
    except ValueError as exc:  # binascii.Error, and a plain one for characters beyond ASCII
        raise NotBase64(f"PredictionData of type String is not of type base64-encoded string: {exc}") from exc


def _pack_long(numbers: list[float], dtype: np.dtype[Any]) -> bytes:
    size = len(numbers) * dtype.itemsize
    if size > MAX_FRAME_BYTES:
        raise OverflowError(f"an input of {len(numbers)} numbers takes {size} bytes; at most {MAX_FRAME_BYTES} can be sent")
    array = np.array(numbers, np.float64)
    if dtype == np.float32 and array.size and np.abs(array).max() > _LARGEST_FLOAT:
        raise OverflowError(_TOO_LARGE)
    return array.astype(dtype).tobytes()


_TYPE_NAMES = {type(None): "Null", dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
_ITEM_NAMES = {
    InputType.DOUBLES: "double",
    InputType.FLOATS: "float",
    InputType.INTEGERS: "int",
    InputType.STRINGS: "string",
    InputType.BYTES: "base64-encoded string",
}


def type_name(value: object) -> str:
    """Return Clipper's name of a JSON value's type."""
    if isinstance(value, bool):
        return str(value)
    return _TYPE_NAMES.get(type(value), "Null")


def _reason(body: bytes, kind: InputType, reason: str) -> str:
    return explain(body, kind, reason) if len(body) <= LARGEST_EXPLAINED else reason


def explain(body: bytes, kind: InputType, reason: str) -> str:
    """Return what is wrong with `body`, in Clipper's words where it has some, else the decoder's `reason`."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return f"JSON parse error: {reason}"
    if not isinstance(value, dict):
        return NO_OBJECT
    if "input" not in value and "input_batch" not in value:
        return "JSON object does not have required keys input or input_batch"
    if "version" in value and not isinstance(value["version"], str):
        return mismatch("version", "String", value["version"])
    if "input" in value:
        return explain_input(value["input"], kind) or reason
    batch = value["input_batch"]
    if not isinstance(batch, list):
        return mismatch("input_batch", "Array", batch)
    return next(filter(None, (_explain_item(item, kind) for item in batch)), None) or reason


def mismatch(key: str, wanted: str, value: object) -> str:
    """Return Clipper's text for a key whose value is of another type. It lacks a blank there too."""
    return f"Type mismatch! JSON key {key} expected type {wanted}but found type {type_name(value)}"


def explain_input(value: object, kind: InputType) -> str | None:
    """Return what is wrong with the value of `input`, or None."""
    if kind is InputType.BYTES or isinstance(value, str if kind is InputType.STRINGS else list):
        return _explain_item(value, kind)
    return mismatch("input", "String" if kind is InputType.STRINGS else "Array", value)


def _explain_item(item: object, kind: InputType) -> str | None:
    """Return what is wrong with one input, or None."""
    name = _ITEM_NAMES[kind]
    match kind:
        case InputType.BYTES:
            return None if isinstance(item, str) else f"PredictionData of type {type_name(item)} is not of type {name}"
        case InputType.STRINGS:
            return None if isinstance(item, str) else f"Array input of type {type_name(item)} is not of type {name}"
    if not isinstance(item, list):
        return f"Array input of type {type_name(item)} is not of type array"
    numbers = int if kind is InputType.INTEGERS else (int, float)
    for number in item:
        if isinstance(number, bool) or not isinstance(number, numbers):
            return f"Array input of type {type_name(number)} is not of type {name}"
        if kind is InputType.FLOATS and abs(number) > _LARGEST_FLOAT:
            return _TOO_LARGE
    return None
