"""Stays in one C call that holds the interpreter's lock for hours, if the first number is below 0; else 1.0."""

from __future__ import annotations

import re
from typing import Any

from numpy.typing import NDArray


def predict(inputs: NDArray[Any]) -> list[float]:
    if inputs[0][0] < 0:
        re.match(r"(a+)+$", "a" * 60 + "b")  # backtracks 2**60 times
    return [1.0] * len(inputs)
