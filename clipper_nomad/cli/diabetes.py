"""The demo's model: scikit-learn's LinearRegression on its diabetes data, and what it answers to the test rows."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from clipper_nomad.errors import ClipperException

TEST_SHARE = 0.2
EXAMPLE_DIGITS = 2  # a row of the data has 17 digits a number: too long for a command line


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A fitted model. `answers`: scikit-learn's own, each row of `rows` asked alone; `example` is a row cut short."""

    predict: Callable[[Any], Any]  # scikit-learn carries no types
    trained_on: int
    rows: Sequence[Sequence[float]]
    answers: Sequence[float]
    example: Sequence[float]
    example_answer: float


def require_scikit_learn() -> None:
    """Raise ClipperException if scikit-learn is not there; quick, before anything is started."""
    if importlib.util.find_spec("sklearn") is None:
        raise _missing("it is not installed")


def train() -> Trained:
    """Train the model. Raises: ClipperException: scikit-learn cannot be imported."""
    try:
        from sklearn.datasets import load_diabetes
        from sklearn.linear_model import LinearRegression
        from sklearn.model_selection import train_test_split
    except ImportError as exc:
        raise _missing(str(exc)) from exc
    features, target = load_diabetes(return_X_y=True)
    fit_on, rows, fit_to, _ = train_test_split(features, target, test_size=TEST_SHARE, random_state=0)
    model = LinearRegression().fit(fit_on, fit_to)
    example = [round(value, EXAMPLE_DIGITS) + 0.0 for value in rows[0].tolist()]  # + 0.0: no -0.0
    return Trained(
        predict=model.predict,
        trained_on=len(fit_on),
        rows=rows.tolist(),
        # one row at a time: the last bit of a sum of products depends on how many rows BLAS is given at once
        answers=[float(model.predict(row.reshape(1, -1))[0]) for row in rows],
        example=example,
        example_answer=float(model.predict([example])[0]),
    )


def _missing(why: str) -> ClipperException:
    return ClipperException(
        f"The demo trains a scikit-learn model, and scikit-learn cannot be imported: {why}.",
        hint=f"Install it, then run the demo again: {sys.executable} -m pip install scikit-learn",
    )
