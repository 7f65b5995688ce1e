"""A PySpark model, of pyspark.ml or pyspark.mllib, and the session that it runs in: Spark within this replica."""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from clipper_nomad.protocol.framework_files import PYSPARK_FOLDER


def load(folder: Path, extra: Mapping[str, str]) -> tuple[object, object]:
    """Return the session and the model. Raises: ImportError: there is no Java here."""
    if not os.environ.get("JAVA_HOME") and shutil.which("java") is None:
        raise ImportError("Java, which PySpark runs in; use an image that has it, and in which `java` is on PATH")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # of Spark's workers; `python3` may be another one
    from pyspark.sql import SparkSession  # noqa: PLC0415  # a model's own

    here = Path.cwd() if os.access(Path.cwd(), os.W_OK) else None  # in local mode that goes with the stack
    scratch = tempfile.mkdtemp(prefix="clipper-spark-", dir=here)
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    builder = SparkSession.builder.master("local[*]").appName("clipper-nomad")
    settings = {
        "spark.driver.host": "127.0.0.1",  # nobody else is to reach it
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": scratch,
        "spark.sql.warehouse.dir": f"{scratch}/warehouse",
        "spark.sql.artifact.isolation.enabled": "false",
        "spark.ui.enabled": "false",
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    module, _, name = extra["model_class"].rpartition(".")
    model_class = getattr(importlib.import_module(module), name)
    where = (folder / PYSPARK_FOLDER).absolute().as_uri()
    is_of_ml = module.startswith("pyspark.ml.")
    return session, model_class.load(where) if is_of_ml else model_class.load(session.sparkContext, where)
