"""Reads address 0, as a broken C extension does: the process dies of SIGSEGV in every predict."""

from __future__ import annotations

import ctypes
from typing import Any

from numpy.typing import NDArray


def predict(inputs: NDArray[Any]) -> list[float]:
    ctypes.string_at(0)
    return [1.0] * len(inputs)
