"""Answers f(number, uid): an answer that belongs to another query, or to another version, is seen at once.

The inputs are vectors of any length whose first element is the query's number. `answer` is what a client must get.
"""

from __future__ import annotations

import os
from typing import Any

from numpy.typing import NDArray


def answer(number: float, uid: str) -> str:
    return f"{int(number)} by {uid}"


def predict(inputs: NDArray[Any]) -> list[str]:
    uid = os.environ["CLIPPER_MODEL_UID"]
    return [answer(row[0], uid) for row in inputs]
