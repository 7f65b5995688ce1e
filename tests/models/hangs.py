"""Never comes back from a predict whose first number is below 0, in Python code; else answers 1.0."""

from __future__ import annotations

import time
from typing import Any

from numpy.typing import NDArray


def predict(inputs: NDArray[Any]) -> list[float]:
    while inputs[0][0] < 0:
        time.sleep(0.01)
    return [1.0] * len(inputs)
