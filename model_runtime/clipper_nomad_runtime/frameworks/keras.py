"""A Keras model, in Keras' own format: loaded without compiling it, and without running code that it brings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from clipper_nomad.protocol.framework_files import KERAS_H5, KERAS_MODEL


def load(folder: Path, extra: Mapping[str, str]) -> tuple[object]:
    """Return the model, on the backend that it was trained with."""
    os.environ.setdefault("KERAS_BACKEND", extra["backend"])  # before the import, which reads it
    import keras  # noqa: PLC0415  # a model's own

    path = folder / KERAS_MODEL
    return (keras.saving.load_model(path if path.is_file() else folder / KERAS_H5, compile=False),)
