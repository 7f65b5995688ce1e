"""What each package may import, what a module may be called, and where no clock and no pickle may be.

Reads every import with `ast`, nested ones too, and names the forbidden edge. The rules are in architecture_rules.py, whose
ROWS is the table of docs/architecture.md: a package without a row fails, as does a new frontend file with a clock.
The second half proves that each rule can fail.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.architecture_rules import (
    CALLED_AFTER_FRAMEWORKS,
    CLOCK_READS,
    CODE_FROM_DATA,
    CODE_FROM_DATA_CALLS,
    DEPENDENCY_NAMES,
    FRONTEND_IO,
    IO_MODULES,
    OWNERS,
    PROTOCOL,
    ROWS,
    UNPICKLERS,
    VAGUE_NAMES,
    Row,
)

PROJECT = Path(__file__).resolve().parents[1]
SOURCE_ROOTS = {
    "clipper_nomad": "clipper_nomad",
    "clipper_nomad_frontend": "frontend/clipper_nomad_frontend",
    "clipper_nomad_runtime": "model_runtime/clipper_nomad_runtime",
}
MAX_LINES = 500


@dataclass(frozen=True, slots=True)
class Module:
    """One source file, parsed."""

    name: str
    path: str
    is_package: bool
    lines: int
    tree: ast.Module

    @property
    def row_name(self) -> str | None:
        """The name of the row that fits: the longest; the root's row fits the root alone."""
        fitting = [name for name in ROWS if is_within(self.name, name)]
        best = max(fitting, key=len, default=None)
        return None if best == "clipper_nomad" and self.name not in {best, f"{best}.__main__"} else best

    @property
    def is_pure(self) -> bool:
        """Whether this file is policy: the protocol, and all of the frontend that is not I/O."""
        if is_within(self.name, "clipper_nomad_frontend"):
            stem = self.name.partition(".")[2].partition(".")[0] or "__init__"
            return stem not in FRONTEND_IO
        return is_within(self.name, PROTOCOL)


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name, where it stands and whether it runs when its module is loaded."""

    target: str
    line: int
    nested: bool

    @property
    def top(self) -> str:
        return self.target.partition(".")[0]


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def read_tree(project: Path) -> list[Module]:
    """Parse every Python file of the three source roots."""
    return [
        _read_module(file, root=project / folder, package=package, project=project)
        for package, folder in SOURCE_ROOTS.items()
        for file in sorted((project / folder).rglob("*.py"))
    ]


def _read_module(file: Path, *, root: Path, package: str, project: Path) -> Module:
    parts = [package, *file.relative_to(root).with_suffix("").parts]
    is_package = parts[-1] == "__init__"
    source = file.read_text(encoding="utf-8")
    return Module(
        name=".".join(parts[:-1] if is_package else parts),
        path=str(file.relative_to(project)),
        is_package=is_package,
        lines=source.count("\n") + (not source.endswith("\n")),
        tree=ast.parse(source, filename=str(file)),
    )


def imports(module: Module, known: frozenset[str]) -> Iterator[Import]:
    """Every import of a file, nested and dynamic ones too. `known` tells a submodule from a name inside a module."""
    nested = {
        id(child)
        for function in ast.walk(module.tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.walk(function)
    }
    for node in ast.walk(module.tree):
        for target in _targets(module, node, known):
            yield Import(target, node.lineno, nested=id(node) in nested)  # type: ignore[attr-defined]  # all have one


def _targets(module: Module, node: ast.AST, known: frozenset[str]) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=name, names=names, level=level):
            package = _package(module, level)
            origin = ".".join(part for part in (package, name) if part)
            below = (f"{origin}.{alias.name}" for alias in names)
            return [full if full in known else origin for full in below]
        case ast.Call(func=func, args=[ast.Constant(value=str() as name), *_]):
            if _dotted(func).rpartition(".")[2] in {"import_module", "__import__"}:
                return [name]
    return []


def _package(module: Module, level: int) -> str:
    """The package that a relative import of `level` dots starts from; nothing for an absolute one."""
    if not level:
        return ""
    parts = module.name.split(".")
    up = level - module.is_package
    return ".".join(parts[: len(parts) - up])


def _dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression, as far as it is one."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{_dotted(value)}.{attr}".lstrip(".")
    return ""


def problems(project: Path) -> list[str]:
    """Every breach of the architecture under `project`, each with the place and the rule."""
    modules = read_tree(project)
    known = frozenset(module.name for module in modules)
    found: list[str] = []
    for module in modules:
        found += _shape_problems(module)
        found += _data_problems(module)
        found += _clock_problems(module)
        for imported in imports(module, known):
            found += _import_problems(module, imported)
    return found


def _shape_problems(module: Module) -> Iterator[str]:
    stem = module.name.rpartition(".")[2]
    if module.row_name is None:
        yield f"{module.path}: no row in the import table; add one to ROWS and to docs/architecture.md"
    if not (ast.get_docstring(module.tree) or "").strip():
        yield f"{module.path}: no module docstring: what lives here, what does not, who calls it"
    if module.lines > MAX_LINES:
        yield f"{module.path}: {module.lines} lines; the limit is {MAX_LINES}: which concept can leave?"
    if stem in VAGUE_NAMES:
        yield f"{module.path}: {stem!r} says nothing; name the concept"
    if module.name not in SOURCE_ROOTS and stem in sys.stdlib_module_names and stem != "__main__":
        yield f"{module.path}: {stem!r} is a module of the standard library"
    if stem in DEPENDENCY_NAMES and not any(is_within(module.name, folder) for folder in CALLED_AFTER_FRAMEWORKS):
        yield f"{module.path}: {stem!r} is the name of a dependency"


def _data_problems(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        match node:
            case ast.Attribute():
                name = _dotted(node)
                ends = {name, name.rpartition(".")[2]}
                if ends & CODE_FROM_DATA_CALLS:
                    yield f"{module.path}:{node.lineno} uses {name}: data from outside must never become code"
            case ast.ImportFrom(module="yaml", names=names) if {"load", "unsafe_load"} & {n.name for n in names}:
                yield f"{module.path}:{node.lineno} uses yaml.load: data from outside must never become code"
            case ast.keyword(arg="allow_pickle", value=ast.Constant(value=value)) if value is not False:
                yield f"{module.path}:{node.lineno} allows pickle: data from outside must never become code"


def _clock_problems(module: Module) -> Iterator[str]:
    if not module.is_pure:
        return
    origins: dict[str, str] = {}  # what a name of this file means where it comes from
    for node in ast.walk(module.tree):
        match node:
            case ast.Import(names=names):
                origins |= {alias.asname: alias.name for alias in names if alias.asname}
            case ast.ImportFrom(module=str() as origin, names=names):
                origins |= {alias.asname or alias.name: f"{origin}.{alias.name}" for alias in names}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name | ast.Attribute):
            first, dot, rest = _dotted(node).partition(".")
            name = f"{origins.get(first, first)}{dot}{rest}"
            if ".".join(name.split(".")[-2:]) in CLOCK_READS:
                yield f"{module.path}:{node.lineno} reads the clock ({name}): policy takes `now` (I/O: see FRONTEND_IO)"


def _import_problems(module: Module, imported: Import) -> Iterator[str]:
    where = f"{module.path}:{imported.line} imports {imported.target}"
    if module.row_name is not None:
        yield from _edge_problems(module, imported, where)
    if imported.top in CODE_FROM_DATA and not any(is_within(module.name, owner) for owner in UNPICKLERS):
        yield f"{where}: only {' and '.join(UNPICKLERS)} may make or load pickles"
    if module.is_pure and any(is_within(imported.target, name) for name in IO_MODULES):
        yield f"{where}: this file is policy and does no I/O (if it is I/O, add it to FRONTEND_IO)"


def _edge_problems(module: Module, imported: Import, where: str) -> Iterator[str]:
    assert module.row_name is not None
    allowed = ROWS[module.row_name]
    if imported.top in SOURCE_ROOTS:
        if not _own_or_allowed(imported.target, module.row_name, allowed):
            may = ", ".join(sorted(allowed.ours)) or "none of our other packages"
            yield f"{where}: {module.row_name} may import {may}"
    elif imported.top not in sys.stdlib_module_names:
        if imported.top in allowed.lazy and not imported.nested:
            yield f"{where}: in {module.row_name} only inside a function: most users do not have it"
        elif imported.top not in allowed.others | allowed.lazy:
            may = ", ".join(sorted(allowed.others | allowed.lazy)) or "the standard library only"
            yield f"{where}: {module.row_name} may touch {may}"
        owners = OWNERS.get((module.row_name, imported.top))
        if owners and not any(is_within(module.name, owner) for owner in owners):
            yield f"{where}: only {' and '.join(owners)} touch {imported.top}"


def _own_or_allowed(target: str, row_name: str, allowed: Row) -> bool:
    """Whether the edge is in the table. A module may import all of its own row, not what has another row."""
    fitting = max((name for name in ROWS if is_within(target, name)), key=len)
    if fitting == row_name:
        return True
    return any(is_within(target, name) for name in allowed.ours)


# --- the project ---


def test_the_source_tree_keeps_to_the_architecture() -> None:
    found = problems(PROJECT)

    assert not found, "\n".join(found)


def test_all_three_source_roots_are_read() -> None:
    roots = {module.name.partition(".")[0] for module in read_tree(PROJECT)}

    assert roots == set(SOURCE_ROOTS)


def test_tests_and_tools_are_short_and_import_our_packages_by_their_own_names() -> None:
    files = [file for folder in ("tests", "benchmarks", "examples") for file in (PROJECT / folder).rglob("*.py")]
    modules = [_read_module(file, root=PROJECT, package="", project=PROJECT) for file in files]

    too_long = {module.path: module.lines for module in modules if module.lines > MAX_LINES}
    second_names = {  # `frontend.clipper_nomad_frontend` would be a second module object of the same file
        module.path: imported.target
        for module in modules
        for imported in imports(module, frozenset())
        if imported.top in {"frontend", "model_runtime"}
    }

    assert modules
    assert not too_long
    assert not second_names


# --- the checker: each rule can fail ---

RUNTIME, FRONTEND = SOURCE_ROOTS["clipper_nomad_runtime"], SOURCE_ROOTS["clipper_nomad_frontend"]


def problems_of(project: Path, path: str, code: str) -> list[str]:
    """The problems of a tree with one file (and the modules that the cases import)."""
    for module in ("clipper_nomad/admin/server.py", "clipper_nomad/state/records.py", "clipper_nomad/state/store.py"):
        place = project / module
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text('"""A module."""\n')
    place = project / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(code if code.startswith("#") else f'"""A module."""\n{code}\n')
    return problems(project)


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        (f"{FRONTEND}/api.py", "import clipper_nomad.admin", "clipper_nomad.admin: clipper_nomad_frontend may"),
        (f"{FRONTEND}/api.py", "from clipper_nomad import admin", "imports clipper_nomad: clipper_nomad_frontend may"),
        (f"{FRONTEND}/api.py", "from clipper_nomad.admin import server", "imports clipper_nomad.admin.server: "),
        (f"{FRONTEND}/api.py", "def f():\n    import clipper_nomad.admin", "imports clipper_nomad.admin: "),
        (f"{FRONTEND}/api.py", "import importlib\nimportlib.import_module('clipper_nomad.cli')", ":3 imports"),
        (f"{FRONTEND}/api.py", "__import__('clipper_nomad.cli')", "imports clipper_nomad.cli: "),
        (f"{FRONTEND}/api.py", "import clipper_nomad_runtime.loader", "imports clipper_nomad_runtime.loader: "),
        (f"{RUNTIME}/server.py", "import clipper_nomad_frontend", "imports clipper_nomad_frontend: "),
        (f"{RUNTIME}/server.py", "from clipper_nomad.state import records", "imports clipper_nomad.state.records: "),
        ("clipper_nomad/protocol/wire.py", "from clipper_nomad.state import store", "may import none of our other"),
        ("clipper_nomad/protocol/wire.py", "from ..state import store", "imports clipper_nomad.state.store: "),
        ("clipper_nomad/protocol/__init__.py", "from ..state import store", "imports clipper_nomad.state.store: "),
        ("clipper_nomad/admin/client.py", "from clipper_nomad.state import store", "imports clipper_nomad.state.store"),
        ("clipper_nomad/admin/client.py", "from clipper_nomad.admin import server", "clipper_nomad.admin.server: "),
        ("clipper_nomad/__init__.py", "import clipper_nomad.cli", "imports clipper_nomad.cli: clipper_nomad may"),
        ("clipper_nomad/scheduler.py", "", "no row in the import table"),
        (f"{FRONTEND}/api.py", "import frontend.clipper_nomad_frontend", "frontend: clipper_nomad_frontend may touch"),
    ],
)
def test_a_forbidden_edge_between_our_packages_is_named(tmp_path: Path, path: str, code: str, message: str) -> None:
    found = problems_of(tmp_path, path, code)

    assert len(found) == 1
    assert path in found[0]
    assert message in found[0]


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        (f"{FRONTEND}/api.py", "import redis.asyncio", "imports redis.asyncio: clipper_nomad_frontend may touch"),
        (
            f"{FRONTEND}/api.py",
            "import zmq",
            "only clipper_nomad_frontend.router and clipper_nomad_frontend.router_socket",
        ),
        (f"{RUNTIME}/server.py", "from aiohttp import web", "imports aiohttp: clipper_nomad_runtime may touch"),
        ("clipper_nomad/protocol/wire.py", "import msgspec", "clipper_nomad.protocol may touch numpy"),
        ("clipper_nomad/state/store.py", "import numpy", "clipper_nomad.state may touch redis"),
        ("clipper_nomad/container_manager.py", "import requests", "may touch the standard library only"),
        ("clipper_nomad/deployers/torch.py", "import torch", "only inside a function"),
        ("clipper_nomad/cluster/rollout/rollout.py", "import nomad.api", "only clipper_nomad.cluster.nomad_api touch nomad"),
        ("clipper_nomad/cluster/rollout/rollout.py", "import consul", "only clipper_nomad.cluster.consul_api touch consul"),
        ("clipper_nomad/cluster/routes.py", "import dns.query", "only clipper_nomad.cluster.discovery touch dns"),
    ],
)
def test_a_dependency_in_the_wrong_package_is_named(tmp_path: Path, path: str, code: str, message: str) -> None:
    found = problems_of(tmp_path, path, code)

    assert len(found) == 1
    assert message in found[0]


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        (f"{RUNTIME}/utils.py", "", "'utils' says nothing"),
        ("clipper_nomad/state/common/__init__.py", "", "'common' says nothing"),
        (f"{FRONTEND}/queue.py", "", "'queue' is a module of the standard library"),
        ("clipper_nomad/cluster/nomad.py", "", "'nomad' is the name of a dependency"),
        ("clipper_nomad/state/redis.py", "", "'redis' is the name of a dependency"),
        (f"{RUNTIME}/server.py", "# no docstring", "no module docstring"),
        (f"{RUNTIME}/server.py", "\n" * MAX_LINES, "lines; the limit is 500"),
    ],
)
def test_a_bad_name_an_undocumented_and_a_long_file_are_named(tmp_path: Path, path: str, code: str, message: str) -> None:
    found = problems_of(tmp_path, path, code)

    assert len(found) == 1
    assert message in found[0]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{FRONTEND}/api.py", "import pickle"),
        ("clipper_nomad/admin/server.py", "from joblib import load"),
        ("clipper_nomad/cli/model.py", "def f():\n    import cloudpickle"),
        (f"{RUNTIME}/server.py", "import cloudpickle"),
        ("clipper_nomad/state/store.py", "import marshal"),
        (f"{FRONTEND}/router.py", "def f(socket):\n    socket.recv_pyobj()"),
        (f"{RUNTIME}/dealer.py", "def f(socket):\n    return socket().recv_pyobj"),
        ("clipper_nomad/cli/model.py", "def f(yaml, text):\n    yaml.load(text)"),
        ("clipper_nomad/protocol/wire.py", "import numpy\nnumpy.load('x', allow_pickle=True)"),
    ],
)
def test_data_that_could_become_code_is_found(tmp_path: Path, path: str, code: str) -> None:
    found = problems_of(tmp_path, path, code)

    assert any("pickle" in problem or "never become code" in problem for problem in found)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("clipper_nomad/protocol/wire.py", "import time\nSTART = time.time()"),
        (f"{FRONTEND}/model_queue.py", "from time import monotonic\nclock = monotonic"),
        (f"{FRONTEND}/written_tomorrow.py", "def f():\n    import time as t\n    t.sleep(1)"),
        (f"{FRONTEND}/batching.py", "import datetime\nSTART = datetime.datetime.now()"),
        (f"{FRONTEND}/batching.py", "from datetime import datetime as dt\nSTART = dt.now()"),
        (f"{FRONTEND}/replicas.py", "import asyncio"),
        (f"{FRONTEND}/sessions.py", "import socket"),
        (f"{FRONTEND}/sessions.py", "from urllib.request import urlopen"),
    ],
)
def test_a_clock_or_io_in_policy_is_found(tmp_path: Path, path: str, code: str) -> None:
    found = problems_of(tmp_path, path, code)

    assert len(found) == 1
    assert "reads the clock" in found[0] or "this file is policy" in found[0]


def test_a_tree_that_keeps_the_rules_has_no_problem(tmp_path: Path) -> None:
    problems_of(tmp_path, f"{FRONTEND}/router.py", "import time\nimport zmq\nfrom clipper_nomad.state import records")
    problems_of(tmp_path, f"{FRONTEND}/batching.py", "import time\nday = time.gmtime(0)")
    problems_of(tmp_path, f"{RUNTIME}/loader.py", "import cloudpickle\nimport numpy.linalg")
    problems_of(tmp_path, "clipper_nomad/deployers/torch.py", "import cloudpickle\ndef f():\n    import torch")
    problems_of(tmp_path, "clipper_nomad/admin/__init__.py", "from . import server\nimport aiohttp")
    problems_of(tmp_path, "clipper_nomad/cli/__init__.py", "import typer\nimport clipper_nomad.admin")

    found = problems_of(tmp_path, "clipper_nomad/connection.py", "from clipper_nomad.admin.client import AdminClient")

    assert found == []
