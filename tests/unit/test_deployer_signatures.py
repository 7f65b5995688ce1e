"""Whoever uses Clipper's deployers changes the import line and goes on: parameters, their order and defaults.

The table is what Clipper's documentation and source say. Frameworks are not needed here, and must not be.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import pytest

from clipper_nomad import ClipperConnection, ClipperException, LocalContainerManager
from clipper_nomad.deployers.deploying import Options, Wanted
from tests.architecture_rules import FRAMEWORKS

ENDPOINT = (
    "default_output='None', version=1, slo_micros=3000000, labels=None, registry=None, base_image='default', num_replicas=1,"
    " batch_size=-1, pkgs_to_install=None"
)
DEPLOY = "base_image='default', labels=None, registry=None, num_replicas=1, batch_size=-1, pkgs_to_install=None"
ONNX_ENDPOINT = (
    "default_output='None', version=1, slo_micros=3000000, labels=None, registry=None, base_image=None, num_replicas=1,"
    " onnx_backend='caffe2', batch_size=-1, pkgs_to_install=None"
)
ONNX_DEPLOY = (
    "base_image=None, labels=None, registry=None, num_replicas=1, onnx_backend='caffe2', batch_size=-1, pkgs_to_install=None"
)
CLIPPERS = {
    "python.create_endpoint": f"clipper_conn, name, input_type, func, {ENDPOINT}",
    "python.deploy_python_closure": f"clipper_conn, name, version, input_type, func, {DEPLOY}",
    "pyspark.create_endpoint": f"clipper_conn, name, input_type, func, pyspark_model, sc, {ENDPOINT}",
    "pyspark.deploy_pyspark_model": f"clipper_conn, name, version, input_type, func, pyspark_model, sc, {DEPLOY}",
    "pytorch.create_endpoint": f"clipper_conn, name, input_type, func, pytorch_model, {ENDPOINT}",
    "pytorch.deploy_pytorch_model": f"clipper_conn, name, version, input_type, func, pytorch_model, {DEPLOY}",
    "tensorflow.create_endpoint": f"clipper_conn, name, input_type, func, tf_sess_or_saved_model_path, {ENDPOINT}",
    "tensorflow.deploy_tensorflow_model": (
        f"clipper_conn, name, version, input_type, func, tf_sess_or_saved_model_path, {DEPLOY}"
    ),
    "keras.create_endpoint": f"clipper_conn, name, input_type, func, model_path_or_object, {ENDPOINT}",
    "keras.deploy_keras_model": f"clipper_conn, name, version, input_type, func, model_path_or_object, {DEPLOY}",
    "onnx.create_pytorch_endpoint": f"clipper_conn, name, input_type, inputs, func, pytorch_model, {ONNX_ENDPOINT}",
    "onnx.deploy_pytorch_model": f"clipper_conn, name, version, input_type, inputs, func, pytorch_model, {ONNX_DEPLOY}",
}
OURS = {
    "onnx.create_endpoint": f"clipper_conn, name, input_type, func, onnx_model, {ENDPOINT}",
    "onnx.deploy_onnx_model": f"clipper_conn, name, version, input_type, func, onnx_model, {DEPLOY}",
    "sklearn.create_endpoint": f"clipper_conn, name, input_type, func, sklearn_model, {ENDPOINT}",
    "sklearn.deploy_sklearn_model": f"clipper_conn, name, version, input_type, func, sklearn_model, {DEPLOY}",
    "xgboost.create_endpoint": f"clipper_conn, name, input_type, func, xgboost_model, {ENDPOINT}",
    "xgboost.deploy_xgboost_model": f"clipper_conn, name, version, input_type, func, xgboost_model, {DEPLOY}",
}
MODULES = sorted({name.partition(".")[0] for name in CLIPPERS | OURS})


def deployer(name: str) -> Callable[..., object]:
    module, _, function = name.partition(".")
    found: Callable[..., object] = getattr(importlib.import_module(f"clipper_nomad.deployers.{module}"), function)
    return found


@pytest.mark.parametrize("name", [*CLIPPERS, *OURS])
def test_a_deployer_takes_what_clipper_s_takes_in_its_order_and_with_its_defaults(name: str) -> None:
    wanted = ast.parse(f"def _({(CLIPPERS | OURS)[name]}): ...").body[0]
    assert isinstance(wanted, ast.FunctionDef)

    *clippers, ours = inspect.signature(deployer(name)).parameters.values()

    assert [each.name for each in clippers] == [each.arg for each in wanted.args.args]
    defaults = [each.default for each in clippers if each.default is not inspect.Parameter.empty]
    assert defaults == [ast.literal_eval(each) for each in wanted.args.defaults]
    assert ours.kind is inspect.Parameter.VAR_KEYWORD


@pytest.mark.parametrize("name", [*CLIPPERS, *OURS])
def test_every_argument_arrives_where_it_belongs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given by position, as Clipper's users give them; what a model becomes is seen with the real libraries."""
    module = importlib.import_module(f"clipper_nomad.deployers.{name.partition('.')[0]}")
    seen: dict[str, object] = {}

    def deploy_function(conn: object, func: object, wanted: Wanted, options: Options, model: object = None) -> str:
        seen.update(vars_of(wanted), clipper_conn=conn, func=func, model=model, options=options)
        return "deployed"

    @contextmanager
    def endpoint(conn: object, name: str, input_type: str, default_output: str, slo_micros: int) -> Iterator[None]:
        assert (conn, name, input_type) == ("the clipper_conn", "the name", "the input_type")
        seen.update(default_output=default_output, slo_micros=slo_micros)
        yield

    monkeypatch.setattr(module, "deploy_function", deploy_function)
    monkeypatch.setattr(module, "endpoint", endpoint)
    for packing in ("packed_model", "_content", "_exported"):
        monkeypatch.setattr(module, packing, lambda *given, **_: given[0] if len(given) == 1 else given, raising=False)
    given = {each: f"the {each}" for each in [*inspect.signature(deployer(name)).parameters][:-1]}
    models = [each for each in given if each in MODELS]
    if "onnx_backend" in given:
        given["onnx_backend"] = "onnxruntime"

    assert deployer(name)(*given.values(), sample="the sample") == "deployed"

    wanted = {each: value for each, value in given.items() if each not in {*models, "inputs", "onnx_backend"}}
    assert {each: seen[each] for each in wanted} == wanted
    assert seen["options"] == {"sample": "the sample"}
    packed = seen["model"] if isinstance(seen["model"], tuple) else (seen["model"],)
    expected = [f"the {each}" for each in models] + (["the inputs"] if "inputs" in given else [])
    assert [each for each in packed if each is not None] == expected


def vars_of(wanted: Wanted) -> dict[str, object]:
    return {field.name: getattr(wanted, field.name) for field in fields(wanted)}


MODELS = (
    "pyspark_model",
    "sc",
    "pytorch_model",
    "tf_sess_or_saved_model_path",
    "model_path_or_object",
    "onnx_model",
    "sklearn_model",
    "xgboost_model",
)


def test_an_option_that_is_none_is_refused(tmp_path: Path) -> None:
    conn = ClipperConnection(LocalContainerManager(home=tmp_path))

    with pytest.raises(TypeError, match="a deployer has no argument 'samples'; besides Clipper's it takes sample, trial, "):
        deployer("python.deploy_python_closure")(conn, "m", 1, "doubles", len, samples=[1.0])


@pytest.mark.process
def test_importing_every_deployer_imports_no_framework() -> None:
    code = "\n".join(
        [
            "import importlib, sys",
            f"for name in {[*MODULES, 'mxnet']}: importlib.import_module(f'clipper_nomad.deployers.{{name}}')",
            f"print(*sorted(set(sys.modules) & set({FRAMEWORKS.split()}) - {{'numpy'}}))",
        ]
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)

    assert said.stdout.split() == []


MODEL_OF = {
    "sklearn": ("sklearn.deploy_sklearn_model", "sklearn", 1),
    "xgboost": ("xgboost.deploy_xgboost_model", "xgboost", 1),
    "pytorch": ("pytorch.deploy_pytorch_model", "torch", 1),
    "onnx": ("onnx.deploy_onnx_model", "onnxruntime", 1),
    "tensorflow": ("tensorflow.deploy_tensorflow_model", "tensorflow", 1),
    "keras": ("keras.deploy_keras_model", "keras", 1),
    "pyspark": ("pyspark.deploy_pyspark_model", "pyspark", 2),
}


@pytest.mark.parametrize("module", sorted(MODEL_OF))
def test_a_python_without_the_framework_is_told_what_to_install(
    module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name, framework, count = MODEL_OF[module]
    monkeypatch.setitem(sys.modules, framework, None)
    (tmp_path / "model").write_bytes(b"")

    conn = ClipperConnection(LocalContainerManager(home=tmp_path))
    with pytest.raises(ClipperException, match=f"needs {framework}, which is not installed in this Python") as caught:
        deployer(name)(conn, "m", 1, "doubles", len, *[str(tmp_path / "model")] * count)

    assert "Install " in str(caught.value.hint)


@pytest.mark.parametrize("function", ["create_endpoint", "deploy_mxnet_model"])
def test_mxnet_is_said_to_be_retired_and_what_to_use(function: str) -> None:
    with pytest.raises(ClipperException, match="Apache retired MXNet in 2023") as caught:
        deployer(f"mxnet.{function}")(None, "m", "doubles", len, object(), [("data", (1, 2))], version=2)

    assert "deployers.onnx.deploy_onnx_model" in str(caught.value.hint)
