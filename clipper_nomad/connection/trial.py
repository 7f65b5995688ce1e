"""A function called here on a query, as a replica would call it: what `ClipperConnection.test_predict_function` does.

The function goes through the pickle that a deploy makes of it, and gets the array that a replica gives it. What is wrong
with the query or the function is returned as one of Clipper's three texts, not raised; what the function raises is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from clipper_nomad.protocol.datatypes import FIXED_WIDTH, InputType, decode_base64, input_type, unpack_inputs

WRONG_KEY = "Invalid input type or JSON key"
WRONG_TYPE = "Invalid input type"
NOT_RELOADED = "Function does not properly serialize and reload"


class _NotOfType(Exception):
    """An input is none of the input type."""


MOST = {
    InputType.INTEGERS: np.iinfo(np.int32).max,
    InputType.FLOATS: float(np.finfo(np.float32).max),
    InputType.DOUBLES: float(np.finfo(np.float64).max),
}

Function = Callable[..., object]


def try_function(
    query: Mapping[str, object], function: Function, word: str, *, reload: Callable[[Function], Function | None]
) -> object:
    """Return what `function` returns for the inputs in `query`, a body of the REST API; or one of the three texts.

    `word`: the input type. `reload` returns the function as its pickle gives it back, None: there is no such.
    Raises: whatever `function` raises.
    """
    inputs = _inputs_in(query)
    if inputs is None:
        return WRONG_KEY
    try:
        batch = _as_batch(inputs, input_type(word))
    except TypeError:  # what is no input at all, such as a bare number
        return WRONG_KEY
    except (_NotOfType, ValueError):  # a value of another type, one out of range, or a word that is no input type
        return WRONG_TYPE
    reloaded = reload(function)
    return NOT_RELOADED if reloaded is None else reloaded(batch)


def _inputs_in(query: object) -> Sequence[object] | None:
    match query:
        case {"input": one}:
            return [one]
        case {"input_batch": list() | tuple() | np.ndarray() as several}:
            return list(several)
        case _:
            return None


def _as_batch(inputs: Sequence[object], kind: InputType) -> NDArray[np.generic]:
    """Return the array that a predict function gets. Inputs of unequal length are an array of arrays, as in Clipper."""
    if not inputs:
        return np.empty(0, dtype=object)
    if kind in FIXED_WIDTH:
        vectors = [_vector(one, kind) for one in inputs]
        if len({len(vector) for vector in vectors}) == 1:
            return unpack_inputs(kind, len(vectors), len(vectors[0]), None, np.concatenate(vectors).tobytes())
        ragged = np.empty(len(vectors), dtype=object)
        ragged[:] = vectors
        return ragged
    packed = [_bytes(one, kind) for one in inputs]
    lengths = np.array([len(one) for one in packed], np.uint32)
    return unpack_inputs(kind, len(packed), 0, lengths, b"".join(packed))


def _vector(one: object, kind: InputType) -> NDArray[np.generic]:
    if isinstance(one, str | bytes):
        raise _NotOfType
    wanted = (int, np.integer) if kind is InputType.INTEGERS else (int, float, np.integer, np.floating)
    numbers = list(one)  # type: ignore[call-overload]  # a TypeError is what is asked for
    if any(isinstance(number, bool) or not isinstance(number, wanted) for number in numbers):
        raise _NotOfType
    most = MOST[kind]
    if any(not -most - (kind is InputType.INTEGERS) <= number <= most for number in numbers):  # NaN is in no range
        raise _NotOfType
    return np.array(numbers, FIXED_WIDTH[kind])


def _bytes(one: object, kind: InputType) -> bytes:
    if isinstance(one, str):
        return one.encode() if kind is InputType.STRINGS else decode_base64(one)
    if isinstance(one, bytes) and kind is InputType.BYTES:
        return one
    iter(one)  # type: ignore[call-overload]  # a TypeError is what is asked for
    raise _NotOfType
