"""Deploy an ONNX model on onnxruntime: a file, an object of onnx, and, with Clipper's arguments, a PyTorch module."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from clipper_nomad.connection import ClipperConnection
from clipper_nomad.connection.deployment import Deployment
from clipper_nomad.deployers.deploying import DEFAULT_SLO_MICROS, Options, Wanted, deploy_function, endpoint
from clipper_nomad.deployers.frameworks import features_of, imported, saving, wrong_model
from clipper_nomad.deployers.packing import FrameworkModel
from clipper_nomad.errors import BundleError, ClipperException
from clipper_nomad.protocol.framework_files import ONNX_MODEL

BACKENDS = ("caffe2", "onnxruntime")  # Clipper's default, which is gone, and what runs the model now


def create_endpoint(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    input_type: str,
    func: Callable[..., object],
    onnx_model: Any,  # noqa: ANN401  # a path, or onnx'
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
    """Register an app, deploy a model of the same name, and link the two: see `deploy_onnx_model`."""
    with endpoint(clipper_conn, name, input_type, default_output, slo_micros):
        return deploy_onnx_model(
            clipper_conn,
            name,
            version,
            input_type,
            func,
            onnx_model,
            base_image,
            labels,
            registry,
            num_replicas,
            batch_size,
            pkgs_to_install,
            **options,
        )


def deploy_onnx_model(  # noqa: PLR0913  # as its neighbours'
    clipper_conn: ClipperConnection,
    name: str,
    version: object,
    input_type: str,
    func: Callable[..., object],
    onnx_model: Any,  # noqa: ANN401  # a path, or onnx'
    base_image: str = "default",
    labels: Sequence[str] | None = None,
    registry: str | None = None,
    num_replicas: int = 1,
    batch_size: int = -1,
    pkgs_to_install: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> Deployment:
    """Deploy the path of an ONNX file, or an onnx.ModelProto; `func` is called as f(session, inputs).

    `session` is an onnxruntime.InferenceSession: session.run(None, {"input": inputs}) returns a list with an array for each
    output of the model. Other arguments and errors: see `deploy_python_closure`.
    """
    wanted = Wanted(name, version, input_type, base_image, labels, registry, num_replicas, batch_size, pkgs_to_install)
    return deploy_function(clipper_conn, func, wanted, options, packed_model(_content(onnx_model)))


def create_pytorch_endpoint(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    input_type: str,
    inputs: Any,  # noqa: ANN401  # torch's
    func: Callable[..., object],
    pytorch_model: Any,  # noqa: ANN401  # torch's
    default_output: str = "None",
    version: object = 1,
    slo_micros: int = DEFAULT_SLO_MICROS,
    labels: Sequence[str] | None = None,
    registry: str | None = None,
    base_image: str | None = None,
    num_replicas: int = 1,
    onnx_backend: str = "caffe2",
    batch_size: int = -1,
    pkgs_to_install: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> Deployment:
    """Register an app, deploy a PyTorch module as an ONNX model of the same name, and link: see `deploy_pytorch_model`."""
    with endpoint(clipper_conn, name, input_type, default_output, slo_micros):
        return deploy_pytorch_model(
            clipper_conn,
            name,
            version,
            input_type,
            inputs,
            func,
            pytorch_model,
            base_image,
            labels,
            registry,
            num_replicas,
            onnx_backend,
            batch_size,
            pkgs_to_install,
            **options,
        )


def deploy_pytorch_model(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    version: object,
    input_type: str,
    inputs: Any,  # noqa: ANN401  # torch's
    func: Callable[..., object],
    pytorch_model: Any,  # noqa: ANN401  # torch's
    base_image: str | None = None,
    labels: Sequence[str] | None = None,
    registry: str | None = None,
    num_replicas: int = 1,
    onnx_backend: str = "caffe2",
    batch_size: int = -1,
    pkgs_to_install: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> Deployment:
    """Export a PyTorch module to ONNX and deploy that; `func` is called as f(model, inputs).

    `inputs`: an example of what the module takes, a tensor or a tuple of them; the first dimension is the batch's.
    `model.run(inputs)` returns a list with an array for each output, as Clipper's did. `onnx_backend`: it runs on
    onnxruntime, whichever of BACKENDS is named. Other arguments and errors: see `deploy_python_closure`.
    """
    if onnx_backend not in BACKENDS:
        raise ClipperException(
            f"There is no ONNX backend {onnx_backend!r}; expected one of {', '.join(BACKENDS)}.",
            hint="Leave it out: onnxruntime runs the model.",
        )
    wanted = Wanted(name, version, input_type, base_image, labels, registry, num_replicas, batch_size, pkgs_to_install)
    model = packed_model(_exported(pytorch_model, inputs), interface="backend")
    return deploy_function(clipper_conn, func, wanted, options, model)


def packed_model(content: bytes, *, interface: str = "session") -> FrameworkModel:
    """Return how a model is saved. Raises: BundleError: onnxruntime cannot load it."""
    onnxruntime = imported("onnxruntime", install="onnxruntime")
    with saving("onnx"):
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def save(folder: Path) -> Mapping[str, str]:
        (folder / ONNX_MODEL).write_bytes(content)
        return {"interface": interface}

    return FrameworkModel(
        framework="onnx",
        save=save,
        modules=["onnxruntime"],
        features=features_of(lambda: _width([each.shape for each in session.get_inputs()])),
    )


def _width(shapes: list[list[object]]) -> object:
    """Return how many features an input has, None: it is no vector, or the model takes several."""
    return shapes[0][1] if len(shapes) == 1 and len(shapes[0]) == len(("batch", "features")) else None


def _content(model: Any) -> bytes:  # noqa: ANN401  # a path, or onnx'
    if isinstance(model, str | os.PathLike):
        try:
            return Path(model).read_bytes()
        except OSError as exc:
            raise BundleError(f"There is no {model} to read: {exc}.", hint="Expected the file of an ONNX model.") from exc
    if not hasattr(model, "SerializeToString") or not hasattr(model, "graph"):
        raise wrong_model(model, "an onnx.ModelProto, or the path of an ONNX file")
    content: bytes = model.SerializeToString()
    return content


def _exported(module: Any, inputs: Any) -> bytes:  # noqa: ANN401  # torch's
    torch = imported("torch", install="torch")
    imported("onnx", install="onnx")  # torch exports with it
    if not isinstance(module, torch.nn.Module):
        raise wrong_model(module, "a torch.nn.Module, after an example of its inputs and the function")
    given = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
    names = ["input"] if len(given) == 1 else [f"input_{number}" for number in range(len(given))]
    buffer = io.BytesIO()
    was_training = module.training
    with saving("onnx"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of this exporter: the new one needs one package more
        try:
            torch.onnx.export(
                module.eval(),
                given,
                buffer,
                input_names=names,
                dynamic_axes={name: {0: "batch"} for name in names},
                dynamo=False,
            )
        finally:
            module.train(was_training)
    return buffer.getvalue()
