"""The model that every server in the comparison serves, and the numbered inputs that the checked runs send.

scikit-learn's LinearRegression on its diabetes data: 10 doubles in, one out, about 75 µs a call whatever the batch.
fastapi_app.py and serving.py deploy it; checked_diabetes.py checks answers against it.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split

FEATURES = 10
_ROWS = 4096  # different rows; with the number in the first feature no two inputs are equal
_STEP = 1e-9  # what one number adds to the first feature: 10^7 numbers stay within the range of the data (±0.2)


class LinearModel(Protocol):
    """What is used of scikit-learn's LinearRegression, which carries no types of its own."""

    coef_: NDArray[np.float64]  # (features,)

    def predict(self, inputs: Sequence[Sequence[float]] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return one output for each input."""
        ...


def train() -> LinearModel:
    """Return the fitted model, the same in every process."""
    features, target = load_diabetes(return_X_y=True)
    train_features, _, train_target, _ = train_test_split(features, target, test_size=0.2, random_state=0)
    model: LinearModel = LinearRegression().fit(train_features, train_target)
    return model


class NumberedInputs:
    """Input number n, and what the model must answer to it, at about a microsecond each.

    The answers of the rows come from scikit-learn itself; the number's share is added with the model's own first
    coefficient.
    """

    def __init__(self, model: LinearModel) -> None:
        rows: NDArray[np.float64] = np.random.default_rng(1).uniform(-0.15, 0.15, size=(_ROWS, FEATURES))
        self._first: list[float] = rows[:, 0].tolist()
        self._rest: list[bytes] = [b",".join(b"%r" % value for value in row[1:]) for row in rows.tolist()]
        self._answers: list[float] = model.predict(rows).tolist()
        self._slope = float(model.coef_[0])

    def body(self, number: int) -> bytes:
        """Return input `number` as the JSON body of a predict request."""
        row = number % _ROWS
        return b'{"input":[%r,%b]}' % (self._first[row] + number * _STEP, self._rest[row])

    def answer(self, number: int) -> float:
        """Return the model's answer to input `number`."""
        return self._answers[number % _ROWS] + self._slope * number * _STEP
