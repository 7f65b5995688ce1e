"""A scikit-learn model: saved by skops, which runs no code when it loads, or else pickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cloudpickle

from clipper_nomad.protocol.framework_files import SKLEARN_PICKLE, SKLEARN_SKOPS


def load(folder: Path, _extra: Mapping[str, str]) -> tuple[object]:
    """Return the model."""
    if (folder / SKLEARN_SKOPS).is_file():
        import skops.io  # noqa: PLC0415  # only for a model that was saved so

        return (skops.io.load(folder / SKLEARN_SKOPS),)
    with (folder / SKLEARN_PICKLE).open("rb") as file:
        return (cloudpickle.load(file),)
