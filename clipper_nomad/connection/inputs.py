"""A user's value → one input as JSON: what is posted to an app, warms a model up, and probes a deploy. Pure.

Numbers become a list, text stays text, bytes become base64, as the REST API takes them. NumPy arrays and whatever turns
into one (lists, pandas rows) are welcome.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from clipper_nomad.errors import ClipperException
from clipper_nomad.protocol.datatypes import InputType, decode_base64, input_type

Input = list[float] | list[int] | str
INT32 = np.iinfo(np.int32)
MADE_UP_LENGTH = 10  # decisions.md 22


def one_input(value: object) -> Input:
    """Return the one input that `value` is: a number, a vector, a batch of exactly one, text, or bytes.

    Raises: ClipperException: it is several inputs, or none that JSON can carry.
    """
    if (text := _as_text(value)) is not None:
        return text
    array = _as_array(value)
    if array.ndim > 1 and array.shape[0] != 1:
        raise ClipperException(
            f"An input is one vector, and this value has the shape {array.shape}: that is a batch.",
            hint="Call predict once for each row, or post {'input_batch': …} to predict_url().",
        )
    return _numbers(array)


def sample_input(sample: object, kind: InputType) -> Input:
    """Return the first input in `sample`: an input, or a batch of them, such as X_test[:1]. Bytes may come as base64.

    Raises: ClipperException: it is none of type `kind`.
    """
    if isinstance(sample, list | tuple) and sample and _as_text(sample[0]) is not None:
        sample = sample[0]
    text = _as_text(sample)
    if kind.is_fixed_width:
        if text is not None:
            raise _wrong_sample(sample, kind)
        numbers = _numbers(_as_array(sample))
        if kind is not InputType.INTEGERS:
            return [float(number) for number in numbers]
        if any(not isinstance(number, int) or not INT32.min <= number <= INT32.max for number in numbers):
            raise _wrong_sample(sample, kind)
        return numbers
    if text is None or (isinstance(sample, str) and kind is InputType.BYTES and not _is_base64(text)):
        raise _wrong_sample(sample, kind)
    if kind is InputType.STRINGS and not isinstance(sample, str | np.ndarray):
        raise _wrong_sample(sample, kind)
    return text


def input_type_of(sample: object) -> InputType:
    """Return the input type that a sample is of: float32 and shorter are floats, other floats doubles.

    Raises: ClipperException: of none.
    """
    first = sample[0] if isinstance(sample, list | tuple) and sample else sample
    if isinstance(first, str):
        return InputType.STRINGS
    if isinstance(first, bytes | bytearray | memoryview):
        return InputType.BYTES
    array = _as_array(sample)
    if array.dtype.kind == "f":
        return InputType.FLOATS if array.dtype.itemsize <= np.dtype(np.float32).itemsize else InputType.DOUBLES
    return InputType.INTEGERS


def known_kind(word: str) -> InputType:
    """Return the input type that a word of Clipper's names. Raises: ClipperException: none."""
    try:
        return input_type(word)
    except ValueError as exc:
        raise ClipperException(str(exc)) from exc


def kind_of(function: Callable[..., object], sample: object, word: str | None) -> InputType:
    """Return the input type that is named, or else that the sample or the function has. Raises: ClipperException."""
    if word is not None:
        return known_kind(word)
    if sample is not None:
        return input_type_of(sample)
    if input_of_function(function, InputType.DOUBLES) is not None:
        return InputType.DOUBLES
    raise ClipperException(
        "What the function takes is not known.",
        hint="Give a sample=, one input such as X_test[:1], or an input_type= such as 'doubles'.",
    )


def input_of_function(function: Callable[..., object], kind: InputType) -> Input | None:
    """Return an input that fits `function` if it says how long one is: a method of a fitted scikit-learn model does."""
    try:
        length = function.__self__.n_features_in_  # type: ignore[attr-defined]  # looked for, and often not there
    except Exception:  # noqa: BLE001  # a property of the user's class may raise anything; it is only asked
        return None
    return input_of_length(length, kind) if isinstance(length, int) else None


def input_of_length(length: int, kind: InputType) -> Input | None:
    """Return so many ones, None: inputs of that type are no numbers."""
    return _ones(length, kind) if kind.is_fixed_width else None


def made_up_input(kind: InputType) -> Input:
    """Return ten values of a type: an input that a model may well refuse."""
    if kind.is_fixed_width:
        return _ones(MADE_UP_LENGTH, kind)
    text = "x" * MADE_UP_LENGTH
    return text if kind is InputType.STRINGS else base64.b64encode(text.encode()).decode()


def _ones(length: int, kind: InputType) -> Input:
    return [1] * length if kind is InputType.INTEGERS else [1.0] * length


def _as_text(value: object) -> str | None:
    """Return text as it is and bytes in base64; None: it is neither."""
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "USO":
        value = value.reshape(-1)[0]
    if isinstance(value, str):
        return str(value)  # numpy's text, too, becomes Python's
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    return None


def _is_base64(text: str) -> bool:
    try:
        decode_base64(text)
    except ValueError:
        return False
    return True


def _as_array(value: object) -> NDArray[np.generic]:
    try:
        array: NDArray[np.generic] = np.asarray(value)
    except ValueError as exc:  # rows of unequal length
        raise _no_input(value, str(exc)) from exc
    if array.dtype.kind not in "fiu":
        raise _no_input(value, f"as an array it is of type {array.dtype}")
    return array


def _numbers(array: NDArray[np.generic]) -> list[float] | list[int]:
    """Return the first row of an array as a list of numbers."""
    row = array.reshape(1) if array.ndim == 0 else array
    while row.ndim > 1:
        if not row.shape[0]:
            raise ClipperException(f"A sample of shape {array.shape} holds no input; expected at least one row.")
        row = row[0]
    if row.dtype.kind == "f" and not np.isfinite(row.astype(np.float64)).all():
        raise ClipperException(
            "The input holds NaN or an infinity, which JSON cannot carry.",
            hint="Replace missing values before the model is asked, as was done before it was trained.",
        )
    numbers: list[float] | list[int] = row.tolist()
    return numbers


def _no_input(value: object, cause: str) -> ClipperException:
    return ClipperException(
        f"A value of type {type(value).__name__} is no input: {cause}.",
        hint="An input is a vector of numbers, a text, or bytes.",
    )


def _wrong_sample(sample: object, kind: InputType) -> ClipperException:
    return ClipperException(
        f"The sample, of type {type(sample).__name__}, is no input of type {kind.word}.",
        hint="Give one input of that type as sample=, or another input_type.",
    )
