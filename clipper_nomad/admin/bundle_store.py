"""The bundles that admin keeps: archives in a folder, there whole and checked, or growing piece by piece.

    <digest>.tar            whole: what is in it is what its digest says
    <digest>.<size>.part    so far; the next piece goes to its end

Whoever sends asks how much is here and goes on from there, so nothing is lost when a connection, the sender or this process
ends. An archive that is complete is read through, in the background, and only then gets its name. Blocking: bundle_api.py
calls it in threads.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipper_nomad.protocol.bundle import DamagedBundle
from clipper_nomad.protocol.bundle_archive import check_archive

KEEP_FREE_BYTES = 64 * 1024 * 1024
FORGET_AFTER_S = 24 * 3600.0  # far more than a deploy takes

log = logging.getLogger(__name__)


class StoreRefused(Exception):
    """A piece was not taken. `status`: HTTP's."""

    def __init__(self, status: int, cause: str) -> None:
        super().__init__(cause)
        self.status = status


BundlePhase = Literal["absent", "partial", "checking", "whole"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleState:
    """How much of an archive is here, in bytes. `damaged`: why the last one that was complete was thrown away."""

    state: BundlePhase
    received: int = 0
    damaged: str = ""


class BundleStore:
    """The bundles in `folder`. Methods may be called by several threads at once."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()  # of the files' names and lengths; checks, which take long, are outside
        self._checking: dict[str, threading.Thread] = {}
        self._damaged: dict[str, str] = {}

    def problem(self) -> str:
        """Return why nothing can be kept here, "" if it can."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            probe = self._folder / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as exc:
            return f"{exc.strerror}: {self._folder} must be writable by user {os.getuid()}, which admin runs as"
        return ""

    def archive(self, digest: str) -> Path | None:
        """Return the file of a bundle that is whole."""
        path = self._folder / f"{digest}.tar"
        return path if path.is_file() else None

    def state(self, digest: str) -> BundleState:
        """Return what there is of a bundle. One whose last piece is here is checked, if nobody does so yet."""
        with self._lock:
            if (archive := self.archive(digest)) is not None:
                os.utime(archive)  # somebody is about to deploy it
                return BundleState(state="whole")
            part = self._part(digest)
            if part is None:
                return BundleState(state="absent", damaged=self._damaged.get(digest, ""))
            received = part.stat().st_size
            if received < _size_of(part):
                return BundleState(state="partial", received=received)
            if digest not in self._checking:
                thread = threading.Thread(target=self._check, args=(digest, part), name="bundle-check", daemon=True)
                self._checking[digest] = thread
                thread.start()
            return BundleState(state="checking", received=received)

    def append(self, digest: str, data: bytes, *, offset: int, size: int) -> BundleState:
        """Put a piece of an archive of `size` bytes at `offset`, which is where the last one ended.

        Raises: StoreRefused: it does not fit, or is not the next one: then `state` says what is.
        """
        if size > self._max_bytes:
            limit = f"this cluster takes {_mib(self._max_bytes)} (CLIPPER_BUNDLE_MAX_BYTES)"
            raise StoreRefused(413, f"the bundle has {_mib(size)}, and {limit}")
        if offset + len(data) > size:
            raise StoreRefused(400, f"a piece of {len(data)} bytes at {offset} goes beyond the size, {size}")
        with self._lock:
            if self.archive(digest) is None:
                self._put(digest, data, offset=offset, size=size)
        return self.state(digest)

    def drop(self, digest: str) -> None:
        """Remove a bundle, whole or not; one that is not here is no error."""
        with self._lock:
            for path in self._folder.glob(f"{digest}.*"):
                path.unlink(missing_ok=True)

    def forget_left(self, in_use: Collection[str]) -> None:
        """Remove what nobody asked for since a day: what was not sent to its end, and what no version came to run from."""
        with self._lock, contextlib.suppress(OSError):
            for path in self._folder.glob("sha256-*"):
                is_old = path.stat().st_mtime < time.time() - FORGET_AFTER_S
                if is_old and path.name.partition(".")[0] not in in_use:
                    path.unlink(missing_ok=True)

    def _put(self, digest: str, data: bytes, *, offset: int, size: int) -> None:
        part = self._part(digest)
        if part is not None and _size_of(part) != size:  # the archive of a toolkit that packs otherwise
            part.unlink()
            part = None
        received = 0 if part is None else part.stat().st_size
        if offset != received:
            raise StoreRefused(409, f"{received} bytes are here, so the next piece begins there and not at {offset}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._folder).free
            if free < size - received + KEEP_FREE_BYTES:
                raise _full(f"{_mib(free)} are free where admin keeps bundles, and {_mib(size - received)} are to come")
            self._damaged.pop(digest, None)
            with (part or self._folder / f"{digest}.{size}.part").open("ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as exc:
            if exc.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                raise _full("the disk where admin keeps bundles is full") from exc
            raise StoreRefused(500, f"{self.problem() or exc}") from exc

    def _check(self, digest: str, part: Path) -> None:
        damage = ""
        try:
            check_archive(part, digest)
        except (DamagedBundle, OSError) as exc:
            damage = str(exc)
            log.warning("bundle refused", extra={"digest": digest, "cause": damage})
        with self._lock, contextlib.suppress(OSError):
            if damage:
                self._damaged[digest] = damage
                part.unlink(missing_ok=True)
            else:
                part.rename(self._folder / f"{digest}.tar")
                _sync(self._folder)
                log.info("bundle kept", extra={"digest": digest})
        self._checking.pop(digest, None)

    def _part(self, digest: str) -> Path | None:
        return next(iter(self._folder.glob(f"{digest}.*.part")), None)


def _size_of(part: Path) -> int:
    return int(part.name.split(".")[1])


def _full(cause: str) -> StoreRefused:
    return StoreRefused(507, f"{cause}. Remove versions that nobody needs, or give admin a larger volume")


def _mib(size: int) -> str:
    return f"{size / 1024**2:,.1f} MiB"


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
