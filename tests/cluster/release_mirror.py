"""What machines of tests reach on this one: a mirror of the releases made of the binaries here, and ports of loopback."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any


def versions_of(binaries: Mapping[str, str]) -> dict[str, str]:
    """The version that each program says it has."""
    found = {}
    for name, path in binaries.items():
        said = subprocess.run([path, "-v"], capture_output=True, text=True, check=True, timeout=30).stdout
        match = re.search(r"v?([0-9]+\.[0-9]+\.[0-9]+)", said)
        assert match, said
        found[name] = match[1]
    return found


def releases(folder: Path, versions: Mapping[str, str], binaries: Mapping[str, str]) -> dict[str, Any]:  # Any: JSON
    """Lay releases out as a mirror has them, from the binaries that are here; return the module's variable of that name."""
    found = {}
    for name, version in versions.items():
        if name == "fabio":
            file = folder / f"fabio/v{version}/fabio-{version}-linux_amd64"
        else:
            file = folder / f"{name}/{version}/{name}_{version}_linux_amd64.zip"
        file.parent.mkdir(parents=True)
        if name == "fabio":
            file.write_bytes(Path(binaries[name]).read_bytes())
        else:
            with zipfile.ZipFile(file, "w") as archive:
                archive.write(binaries[name], name)
        with file.open("rb") as content:
            digest = sha256()
            for piece in iter(partial(content.read, 1 << 20), b""):
                digest.update(piece)
        found[name] = {"version": version, "sha256": {"amd64": digest.hexdigest()}}
    return found


@contextmanager
def serving(folder: Path, address: str, *, handler: type[SimpleHTTPRequestHandler] | None = None) -> Iterator[str]:
    """A file server at an address of this machine; yields its URL."""
    server = ThreadingHTTPServer((address, 0), partial(handler or QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{address}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def forwarded(address: str, port: int) -> Iterator[None]:
    """What listens on this port of loopback is reached at another address of this machine too."""
    server = ThreadingTCPServer((address, port), Forwarder)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class Forwarder(BaseRequestHandler):
    """One connection, to the same port of loopback."""

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.request.getsockname()[1])) as called:
            back = threading.Thread(target=pass_on, args=(called, self.request))
            back.start()
            pass_on(self.request, called)
            back.join()


def pass_on(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while piece := one.recv(1 << 16):
            other.sendall(piece)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files, and says nothing of it."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base class has it
        pass
