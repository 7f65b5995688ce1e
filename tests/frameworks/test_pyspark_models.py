"""PySpark: a pipeline of pyspark.ml, a model of pyspark.mllib, and Spark within the replica."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clipper_nomad import BundleError, ClipperConnection, DeployFailed
from clipper_nomad.deployers.pyspark import create_endpoint, deploy_pyspark_model
from tests.frameworks.libraries import FEATURES, Rows, answers, library, manifest_of, rows, targets

library("pyspark")
if shutil.which("java") is None:
    pytest.skip("NOT RUN: Java is missing (on Debian: default-jre-headless)", allow_module_level=True)

from pyspark.ml import Pipeline  # noqa: E402  # only if it is there
from pyspark.ml.feature import VectorAssembler  # noqa: E402
from pyspark.ml.regression import LinearRegression  # noqa: E402
from pyspark.sql import SparkSession  # noqa: E402

NAMES = [f"f{number}" for number in range(FEATURES)]


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    scratch = tmp_path_factory.mktemp("spark")
    builder = builder.config("spark.local.dir", str(scratch)).config("spark.driver.host", "127.0.0.1")
    session = builder.config("spark.sql.warehouse.dir", str(scratch / "warehouse")).getOrCreate()
    try:
        yield session
    finally:
        session.stop()
        del os.environ["PYSPARK_PYTHON"]


def pipeline(spark: Any) -> Any:
    table = [[*map(float, row), float(target)] for row, target in zip(rows(), targets(rows()), strict=True)]
    frame = spark.createDataFrame(table, [*NAMES, "label"])
    return Pipeline(stages=[VectorAssembler(inputCols=NAMES, outputCol="features"), LinearRegression()]).fit(frame)


def predicts(spark: Any, model: Any, inputs: Rows) -> object:
    frame = spark.createDataFrame([[*map(float, row)] for row in inputs], NAMES)
    return [row.prediction for row in model.transform(frame).select("prediction").collect()]


def predicts_by_mllib(spark: Any, model: Any, inputs: Rows) -> object:
    return spark.sparkContext.parallelize(list(inputs)).map(model.predict).collect()  # in Spark's Python workers


def test_a_pipeline_answers_as_here(clipper: ClipperConnection, spark: Any) -> None:
    model = pipeline(spark)

    create_endpoint(
        clipper, "pipeline", "doubles", predicts, model, spark.sparkContext, slo_micros=30_000_000, sample=rows(1)
    )

    assert answers(clipper, "pipeline", rows(3)) == pytest.approx(predicts(spark, model, rows(3)), rel=1e-9)
    manifest = manifest_of(clipper, "pipeline")
    assert "pyspark_model_data/metadata/_SUCCESS" in manifest["files"]
    assert manifest["extra"] == {"model_class": "pyspark.ml.pipeline.PipelineModel"}
    assert manifest["requirements"][0].startswith("pyspark==")


def test_a_model_of_mllib_answers_as_here(clipper: ClipperConnection, spark: Any) -> None:
    from pyspark.mllib.clustering import KMeans  # noqa: PLC0415  # only if it is there

    model = KMeans.train(spark.sparkContext.parallelize(rows().tolist()), 3, seed=1)

    create_endpoint(
        clipper, "clusters", "doubles", predicts_by_mllib, model, spark.sparkContext, slo_micros=30_000_000, sample=rows(1)
    )

    assert answers(clipper, "clusters", rows(5)) == [model.predict(row) for row in rows(5)]


def test_the_users_line_is_shown_when_a_column_is_missing(clipper: ClipperConnection, spark: Any) -> None:
    def predict(spark: Any, model: Any, inputs: Rows) -> object:
        frame = spark.createDataFrame([[1.0]], ["other"])
        return model.transform(frame).collect()

    with pytest.raises(DeployFailed, match="f0") as caught:
        deploy_pyspark_model(clipper, "m", 1, "doubles", predict, pipeline(spark), spark.sparkContext, sample=rows(1))

    assert "return model.transform(frame).collect()" in caught.value.msg


def test_what_is_no_model_of_pyspark_is_refused(clipper: ClipperConnection, tmp_path: Path) -> None:
    for model in (object(), tmp_path, LinearRegression):
        with pytest.raises(BundleError, match="is not what this deployer takes: expected a fitted model of pyspark"):
            deploy_pyspark_model(clipper, "m", 1, "doubles", predicts, model, None)
