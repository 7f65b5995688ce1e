"""Closures on their way into bundles: what travels, what is noted, what cannot travel and why."""

from __future__ import annotations

import functools
import importlib
import json
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attr
import cloudpickle
import numpy as np
import pytest

from clipper_nomad.connection.inputs import Input
from clipper_nomad.deployers.closure_modules import local_modules_by_value
from clipper_nomad.deployers.packing import FrameworkModel, packed, set_sample
from clipper_nomad.errors import BundleError
from clipper_nomad.protocol.bundle import (
    CLOSURE_NAME,
    MANIFEST_NAME,
    Manifest,
    check_python,
    python_minor,
    read_manifest,
    requirements_of,
    write_manifest,
)
from clipper_nomad.protocol.datatypes import InputType

Function = Callable[..., Any]  # of a model


def bundle_of(function: Function, *, sample: Input | None = None) -> tuple[Manifest, bytes]:
    with packed(function, kind=InputType.DOUBLES, sample=sample) as folder:
        return read_manifest(folder), (folder / CLOSURE_NAME).read_bytes()


def load(closure: bytes) -> Function:
    function: Function = cloudpickle.loads(closure)
    return function


@pytest.fixture
def beside_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of modules that are not installed, as files beside a notebook are."""
    monkeypatch.syspath_prepend(str(tmp_path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def forget(*modules: str) -> None:
    """Make modules as unknown as they are on another machine."""
    for name in modules:
        del sys.modules[name]
    importlib.invalidate_caches()


def test_a_closure_comes_back_with_what_it_reaches() -> None:
    weights = np.array([1.0, 2.0])

    def predict(inputs: np.ndarray) -> list[float]:
        return [float(row @ weights) for row in inputs]

    _, closure = bundle_of(predict)

    assert load(closure)(np.array([[1.0, 1.0]])) == [3.0]


def test_the_manifest_says_how_to_run_it() -> None:
    def predict(inputs: np.ndarray) -> list[float]:
        return [float(np.sum(row)) for row in inputs]

    manifest, _ = bundle_of(predict, sample=[1.0, 2.0])

    assert (manifest.input_type, manifest.python, manifest.sample) == ("doubles", python_minor(), [1.0, 2.0])
    assert manifest.packages["numpy"] == np.__version__
    check_python(manifest)


def test_imports_inside_the_function_are_noted_too() -> None:
    def predict(inputs: list[Any]) -> list[str]:
        def inner() -> str:
            import requests  # noqa: PLC0415  # that is the point

            return requests.__version__

        return [inner() for _ in inputs]

    assert "requests" in bundle_of(predict)[0].packages


def test_a_distribution_of_another_name_than_its_module_is_noted() -> None:
    manifest, _ = bundle_of(lambda inputs: [attr.asdict(one) for one in inputs])

    assert "attrs" in manifest.packages


def test_the_standard_library_and_this_package_are_not_noted() -> None:
    manifest, _ = bundle_of(functools.partial(json.dumps, default=read_manifest))

    assert not {"json", "functools", "clipper-nomad"} & manifest.packages.keys()


def test_functions_of_a_file_beside_the_notebook_travel_along(beside_the_notebook: Path) -> None:
    (beside_the_notebook / "my_steps.py").write_text(
        "import json\ndef double(x):\n    return [json.loads('2') * v for v in x]\n"
    )
    (beside_the_notebook / "my_model.py").write_text(
        "import my_steps\nclass Model:\n    def predict(self, x):\n        return my_steps.double(x)\n"
    )
    model = importlib.import_module("my_model").Model()
    manifest, closure = bundle_of(model.predict)
    forget("my_model", "my_steps")
    sys.path.remove(str(beside_the_notebook))

    predict = load(closure)

    assert predict([1, 2]) == [2, 4]
    assert not {"my_model", "my_steps"} & manifest.packages.keys()


def test_packages_of_another_environment_on_the_path_do_not_travel_along(beside_the_notebook: Path) -> None:
    other = beside_the_notebook / "lib" / "site-packages"  # as uv puts one environment over another
    other.mkdir(parents=True)
    (other / "their_package.py").write_text("def f(x):\n    return x\n")
    sys.path.insert(0, str(other))
    importlib.invalidate_caches()
    try:
        importlib.import_module("their_package")
        with local_modules_by_value() as names:
            assert "their_package" not in names
    finally:
        sys.path.remove(str(other))
        sys.modules.pop("their_package")


def test_packing_leaves_cloudpickle_s_list_as_it_was(beside_the_notebook: Path) -> None:
    (beside_the_notebook / "kept.py").write_text("def f(x):\n    return x\n")
    (beside_the_notebook / "other.py").write_text("def f(x):\n    return x\n")
    kept, other = importlib.import_module("kept"), importlib.import_module("other")
    before = set(cloudpickle.list_registry_pickle_by_value())
    cloudpickle.register_pickle_by_value(kept)
    try:
        bundle_of(other.f)
        assert cloudpickle.list_registry_pickle_by_value() == before | {"kept"}
    finally:
        cloudpickle.unregister_pickle_by_value(kept)


class Model:
    def __init__(self) -> None:
        self.parts = {"weights": [1.0], "guard": [0, threading.Lock()]}

    def predict(self, inputs: object) -> object:
        return inputs


LOCK = threading.Lock()


def test_an_object_that_cannot_be_pickled_is_named_with_the_way_to_it() -> None:
    with pytest.raises(BundleError) as caught:
        bundle_of(Model().predict)

    said = caught.value.msg
    assert said.startswith("The function 'Model.predict' cannot be packed: it needs an object of type _thread.lock, which")
    assert "the object it is bound to" in said
    assert said.endswith("attribute 'parts' → key 'guard' → item 1.")


@pytest.mark.parametrize("way", ["global", "closure", "default", "partial"])
def test_the_way_to_it_is_told_however_it_is_reached(way: str) -> None:
    lock = threading.Lock()

    def by_global(inputs: object) -> object:
        return LOCK, inputs

    def by_closure(inputs: object) -> object:
        return [str(lock) for _ in [inputs]]

    def by_default(inputs: object, guard: object = lock) -> object:
        return guard, inputs

    functions: dict[str, tuple[Function, str]] = {
        "global": (by_global, "the global 'LOCK'"),
        "closure": (by_closure, "the variable 'lock' around it"),
        "default": (by_default, "a default of its arguments"),
        "partial": (functools.partial(str, lock), "argument 0 of a partial"),
    }
    function, words = functions[way]

    with pytest.raises(BundleError, match=words):
        bundle_of(function)


def test_an_open_file_is_named() -> None:
    with tempfile.TemporaryFile() as file:

        def predict(inputs: object) -> object:
            return file, inputs

        with pytest.raises(BundleError, match=r"an object of type _io\.BufferedRandom, which cannot be pickled"):
            bundle_of(predict)


class Stubborn:
    def __reduce__(self) -> str:
        raise ValueError("I stay here")


def test_what_an_object_says_against_it_is_passed_on() -> None:
    stubborn = Stubborn()

    with pytest.raises(BundleError, match=r"Stubborn.*\(I stay here\)"):
        bundle_of(lambda inputs: (stubborn, inputs))


@pytest.mark.parametrize("thing", [7, "predict", None, np.zeros(3)])
def test_what_cannot_be_called_cannot_be_deployed(thing: Function) -> None:
    with pytest.raises(BundleError, match="cannot be deployed; expected a function"):
        bundle_of(thing)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ([], ["scikit-learn==1.5.0", "skops==0.11"]),
        (["six", "scikit_learn >= 1.4"], ["six", "scikit_learn >= 1.4", "skops==0.11"]),
        (["Skops[more]==1", "scikit-learn-extra"], ["Skops[more]==1", "scikit-learn-extra", "scikit-learn==1.5.0"]),
    ],
)
def test_what_a_framework_needs_is_installed_unless_it_was_asked_for(
    tmp_path: Path, asked: list[str], wanted: list[str]
) -> None:
    needed = ("scikit-learn==1.5.0", "skops==0.11")
    write_manifest(
        tmp_path, Manifest(input_type="doubles", python=python_minor(), packages={}, files={}, requirements=needed)
    )

    assert requirements_of(tmp_path, asked) == wanted
    assert requirements_of(tmp_path / "nowhere", asked) == asked


def test_a_bundle_without_a_framework_has_no_field_that_an_older_runtime_does_not_know() -> None:
    with packed(len, kind=InputType.DOUBLES, sample=None) as folder:
        fields = json.loads((folder / MANIFEST_NAME).read_bytes())

    assert set(fields) == {"extra", "files", "format", "input_type", "packages", "python", "sample", "toolkit"}


def test_a_framework_s_model_is_saved_beside_the_closure_and_noted() -> None:
    def save(folder: Path) -> dict[str, str]:
        (folder / "model.bin").write_bytes(b"weights")
        return {"model_class": "Linear"}

    model = FrameworkModel(framework="of-a-test", save=save, modules=["attr"])
    with packed(len, kind=InputType.DOUBLES, sample=None, model=model) as folder:
        set_sample(folder, [1.0])
        manifest = read_manifest(folder)

    assert sorted(manifest.files) == ["func.pkl", "model.bin"]
    assert (manifest.framework, manifest.extra, manifest.sample) == ("of-a-test", {"model_class": "Linear"}, [1.0])
    assert list(manifest.requirements) == [f"attrs=={version('attrs')}"]


@pytest.mark.parametrize("ending", [None, KeyboardInterrupt, RuntimeError])
def test_the_folder_is_removed_however_it_ends(
    ending: type[BaseException] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    try:
        with packed(len, kind=InputType.STRINGS, sample=None) as folder:
            assert folder.is_relative_to(tmp_path)
            if ending is not None:
                raise ending
    except (KeyboardInterrupt, RuntimeError):
        pass

    assert list(tmp_path.iterdir()) == []
