"""Returns, by the first number of an input: 0 None, 1 bytes, 2 an object, 3 a dict with a number as key, else 1.0."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


def predict(inputs: NDArray[Any]) -> list[Any]:
    odd = {0: None, 1: b"bytes", 2: object(), 3: {1: "one"}}
    return [odd.get(int(row[0]), 1.0) for row in inputs]
