"""An XGBoost model, in XGBoost's own format: a Booster, or one of its classes in scikit-learn's manner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clipper_nomad.protocol.framework_files import XGBOOST_MODEL


def load(folder: Path, extra: Mapping[str, str]) -> tuple[object]:
    """Return the model, of the class that it was."""
    import xgboost  # noqa: PLC0415  # a model's own

    model = getattr(xgboost, extra["model_class"])()
    model.load_model(folder / XGBOOST_MODEL)
    return (model,)
