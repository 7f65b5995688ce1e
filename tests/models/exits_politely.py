"""Calls sys.exit in predict: an exception like others, so the process stays."""

from __future__ import annotations

import sys
from typing import Any

from numpy.typing import NDArray


def predict(inputs: NDArray[Any]) -> None:
    sys.exit("enough")
