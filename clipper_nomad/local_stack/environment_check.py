"""Whether a function that was packed here can be loaded in another environment, and what is not the same there.

A pickle of a newer NumPy or cloudpickle may need what an older one does not have. Which does is not known from versions (a
function without arrays loads), so then it is tried: loaded once there, as a replica would, before anything is deployed.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipper_nomad.errors import BundleError
from clipper_nomad.images.parts import normalized
from clipper_nomad.local_stack.environment_layout import python_of, variables
from clipper_nomad.protocol.bundle import Manifest

LOAD_WITHIN_S = 300.0  # as a whole deploy: it may be a large model
_PICKLED_BY = ("numpy", "cloudpickle")
_TAIL_LINES = 6
_PINNED = re.compile(r"\s*(?P<name>[A-Za-z0-9._-]+)\s*(\[[^\]]*\])?\s*==")
_LOAD = """\
import pathlib, sys
from clipper_nomad_runtime.clipper_admin_names import offer
from clipper_nomad_runtime.loader import load_model
offer()
load_model(pathlib.Path(sys.argv[1]), digest=None, kind=None)
"""


def differing(manifest: Manifest, there: Mapping[str, str], *, asked: Sequence[str] = ()) -> list[str]:
    """Return what a function was packed with and an environment does not have so, a phrase for each package. Pure.

    What is `asked` for in one version is meant so.
    """
    meant = {normalized(match["name"]) for each in asked if (match := _PINNED.match(each))}
    found = {normalized(name): version for name, version in there.items()}
    return [
        f"{name} {version} here, {found.get(normalized(name)) or 'none'} there"
        for name, version in manifest.packages.items()
        if found.get(normalized(name)) != version and normalized(name) not in meant
    ]


def check(bundle: Path, manifest: Manifest, environment: Path, there: Mapping[str, str], *, title: str) -> None:
    """Raise BundleError if the function of `bundle` cannot be loaded in `environment`, whose packages are `there`.

    It is tried only where NumPy or cloudpickle is older there than here.
    """
    packed_by = {name: importlib.metadata.version(name) for name in _PICKLED_BY} | dict(manifest.packages)
    older = [
        f"{name} is {packed_by[name]} here and {there[name]} there"
        for name in _PICKLED_BY
        if name in there and _numbers(there[name]) < _numbers(packed_by[name])
    ]
    if not older:
        return
    try:
        done = subprocess.run(
            [str(python_of(environment)), "-P", "-c", _LOAD, str(bundle)],
            env=variables(environment, os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LOAD_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise BundleError(f"Gave up after {LOAD_WITHIN_S:g} s: {title} was not loaded in its environment.") from exc
    if done.returncode:
        lines = "\n".join(f"  {line}" for line in done.stderr.strip().splitlines()[-_TAIL_LINES:])
        wanted = ", ".join(f"'{name}=={packed_by[name]}'" for name in _PICKLED_BY if name in there)
        raise BundleError(
            f"{title} was packed here and cannot be loaded in its environment: {'; '.join(older)}.\n{lines}",
            hint=f"Ask for what is here (pkgs_to_install with {wanted}), or install here what is there, and deploy again.",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))
