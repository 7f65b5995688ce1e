"""Answers 2**70, which no 64 bits hold and no double holds exactly but for luck: plus one, so that rounding shows."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


def predict(inputs: NDArray[Any]) -> list[int]:
    return [2**70 + 1] * len(inputs)
