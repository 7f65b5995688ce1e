"""What a bundle is: a folder with a packed closure and a manifest that says how to run it. Pure but for reading files.

    manifest.json    this module's Manifest; its SHA-256 is the bundle's digest
    func.pkl         the closure (cloudpickle), in Clipper's place
    …                a framework's model, in its own format, under Clipper's name for it where there is one
    wheels/          packages to install beside it, if it brings any; gone once they are installed
    …                whatever else the deployer put beside it

The manifest holds the SHA-256 of every other file, so the digest stands for the whole folder. deployers/ write bundles,
the model runtime checks and loads them; nothing else ever unpickles one.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clipper_nomad.protocol.datatypes import input_type

MANIFEST_NAME = "manifest.json"
CLOSURE_NAME = "func.pkl"
WHEELS_NAME = "wheels"
FORMAT = 1
_OF_FRAMEWORKS = frozenset({"framework", "requirements"})


class DamagedBundle(ValueError):
    """The folder is no bundle, or its content is not what its manifest says."""


class WrongPython(ValueError):
    """The bundle was made by another minor version of Python than this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """How to run a bundle.

    `python`: "3.11"; code objects do not load on another minor version. `packages`: name → version, as installed where
    the bundle was made. `sample`: one input as JSON, or None; the runtime warms up on it. `files`: path → SHA-256.
    `framework`: which of the runtime's loaders has the model that the closure is called with, "" for none; `extra`: what
    that loader must know. `requirements`: what it needs installed, for pip.
    """

    input_type: str
    python: str
    packages: Mapping[str, str]
    files: Mapping[str, str]
    sample: Any = None  # JSON: a list of numbers, or a text (bytes in base64)
    toolkit: str = ""
    format: int = FORMAT
    framework: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    requirements: Sequence[str] = ()


def python_minor() -> str:
    """Return this interpreter's minor version, e.g. "3.11"."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Write the manifest of `folder` and return the bundle's digest, "sha256-…"."""
    text = manifest_bytes(manifest)
    (folder / MANIFEST_NAME).write_bytes(text)
    return manifest_digest(text)


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the content of a manifest's file. Fields of frameworks are left out where there is none: a runtime from
    before them still reads it."""
    fields = {name: value for name, value in asdict(manifest).items() if value or name not in _OF_FRAMEWORKS}
    return json.dumps(fields, indent=1, sort_keys=True).encode()


def file_digests(folder: Path) -> dict[str, str]:
    """Return path → SHA-256 of every file in `folder` but the manifest, paths relative and with '/'."""
    return {
        path.relative_to(folder).as_posix(): file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST_NAME
    }


def read_manifest(folder: Path, *, digest: str | None = None) -> Manifest:
    """Return the manifest of the bundle in `folder`, every file checked against it.

    Raises: DamagedBundle: no bundle, not the one that `digest` names, or a file missing, added or changed.
    """
    try:
        raw = (folder / MANIFEST_NAME).read_bytes()
        fields = json.loads(raw)
        manifest = Manifest(**fields)
        input_type(manifest.input_type)
    except (OSError, ValueError, TypeError) as exc:
        raise DamagedBundle(f"{folder} holds no readable {MANIFEST_NAME}: {exc}") from exc
    if not isinstance(manifest.files, dict):
        raise DamagedBundle(f"{folder} holds no readable {MANIFEST_NAME}: `files` is no object")
    if manifest.format != FORMAT:
        raise DamagedBundle(f"bundle format {manifest.format} is not known; this toolkit reads {FORMAT}")
    if digest is not None and digest != manifest_digest(raw):
        raise DamagedBundle(f"the bundle in {folder} is {manifest_digest(raw)}; {digest} was deployed")
    found = file_digests(folder)
    has_wheels = (folder / WHEELS_NAME).exists()
    wanted = {path: sha for path, sha in manifest.files.items() if has_wheels or not path.startswith(f"{WHEELS_NAME}/")}
    if found != wanted:
        changed = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        raise DamagedBundle(f"files of the bundle are missing, added or changed: {', '.join(changed)}")
    return manifest


def packed_by(folder: Path) -> str | None:
    """Return which Python packed the bundle in `folder`, such as "3.11"; None: it is no bundle. Its files are not read."""
    try:
        found = json.loads((folder / MANIFEST_NAME).read_bytes())["python"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if isinstance(found, str) else None


def requirements_of(folder: Path, asked: Sequence[str]) -> list[str]:
    """Return what pip is to install for the bundle in `folder`: what was asked for, and what its framework needs unless
    that was among it, in whatever version. A folder that is no bundle needs nothing."""
    try:
        needed = [str(each) for each in json.loads((folder / MANIFEST_NAME).read_bytes()).get("requirements", ())]
    except (OSError, ValueError, TypeError, AttributeError):
        return list(asked)
    named = {_distribution(each) for each in asked}
    return [*asked, *(each for each in needed if _distribution(each) not in named)]


def _distribution(requirement: str) -> str:
    """Return the name in a requirement as indexes compare it: "Scikit_Learn[x]>=1" is of scikit-learn."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    return re.sub(r"[-_.]+", "-", match.group() if match else requirement).lower()


def check_python(manifest: Manifest) -> None:
    """Raise WrongPython if the closure was packed by another minor version of Python."""
    if manifest.python != python_minor():
        raise WrongPython(
            f"the closure was packed by Python {manifest.python} and this is Python {python_minor()}; code objects do "
            f"not load on another minor version. Run it with Python {manifest.python}, or deploy it from {python_minor()}."
        )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # in pieces: a model may be gigabytes


def manifest_digest(manifest_text: bytes) -> str:
    """Return the digest of the bundle whose manifest this is."""
    return "sha256-" + hashlib.sha256(manifest_text).hexdigest()
