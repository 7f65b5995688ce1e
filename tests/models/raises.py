"""Raises a ValueError for a batch with a number below 0 in it; else answers 1.0 for each input."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


def predict(inputs: NDArray[Any]) -> list[float]:
    if (inputs < 0).any():
        raise ValueError("a number below 0")
    return [1.0] * len(inputs)
