"""A closure → a bundle: a folder with func.pkl and the manifest that says how to run it. Called by deploying.py.

The folder lives as long as the `with` block and is removed however that ends.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import cloudpickle

from clipper_nomad.connection.inputs import Input
from clipper_nomad.deployers.closure_modules import distributions_of, imported_by, local_modules_by_value
from clipper_nomad.deployers.unpicklable import explain
from clipper_nomad.errors import BundleError
from clipper_nomad.protocol.bundle import (
    CLOSURE_NAME,
    Manifest,
    file_digests,
    python_minor,
    read_manifest,
    write_manifest,
)
from clipper_nomad.protocol.datatypes import InputType
from clipper_nomad.toolkit import toolkit_version

PREFIX = "clipper-bundle-"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameworkModel:
    """A model that a framework saves and loads itself, and that the function is called with.

    `framework`: the runtime's loader of it. `save`: writes its files into a folder and returns what the loader must know.
    `modules`: what must be installed where it runs. `features`: how many numbers an input of it has, if it says so.
    """

    framework: str
    save: Callable[[Path], Mapping[str, str]]
    modules: Sequence[str]
    features: int | None = None


@contextmanager
def packed(
    function: Callable[..., object], *, kind: InputType, sample: Input | None, model: FrameworkModel | None = None
) -> Iterator[Path]:
    """Yield a folder with the bundle of `function`. `sample`: one input, on which a replica warms up before it serves.

    Raises: BundleError: the function cannot be pickled; the message names what cannot, and where it is reached from.
    """
    if not callable(function):
        raise BundleError(
            f"A {type(function).__name__} cannot be deployed; expected a function that takes a batch of inputs.",
            hint="Give a function or a bound method, such as clf.predict.",
        )
    closure, modules = pickled(function)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        folder = Path(name)
        (folder / CLOSURE_NAME).write_bytes(closure)
        extra = {} if model is None else model.save(folder)
        needed = {} if model is None else distributions_of(model.modules)
        manifest = Manifest(
            input_type=kind.word,
            python=python_minor(),
            packages=distributions_of(modules) | needed,
            files=file_digests(folder),
            sample=sample,
            toolkit=toolkit_version(otherwise=""),
            framework="" if model is None else model.framework,
            extra=extra,
            # without "+cpu" and the like: such a version is in no index, and pip takes one that is for the same
            requirements=tuple(f"{name}=={version.partition('+')[0]}" for name, version in needed.items()),
        )
        write_manifest(folder, manifest)
        yield folder


def set_sample(folder: Path, sample: Input) -> None:
    """Give a bundle the sample that it was packed without."""
    write_manifest(folder, replace(read_manifest(folder), sample=sample))


def pickled(function: Callable[..., object]) -> tuple[bytes, set[str]]:
    """Return the pickled closure, and every module that it needs to be imported. Raises: BundleError."""
    buffer = io.BytesIO()
    with local_modules_by_value() as by_value:
        pickler = _Observer(buffer)
        try:
            pickler.dump(function)
        except Exception as exc:  # an object of the user may raise anything while it is pickled
            raise BundleError(
                explain(function, exc),
                hint="Make it inside the function, or leave out what the function does not need.",
            ) from exc
    return buffer.getvalue(), pickler.modules - by_value


def reloaded(function: Callable[..., object]) -> Callable[..., object] | None:
    """Return what a replica would load for `function`; None, with the reason in the log: it cannot be packed or loaded."""
    try:
        pickle, _ = pickled(function)
    except BundleError as exc:
        log.warning("%s", exc)
        return None
    try:
        found: Callable[..., object] = cloudpickle.loads(pickle)
    except Exception:  # an object of the user may raise anything while it is loaded
        log.warning("the function could not be loaded again", exc_info=True)
        return None
    return found


class _Observer(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Notes the modules of all that passes, and pickles as ever."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.modules: set[str] = set()

    def persistent_id(self, obj: object) -> None:
        match obj:
            case ModuleType():
                self.modules.add(obj.__name__)
            case CodeType():
                self.modules.update(imported_by(obj))
            case type() | FunctionType():
                self.modules.add(obj.__module__ or "")
            case _ if callable(obj) and isinstance(module := getattr(obj, "__module__", None), str):
                self.modules.add(module)
