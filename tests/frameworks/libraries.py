"""The frameworks under test, and data for small models."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clipper_nomad import ClipperConnection
from clipper_nomad.protocol.bundle import MANIFEST_NAME

Rows = NDArray[np.float64]
FEATURES = 4


def library(name: str, *, needs: str = "") -> Any:
    """Return a framework; without it the tests of the module that asks are skipped, and say so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        return pytest.importorskip(name, reason=f"NOT RUN: {needs or name} is missing; `make test-frameworks` installs it")


def rows(count: int = 200) -> Rows:
    return np.random.default_rng(0).normal(size=(count, FEATURES))


def targets(inputs: Rows) -> Rows:
    """A linear function of the features, which any model learns well enough to tell inputs apart."""
    return inputs @ np.arange(1.0, FEATURES + 1.0)


def answers(clipper: ClipperConnection, name: str, inputs: Rows) -> list[Any]:
    """What an app answers to each input, over HTTP."""
    predictions = [clipper.predict(name, row, timeout_s=30) for row in inputs]
    assert not any(each.default for each in predictions)
    return [each.output for each in predictions]


def manifest_of(clipper: ClipperConnection, name: str) -> dict[str, Any]:
    """The manifest of the bundle that version 1 of a model runs from."""
    model = clipper.get_model_info(name, 1)
    assert model is not None
    bundles = clipper.cm._place.bundles  # type: ignore[attr-defined]  # noqa: SLF001  # a local one's
    folder = bundles / model["container_name"].removeprefix("bundle:")
    manifest: dict[str, Any] = json.loads((folder / MANIFEST_NAME).read_text())
    return manifest
