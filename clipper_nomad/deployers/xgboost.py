"""Deploy an XGBoost model: create_endpoint and deploy_xgboost_model, in the manner of Clipper's deployers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from clipper_nomad.connection import ClipperConnection
from clipper_nomad.connection.deployment import Deployment
from clipper_nomad.deployers.deploying import DEFAULT_SLO_MICROS, Options, Wanted, deploy_function, endpoint
from clipper_nomad.deployers.frameworks import features_of, imported, saving, wrong_model
from clipper_nomad.deployers.packing import FrameworkModel
from clipper_nomad.protocol.framework_files import XGBOOST_MODEL


def create_endpoint(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    input_type: str,
    func: Callable[..., object],
    xgboost_model: Any,  # noqa: ANN401  # XGBoost's
    default_output: str = "None",
    version: object = 1,
    slo_micros: int = DEFAULT_SLO_MICROS,
    labels: Sequence[str] | None = None,
    registry: str | None = None,
    base_image: str = "default",
    num_replicas: int = 1,
    batch_size: int = -1,
    pkgs_to_install: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> Deployment:
    """Register an app, deploy a model of the same name, and link the two: see `deploy_xgboost_model`."""
    with endpoint(clipper_conn, name, input_type, default_output, slo_micros):
        return deploy_xgboost_model(
            clipper_conn,
            name,
            version,
            input_type,
            func,
            xgboost_model,
            base_image,
            labels,
            registry,
            num_replicas,
            batch_size,
            pkgs_to_install,
            **options,
        )


def deploy_xgboost_model(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    version: object,
    input_type: str,
    func: Callable[..., object],
    xgboost_model: Any,  # noqa: ANN401  # XGBoost's
    base_image: str = "default",
    labels: Sequence[str] | None = None,
    registry: str | None = None,
    num_replicas: int = 1,
    batch_size: int = -1,
    pkgs_to_install: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> Deployment:
    """Deploy a trained xgboost.Booster, or XGBClassifier and the like; `func` is called as f(model, inputs).

    It is saved in XGBoost's own format and loaded as the class that it was. A Booster predicts on a DMatrix: make one of
    the inputs in `func`. Other arguments and errors: see `deploy_python_closure`.
    """
    wanted = Wanted(name, version, input_type, base_image, labels, registry, num_replicas, batch_size, pkgs_to_install)
    return deploy_function(clipper_conn, func, wanted, options, packed_model(xgboost_model))


def packed_model(model: Any) -> FrameworkModel:  # noqa: ANN401  # XGBoost's
    """Return how a model is saved. Raises: BundleError: it is none of XGBoost's own classes, or cannot be saved."""
    xgboost = imported("xgboost", install="xgboost")
    kind = type(model)
    is_booster = isinstance(model, xgboost.Booster)
    if getattr(xgboost, kind.__name__, None) is not kind or not (is_booster or isinstance(model, xgboost.XGBModel)):
        raise wrong_model(model, "a trained xgboost.Booster, or one of XGBoost's own classes such as XGBClassifier")

    def save(folder: Path) -> Mapping[str, str]:
        with saving("xgboost"):
            model.save_model(folder / XGBOOST_MODEL)
        return {"model_class": kind.__name__}

    return FrameworkModel(
        framework="xgboost",
        save=save,
        modules=["xgboost"] if is_booster else ["xgboost", "sklearn"],
        features=features_of(lambda: model.num_features() if is_booster else model.n_features_in_),
    )
