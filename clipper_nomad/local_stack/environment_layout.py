"""What is where in the environment of a model, and how a process runs in one. Small: the supervisor has it too."""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from clipper_nomad.local_stack.place import ENVIRONMENT

READY = "ready.json"  # written when an environment is whole
NAME = re.compile(rf"{ENVIRONMENT}[0-9a-f]{{16}}-[0-9a-f]{{8}}\Z")
_LEAD_ELSEWHERE = frozenset({"PYTHONPATH", "PYTHONHOME"})


def python_of(path: Path) -> Path:
    """Return the interpreter of an environment."""
    return path / "bin" / "python"


def modules_of(path: Path) -> Path:
    """Return where an environment's packages lie."""
    return Path(sysconfig.get_path("purelib", "posix_prefix", {"base": str(path), "platbase": str(path)}))


def variables(path: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process that runs in an environment: none of `inherited` leads it to packages elsewhere."""
    found = {name: value for name, value in inherited.items() if name not in _LEAD_ELSEWHERE}
    search = os.pathsep.join(filter(None, (str(path / "bin"), inherited.get("PATH"))))
    return {**found, "PATH": search, "VIRTUAL_ENV": str(path)}


def is_ready(folder: Path, name: str) -> bool:
    """Return whether `name` is an environment below `folder`, whole."""
    return NAME.match(name) is not None and (folder / name / READY).is_file()
