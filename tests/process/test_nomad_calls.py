"""What goes over the wire to Nomad: its settings on every call, a verified certificate, and an end to every wait.

The server here is no Nomad: it answers `{}` and notes what it was asked. What a real one says is in tests/cluster.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from clipper_nomad.cluster import nomad_api
from clipper_nomad.cluster.endpoints import Endpoint, nomad_endpoint
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.errors import NomadRefused, NomadUnreachable

pytestmark = pytest.mark.process


@contextmanager
def noting_server(
    *, certificate: Path | None = None, body: bytes = b"{}"
) -> Iterator[tuple[int, list[tuple[str, dict[str, str]]]]]:
    """Yields the port, and the paths and headers that were asked."""
    asked: list[tuple[str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, dict(self.headers)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1], asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of its own authority, for the name server.global.nomad, with its key in the same file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on PATH")
    folder = tmp_path_factory.mktemp("tls")
    name = ["-subj", "/CN=nomad", "-addext", "subjectAltName=DNS:server.global.nomad"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *name, *files],
        check=True,
        capture_output=True,
    )
    both = folder / "both.pem"
    both.write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
    return both


def test_token_namespace_and_region_go_with_every_call() -> None:
    with noting_server() as (port, asked):
        url = f"http://127.0.0.1:{port}"
        nomad = NomadApi(Endpoint(url=url, token="t0ken", namespace="ml", region="eu", http_auth=("u", "p")))

        nomad.evaluation("e")
        nomad.job("j")
        nomad.nodes()

    assert len(asked) == 3
    for path, headers in asked:
        query = parse_qs(urlsplit(path).query)
        assert (query["namespace"], query["region"]) == (["ml"], ["eu"])
        assert headers["X-Nomad-Token"] == "t0ken"
        assert headers["Authorization"].startswith("Basic ")


def test_a_certificate_that_is_not_trusted_ends_the_call(certificate: Path) -> None:
    with noting_server(certificate=certificate) as (port, asked), pytest.raises(NomadUnreachable, match="certificate"):
        NomadApi(nomad_endpoint({"NOMAD_ADDR": f"https://127.0.0.1:{port}"})).nodes()

    assert asked == []  # no token was sent


def test_a_certificate_is_trusted_for_the_name_that_was_given(certificate: Path) -> None:
    with noting_server(certificate=certificate, body=b"[]") as (port, _):
        ours = {"NOMAD_ADDR": f"https://127.0.0.1:{port}", "NOMAD_CACERT": str(certificate)}

        assert NomadApi(nomad_endpoint({**ours, "NOMAD_TLS_SERVER_NAME": "server.global.nomad"})).nodes() == []
        with pytest.raises(NomadUnreachable):
            NomadApi(nomad_endpoint(ours)).nodes()  # the address is not in the certificate


def test_what_does_not_speak_nomads_api_is_told_as_such() -> None:
    with noting_server(body=b"<html>") as (port, _), pytest.raises(NomadRefused, match="not JSON"):
        NomadApi(Endpoint(url=f"http://127.0.0.1:{port}")).nodes()


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nomad_api, "CALL_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nomad = NomadApi(Endpoint(url=f"http://127.0.0.1:{silent.getsockname()[1]}"))
        started = time.monotonic()

        with pytest.raises(NomadUnreachable, match="timed out"):
            nomad.watch_deployment("d", index=1, wait_s=0.2)

    assert time.monotonic() - started < 3
