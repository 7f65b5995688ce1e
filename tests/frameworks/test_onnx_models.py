"""ONNX models on onnxruntime: from a file, and exported from PyTorch as Clipper's deployer does."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipper_nomad import BundleError, ClipperConnection, ClipperException
from clipper_nomad.deployers.onnx import create_endpoint, create_pytorch_endpoint, deploy_onnx_model, deploy_pytorch_model
from tests.frameworks.libraries import FEATURES, Rows, answers, library, manifest_of, rows
from tests.frameworks.test_pytorch_models import outputs_here, trained

torch = library("torch")
onnx = library("onnx")
library("onnxruntime")


def runs(model: Any, inputs: Rows) -> object:
    """As a function that was written for Clipper."""
    return model.run(inputs)[0][:, 0]


def predicts(session: Any, inputs: Rows) -> object:
    return session.run(None, {"input": inputs})[0][:, 0]


def exported(module: Any) -> bytes:
    buffer = io.BytesIO()
    axes = {"input": {0: "batch"}}
    torch.onnx.export(
        module.eval(), (torch.zeros(1, FEATURES),), buffer, input_names=["input"], dynamic_axes=axes, dynamo=False
    )
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["floats", "doubles"])
def test_a_pytorch_module_is_exported_and_answers_as_here(clipper: ClipperConnection, kind: str) -> None:
    module = trained()

    deployed = create_pytorch_endpoint(clipper, "exported", kind, torch.zeros(1, FEATURES), runs, module)

    assert answers(clipper, "exported", rows(5)) == pytest.approx(outputs_here(module, rows(5)), rel=1e-4)
    assert sorted(manifest_of(clipper, "exported")["files"]) == ["func.pkl", "model.onnx"]
    assert deployed.warning is None


def test_exporting_leaves_the_module_in_its_mode(clipper: ClipperConnection) -> None:
    module = trained().train()

    deploy_pytorch_model(clipper, "m", 1, "floats", (torch.zeros(1, FEATURES),), runs, module, onnx_backend="onnxruntime")

    assert module.training


def test_a_file_is_served_by_a_session_of_onnxruntime(clipper: ClipperConnection, tmp_path: Path) -> None:
    module = trained()
    file = tmp_path / "any-name.onnx"
    file.write_bytes(exported(module))

    create_endpoint(clipper, "file", "floats", predicts, file)

    assert answers(clipper, "file", rows(5)) == pytest.approx(outputs_here(module, rows(5)), rel=1e-4)
    assert not any(each.startswith("torch") for each in manifest_of(clipper, "file")["requirements"])


def test_a_model_of_onnx_is_served_in_batches(clipper: ClipperConnection) -> None:
    module = trained()

    deploy_onnx_model(clipper, "object", 1, "floats", predicts, onnx.load_from_string(exported(module)))
    clipper.register_application("object", "floats", "-1", 3_000_000)
    clipper.link_model_to_app("object", "object")

    assert answers(clipper, "object", rows(5)) == pytest.approx(outputs_here(module, rows(5)), rel=1e-4)


def test_what_is_no_model_is_refused(clipper: ClipperConnection, tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no model")
    with pytest.raises(BundleError, match="Error saving onnx model: InvalidProtobuf"):
        deploy_onnx_model(clipper, "m", 1, "floats", predicts, tmp_path / "no.onnx")
    with pytest.raises(BundleError, match="There is no nowhere.onnx to read"):  # noqa: RUF043  # the dot is one
        deploy_onnx_model(clipper, "m", 1, "floats", predicts, "nowhere.onnx")
    with pytest.raises(BundleError, match="expected an onnx"):
        deploy_onnx_model(clipper, "m", 1, "floats", predicts, np.zeros(3))
    with pytest.raises(BundleError, match="expected a torch"):
        deploy_pytorch_model(clipper, "m", 1, "floats", torch.zeros(1, FEATURES), runs, np.zeros(3))
    with pytest.raises(ClipperException, match="There is no ONNX backend 'tensorrt'; expected one of caffe2, onnxruntime"):
        deploy_pytorch_model(clipper, "m", 1, "floats", torch.zeros(1, FEATURES), runs, trained(), onnx_backend="tensorrt")
