"""Deploy a TensorFlow SavedModel: create_endpoint and deploy_tensorflow_model, with Clipper's arguments."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from clipper_nomad.connection import ClipperConnection
from clipper_nomad.connection.deployment import Deployment
from clipper_nomad.deployers.deploying import DEFAULT_SLO_MICROS, Options, Wanted, deploy_function, endpoint
from clipper_nomad.deployers.frameworks import imported, saving, wrong_model
from clipper_nomad.deployers.packing import FrameworkModel
from clipper_nomad.errors import BundleError
from clipper_nomad.protocol.framework_files import TENSORFLOW_FOLDER

SAVED_MODEL = "saved_model.pb"


def create_endpoint(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    input_type: str,
    func: Callable[..., object],
    tf_sess_or_saved_model_path: Any,  # noqa: ANN401  # a path, or tf's
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
    """Register an app, deploy a model of the same name, and link the two: see `deploy_tensorflow_model`."""
    with endpoint(clipper_conn, name, input_type, default_output, slo_micros):
        return deploy_tensorflow_model(
            clipper_conn,
            name,
            version,
            input_type,
            func,
            tf_sess_or_saved_model_path,
            base_image,
            labels,
            registry,
            num_replicas,
            batch_size,
            pkgs_to_install,
            **options,
        )


def deploy_tensorflow_model(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    version: object,
    input_type: str,
    func: Callable[..., object],
    tf_sess_or_saved_model_path: Any,  # noqa: ANN401  # a path, or tf's
    base_image: str = "default",
    labels: Sequence[str] | None = None,
    registry: str | None = None,
    num_replicas: int = 1,
    batch_size: int = -1,
    pkgs_to_install: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> Deployment:
    """Deploy a SavedModel, a folder, or a tf.Module, which is saved as one; `func` is called as f(model, inputs).

    `model` is what tf.saved_model.load returns: call it, or one of its `signatures`. Sessions, frozen graphs and checkpoints
    of TensorFlow 1 are refused: save a SavedModel of them. Other arguments and errors: see `deploy_python_closure`.
    """
    wanted = Wanted(name, version, input_type, base_image, labels, registry, num_replicas, batch_size, pkgs_to_install)
    return deploy_function(clipper_conn, func, wanted, options, packed_model(tf_sess_or_saved_model_path))


def packed_model(model: Any) -> FrameworkModel:  # noqa: ANN401  # a path, or tf's
    """Return how a model is saved. Raises: BundleError: it is no SavedModel and nothing that can be saved as one."""
    tensorflow = imported("tensorflow", install="tensorflow")
    is_path = isinstance(model, str | os.PathLike)
    source = _folder_of(Path(model)) if is_path else None
    if not is_path and (not isinstance(model, tensorflow.Module) or hasattr(model, "get_config")):
        raise wrong_model(model, "the folder of a SavedModel, or a tf.Module; of a Keras model see deployers.keras")

    def save(folder: Path) -> Mapping[str, str]:
        with saving("tensorflow"):
            if source is not None:
                shutil.copytree(source, folder / TENSORFLOW_FOLDER)
            else:
                tensorflow.saved_model.save(model, str(folder / TENSORFLOW_FOLDER))
        return {}

    return FrameworkModel(framework="tensorflow", save=save, modules=["tensorflow"])


def _folder_of(path: Path) -> Path:
    """Return the folder of a SavedModel that was named, or whose file was. Raises: BundleError."""
    folder = path.parent if path.name == SAVED_MODEL else path
    if not path.exists():
        raise BundleError(f"There is no {path}; expected the folder of a SavedModel.")
    if not (folder / SAVED_MODEL).is_file():
        raise BundleError(
            f"{path} is no SavedModel: a folder with {SAVED_MODEL} in it was expected.",
            hint="A frozen graph or a checkpoint of TensorFlow 1 is saved as one by tf.compat.v1.saved_model.simple_save.",
        )
    return folder
