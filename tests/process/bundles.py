"""Packs a predict function of a test into a bundle's folder, as the deployers do, without what else they do.

`pack_model(folder, "raises")` takes the one of tests/models; `pack(folder, function)` any other.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import cloudpickle

from clipper_nomad.protocol.bundle import CLOSURE_NAME, Manifest, file_digests, python_minor, write_manifest

MODELS = Path(__file__).resolve().parents[1] / "models"


def pack_model(folder: Path, name: str, *, input_type: str = "doubles", sample: object = None) -> str:
    """Pack `predict` of tests/models/<name>.py and return the bundle's digest."""
    return pack(folder, load_model(name).predict, input_type=input_type, sample=sample)


def pack(
    folder: Path,
    function: object,
    *,
    input_type: str = "doubles",
    sample: object = None,
    python: str | None = None,
    modules: Mapping[str, str] | None = None,
) -> str:
    """Pack `function` and return the bundle's digest. `modules`: file name → source, for the folder on sys.path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CLOSURE_NAME).write_bytes(cloudpickle.dumps(function))
    for name, source in (modules or {}).items():
        (folder / "modules").mkdir(exist_ok=True)
        (folder / "modules" / name).write_text(source)
    manifest = Manifest(
        input_type=input_type,
        python=python or python_minor(),
        packages={},
        files=file_digests(folder),
        sample=sample,
        toolkit="test",
    )
    return write_manifest(folder, manifest)


def load_model(name: str) -> ModuleType:
    """Return the module tests/models/<name>.py, whose functions are pickled by value: no replica has the module."""
    full_name = f"clipper_nomad_test_models.{name}"
    if full_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(full_name, MODELS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[full_name] = module
        spec.loader.exec_module(module)
        cloudpickle.register_pickle_by_value(module)
    return sys.modules[full_name]
