"""FILE:FUNCTION or MODULE:FUNCTION → the callable it names, and three error messages. Runs the user's code; no more.

`deploy` calls it. A function of a file is found as Python itself would find it beside that file, so that `import` of its
neighbours works; cloudpickle then packs it by value.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from clipper_nomad.cli.options import WrongUsage
from clipper_nomad.errors import ClipperException

MOST_NAMES = 10

# What is not installed cannot be asked; the package index has others, or none, under these modules' names.
_DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python", "sklearn": "scikit-learn", "yaml": "pyyaml"}


def load_function(reference: str) -> Callable[..., Any]:
    """Return the callable that `reference` names: "model.py:predict", "package.module:clf.predict".

    Raises: WrongUsage: it is not of that form. ClipperException: no such file, module or attribute, the user's
    code raises, or what is there cannot be called.
    """
    where, colon, attribute = reference.rpartition(":")
    if not colon or not where or not attribute:
        raise WrongUsage(
            f"{reference!r} names no function.",
            hint="Write FILE:FUNCTION or MODULE:FUNCTION, e.g. model.py:predict or mypackage.models:clf.predict.",
        )
    with redirect_stdout(sys.stderr):  # what the user's code prints is no result of ours
        module = _load_file(Path(where)) if where.endswith(".py") or "/" in where else _load_module(where)
    found: object = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ClipperException(
                f"{where} has no {attribute!r}: {name!r} is not there.",
                hint=f"It has: {', '.join(_callables(found)) or 'nothing that can be called'}.",
            )
        found = getattr(found, name)
    if not callable(found):
        raise ClipperException(
            f"{reference} is a {type(found).__name__}, which cannot be called.",
            hint=f"Name a function, or a method such as {reference}.predict.",
        )
    return found


def _load_file(path: Path) -> ModuleType:
    path = path.expanduser().absolute()
    if not path.is_file():
        raise ClipperException(f"There is no file {path}.", hint="Name a Python file: FILE:FUNCTION, e.g. model.py:predict.")
    is_taken = path.stem in sys.modules or path.stem in sys.stdlib_module_names
    name = f"deployed_{path.stem}" if is_taken else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ClipperException(f"{path} is no Python file.", hint="Its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:
        raise _failed(path, exc) from exc
    return module


def _load_module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
            raise ClipperException(
                f"There is no module {name!r}: {exc}.",
                hint="It is looked for in this directory and in this Python environment; a file is named FILE.py:FUNCTION.",
            ) from exc
        raise _failed(name, exc) from exc
    except (Exception, SystemExit) as exc:
        raise _failed(name, exc) from exc


def _failed(where: object, exc: BaseException) -> ClipperException:
    """Return the error that says where in the user's own code `exc` was raised."""
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if "importlib" not in frame.filename]
    theirs = [frame for frame in frames if frame.filename != __file__]
    place = f" ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else ""
    hint = None
    if isinstance(exc, ModuleNotFoundError):
        top = (exc.name or "").partition(".")[0]
        hint = f"Install it: {sys.executable} -m pip install {_DISTRIBUTIONS.get(top, top)}"
    return ClipperException(f"{where} could not be loaded: {type(exc).__name__}: {exc}{place}.", hint=hint)


def _callables(holder: object) -> list[str]:
    """Return the names in `holder` that could have been meant."""
    names = getattr(holder, "__dict__", {})
    return [name for name, value in names.items() if callable(value) and not name.startswith("_")][:MOST_NAMES]
