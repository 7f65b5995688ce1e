"""Answers NaN, inf and -inf in turn, which JSON does not have."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


def predict(inputs: NDArray[Any]) -> list[float]:
    odd = [float("nan"), float("inf"), float("-inf")]
    return [odd[index % 3] for index in range(len(inputs))]
