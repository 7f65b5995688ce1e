"""JSON bodies of admin's requests, read field by field, with Clipper's error texts. Pure.

A handler asks a Body for each field it needs, in Clipper's order; the first that is missing or wrong raises BadBody.
Clipper's texts are kept to the letter, a missing blank included, because its users' scripts compare them.
"""

from __future__ import annotations

import json
from typing import Never

INT32_MOST = 2**31 - 1  # Clipper reads integers with 32 bits


class BadBody(ValueError):
    """A body is no JSON object, or a field of it is missing or of the wrong type."""


class Body:
    """A JSON object that came as a request's body. Raises BadBody, also when made."""

    def __init__(self, raw: bytes) -> None:
        values = _parse(raw)
        if not isinstance(values, dict):
            raise BadBody("Can only get key-value pair from an object")
        self._values = values

    def text(self, key: str, default: str | None = None, *, max_bytes: int | None = None) -> str:
        """Return a string of at most `max_bytes` of UTF-8."""
        if default is not None and self._values.get(key) is None:
            return default
        value = self._get(key)
        if not isinstance(value, str):
            raise _mismatch(key, "String", value)
        return _checked(key, value, max_bytes)

    def optional_text(self, key: str, *, max_bytes: int | None = None) -> str | None:
        """Return a string, or None if it is not there or null."""
        return None if self._values.get(key) is None else self.text(key, max_bytes=max_bytes)

    def integer(self, key: str, default: int | None = None, *, most: int = INT32_MOST) -> int:
        """Return an integer from -most - 1 to `most`."""
        if default is not None and self._values.get(key) is None:
            return default
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _mismatch(key, "Number", value)
        if not isinstance(value, int) or not -most - 1 <= value <= most:
            raise BadBody(f"JSON key {key} must be an integer from {-most - 1} to {most}")
        return value

    def optional_integer(self, key: str, *, most: int = INT32_MOST) -> int | None:
        """Return an integer, or None if it is not there or null."""
        return None if self._values.get(key) is None else self.integer(key, most=most)

    def flag(self, key: str, default: bool | None = None) -> bool:  # noqa: FBT001  # a field's value
        """Return a bool."""
        if default is not None and self._values.get(key) is None:
            return default
        value = self._get(key)
        if not isinstance(value, bool):
            raise BadBody(f"Type mismatch! JSON key {key} expected type bool but found type {type_name(value)}")
        return value

    def texts(self, key: str, default: tuple[str, ...] | None = None, *, max_count: int = 1000) -> tuple[str, ...]:
        """Return a list of at most `max_count` strings."""
        if default is not None and self._values.get(key) is None:
            return default
        value = self._get(key)
        if not isinstance(value, list):
            raise _mismatch(key, "Array", value)
        if len(value) > max_count:
            raise BadBody(f"JSON key {key} has {len(value)} elements; at most {max_count} are taken")
        for element in value:
            if not isinstance(element, str):
                raise BadBody(f"Array input of type {type_name(element)} is not of type string")
        return tuple(_checked(key, element, None) for element in value)

    def json(self, key: str) -> object:
        """Return whatever JSON stands under `key`."""
        return self._get(key)

    def _get(self, key: str) -> object:
        if key not in self._values:
            raise BadBody(f"JSON object does not have required key: {key}")
        return self._values[key]


def type_name(value: object) -> str:
    """Return Clipper's name of a JSON value's type."""
    match value:
        case None:
            return "Null"
        case bool():
            return str(value)
        case dict():
            return "Object"
        case list():
            return "Array"
        case str():
            return "String"
        case _:
            return "Number"


def _parse(raw: bytes) -> object:
    try:
        return json.loads(raw, parse_constant=_refuse_constant)
    except json.JSONDecodeError as exc:
        raise BadBody(f"JSON parse error: {exc.msg} (offset {exc.pos})") from exc
    except (ValueError, RecursionError) as exc:  # not UTF-8, NaN, a number of thousands of digits, or nested too deep
        raise BadBody(f"JSON parse error: {exc}") from exc


def _refuse_constant(word: str) -> Never:
    raise ValueError(f"{word} is no JSON")


def _mismatch(key: str, wanted: str, value: object) -> BadBody:
    return BadBody(f"Type mismatch! JSON key {key} expected type {wanted}but found type {type_name(value)}")


def _checked(key: str, value: str, max_bytes: int | None) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BadBody(f"JSON key {key} holds half of a surrogate pair, which is no text") from None
    if max_bytes is not None and size > max_bytes:
        raise BadBody(f"JSON key {key} has {size} bytes; at most {max_bytes} are taken")
    return value
