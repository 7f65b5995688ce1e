"""XGBoost models, in XGBoost's own format."""

from __future__ import annotations

from typing import Any

import pytest

from clipper_nomad import BundleError, ClipperConnection
from clipper_nomad.deployers.xgboost import create_endpoint, deploy_xgboost_model
from tests.frameworks.libraries import Rows, answers, library, manifest_of, rows, targets

xgboost = library("xgboost")


def predicts(model: Any, inputs: Rows) -> object:
    return model.predict(inputs)


def predicts_on_a_matrix(model: Any, inputs: Rows) -> object:
    return model.predict(xgboost.DMatrix(inputs))


def test_a_regressor_answers_as_here(clipper: ClipperConnection) -> None:
    model = xgboost.XGBRegressor(n_estimators=10, max_depth=3).fit(rows(), targets(rows()))

    create_endpoint(clipper, "regressor", "doubles", predicts, model)

    expected = [float(str(each)) for each in model.predict(rows(5))]  # of 32 bits, as they are written
    assert answers(clipper, "regressor", rows(5)) == expected
    manifest = manifest_of(clipper, "regressor")
    assert sorted(manifest["files"]) == ["func.pkl", "xgboost_model.ubj"]
    assert manifest["extra"] == {"model_class": "XGBRegressor"}
    assert any(each.startswith("xgboost") for each in manifest["requirements"])


def test_a_classifier_keeps_its_classes(clipper: ClipperConnection) -> None:
    kinds = (targets(rows()) > 0).astype(int) + (targets(rows()) > 3)
    model = xgboost.XGBClassifier(n_estimators=5, max_depth=3).fit(rows(), kinds)

    create_endpoint(clipper, "classifier", "doubles", predicts, model)

    assert answers(clipper, "classifier", rows(20)) == model.predict(rows(20)).tolist()


def test_a_booster_answers_as_here(clipper: ClipperConnection) -> None:
    model = xgboost.train({"max_depth": 3}, xgboost.DMatrix(rows(), targets(rows())), num_boost_round=10)

    deployed = deploy_xgboost_model(clipper, "booster", 1, "doubles", predicts_on_a_matrix, model)
    clipper.register_application("booster", "doubles", "-1", 3_000_000)
    clipper.link_model_to_app("booster", "booster")

    expected = [float(str(each)) for each in model.predict(xgboost.DMatrix(rows(5)))]
    assert answers(clipper, "booster", rows(5)) == expected
    assert deployed.warning is None  # a booster says how many features it has


@pytest.mark.parametrize("model", ["model.ubj", object(), type("Mine", (xgboost.XGBRegressor,), {})()])
def test_what_is_no_model_of_xgboost_is_refused(clipper: ClipperConnection, model: object) -> None:
    with pytest.raises(BundleError, match="is not what this deployer takes: expected a trained"):
        deploy_xgboost_model(clipper, "m", 1, "doubles", predicts, model)


def test_a_model_that_was_not_trained_is_not_saved(clipper: ClipperConnection) -> None:
    with pytest.raises(BundleError, match="Error saving xgboost model: NotFittedError"):
        deploy_xgboost_model(clipper, "m", 1, "doubles", predicts, xgboost.XGBRegressor())
