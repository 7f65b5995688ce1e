"""Fetches a file over HTTP: goes on where it was cut, and is there whole and right, or not at all.

What has come lies beside the target as <name>.part, with <name>.part.tag: what the server calls this state of the file
(its ETag or date). Range asks for the rest, If-Range only of the same file; a server that cannot sends all of it again.
Proxies, their exceptions and certificates are those of the environment: HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import requests
from requests.exceptions import ChunkedEncodingError, HTTPError, RequestException, SSLError

from clipper_nomad.errors import DownloadFailed

Progress = Callable[[str, int, int | None], None]  # (file's name, bytes that are here, bytes in all if that is known)

TRIES = 4  # in a row that brought nothing new
PAUSE_S = 0.5  # before the second; twice as long before each further one
CONNECT_WITHIN_S, BYTES_WITHIN_S = 10.0, 30.0
SMALL_BYTES = 1 << 20  # lists of checksums and signatures have some kB
_PIECE_BYTES = 1 << 16
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_OTHER_FILE = 416  # what is here is longer than the file


def fetch_small(url: str) -> bytes:
    """Return the content of a file of at most 1 MiB. Raises: DownloadFailed."""
    tries = 0
    while True:
        tries += 1
        try:
            with _get(url, {}) as answer:
                content = b"".join(_at_most(SMALL_BYTES + 1, answer))
        except RequestException as exc:
            if tries >= TRIES or _is_final(exc):
                raise _unreachable(url, exc) from exc
            time.sleep(PAUSE_S * 2 ** (tries - 1))
            continue
        if len(content) > SMALL_BYTES:
            raise DownloadFailed(f"{url} has more than {SMALL_BYTES} bytes; it is not the file that was expected.")
        return content


def fetch(url: str, target: Path, *, sha256: str, progress: Progress) -> None:
    """Fetch `url` to `target`, whose SHA-256 must be this.

    Raises: DownloadFailed: nobody answers, the file is not there, is another one, or there is no room. What has come is
    kept for the next call, unless it is wrong or the disk is full.
    """
    part = target.with_name(f"{target.name}.part")
    tag = target.with_name(f"{target.name}.part.tag")
    tries, had = 0, -1
    while True:
        try:
            _fetch_rest(url, part, tag, progress)
            break
        except RequestException as exc:
            has = _size(part)
            tries = 1 if has > had else tries + 1
            had = has
            if tries >= TRIES or _is_final(exc):
                raise _unreachable(url, exc, has=has) from exc
            time.sleep(PAUSE_S * 2 ** (tries - 1))
        except OSError as exc:
            raise _not_written(exc, part, tag) from exc
    found = _sha256(part)
    tag.unlink(missing_ok=True)
    if found != sha256:
        part.unlink()
        raise DownloadFailed(
            f"{url} is not the file that was expected: its SHA-256 is {found}, and it should be {sha256}. It was removed.",
            hint="See whether a mirror or a proxy is in between; then try again.",
        )
    part.replace(target)


def _fetch_rest(url: str, part: Path, tag: Path, progress: Progress) -> None:
    """Ask once for what is missing, and append it. Raises: RequestException: it was cut. OSError: it cannot be written."""
    has = _size(part) if tag.exists() else 0
    wanted = {"Range": f"bytes={has}-", "If-Range": tag.read_text()} if has else {}
    with _get(url, wanted) as answer:
        goes_on = answer.status_code == requests.codes.partial_content
        if answer.status_code == _OTHER_FILE or (
            goes_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {has}-")
        ):
            part.unlink()
            raise ChunkedEncodingError("the server has another file now")
        has = has if goes_on else 0
        length = answer.headers.get("Content-Length", "")
        total = has + int(length) if length.isdigit() else None
        _check_room(part, 0 if total is None else total - has)
        _remember(tag, answer)
        with part.open("ab" if goes_on else "wb") as file:
            progress(part.stem, has, total)
            for piece in answer.iter_content(_PIECE_BYTES):
                file.write(piece)
                has += len(piece)
                progress(part.stem, has, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and has < total:
        raise ChunkedEncodingError(f"{has} of {total} bytes came")


def _get(url: str, headers: dict[str, str]) -> requests.Response:
    answer = requests.get(
        url,
        headers={"Accept-Encoding": "identity", "User-Agent": "clipper-nomad", **headers},
        timeout=(CONNECT_WITHIN_S, BYTES_WITHIN_S),
        stream=True,
    )
    if answer.status_code != _OTHER_FILE:
        try:
            answer.raise_for_status()
        except HTTPError:
            answer.close()
            raise
    return answer


def _at_most(count: int, answer: requests.Response) -> Iterator[bytes]:
    for piece in answer.iter_content(_PIECE_BYTES):
        yield piece[:count]
        count -= len(piece)
        if count <= 0:
            return


def _remember(tag: Path, answer: requests.Response) -> None:
    known = answer.headers.get("ETag", "")
    if not known or known.startswith("W/"):  # a weak one says nothing of bytes
        known = answer.headers.get("Last-Modified", "")
    if known:
        tag.write_text(known)
    else:
        tag.unlink(missing_ok=True)


def _is_final(failure: RequestException) -> bool:
    """Whether to try again is useless."""
    if isinstance(failure, HTTPError) and failure.response is not None:
        return failure.response.status_code not in _TRY_AGAIN
    return isinstance(failure, SSLError | ValueError)  # ValueError: a URL that cannot be read


def _unreachable(url: str, failure: RequestException, *, has: int = 0) -> DownloadFailed:
    if isinstance(failure, HTTPError) and failure.response is not None:
        why = f"the server answers {failure.response.status_code} {failure.response.reason}"
    else:
        why = _words(failure)
    kept = f" {has} bytes are kept; the next try goes on from there." if has else ""
    return DownloadFailed(
        f"{url} cannot be downloaded: {why}.{kept}",
        hint="Is this machine on the internet? HTTPS_PROXY names a proxy, CLIPPER_RELEASES_URL a mirror; or put consul,"
        " nomad and fabio on PATH yourself.",
    )


def _words(failure: BaseException) -> str:
    """Return the innermost reason: requests and urllib3 wrap one in the other."""
    while (inner := failure.__cause__ or failure.__context__) is not None:
        failure = inner
    return str(failure).strip().rstrip(".") or type(failure).__name__


def _check_room(part: Path, more: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if more > free:
        raise OSError(errno.ENOSPC, f"{more >> 20} MiB are needed, and {free >> 20} MiB are free")


def _not_written(failure: OSError, part: Path, tag: Path) -> DownloadFailed:
    if failure.errno in {errno.ENOSPC, errno.EDQUOT}:
        for path in (part, tag):  # what came of it must not keep the disk full
            path.unlink(missing_ok=True)
        return DownloadFailed(
            f"There is no room in {part.parent}: {failure.strerror}. What had come was removed.",
            hint="Make room, or set CLIPPER_HOME to a directory on another disk.",
        )
    return DownloadFailed(
        f"{part} cannot be written: {failure.strerror or failure}.",
        hint="Set CLIPPER_HOME to a directory that you may write to.",
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
