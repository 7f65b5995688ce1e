"""Ends its process on one particular input, 666, and answers the sum of every other."""

from __future__ import annotations

import os
from typing import Any

from numpy.typing import NDArray


def predict(inputs: NDArray[Any]) -> NDArray[Any]:
    if (inputs[:, 0] == 666).any():
        os._exit(1)
    sums: NDArray[Any] = inputs.sum(axis=1)
    return sums
