"""Answers each input with the sum of its numbers: the smallest model whose answers can be checked."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


def predict(inputs: NDArray[Any]) -> NDArray[Any]:
    sums: NDArray[Any] = inputs.sum(axis=1)
    return sums
