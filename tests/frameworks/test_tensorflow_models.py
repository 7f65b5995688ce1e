"""TensorFlow: SavedModels, and modules that are saved as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipper_nomad import BundleError, ClipperConnection, DeployFailed
from clipper_nomad.deployers.tensorflow import create_endpoint, deploy_tensorflow_model
from tests.frameworks.libraries import FEATURES, Rows, answers, library, manifest_of, rows, targets

tensorflow = library("tensorflow")


def trained() -> Any:
    """A linear model as a tf.Module, fitted by gradients."""

    class Linear(tensorflow.Module):  # type: ignore[misc, name-defined]  # it has no types
        def __init__(self) -> None:
            self.weights = tensorflow.Variable(tensorflow.zeros([FEATURES, 1]))

        @tensorflow.function(input_signature=[tensorflow.TensorSpec([None, FEATURES], tensorflow.float32)])
        def __call__(self, inputs: Any) -> Any:
            return tensorflow.linalg.matmul(inputs, self.weights)[:, 0]

    module = Linear()
    inputs, wanted = (tensorflow.constant(array, tensorflow.float32) for array in (rows(), targets(rows())))
    for _ in range(20):
        with tensorflow.GradientTape() as tape:
            loss = tensorflow.reduce_mean((module(inputs) - wanted) ** 2)
        module.weights.assign_sub(0.2 * tape.gradient(loss, module.weights))
    return module


def predicts(model: Any, inputs: Rows) -> object:
    return model(tensorflow.constant(inputs, tensorflow.float32))


def by_signature(model: Any, inputs: Rows) -> object:
    return model.signatures["serving_default"](tensorflow.constant(inputs))["output_0"]


def test_a_module_is_saved_and_answers_as_here(clipper: ClipperConnection) -> None:
    module = trained()

    create_endpoint(clipper, "module", "floats", predicts, module, sample=np.ones(FEATURES, np.float32))

    assert answers(clipper, "module", rows(5)) == pytest.approx(predicts(module, rows(5)), rel=1e-5)
    manifest = manifest_of(clipper, "module")
    assert "tfmodel/saved_model.pb" in manifest["files"]
    assert any(each.startswith("tensorflow") for each in manifest["requirements"])


@pytest.mark.parametrize("named", ["", "saved_model.pb"])
def test_a_saved_model_is_served_by_its_signature(clipper: ClipperConnection, tmp_path: Path, named: str) -> None:
    module = trained()
    tensorflow.saved_model.save(module, str(tmp_path / "saved"), signatures=module.__call__.get_concrete_function())

    create_endpoint(clipper, "saved", "floats", by_signature, str(tmp_path / "saved" / named), sample=rows(1))

    assert answers(clipper, "saved", rows(5)) == pytest.approx(predicts(module, rows(5)), rel=1e-5)


def test_the_users_line_is_shown_when_a_signature_is_not_there(clipper: ClipperConnection, tmp_path: Path) -> None:
    def predict(model: Any, inputs: Rows) -> object:
        return model.signatures["no_such_signature"](inputs)

    with pytest.raises(DeployFailed, match="KeyError") as caught:
        deploy_tensorflow_model(clipper, "m", 1, "floats", predict, trained(), sample=rows(1))

    assert 'return model.signatures["no_such_signature"](inputs)' in caught.value.msg


def test_what_is_no_saved_model_is_refused(clipper: ClipperConnection, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_text("of TensorFlow 1")
    (tmp_path / "frozen.pb").write_bytes(b"a graph")
    for model, says in (
        (tmp_path / "nowhere", "There is no .*nowhere"),
        (tmp_path, "is no SavedModel: a folder with saved_model.pb in it was expected"),
        (tmp_path / "frozen.pb", "is no SavedModel"),
        (tensorflow.compat.v1.Session(), "is not what this deployer takes: expected the folder of a SavedModel"),
        (tensorflow.keras.Sequential(), "of a Keras model see deployers.keras"),
    ):
        with pytest.raises(BundleError, match=says):
            deploy_tensorflow_model(clipper, "m", 1, "floats", predicts, model)
