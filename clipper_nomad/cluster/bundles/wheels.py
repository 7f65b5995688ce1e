"""The packages that a bundle brings: wheels for the cluster's machines, resolved once, here, by this Python's own pip.

So pip's settings of this machine (index, proxy, certificates) count, and nothing is asked of an index when a replica starts.
pip evaluates markers (`; sys_platform == …`) of this machine, not the target's: a limit of its own.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipper_nomad.errors import BundleError

OLDEST_GLIBC, NEWEST_GLIBC = 17, 28  # 2.28: Debian 10, RHEL 8, and whatever is newer than they are
DOWNLOAD_WITHIN_S = 900.0
ASK_WITHIN_S = 60.0
_OLDER = ("manylinux2014", "manylinux2010", "manylinux1", "linux")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "386": "i686"}  # Go's word, as Nomad has it → Python's
_MISSING = re.compile(r"No matching distribution found for (?P<wanted>\S+)")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_TAIL_LINES = 8


def download_wheels(packages: Sequence[str], folder: Path, *, python: str, architecture: str) -> list[Path]:
    """Download the wheels of `packages` (pip's requirements) and of all that they need into `folder`.

    `python`: such as "3.11". `architecture`: as Nomad has it, such as "amd64".
    Raises: BundleError: there is no wheel for such a machine, or pip failed; pip's last lines are in the message.
    """
    machine = _MACHINES.get(architecture, architecture)
    folder.mkdir(parents=True, exist_ok=True)
    target = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *_platforms(machine)]
    done = _pip("download", "--dest", str(folder), *target, "--", *packages, within_s=DOWNLOAD_WITHIN_S)
    if done.returncode:
        raise _failure(done.stderr, where=f"Linux on {machine} with Python {python}")
    return sorted(folder.glob("*.whl"))


def is_for_any_machine(wheel: Path) -> bool:
    """Return whether a wheel holds no compiled code."""
    return wheel.stem.endswith("-any")


def by_path(wheels: Sequence[Path], *, below: str) -> Mapping[str, Path]:
    """Return path in the bundle → file."""
    return {f"{below}/{wheel.name}": wheel for wheel in wheels}


def _platforms(machine: str) -> list[str]:
    words = [f"manylinux_2_{minor}" for minor in range(NEWEST_GLIBC, OLDEST_GLIBC - 1, -1)]
    return [f"--platform={word}_{machine}" for word in (*words, *_OLDER)]


def _failure(said: str, *, where: str) -> BundleError:
    missing = _MISSING.search(said)
    if missing is None:
        tail = "\n".join(f"  {line}" for line in said.splitlines()[-_TAIL_LINES:])
        return BundleError(f"The packages to install could not be downloaded:\n{tail}")
    wanted = missing["wanted"]
    found = _NAME.match(wanted)
    listed = _pip("index", "versions", found.group() if found else wanted, within_s=ASK_WITHIN_S)
    if listed.returncode:
        return BundleError(
            f"The package index has no package {wanted!r}.",
            hint="See that its name is right, and that this machine's pip asks the right index: pip config list",
        )
    return BundleError(
        f"There is no wheel of {wanted!r} for {where}: only its source, another version of it, or wheels for others.",
        hint=(
            "Ask for a version that has one, or deploy an image, in which it is compiled: give registry= "
            "(clipper-nomad deploy --registry HOST), on a base image with a compiler."
        ),
    )


def _pip(*words: str, within_s: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False)
    except subprocess.TimeoutExpired as exc:
        raise BundleError(
            f"Gave up after {within_s:g} s: pip {words[0]} did not end.",
            hint="See that the package index can be reached from here: pip config list shows which one is asked.",
        ) from exc
