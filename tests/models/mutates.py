"""Writes into its inputs. Harmless: each batch is an array of its own."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


def predict(inputs: NDArray[Any]) -> NDArray[Any]:
    before: NDArray[Any] = inputs.sum(axis=1)
    inputs[:] = -1
    return before
