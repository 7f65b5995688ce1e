"""Installs the wheels that a bundle brings, beside it and without asking anybody, and says how a process finds them.

All of them, as they were resolved by the deployer: every replica of a version has the same, whatever the image has.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path

from clipper_nomad.protocol.bundle import WHEELS_NAME

INSTALL_WITHIN_S = 900.0
_TAIL_LINES = 8

log = logging.getLogger(__name__)


class NotInstalled(Exception):
    """The packages of a bundle could not be installed; the message has pip's last lines."""


def install(bundle: Path) -> Path | None:
    """Install the bundle's wheels, unless that was done, and return where; None: it brings none. Raises: NotInstalled.

    The wheels are removed then: the bundle is without them what its manifest says.
    """
    wheels, place = bundle / WHEELS_NAME, bundle.with_name(f"{bundle.name}-packages")
    if wheels.is_dir():
        began = time.monotonic()
        fresh = place.with_name(f"{place.name}.new")
        for left in (fresh, place):
            shutil.rmtree(left, ignore_errors=True)
        _pip_install(sorted(wheels.glob("*.whl")), fresh)
        fresh.rename(place)
        shutil.rmtree(wheels)
        log.info("packages installed", extra={"seconds": round(time.monotonic() - began, 3)})
    return place if place.is_dir() else None


def with_packages(place: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which Python finds the packages, after our own files and before the image's.

    Bytecode is written for what is imported: a restart has it. To compile all of it here would take longer than the rest.
    """
    found = {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}
    modules = sysconfig.get_path("purelib", "posix_prefix", {"base": str(place), "platbase": str(place)})
    found["PYTHONPATH"] = os.pathsep.join(filter(None, (environment.get("PYTHONPATH"), modules)))
    found["PATH"] = os.pathsep.join(filter(None, (str(place / "bin"), environment.get("PATH"))))
    return found


def _pip_install(wheels: list[Path], place: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-input", "--no-cache-dir")
    options = ("--quiet", "--no-index", "--no-compile", "--no-warn-script-location", "--ignore-installed")
    command = [*pip, "install", *options, "--prefix", str(place), *map(str, wheels)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, check=False)
    except subprocess.TimeoutExpired as exc:
        raise NotInstalled(f"pip did not end within {INSTALL_WITHIN_S:g} s") from exc
    if done.returncode:
        tail = " | ".join(done.stderr.splitlines()[-_TAIL_LINES:])
        raise NotInstalled(f"the packages that the bundle brings cannot be installed: {tail}")
