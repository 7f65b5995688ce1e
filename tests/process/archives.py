"""Bundles as they travel: archives of a test's functions, with wheels that are made here, and what opens them."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

from clipper_nomad.protocol.bundle import MANIFEST_NAME, file_digests, read_manifest, write_manifest
from clipper_nomad.protocol.bundle_archive import pack_archive
from clipper_nomad.protocol.bundle_store import fetch_token
from tests.process.admins import TOKEN
from tests.process.bundles import pack


@dataclass(frozen=True, slots=True)
class Archive:
    path: Path
    digest: str

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @property
    def token(self) -> str:
        """What opens it at an admin service of the tests."""
        return fetch_token(TOKEN, self.digest)


def archive(folder: Path, function: object, *, wheels: dict[str, str] | None = None, weights: bytes = b"") -> Archive:
    """Pack `function` with wheels, given as module → source, and some bytes beside it."""
    bundle = folder / "to-send"
    pack(bundle, function)
    manifest = read_manifest(bundle)
    if weights:
        (bundle / "weights").write_bytes(weights)
    for name, source in (wheels or {}).items():
        make_wheel(bundle / "wheels", name, source)
    digest = write_manifest(bundle, replace(manifest, files=file_digests(bundle)))
    files = {path: bundle / path for path in file_digests(bundle)}
    pack_archive((bundle / MANIFEST_NAME).read_bytes(), files, folder / "bundle.tar")
    return Archive(folder / "bundle.tar", digest)


def make_wheel(folder: Path, name: str, source: str, *, tag: str = "py3-none-any") -> Path:
    """Make the wheel of a distribution with one module of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(f"{path},sha256={_hash(text)},{len(text.encode())}\n" for path, text in files.items())
    wheel = folder / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as written:
        for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            written.writestr(path, text)
    return wheel


def _hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
