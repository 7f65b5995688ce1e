"""A package index of our own, at a port of this machine, which pip asks and no other."""

from __future__ import annotations

import contextlib
import http.server
import io
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.archives import make_wheel


class Index:
    """A package index of PEP 503 in a folder: simple/<name>/ lists its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.asked: list[str] = []
        self.stands_still = False  # it takes questions and answers none

    def add_wheel(self, name: str, source: str = "", *, tag: str = "py3-none-any", needs: str = "") -> None:
        """Add version 1.0 of a distribution with one module of its name."""
        wheel = make_wheel(self._home(name), name, source, tag=tag)
        if needs:
            with zipfile.ZipFile(wheel) as old:
                files = {each: old.read(each) for each in old.namelist()}
            with zipfile.ZipFile(wheel, "w") as new:
                for path, content in files.items():
                    more = f"Requires-Dist: {needs}\n".encode() if path.endswith("METADATA") else b""
                    new.writestr(path, content + more)

    def add_source(self, name: str) -> None:
        """Add a source distribution that would tell if anything of it were run."""
        content = b"raise SystemExit('the setup.py of a source distribution was run')\n"
        with tarfile.open(self._home(name) / f"{name}-1.0.tar.gz", "w:gz") as tar:
            entry = tarfile.TarInfo(f"{name}-1.0/setup.py")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

    def _home(self, name: str) -> Path:
        home = self.folder / "simple" / name.replace("_", "-")
        home.mkdir(parents=True, exist_ok=True)
        return home


@contextlib.contextmanager
def served_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """Serve an index, and let pip know no other, in this process and in those that it starts."""
    made = Index(folder)
    (folder / "simple").mkdir(parents=True)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]  # what the server gives

        def do_GET(self) -> None:
            while made.stands_still:
                time.sleep(0.01)
            super().do_GET()

        def log_message(self, _format: str, *_args: object) -> None:
            made.asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    made.url = f"http://127.0.0.1:{server.server_port}/simple"
    monkeypatch.setenv("PIP_INDEX_URL", made.url)
    try:
        yield made
    finally:
        made.stands_still = False
        server.shutdown()
        server.server_close()
