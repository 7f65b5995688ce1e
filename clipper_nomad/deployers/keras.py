"""Deploy a Keras model: create_endpoint and deploy_keras_model, with Clipper's arguments."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from clipper_nomad.connection import ClipperConnection
from clipper_nomad.connection.deployment import Deployment
from clipper_nomad.deployers.deploying import DEFAULT_SLO_MICROS, Options, Wanted, deploy_function, endpoint
from clipper_nomad.deployers.frameworks import features_of, imported, saving, wrong_model
from clipper_nomad.deployers.packing import FrameworkModel
from clipper_nomad.errors import BundleError
from clipper_nomad.protocol.framework_files import KERAS_H5, KERAS_MODEL

FORMATS = {".keras": KERAS_MODEL, ".h5": KERAS_H5, ".hdf5": KERAS_H5}


def create_endpoint(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    input_type: str,
    func: Callable[..., object],
    model_path_or_object: Any,  # noqa: ANN401  # a path, or keras'
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
    """Register an app, deploy a model of the same name, and link the two: see `deploy_keras_model`."""
    with endpoint(clipper_conn, name, input_type, default_output, slo_micros):
        return deploy_keras_model(
            clipper_conn,
            name,
            version,
            input_type,
            func,
            model_path_or_object,
            base_image,
            labels,
            registry,
            num_replicas,
            batch_size,
            pkgs_to_install,
            **options,
        )


def deploy_keras_model(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    version: object,
    input_type: str,
    func: Callable[..., object],
    model_path_or_object: Any,  # noqa: ANN401  # a path, or keras'
    base_image: str = "default",
    labels: Sequence[str] | None = None,
    registry: str | None = None,
    num_replicas: int = 1,
    batch_size: int = -1,
    pkgs_to_install: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> Deployment:
    """Deploy a keras.Model, or the file of one (.keras, .h5); `func` is called as f(model, inputs).

    It is saved in Keras' own format, and loaded without running code that is in it, by the backend that is in use here.
    Other arguments and errors: see `deploy_python_closure`.
    """
    wanted = Wanted(name, version, input_type, base_image, labels, registry, num_replicas, batch_size, pkgs_to_install)
    return deploy_function(clipper_conn, func, wanted, options, packed_model(model_path_or_object))


def packed_model(model: Any) -> FrameworkModel:  # noqa: ANN401  # a path, or keras'
    """Return how a model is saved. Raises: BundleError: it is no Keras model, or no file of one."""
    keras = imported("keras", install="keras, and a backend of it such as tensorflow")
    file = _file_of(Path(model)) if isinstance(model, str | os.PathLike) else None
    if file is None and not isinstance(model, keras.Model):
        raise wrong_model(model, "a keras.Model, or the path of a file of one (.keras, .h5)")
    backend = keras.backend.backend()

    def save(folder: Path) -> Mapping[str, str]:
        with saving("keras"):
            if file is None:
                model.save(folder / KERAS_MODEL)
            else:
                shutil.copyfile(file, folder / FORMATS[file.suffix])
        return {"backend": backend}

    return FrameworkModel(
        framework="keras",
        save=save,
        modules=["keras", backend],
        features=features_of(lambda: _width(model.input_shape)) if file is None else None,
    )


def _file_of(path: Path) -> Path:
    if not path.is_file():
        raise BundleError(f"There is no file {path}; expected one of a Keras model.")
    if path.suffix not in FORMATS:
        raise BundleError(
            f"{path} does not end in {', '.join(FORMATS)}; expected the file of a Keras model.",
            hint="Give the model itself, or save it: model.save('model.keras').",
        )
    return path


def _width(shape: Sequence[int | None]) -> int | None:
    return shape[1] if len(shape) == len(("batch", "features")) else None
