"""Copies bundles into a stack's data, each once: a folder named by its digest, there whole or not at all.

A copy's modification time is its stamp: whoever publishes the same bundle again sets it anew. So `withdraw` knows whether
a copy is still nobody's but its maker's. What nobody withdraws goes when a stack starts: sweep.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from clipper_nomad.errors import BundleError
from clipper_nomad.local_stack.place import BUNDLE, UNFINISHED_COPY
from clipper_nomad.protocol.bundle import MANIFEST_NAME, DamagedBundle, read_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A bundle that can be run. `stamp`: of the copy that was made for it; None: it was there already."""

    digest: str
    stamp: int | None


def publish(bundle: Path, bundles: Path) -> Published:
    """Copy the folder `bundle` to `bundles`/<its digest>, unless it is there.

    Raises: BundleError: the folder is no bundle, or is damaged.
    """
    try:
        digest = BUNDLE + hashlib.sha256((bundle / MANIFEST_NAME).read_bytes()).hexdigest()
    except OSError as exc:
        raise BundleError(f"{bundle} is no bundle: {exc}.") from exc
    target = bundles / digest
    if _is_whole(target, digest) and _stamp(target) is not None:
        return Published(digest=digest, stamp=None)
    fresh = Path(tempfile.mkdtemp(prefix=UNFINISHED_COPY, dir=bundles))
    try:
        copied = shutil.copytree(bundle, fresh / "bundle")
        read_manifest(copied, digest=digest)  # the copy, so that a change while it was copied shows
        stamp = _stamp(copied)
        shutil.rmtree(target, ignore_errors=True)  # damaged, or there is none
        copied.rename(target)
    except DamagedBundle as exc:
        raise BundleError(str(exc)) from exc
    except OSError:
        if not _is_whole(target, digest):  # else another process was quicker
            raise
        _stamp(target)
        stamp = None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Published(digest=digest, stamp=stamp)


def withdraw(published: Published, bundles: Path) -> None:
    """Remove the copy that `publish` made, unless the same was published again: then it is not its maker's alone."""
    target = bundles / published.digest
    with contextlib.suppress(OSError):  # it is gone, or was made anew; what is left goes at the next start
        if target.stat().st_mtime_ns != published.stamp:
            return
        aside = Path(tempfile.mkdtemp(prefix=UNFINISHED_COPY, dir=bundles))
        try:
            moved = target.rename(aside / "bundle")
            if moved.stat().st_mtime_ns != published.stamp:  # published again between the two lines above
                moved.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _stamp(folder: Path) -> int | None:
    """Set a bundle's modification time and return it; None: it was removed just now."""
    now = time.time_ns()
    try:
        os.utime(folder, ns=(now, now))
        return folder.stat().st_mtime_ns  # as exactly as this file system keeps it
    except FileNotFoundError:
        return None


def _is_whole(folder: Path, digest: str) -> bool:
    try:
        read_manifest(folder, digest=digest)
    except DamagedBundle:
        return False
    return True
