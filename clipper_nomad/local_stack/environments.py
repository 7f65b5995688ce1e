"""The Python environments that models with packages of their own run in: found, made once for the same wish, removed.

    environments/env-<what was asked for>-<random>/     a virtual environment; ready.json is written when it is whole

Two processes that make the same one at once make two, and both can be used: nothing waits for a lock. ready.json's
modification time is a stamp: whoever finds the environment sets it anew, so that `remove` knows whether it is just being
asked for. An environment goes with the last version that uses it (manager.py), or when a stack starts (sweep.py).
environment_build.py makes one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clipper_nomad.local_stack.environment_build import Wish, build, is_usable
from clipper_nomad.local_stack.environment_layout import NAME, READY
from clipper_nomad.local_stack.place import ENVIRONMENT

ASKED_FOR_S = 600.0  # so long after it was asked for an environment is somebody's, though no version uses it
FORMAT = 1

_BY_INDEX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[^\]]*\])?\s*([=<>!~(][^@/]*)?(;.*)?\Z")
_FILES = (".whl", ".zip", ".gz", ".bz2", ".xz")  # which pip takes for paths

Said = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One that can be used. `packages`: name → version of what is in it. `stamp`: of the one that was made for it; None:
    it was there already.
    """

    name: str
    packages: Mapping[str, str]
    stamp: int | None


def provide(wish: Wish, folder: Path, *, said: Said) -> Environment:
    """Return an environment below `folder` that has what is wished for, made now if there is none.

    Packages that are named by a path or a URL may change behind their name: such an environment is always made anew.
    Raises: BundleError: it cannot be made; nothing of it is left.
    """
    key = _key(wish)
    if all(map(is_of_index, wish.packages)):
        for path in sorted(folder.glob(f"{ENVIRONMENT}{key}-*")):
            if is_usable(path) and (packages := _read(path)) is not None and _stamp(path) is not None:
                said(f"its environment is there: {path.name}")
                return Environment(name=path.name, packages=packages, stamp=None)
    path = folder / f"{ENVIRONMENT}{key}-{secrets.token_hex(4)}"
    began = time.monotonic()
    try:
        packages = build(path, wish, said=said)
        (path / READY).write_text(json.dumps({"format": FORMAT, "packages": packages}, indent=1))
        stamp = _stamp(path)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    said(f"its environment has {len(packages)} packages, made in {time.monotonic() - began:.1f} s")
    return Environment(name=path.name, packages=packages, stamp=stamp)


def withdraw(environment: Environment, folder: Path) -> None:
    """Remove what `provide` made, unless somebody found it since."""
    if environment.stamp is not None and _stamp_of(folder / environment.name) == environment.stamp:
        shutil.rmtree(folder / environment.name, ignore_errors=True)


def remove(names: Iterable[str], folder: Path, *, asked_for_s: float = ASKED_FOR_S) -> None:
    """Remove environments, which no version uses any more; those that were asked for just now stay for a later time."""
    for name in names:
        stamp = _stamp_of(folder / name)
        if NAME.match(name) and (stamp is None or stamp < time.time_ns() - asked_for_s * 1e9):
            shutil.rmtree(folder / name, ignore_errors=True)


def is_of_index(package: str) -> bool:
    """Return whether pip's requirement is a name, whose content is the index's, and no path or URL. Pure."""
    return _BY_INDEX.match(package.strip()) is not None and not package.strip().endswith(_FILES)


def _key(wish: Wish) -> str:
    asked = [FORMAT, sys.version, sys.base_prefix, sorted(map(str.strip, wish.packages)), sorted(wish.wheels.values())]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def _read(path: Path) -> Mapping[str, str] | None:
    try:
        said = json.loads((path / READY).read_bytes())
        packages: Mapping[str, str] | None = said["packages"] if said["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return packages


def _stamp(path: Path) -> int | None:
    """Set an environment's stamp and return it; None: it is not whole, or was removed just now."""
    now = time.time_ns()
    with contextlib.suppress(FileNotFoundError):
        os.utime(path / READY, ns=(now, now))
    return _stamp_of(path)


def _stamp_of(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return (path / READY).stat().st_mtime_ns
    return None
