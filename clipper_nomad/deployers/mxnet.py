"""MXNet, as far as it can be served: not at all. Clipper's two functions say so, and what to use."""

from __future__ import annotations

from typing import NoReturn

from clipper_nomad.errors import ClipperException


def create_endpoint(*_arguments: object, **_options: object) -> NoReturn:
    """Raise ClipperException: there is no MXNet any more."""
    raise _retired()


def deploy_mxnet_model(*_arguments: object, **_options: object) -> NoReturn:
    """Raise ClipperException: there is no MXNet any more."""
    raise _retired()


def _retired() -> ClipperException:
    return ClipperException(
        "MXNet models cannot be deployed: Apache retired MXNet in 2023, and no Python that is supported here runs it.",
        hint="Where it still runs, export the model to ONNX (mx.onnx.export_model), and deploy the file with "
        "deployers.onnx.deploy_onnx_model; for new models use PyTorch.",
    )
