"""scikit-learn models: by skops where it knows all that is in one, else pickled."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import pytest

from clipper_nomad import BundleError, ClipperConnection, DeployFailed
from clipper_nomad.deployers.sklearn import create_endpoint, deploy_sklearn_model
from tests.frameworks.libraries import FEATURES, Rows, answers, library, manifest_of, rows, targets

library("sklearn", needs="scikit-learn")
library("skops")

from sklearn.base import BaseEstimator, TransformerMixin  # noqa: E402  # only if it is there
from sklearn.ensemble import RandomForestClassifier  # noqa: E402
from sklearn.linear_model import LinearRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402


class Halves(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A step of the user's own, which skops does not know."""

    def fit(self, inputs: Rows, _targets: object = None) -> Halves:
        self.n_features_in_ = inputs.shape[1]
        return self

    def transform(self, inputs: Rows) -> Rows:
        return inputs / 2


def predicts(model: LinearRegression, inputs: Rows) -> object:
    return model.predict(inputs)


def test_a_pipeline_answers_as_here_and_is_saved_by_skops(clipper: ClipperConnection) -> None:
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(rows(), targets(rows()))

    deployed = create_endpoint(clipper, "pipeline", "doubles", predicts, model)

    assert answers(clipper, "pipeline", rows(5)) == pytest.approx(model.predict(rows(5)).tolist(), rel=1e-12)
    manifest = manifest_of(clipper, "pipeline")
    assert sorted(manifest["files"]) == ["func.pkl", "sklearn_model.skops"]
    assert manifest["requirements"] == [f"scikit-learn=={version('scikit-learn')}", f"skops=={version('skops')}"]
    assert deployed.output == model.predict(np.ones((1, FEATURES)))[0]  # tried on as many features as the model has


def test_probabilities_of_each_class_are_lists(clipper: ClipperConnection) -> None:
    model = RandomForestClassifier(n_estimators=5, random_state=0).fit(rows(), targets(rows()) > 0)

    create_endpoint(clipper, "forest", "doubles", lambda model, inputs: model.predict_proba(inputs), model)

    assert answers(clipper, "forest", rows(5)) == model.predict_proba(rows(5)).tolist()


def test_a_pipeline_with_a_step_of_the_users_own_is_pickled(
    clipper: ClipperConnection, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_pipeline(Halves(), LinearRegression()).fit(rows(), targets(rows()))

    with caplog.at_level("INFO"):
        create_endpoint(clipper, "own-step", "doubles", predicts, model)

    assert answers(clipper, "own-step", rows(5)) == pytest.approx(model.predict(rows(5)).tolist(), rel=1e-12)
    assert sorted(manifest_of(clipper, "own-step")["files"]) == ["func.pkl", "sklearn_model.pkl"]
    assert any("the model is pickled, because skops does not know" in message for message in caplog.messages)


def test_the_users_line_is_shown_when_the_function_fails(clipper: ClipperConnection) -> None:
    model = LinearRegression().fit(rows(), targets(rows()))

    def two_features(model: LinearRegression, inputs: Rows) -> object:
        return model.predict(inputs[:, :2])

    with pytest.raises(DeployFailed, match="X has 2 features, but LinearRegression is expecting 4") as caught:
        deploy_sklearn_model(clipper, "m", 1, "doubles", two_features, model, sample=rows(1))

    assert "return model.predict(inputs[:, :2])" in caught.value.msg
    assert clipper.get_all_models() == []


def test_what_is_no_model_of_scikit_learn_is_refused(clipper: ClipperConnection) -> None:
    with pytest.raises(BundleError, match="is not what this deployer takes"):
        deploy_sklearn_model(clipper, "m", 1, "doubles", LinearRegression().fit(rows(), targets(rows())), predicts)
    with pytest.raises(BundleError, match="The class LinearRegression is not what this deployer takes"):
        deploy_sklearn_model(clipper, "m", 1, "doubles", predicts, LinearRegression)
