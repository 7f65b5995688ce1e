"""Deploy a scikit-learn model: create_endpoint and deploy_sklearn_model, in the manner of Clipper's deployers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from clipper_nomad.connection import ClipperConnection
from clipper_nomad.connection.deployment import Deployment
from clipper_nomad.deployers.deploying import DEFAULT_SLO_MICROS, Options, Wanted, deploy_function, endpoint
from clipper_nomad.deployers.frameworks import features_of, imported, wrong_model
from clipper_nomad.deployers.packing import FrameworkModel, pickled
from clipper_nomad.protocol.framework_files import SKLEARN_PICKLE, SKLEARN_SKOPS

log = logging.getLogger(__name__)


def create_endpoint(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    input_type: str,
    func: Callable[..., object],
    sklearn_model: Any,  # noqa: ANN401  # scikit-learn's
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
    """Register an app, deploy a model of the same name, and link the two: see `deploy_sklearn_model`."""
    with endpoint(clipper_conn, name, input_type, default_output, slo_micros):
        return deploy_sklearn_model(
            clipper_conn,
            name,
            version,
            input_type,
            func,
            sklearn_model,
            base_image,
            labels,
            registry,
            num_replicas,
            batch_size,
            pkgs_to_install,
            **options,
        )


def deploy_sklearn_model(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    version: object,
    input_type: str,
    func: Callable[..., object],
    sklearn_model: Any,  # noqa: ANN401  # scikit-learn's
    base_image: str = "default",
    labels: Sequence[str] | None = None,
    registry: str | None = None,
    num_replicas: int = 1,
    batch_size: int = -1,
    pkgs_to_install: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> Deployment:
    """Deploy a fitted scikit-learn model; `func` is called as f(model, inputs).

    The model is saved by skops, which runs no code when it loads, if skops is installed and knows all that is in it; else
    it is pickled, and the log says why. Other arguments and errors: see `deploy_python_closure`.
    """
    wanted = Wanted(name, version, input_type, base_image, labels, registry, num_replicas, batch_size, pkgs_to_install)
    model = packed_model(sklearn_model)
    return deploy_function(clipper_conn, func, wanted, options, model)


def packed_model(model: Any) -> FrameworkModel:  # noqa: ANN401  # scikit-learn's
    """Return how a model is saved. Raises: BundleError: it is none of scikit-learn's."""
    sklearn = imported("sklearn", install="scikit-learn")
    if not isinstance(model, sklearn.base.BaseEstimator) or isinstance(model, type):
        raise wrong_model(model, "a fitted scikit-learn estimator")
    why_not = _why_not_skops(model)
    if why_not:
        log.info("the model is pickled, because %s", why_not)
    return FrameworkModel(
        framework="sklearn",
        save=lambda folder: _save(model, folder, with_skops=not why_not),
        modules=["sklearn"] if why_not else ["sklearn", "skops"],
        features=features_of(lambda: model.n_features_in_),
    )


def _save(model: Any, folder: Path, *, with_skops: bool) -> Mapping[str, str]:  # noqa: ANN401  # scikit-learn's
    if with_skops:
        import skops.io

        skops.io.dump(model, folder / SKLEARN_SKOPS)
    else:
        (folder / SKLEARN_PICKLE).write_bytes(pickled(model)[0])
    return {}


def _why_not_skops(model: Any) -> str:  # noqa: ANN401  # scikit-learn's
    """Return why skops cannot carry a model safely, "" if it can."""
    try:
        import skops.io
    except ImportError:
        return "skops is not installed"
    try:
        unknown = skops.io.get_untrusted_types(data=skops.io.dumps(model))
    except Exception as exc:  # noqa: BLE001  # a part of the user's may raise anything while it is saved
        return f"skops cannot save it: {exc}"
    return f"skops does not know {', '.join(map(str, unknown))}" if unknown else ""
