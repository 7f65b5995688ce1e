"""Answers in float32: a client must get 0.1, not 0.10000000149011612."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def predict(inputs: NDArray[Any]) -> NDArray[Any]:
    return inputs[:, 0].astype(np.float32)
