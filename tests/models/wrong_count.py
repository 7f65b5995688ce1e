"""Returns one output less than it got inputs."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


def predict(inputs: NDArray[Any]) -> list[float]:
    return [1.0] * (len(inputs) - 1)
