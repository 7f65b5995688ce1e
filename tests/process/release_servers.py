"""A server of releases of the tests' own, laid out as a mirror, with a key of its own to sign with; it can misbehave."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from clipper_nomad.dev_cluster.releases import Platform, Release
from clipper_nomad.dev_cluster.signature import GPGV, Signer

HERE = Platform(system="linux", architecture="amd64")
ARM = Platform(system="linux", architecture="arm64")


class Key:
    """A signing key, in a folder of its own. `valid`: as gpg takes it; `made`: of a machine whose clock says so."""

    def __init__(self, folder: Path, *, made: str | None = None, valid: str = "never") -> None:
        folder.mkdir(mode=0o700)
        self._folder = folder
        self._time = () if made is None else ("--faked-system-time", f"{made}!")
        self._gpg("--pinentry-mode", "loopback", "--passphrase", "", "--quick-gen-key", "test", "ed25519", "sign", valid)
        (folder / "key.asc").write_bytes(self._gpg("--armor", "--export", "test"))

    @property
    def signer(self) -> Signer:
        listed = self._gpg("--with-colons", "--list-keys").decode()
        (fingerprint, *_) = (line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))
        return Signer(name="the test", fingerprint=fingerprint, key=self._folder / "key.asc")

    def sign(self, content: bytes) -> bytes:
        return self._gpg("--detach-sign", given=content)

    def end(self) -> None:
        """End the agent that gpg started."""
        subprocess.run([binary("gpgconf"), "--homedir", str(self._folder), "--kill", "all"], check=False, timeout=20)

    def _gpg(self, *words: str, given: bytes = b"") -> bytes:
        argv = [binary("gpg"), "--homedir", str(self._folder), "--batch", "--quiet", *self._time, *words]
        return subprocess.run(argv, input=given, capture_output=True, check=True, timeout=60).stdout


@dataclass
class Releases:
    """What the server has: path → content. `asked`: method, path and Range of each request.

    `cut_after`: it breaks off each answer after so many bytes, as often as `cuts` says. `knows_range`, `knows_length`,
    `tagged`: whether it can send a part, says how long a file is, says its ETag."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    cut_after: int = 0
    cuts: int = 0
    knows_range: bool = True
    knows_length: bool = True
    tagged: bool = True
    failures: list[int] = field(default_factory=list)  # statuses of the next answers

    def add(self, release: Release, program: bytes, key: Key) -> None:
        """Add a release for two platforms, its list of checksums and the signature."""
        sums = []
        for platform in (HERE, ARM):
            file = release.file(platform)
            content = packed(release.product, program) if file.endswith(".zip") else program
            self.files[path_of(release, file)] = content
            sums.append(f"{hashlib.sha256(content).hexdigest()}  {file}\n")
        self.sign(release, "".join(sums).encode(), key)

    def sign(self, release: Release, sums: bytes, key: Key) -> None:
        self.files[path_of(release, release.checksums)] = sums
        self.files[path_of(release, f"{release.checksums}.sig")] = key.sign(sums)

    def asked_for(self, file: str) -> list[str | None]:
        """The Range of each request for a file."""
        return [wanted for path, wanted in self.asked if path.endswith(f"/{file}")]


def packed(name: str, program: bytes) -> bytes:
    """A release's archive: the program and the licence."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:  # not compressed: a part of it is a part of the program
        archive.writestr("LICENSE.txt", "a licence")
        archive.writestr(name, program)
    return made.getvalue()


def path_of(release: Release, file: str) -> str:
    return release.url(file, mirror="")


@contextlib.contextmanager
def served_releases() -> Iterator[Releases]:
    made = Releases()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            made.asked.append((self.path, wanted))
            content = made.files.get(self.path)
            status = made.failures.pop(0) if made.failures else 200
            if content is None or status != 200:
                self.send_error(404 if content is None else status)
                return
            tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            start = 0
            if wanted and made.knows_range and self.headers["If-Range"] in {None, tag}:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content) > 0:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if made.tagged:
                self.send_header("ETag", tag)
            if made.knows_length:
                self.send_header("Content-Length", str(len(content) - start))
            self.send_header("Connection", "close")
            self.end_headers()
            body = content[start:]
            if made.cuts and len(body) > made.cut_after:
                made.cuts -= 1
                body = body[: made.cut_after]
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, _format: str, *_args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


def require_gpg() -> None:
    for name in ("gpg", "gpgconf", GPGV):
        binary(name)


def binary(name: str) -> str:
    """The program's path; without it the test is skipped, and says so."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on PATH (Debian: apt install gpg gpgv)")
    return found
