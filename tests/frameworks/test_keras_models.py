"""Keras models: the object, and files of both formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clipper_nomad import BundleError, ClipperConnection, DeployFailed
from clipper_nomad.deployers.keras import create_endpoint, deploy_keras_model
from tests.frameworks.libraries import FEATURES, Rows, answers, library, manifest_of, rows, targets

keras = library("keras")
library(keras.backend.backend(), needs="Keras' backend")


def trained() -> Any:
    keras.utils.set_random_seed(0)
    layers = [keras.Input((FEATURES,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss="mse")
    model.fit(rows(), targets(rows()), epochs=3, verbose=0)
    return model


def predicts(model: Any, inputs: Rows) -> object:
    return model(inputs)[:, 0]


def by_predict(model: Any, inputs: Rows) -> object:
    return model.predict(inputs, verbose=0)  # lists of one number


def outputs_here(model: Any, inputs: Rows) -> list[float]:
    found: list[float] = model.predict(inputs, verbose=0)[:, 0].tolist()
    return found


def test_a_model_answers_as_here(clipper: ClipperConnection) -> None:
    model = trained()

    deployed = create_endpoint(clipper, "model", "doubles", predicts, model)

    assert answers(clipper, "model", rows(5)) == pytest.approx(outputs_here(model, rows(5)), rel=1e-4)
    assert deployed.warning is None  # a model says how many features it has
    manifest = manifest_of(clipper, "model")
    assert sorted(manifest["files"]) == ["func.pkl", "keras_model.keras"]
    assert next(each.partition("=")[0] for each in manifest["requirements"]) == "keras"
    assert manifest["extra"] == {"backend": keras.backend.backend()}


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_file_of_either_format_answers_as_here(clipper: ClipperConnection, tmp_path: Path, ending: str) -> None:
    model = trained()
    model.save(tmp_path / f"mine.{ending}")

    create_endpoint(clipper, "file", "doubles", by_predict, str(tmp_path / f"mine.{ending}"), sample=rows(1))

    found = answers(clipper, "file", rows(5))
    assert [each for row in found for each in row] == pytest.approx(outputs_here(model, rows(5)), rel=1e-4)
    assert f"keras_model.{ending}" in manifest_of(clipper, "file")["files"]


def test_code_in_a_model_is_not_run(clipper: ClipperConnection) -> None:
    layers = [keras.Input((FEATURES,)), keras.layers.Lambda(lambda inputs: inputs * 2)]

    with pytest.raises(DeployFailed, match=r"cannot be loaded in another process: ValueError: .*[Ll]ambda"):
        deploy_keras_model(clipper, "m", 1, "doubles", predicts, keras.Sequential(layers))


def test_what_is_no_model_is_refused(clipper: ClipperConnection, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    for model, says in (
        (tmp_path / "nowhere.keras", "There is no file .*nowhere.keras"),
        (tmp_path / "model.json", "does not end in .keras, .h5, .hdf5"),
        (keras.layers.Dense(1), "is not what this deployer takes: expected a keras.Model"),
    ):
        with pytest.raises(BundleError, match=says):
            deploy_keras_model(clipper, "m", 1, "doubles", predicts, model)
