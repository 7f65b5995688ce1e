"""Deploy a PySpark model: create_endpoint and deploy_pyspark_model, with Clipper's arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from clipper_nomad.connection import ClipperConnection
from clipper_nomad.connection.deployment import Deployment
from clipper_nomad.deployers.deploying import DEFAULT_SLO_MICROS, Options, Wanted, deploy_function, endpoint
from clipper_nomad.deployers.frameworks import imported, saving, wrong_model
from clipper_nomad.deployers.packing import FrameworkModel
from clipper_nomad.protocol.framework_files import PYSPARK_FOLDER


def create_endpoint(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    input_type: str,
    func: Callable[..., object],
    pyspark_model: Any,  # noqa: ANN401  # pyspark's
    sc: Any,  # noqa: ANN401  # pyspark's
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
    """Register an app, deploy a model of the same name, and link the two: see `deploy_pyspark_model`."""
    with endpoint(clipper_conn, name, input_type, default_output, slo_micros):
        return deploy_pyspark_model(
            clipper_conn,
            name,
            version,
            input_type,
            func,
            pyspark_model,
            sc,
            base_image,
            labels,
            registry,
            num_replicas,
            batch_size,
            pkgs_to_install,
            **options,
        )


def deploy_pyspark_model(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    version: object,
    input_type: str,
    func: Callable[..., object],
    pyspark_model: Any,  # noqa: ANN401  # pyspark's
    sc: Any,  # noqa: ANN401  # pyspark's
    base_image: str = "default",
    labels: Sequence[str] | None = None,
    registry: str | None = None,
    num_replicas: int = 1,
    batch_size: int = -1,
    pkgs_to_install: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> Deployment:
    """Deploy a fitted model of pyspark.ml (a pipeline too) or pyspark.mllib; `func` is called as f(spark, model, inputs).

    `sc`: the SparkContext that it was trained in. Where it serves, Spark runs within the replica, in local mode: its image
    must have Java. Other arguments and errors: see `deploy_python_closure`.
    """
    wanted = Wanted(name, version, input_type, base_image, labels, registry, num_replicas, batch_size, pkgs_to_install)
    return deploy_function(clipper_conn, func, wanted, options, packed_model(pyspark_model, sc))


def packed_model(model: Any, context: Any) -> FrameworkModel:  # noqa: ANN401  # pyspark's
    """Return how a model is saved. Raises: BundleError: it is none of PySpark's own, or cannot be saved."""
    imported("pyspark", install="pyspark")
    kind = type(model)
    is_of_ml, is_of_mllib = (kind.__module__.startswith(f"pyspark.{part}.") for part in ("ml", "mllib"))
    if not (is_of_ml or is_of_mllib) or not hasattr(model, "save"):
        raise wrong_model(model, "a fitted model of pyspark.ml or pyspark.mllib that can be saved")

    def save(folder: Path) -> Mapping[str, str]:
        where = (folder / PYSPARK_FOLDER).absolute().as_uri()  # else it might go to the file system of a cluster
        with saving("pyspark"):
            if is_of_ml:
                model.save(where)
            else:
                model.save(context, where)
        return {"model_class": f"{kind.__module__}.{kind.__qualname__}"}

    return FrameworkModel(framework="pyspark", save=save, modules=["pyspark"])
