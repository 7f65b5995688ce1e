"""Copies bundles into a stack's data, each once: a folder named by its digest, there whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from clipper_nomad.errors import BundleError
from clipper_nomad.local_stack.place import UNFINISHED_COPY
from clipper_nomad.protocol.bundle import MANIFEST_NAME, DamagedBundle, read_manifest


def publish(bundle: Path, bundles: Path) -> str:
    """Copy the folder `bundle` to `bundles`/<its digest> and return the digest.

    Raises: BundleError: the folder is no bundle, or is damaged.
    """
    try:
        digest = "sha256-" + hashlib.sha256((bundle / MANIFEST_NAME).read_bytes()).hexdigest()
    except OSError as exc:
        raise BundleError(f"{bundle} is no bundle: {exc}.") from exc
    target = bundles / digest
    if _is_whole(target, digest):
        return digest
    fresh = Path(tempfile.mkdtemp(prefix=UNFINISHED_COPY, dir=bundles))
    try:
        copied = shutil.copytree(bundle, fresh / "bundle")
        read_manifest(copied, digest=digest)  # the copy, so that a change while it was copied shows
        shutil.rmtree(target, ignore_errors=True)  # damaged, or there is none
        copied.rename(target)
    except DamagedBundle as exc:
        raise BundleError(str(exc)) from exc
    except OSError:
        if not _is_whole(target, digest):  # else another process was quicker
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return digest


def _is_whole(folder: Path, digest: str) -> bool:
    try:
        read_manifest(folder, digest=digest)
    except DamagedBundle:
        return False
    return True
