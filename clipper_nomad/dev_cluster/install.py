"""A program of a release into the user's cache: fetched, checked, unpacked, and there whole or not at all.

<cache>/releases/nomad/1.11.3/nomad        the program; beside it, while it comes: the release's file, ….part
"""

from __future__ import annotations

import fcntl
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from clipper_nomad.dev_cluster.checksums import signed_checksums
from clipper_nomad.dev_cluster.releases import Platform, Release
from clipper_nomad.dev_cluster.signature import SIGNERS, Signer
from clipper_nomad.dev_cluster.transfer import Progress, fetch
from clipper_nomad.errors import DownloadFailed

_NEW = ".new"


def installed(release: Release, cache: Path) -> Path | None:
    """Return a release's program if it is in the cache."""
    program = _program(release, cache)
    return program if program.is_file() else None


def install(
    release: Release,
    platform: Platform,
    cache: Path,
    *,
    mirror: str | None,
    progress: Progress,
    remark: Callable[[str], None],
    signers: Mapping[str, Signer] = SIGNERS,
) -> Path:
    """Return a release's program, fetched unless it is there. `remark` is told what is to be known about its signature.

    Raises: DownloadFailed: it cannot be had, is not what it should be, or there is no room.
    """
    program = _program(release, cache)
    try:
        program.parent.mkdir(parents=True, exist_ok=True)
        with _alone(program.parent):
            if program.is_file():  # another process has just fetched it
                return program
            signed = signed_checksums(release, mirror=mirror, signers=signers)
            if signed.remark:
                remark(f"The signature of {release} {signed.remark}.")
            name = release.file(platform)
            archive = program.parent / name
            fetch(release.url(name, mirror=mirror), archive, sha256=signed.of(platform), progress=progress)
            _unpack(archive, program)
    except OSError as exc:
        raise DownloadFailed(
            f"{program} cannot be installed: {exc.strerror or exc}.",
            hint="Make room, or set CLIPPER_HOME to a directory that you may write to.",
        ) from exc
    return program


def _program(release: Release, cache: Path) -> Path:
    return cache / "releases" / release.product / release.version / release.product


def _unpack(archive: Path, program: Path) -> None:
    """Make `program` of its release's file, which is removed, in one step that is done or not."""
    new = program.with_name(program.name + _NEW)
    try:
        with _content(archive, program.name) as source, new.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        new.chmod(0o755)
        new.replace(program)
    except (zipfile.BadZipFile, zlib.error, KeyError) as exc:
        raise DownloadFailed(f"{archive.name} has the right checksum and cannot be unpacked: {exc}.") from exc
    finally:
        new.unlink(missing_ok=True)
        archive.unlink(missing_ok=True)


@contextmanager
def _content(archive: Path, name: str) -> Iterator[IO[bytes]]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed, packed.open(name) as source:
            yield source
    else:
        with archive.open("rb") as source:
            yield source


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process fetch at a time; the others wait for it, and find what it fetched."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
