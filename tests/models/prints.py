"""Prints much, on stdout and stderr, and logs; its answers are right all the same."""

from __future__ import annotations

import logging
import sys
from typing import Any

from numpy.typing import NDArray


def predict(inputs: NDArray[Any]) -> list[float]:
    for number in range(200):
        print(f"line {number} of a model that prints")  # noqa: T201  # what this model is for
    print("to stderr", file=sys.stderr)  # noqa: T201  # the same
    logging.getLogger("the.model").warning("a warning of the model")
    return [0.0] * len(inputs)
