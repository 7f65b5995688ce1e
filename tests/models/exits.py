"""Ends its process with code 9 in every predict."""

from __future__ import annotations

import os
from typing import Any

from numpy.typing import NDArray


def predict(inputs: NDArray[Any]) -> None:
    print("about to exit")  # noqa: T201  # must not be lost
    os._exit(9)
