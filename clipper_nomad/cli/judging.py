"""Whether an answer to a predict request is the right one. Pure: the judges of the answers that load.py collects."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from clipper_nomad.cli.load import Judge

_LAST_BITS = 1e-12  # relative: what the size of a batch changes in a sum of ten products


def near(expected: Sequence[float]) -> Judge:
    """Return the judge that wants number `index` of `expected`, but for the last bits."""

    def judge(index: int, status: int, answer: bytes) -> str | None:
        problem, output = read_answer(status, answer)
        if problem is None and not (isinstance(output, float) and math.isclose(output, expected[index], rel_tol=_LAST_BITS)):
            return f"input {index} was answered {output!r}, and {expected[index]!r} is right"
        return problem

    return judge


def any_prediction(_: int, status: int, answer: bytes) -> str | None:
    """Judge an answer of which nothing is known but that it is to be a prediction."""
    return read_answer(status, answer)[0]


def read_answer(status: int, answer: bytes) -> tuple[str | None, Any]:
    """Return why an answer is no prediction, or None; and its output, which is any JSON."""
    if status != 200:
        return f"status {status}: {answer.decode(errors='replace')[:300]}", None
    try:
        body = json.loads(answer)
        if body["default"]:
            return f"the default output came, because: {body.get('default_explanation')}", None
        return None, body["output"]
    except (ValueError, KeyError, TypeError):
        return f"no answer to a predict request: {answer.decode(errors='replace')[:300]}", None
