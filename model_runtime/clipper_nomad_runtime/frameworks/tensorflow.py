"""A TensorFlow SavedModel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clipper_nomad.protocol.framework_files import TENSORFLOW_FOLDER


def load(folder: Path, _extra: Mapping[str, str]) -> tuple[object]:
    """Return what tf.saved_model.load does: callable where a module was saved, and with `signatures`."""
    import tensorflow  # noqa: PLC0415, ICN001  # a model's own

    return (tensorflow.saved_model.load(str(folder / TENSORFLOW_FOLDER)),)
