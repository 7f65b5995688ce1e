"""Which modules a closure carries along, and which distributions must be installed where it runs.

A function of a module that is not an installed package (a file beside the notebook) would be missed on another machine
or in another directory, so such modules are pickled by value. Installed is what lies where Python or pip put it.
"""

from __future__ import annotations

import dis
import importlib.metadata
import site
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType

import cloudpickle

OURS = frozenset({"clipper_nomad", "clipper_nomad_frontend", "clipper_nomad_runtime"})  # the runtime brings them itself
_INSTALLED = frozenset({"site-packages", "dist-packages"})  # also another environment's, put on the path as uv does it
_REGISTRY = threading.Lock()  # cloudpickle's list of such modules is one for the process


@contextmanager
def local_modules_by_value() -> Iterator[frozenset[str]]:
    """Let cloudpickle pickle modules by value that are not installed, and yield their names."""
    with _REGISTRY:
        before = cloudpickle.list_registry_pickle_by_value()
        added = {name: module for name, module in _local_modules().items() if name not in before}
        for module in added.values():
            cloudpickle.register_pickle_by_value(module)
        try:
            yield frozenset(added) | before
        finally:
            for module in added.values():
                cloudpickle.unregister_pickle_by_value(module)


def imported_by(code: CodeType) -> Iterator[str]:
    """Yield the modules that a function imports when it runs, in functions inside it too."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME" and isinstance(instruction.argval, str):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from imported_by(constant)


def distributions_of(modules: Iterable[str]) -> dict[str, str]:
    """Return name → version of the installed distributions that modules come from; the standard library is in none."""
    tops = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names - OURS - {""}
    names = {top for top in tops if _is_called_after(top)}
    if names != tops:
        owners = importlib.metadata.packages_distributions()  # reads all lists of files: a quarter of a second
        names |= {distribution for top in tops - names for distribution in owners.get(top, ())}
    return {name: importlib.metadata.version(name) for name in sorted(names, key=str.lower)}


def is_installed(file: Path) -> bool:
    """Return whether a file lies where Python or pip put it, not beside a notebook."""
    place = file.absolute()
    homes = _installation_folders()
    return not _INSTALLED.isdisjoint(place.parts) or any(place.is_relative_to(home) for home in homes)


def _is_called_after(module: str) -> bool:
    """Return whether a distribution has the name of its module, as most have."""
    try:
        files = importlib.metadata.files(module) or []
    except importlib.metadata.PackageNotFoundError:
        return False
    return any(file.parts[0] in {module, f"{module}.py"} for file in files)


def _local_modules() -> dict[str, ModuleType]:
    return {
        name: module
        for name, module in list(sys.modules.items())
        if getattr(module, "__name__", None) == name and _is_local(name, module)
    }


def _is_local(name: str, module: ModuleType) -> bool:
    top = name.partition(".")[0]
    if top == "__main__" or top in OURS or top in sys.stdlib_module_names:
        return False  # __main__ goes by value anyway
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and not is_installed(Path(file))  # without: built in, or a namespace


@cache
def _installation_folders() -> tuple[Path, ...]:
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple(Path(path).absolute() for path in paths if path)
