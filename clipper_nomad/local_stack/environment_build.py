"""Makes the virtual environment of a model: its packages by pip, and beside them what the runtime needs.

    its packages            pip, as this Python's own pip is set up: index, proxy, certificates; or, offline, the wheels that
                            the bundle brings
    the runtime's           NumPy, cloudpickle …: copied from this environment, as far as its packages brought none
    the runtime, ours       linked, so that it is always the one that is installed here

So no version of the runtime's own packages differs from here unless a package asks for another one.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import venv
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipper_nomad.errors import BundleError
from clipper_nomad.images.parts import Part, normalized
from clipper_nomad.local_stack.environment_layout import modules_of, python_of

INSTALL_WITHIN_S = 900.0
_TAIL_LINES = 8
_SITE_SETTINGS = "pip.conf"  # pip's own file in the prefix of an environment
_NOT_OURS_TO_KEEP = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON")
_WORTH_SAYING = ("Downloading ", "Building wheel", "Installing collected packages")
_MISSING = re.compile(r"No matching distribution found for (?P<wanted>.+)")
_PASSWORD = re.compile(r"//[^/@]+@")  # of a URL

Said = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be in an environment. `packages`: pip's requirements. `wheels`: files of a bundle → their SHA-256; with
    wheels and no packages nothing is asked of an index. `title`: whose it is, for messages.
    """

    title: str
    packages: tuple[str, ...] = ()
    wheels: Mapping[Path, str]


def is_usable(path: Path) -> bool:
    """Return whether an environment's interpreter and our own files, which lie elsewhere, are still there."""
    ours = modules_of(path) / Part.RUNTIME.module / "__main__.py"
    return python_of(path).exists() and ours.exists()


def build(path: Path, wish: Wish, *, said: Said, within_s: float = INSTALL_WITHIN_S) -> dict[str, str]:
    """Make an environment at `path` and return name → version of what is in it. Raises: BundleError."""
    asked_for = (
        ", ".join(_PASSWORD.sub("//…@", each) for each in wish.packages) or f"{len(wish.wheels)} wheels of its bundle"
    )
    said(f"making its environment: {asked_for}")
    has_pip = importlib.util.find_spec("pip") is not None
    try:
        venv.EnvBuilder(symlinks=True, with_pip=not has_pip).create(path)
        if (Path(sys.prefix) / _SITE_SETTINGS).is_file():
            shutil.copy(Path(sys.prefix) / _SITE_SETTINGS, path)
        python = str(python_of(path))
        pip = [sys.executable, "-m", "pip", "--python", python] if has_pip else [python, "-m", "pip"]
        _run_pip([*pip, *_options(wish)], wish, said=said, within_s=within_s)
        _add_runtime(modules_of(path))
    except (OSError, subprocess.SubprocessError) as exc:
        raise BundleError(f"The environment of {wish.title} could not be made: {exc}.") from exc
    return _versions(modules_of(path))


def _options(wish: Wish) -> list[str]:
    words = ["--disable-pip-version-check", "--no-input", "install", "--no-warn-script-location", "--progress-bar=off"]
    if wish.wheels and not wish.packages:
        words.append("--no-index")
    return [*words, "--", *map(str, wish.wheels), *wish.packages]


def _run_pip(command: Sequence[str], wish: Wish, *, said: Said, within_s: float) -> None:
    """Run pip to its end, and say what it says. It ends with this process's wait, however that ends."""
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_OURS_TO_KEEP}
    tail: deque[str] = deque(maxlen=200)
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
    )

    def read() -> None:
        assert process.stdout is not None  # noqa: S101  # a PIPE was asked for
        for line in process.stdout:
            if text := line.strip():
                tail.append(text)
                if text.startswith(_WORTH_SAYING):
                    with contextlib.suppress(Exception):  # of who listens; a pipe that nobody reads would stop pip
                        said(text)

    reader = threading.Thread(target=read, name="pip", daemon=True)
    reader.start()
    try:
        code = process.wait(within_s)
    except subprocess.TimeoutExpired as exc:
        raise BundleError(
            f"Gave up after {within_s:g} s: pip did not end installing the packages of {wish.title}. It said last: "
            f"{tail[-1] if tail else 'nothing'}",
            hint="See that the package index can be reached from here: pip config list shows which one is asked.",
        ) from exc
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # what it started to build a package too
            process.wait()
        reader.join(1.0)  # a child of a child may hold the pipe
        if process.stdout is not None and not reader.is_alive():
            process.stdout.close()
    if code:
        raise _failure(list(tail), wish)


def _failure(said: Sequence[str], wish: Wish) -> BundleError:
    lines = "\n".join(f"  {line}" for line in said[-_TAIL_LINES:])
    missing = next((found for line in said if (found := _MISSING.search(line))), None)
    if missing is None:
        hint = "Correct pkgs_to_install, or install what pip misses, and deploy again."
    elif wish.wheels and not wish.packages:
        hint = "The bundle's wheels are not all that is needed, or are for other machines: pack it anew."
    else:
        hint = (
            f"See the name and the version of {missing['wanted']}, and whether there is one for Python "
            f"{sysconfig.get_python_version()}. Which index is asked: pip config list"
        )
    return BundleError(f"The packages of {wish.title} could not be installed. pip's last lines:\n{lines}", hint=hint)


def _add_runtime(modules: Path) -> None:
    """Put beside a model's packages what the runtime needs."""
    there = set(map(normalized, _versions(modules)))
    for name in Part.RUNTIME.distributions:
        if normalized(name) not in there:
            _copy_distribution(name, modules)
    for name in (*Part.RUNTIME.packages, *Part.RUNTIME.modules):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise BundleError(f"{name} is not among the files of this installation.", hint="Install clipper-nomad anew.")
        origin = Path(spec.origin)
        link = modules / name.replace(".", "/")
        link.parent.mkdir(exist_ok=True)
        if origin.name == "__init__.py":
            link.symlink_to(origin.parent)
        else:
            link.with_suffix(".py").symlink_to(origin)


def _copy_distribution(name: str, modules: Path) -> None:
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:  # it lies somewhere on the path
        files = []
    files = [file for file in files if ".." not in file.parts and not file.name.endswith(".pyc")]
    if not files:
        raise BundleError(
            f"The files of {name}, which every model's environment needs, are not listed in this environment.",
            hint=f"Install it with pip (pip install --force-reinstall {name}), or name it in pkgs_to_install.",
        )
    for file in files:
        target = modules / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(file.locate()), target)


def _versions(modules: Path) -> dict[str, str]:
    found = importlib.metadata.distributions(path=[str(modules)])
    return {each.metadata["Name"]: each.version for each in sorted(found, key=lambda each: each.metadata["Name"].lower())}
