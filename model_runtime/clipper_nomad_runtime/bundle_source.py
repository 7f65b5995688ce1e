"""Where a replica gets its bundle if it is not in the image: from admin, with a token, checked, and kept for others.

Admin moves, so its address is read anew before each try, from a file that Nomad keeps up to date. An archive that is in the
cache is not asked for. What was unpacked stays with the allocation: a restart asks nobody.
"""

from __future__ import annotations

import contextlib
import http
import http.client
import logging
import os
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from clipper_nomad.protocol.bundle import DamagedBundle
from clipper_nomad.protocol.bundle_archive import unpack_archive
from clipper_nomad.protocol.bundle_store import FETCH_PATH
from clipper_nomad_runtime.config import BundleSource

PATIENCE_S = 60.0  # without a byte
ANSWER_WITHIN_S = 10.0
RETRY_EVERY_S = 0.5
CACHE_KEEPS_BYTES = 10 * 1024**3
FORGET_UNFINISHED_S = 24 * 3600.0
_BLOCK = 1024 * 1024
_FINAL = {
    401: "the token does not open it: the cluster's secrets were made anew. Deploy the model again",
    404: "admin does not have it: its version was removed, or the disk was lost. Deploy the model again",
}

log = logging.getLogger(__name__)


class NotFetched(Exception):
    """The bundle could not be had; the message says why, and what to do."""


def bring(source: BundleSource, *, patience_s: float = PATIENCE_S) -> None:
    """See that the bundle is unpacked in its folder. Raises: NotFetched."""
    if source.folder.is_dir():  # renamed to it when it was whole
        return
    archives = _writable(source.cache) or source.folder.parent
    archive = archives / f"{source.digest}.tar"
    try:
        if archive.is_file():
            try:
                _unpack(archive, source)
            except DamagedBundle as exc:
                log.warning("the cached bundle is damaged and is fetched anew", extra={"reason": str(exc)})
                archive.unlink(missing_ok=True)
            else:
                log.info("bundle was in the cache", extra={"digest": source.digest})
                os.utime(archive)  # the least lately used goes first
                return
        _fetch(source, archive, patience_s=patience_s)
        _unpack(archive, source)
        if archives == source.cache:
            _trim(archives, CACHE_KEEPS_BYTES)
        else:
            archive.unlink()
    except DamagedBundle as exc:
        archive.unlink(missing_ok=True)
        raise NotFetched(f"what admin sent is not the bundle {source.digest}: {exc}") from exc
    except OSError as exc:
        raise NotFetched(f"the bundle could not be written: {exc}") from exc


def _unpack(archive: Path, source: BundleSource) -> None:
    fresh = source.folder.with_name(f"{source.folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    unpack_archive(archive, source.digest, fresh)
    fresh.rename(source.folder)


def _writable(cache: Path | None) -> Path | None:
    if cache is not None and not os.access(cache, os.W_OK | os.X_OK):
        fields = {"cache": str(cache), "hint": f"let user {os.getuid()} write there"}
        log.warning("the cache of bundles cannot be written and is not used", extra=fields)
        return None
    return cache


def _fetch(source: BundleSource, target: Path, *, patience_s: float) -> None:
    """Get the archive, going on where a broken connection ended. Raises: NotFetched."""
    part = target.with_name(f"{target.name}.{os.uname().nodename}.{os.getpid()}.part")
    began = last_byte = time.monotonic()
    reason = ""
    part.unlink(missing_ok=True)
    try:
        with part.open("ab") as file:
            while True:
                had = file.tell()
                for address in _addresses(source.addresses):
                    try:
                        _get(f"{address}{FETCH_PATH}/{source.digest}", source.token.read_text().strip(), file)
                    except urllib.error.HTTPError as exc:
                        if exc.code in _FINAL:
                            raise NotFetched(f"{address} refuses the bundle {source.digest}: {_FINAL[exc.code]}") from exc
                        if exc.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # it is another archive
                            _empty(file)
                        reason = f"{address}: {exc}"
                    except (OSError, http.client.HTTPException) as exc:
                        reason = f"{address}: {exc}"
                    else:
                        file.flush()
                        part.rename(target)
                        fields = {"mib": round(file.tell() / _BLOCK, 1), "seconds": round(time.monotonic() - began, 3)}
                        log.info("bundle fetched", extra=fields)
                        return
                if file.tell() > had:
                    last_byte = time.monotonic()
                if time.monotonic() > last_byte + patience_s:
                    why = reason or f"Consul knows no healthy admin service ({source.addresses} is empty)"
                    raise NotFetched(f"the bundle could not be fetched for {patience_s:g} s: {why}. It is tried again")
                time.sleep(RETRY_EVERY_S)
    finally:
        part.unlink(missing_ok=True)


def _get(url: str, token: str, file: BinaryIO) -> None:
    """Append what is missing of the archive. Raises: OSError, HTTPException: it, or the connection, broke off."""
    headers = {"Authorization": f"Bearer {token}", "Range": f"bytes={file.tell()}-"}
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(urllib.request.Request(url, headers=headers), timeout=ANSWER_WITHIN_S) as answer:  # noqa: S310  # http, from Consul
        if answer.status == http.HTTPStatus.OK:  # from its beginning
            _empty(file)
        left = int(answer.headers["Content-Length"])
        while data := answer.read(_BLOCK):
            file.write(data)
            left -= len(data)
    if left:
        raise ConnectionError(f"the connection ended {left} bytes before the archive did")


def _empty(file: BinaryIO) -> None:
    file.truncate(0)
    file.seek(0)


def _addresses(file: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return [address.strip() for address in file.read_text().split(",") if address.strip()]
    return []


def _trim(cache: Path, keep_bytes: int) -> None:
    """Remove the archives that were not used for longest, until the others fit; whoever reads one can go on."""
    kept = 0
    for path in sorted(cache.iterdir(), key=_used_at, reverse=True):
        with contextlib.suppress(OSError):  # another replica was quicker
            kept += path.stat().st_size
            is_left_over = path.suffix == ".part" and _used_at(path) < time.time() - FORGET_UNFINISHED_S
            if is_left_over or (path.suffix == ".tar" and kept > keep_bytes):
                path.unlink()


def _used_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
