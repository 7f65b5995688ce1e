"""A bundle as one file: a tar archive, its manifest first, so that whoever reads it can check each file as it comes.

The same content gives the same bytes, so an upload that was broken off can go on. Nothing that an archive says is believed:
only the files that the manifest names, with their digests, are taken, and of the manifest only the one that was asked for.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from clipper_nomad.protocol.bundle import MANIFEST_NAME, DamagedBundle

_MOST_MANIFEST_BYTES = 16 * 1024 * 1024
_BLOCK = 1024 * 1024


def pack_archive(manifest: bytes, files: Mapping[str, Path], target: Path) -> None:
    """Write the archive of a bundle. `files`: path in the bundle → where its content is now."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, MANIFEST_NAME, len(manifest), io.BytesIO(manifest))
        for path in sorted(files):
            with files[path].open("rb") as content:
                _add(archive, path, files[path].stat().st_size, content)


def check_archive(archive: Path, digest: str) -> None:
    """Read the whole archive. Raises: DamagedBundle: it is not the bundle `digest`, from its first file to its last."""
    with archive.open("rb") as file:
        for _path, content in _members(file, digest):
            while content.read(_BLOCK):
                pass


def unpack_archive(archive: Path, digest: str, folder: Path) -> None:
    """Write the bundle's files into `folder`, which is new. Raises: DamagedBundle: as `check_archive`; OSError."""
    folder.mkdir(parents=True)
    with archive.open("rb") as file:
        for path, content in _members(file, digest):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                while data := content.read(_BLOCK):
                    out.write(data)


class _Checked:
    """A file's content that raises at its end unless it was what the manifest says."""

    def __init__(self, path: str, content: IO[bytes], sha256: str) -> None:
        self._path = path
        self._content = content
        self._expected = sha256
        self._sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        with _as_damage():  # an archive that ends too soon
            data = self._content.read(size)
        self._sha256.update(data)
        if not data and self._sha256.hexdigest() != self._expected:
            raise DamagedBundle(f"{self._path} is not what the manifest says")
        return data


def _members(file: BinaryIO, digest: str) -> Iterator[tuple[str, _Checked]]:
    """Yield the path and the content of each file, the manifest's too. Each must be read to its end."""
    with _as_damage(), tarfile.open(fileobj=file, mode="r|", bufsize=_BLOCK) as archive:
        first = archive.next()
        content = archive.extractfile(first) if first is not None and first.name == MANIFEST_NAME else None
        if content is None:
            raise DamagedBundle(f"the archive does not begin with {MANIFEST_NAME}")
        manifest = content.read(_MOST_MANIFEST_BYTES)
        found = f"sha256-{hashlib.sha256(manifest).hexdigest()}"
        if found != digest:
            raise DamagedBundle(f"the archive is of the bundle {found}; {digest} was expected")
        wanted = dict(json.loads(manifest)["files"])
        yield MANIFEST_NAME, _Checked(MANIFEST_NAME, io.BytesIO(manifest), found.removeprefix("sha256-"))
        while (member := archive.next()) is not None:
            sha256 = wanted.pop(member.name, None)
            content = archive.extractfile(member) if member.isreg() else None
            if sha256 is None or content is None or not _is_inside(member.name):
                raise DamagedBundle(f"the archive holds {member.name!r}, which is no file of the manifest")
            yield member.name, _Checked(member.name, content, str(sha256))
        if wanted:
            raise DamagedBundle(f"the archive lacks {', '.join(sorted(wanted))}")


@contextmanager
def _as_damage() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, KeyError, TypeError) as exc:
        raise DamagedBundle(f"the archive cannot be read: {exc}") from exc
    except ValueError as exc:
        raise exc if isinstance(exc, DamagedBundle) else DamagedBundle(f"the archive cannot be read: {exc}") from exc


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts


def _add(archive: tarfile.TarFile, path: str, size: int, content: IO[bytes]) -> None:
    entry = tarfile.TarInfo(path)  # owner, mode and time are the same for all
    entry.size, entry.mode = size, 0o644
    archive.addfile(entry, content)
