"""The programs of the agents: those on PATH, which are used as they are if they are new enough; else releases."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clipper_nomad.dev_cluster.install import install, installed
from clipper_nomad.dev_cluster.releases import PRODUCTS, Release, mirror_of, pinned_release, platform_of
from clipper_nomad.dev_cluster.state import Program
from clipper_nomad.dev_cluster.transfer import Progress
from clipper_nomad.errors import DevClusterError

_SAY_WITHIN_S = 20.0
_VERSION = re.compile(r"\bv?(\d+)\.(\d+)\.(\d+)\b")
_ASK = {"consul": "version", "nomad": "version", "fabio": "-v"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is: programs to start, and releases that are to be downloaded first."""

    programs: tuple[Program, ...]
    missing: tuple[Release, ...]


def find_programs(environ: Mapping[str, str], cache: Path, *, download: bool) -> Found:
    """Return which programs there are. `download`: those on PATH are passed over.

    Raises: DevClusterError: one on PATH is too old, or cannot be run.
    """
    programs, missing = [], []
    for name in PRODUCTS:
        on_path = None if download else shutil.which(name, path=environ.get("PATH"))
        release = pinned_release(name)
        in_cache = installed(release, cache)
        if on_path is not None:
            programs.append(Program(name=name, path=on_path, version=_checked_version(name, on_path)))
        elif in_cache is not None:
            programs.append(_downloaded(release, in_cache))
        else:
            missing.append(release)
    return Found(programs=tuple(programs), missing=tuple(missing))


def download(
    releases: tuple[Release, ...],
    cache: Path,
    environ: Mapping[str, str],
    *,
    progress: Progress,
    remark: Callable[[str], None],
) -> tuple[Program, ...]:
    """Fetch releases for this machine and return their programs. Raises: DownloadFailed, InvalidSetting."""
    mirror = mirror_of(environ)
    here = platform_of(platform.system(), platform.machine())
    return tuple(
        _downloaded(each, install(each, here, cache, mirror=mirror, progress=progress, remark=remark)) for each in releases
    )


def version_in(text: str) -> str | None:
    """Return the version that a program says, as "1.11.3"."""
    found = _VERSION.search(text)
    return None if found is None else ".".join(found.groups())


def _downloaded(release: Release, program: Path) -> Program:
    return Program(name=release.product, path=str(program), version=release.version, downloaded=True)


def _checked_version(name: str, path: str) -> str:
    hint = (
        "Put a newer one on PATH before it, or let releases be downloaded: clipper-nomad dev up --download"
        f" ({name} {PRODUCTS[name].pinned})."
    )
    try:
        said = subprocess.run(
            [path, _ASK[name]], capture_output=True, text=True, timeout=_SAY_WITHIN_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise DevClusterError(f"{path} cannot be run: {exc}.", hint=hint) from exc
    version = version_in(said.stdout)
    if version is None:
        raise DevClusterError(f"{path} does not say its version as {name.capitalize()} does.", hint=hint)
    oldest = PRODUCTS[name].oldest
    if tuple(map(int, version.split(".")[:2])) < oldest:
        wanted = ".".join(map(str, oldest))
        raise DevClusterError(f"{path} is {name.capitalize()} {version}; {wanted} or newer is needed.", hint=hint)
    return version
