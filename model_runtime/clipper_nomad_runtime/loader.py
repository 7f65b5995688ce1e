"""A bundle's folder → a function to call. It and what it calls in frameworks/ are all that unpickles.

Every file is checked against the manifest, and the manifest against the digest that was deployed, before a byte of it
is run. A folder `modules` in the bundle is put on sys.path, as in Clipper.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
from numpy.typing import NDArray

from clipper_nomad.protocol.bundle import CLOSURE_NAME, DamagedBundle, check_python, read_manifest
from clipper_nomad.protocol.datatypes import FIXED_WIDTH, InputType, decode_base64, input_type, unpack_inputs
from clipper_nomad_runtime.frameworks import arguments

MODULES_NAME = "modules"


class ModelFailed(Exception):
    """The code of the model raised while it was loaded; the cause is the exception."""


class ImportMissing(ModelFailed):
    """The model needs a module that is not here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A predict function, what it takes, and one input as it gets them, if the bundle has one."""

    function: Callable[[NDArray[Any]], object]
    input_type: InputType
    sample: NDArray[Any] | None
    toolkit: str


def load_model(folder: Path, *, digest: str | None, kind: InputType | None) -> Model:
    """Return the model in the bundle at `folder`. `kind`: its input type, if not the bundle's own.

    Raises: DamagedBundle, WrongPython: before anything of the bundle was run. ModelFailed: after.
    """
    manifest = read_manifest(folder, digest=digest)
    check_python(manifest)
    kind = input_type(manifest.input_type) if kind is None else kind
    sample = None if manifest.sample is None else sample_array(manifest.sample, kind)
    function = _unpickle(folder)
    if not callable(function):
        raise ModelFailed(f"{CLOSURE_NAME} holds a {type(function).__name__}, which cannot be called")
    with _its_failures():
        if before := arguments(manifest.framework, folder, manifest.extra):
            function = functools.partial(function, *before)
    return Model(function=function, input_type=kind, sample=sample, toolkit=manifest.toolkit)


def sample_array(sample: object, kind: InputType) -> NDArray[Any]:
    """Return a manifest's sample as a batch of one input. Raises: DamagedBundle: it is not of that type."""
    try:
        if kind in FIXED_WIDTH:
            row = np.array(sample, FIXED_WIDTH[kind])
            if row.ndim == 1:
                return unpack_inputs(kind, 1, row.size, None, row.tobytes())
        elif isinstance(sample, str):
            item = decode_base64(sample) if kind is InputType.BYTES else sample.encode()
            return unpack_inputs(kind, 1, 0, np.array([len(item)], np.uint32), item)
    except (ValueError, TypeError, OverflowError) as exc:
        raise DamagedBundle(f"the sample of the bundle is not of type {kind.word}: {exc}") from exc
    raise DamagedBundle(f"the sample of the bundle is not of type {kind.word}: {str(sample)[:200]}")


def _unpickle(folder: Path) -> object:
    modules = folder / MODULES_NAME
    if modules.is_dir():
        sys.dont_write_bytecode = True  # the bundle stays what its manifest says
        sys.path.append(str(modules))
    with _its_failures(), (folder / CLOSURE_NAME).open("rb") as file:
        return cloudpickle.load(file)


@contextmanager
def _its_failures() -> Iterator[None]:
    """Tell what the model's own code raises from what is wrong with its bundle."""
    try:
        yield
    except DamagedBundle:
        raise
    except ImportError as exc:
        raise ImportMissing(str(exc)) from exc
    except BaseException as exc:  # SystemExit too: a model that exits while it is loaded has failed
        raise ModelFailed(f"{type(exc).__name__}: {exc}") from exc
