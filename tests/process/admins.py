"""A real admin service, and real query frontends beside it, for tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from clipper_nomad.admin.client import AdminClient
from tests.process.openapi_checks import check_answer
from tests.process.stores import StoreServer
from tests.waiting import wait_until

TOKEN = "a-token-for-tests"
CLUSTER = "test"


class AdminServer:
    """One admin process on a port of its own, which stays the same over restarts."""

    def __init__(self, store: StoreServer, folder: Path, *, is_local: bool = True, **more: str) -> None:
        """`more` are environment variables without CLIPPER_: DEFAULT_SLO_POLICY="default"."""
        self._more = {f"CLIPPER_{name}": value for name, value in more.items()}
        self._store = store
        self._folder = folder
        self._is_local = is_local
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.token_file = folder / "token"
        self.token_file.write_text(f"{TOKEN}\n")
        self.log = folder / "admin.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and return when it has reached the store."""
        self.launch()
        wait_until(lambda: self.client().is_ready(), "the admin service is ready", within_s=20)

    def launch(self) -> None:
        """Start the process, whatever becomes of it."""
        listener = self._socket.fileno()
        settings = {
            "CLIPPER_CLUSTER": CLUSTER,
            "CLIPPER_STORE_URL": self._store.url,
            "CLIPPER_ADMIN_ADDRESS": f"fd://{listener}",
            "CLIPPER_TOKEN_FILE": str(self.token_file),
            "CLIPPER_ADMIN_LOCAL": str(self._is_local).lower(),
            **self._more,
        }
        self.process = _run("clipper_nomad.admin", settings, self.log, listener)

    def kill(self) -> None:
        """As kill -9."""
        _kill(self.process)

    def close(self) -> None:
        """End the process and give the port back."""
        self.kill()
        self._socket.close()

    def client(self, *, patience_s: float = 10.0) -> AdminClient:
        """Return a client as the library has it."""
        return AdminClient(lambda: self.address, lambda: TOKEN, patience_s=patience_s)

    def post(self, path: str, body: object = None, **options: Any) -> requests.Response:  # Any: as in requests
        """Post a body as it is, if it is bytes, or as JSON. The answer must be one that the OpenAPI document has."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"} | options.pop("headers", {})
        given = {"data": body} if isinstance(body, bytes) else {"json": body}
        answer = requests.post(f"http://{self.address}{path}", headers=headers, timeout=20, **given, **options)
        check_answer(answer)
        return answer

    def empty(self) -> None:
        """Delete every app and version."""
        catalog = self.client().catalog()
        for app in catalog["apps"]:
            self.post("/admin/delete_app", {"name": app["name"]}).raise_for_status()
        for version in catalog["versions"]:
            which = {"model_name": version["name"], "model_version": version["version"]}
            self.post("/admin/v1/versions/delete", which).raise_for_status()

    def get(self, path: str) -> requests.Response:
        """Get a path."""
        answer = requests.get(f"http://{self.address}{path}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20)
        check_answer(answer)
        return answer


class FrontendServer:
    """One query frontend process without replicas, on sockets in `folder`."""

    def __init__(self, store: StoreServer, folder: Path, name: str) -> None:
        self._store = store
        self._folder = folder
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, admin: AdminServer) -> None:
        """Start the process and return when it answers the roll call."""
        settings = {
            "CLIPPER_CLUSTER": CLUSTER,
            "CLIPPER_FRONTEND_ID": self.name,
            "CLIPPER_HTTP_ADDRESS": "127.0.0.1:0",
            "CLIPPER_RPC_ADDRESS": f"ipc://{self._folder}/{self.name}.rpc",
            "CLIPPER_INTERNAL_ADDRESS": f"unix://{self._folder}/{self.name}.http",
            "CLIPPER_STORE_URL": self._store.url,
            "CLIPPER_MIRROR_PATH": str(self._folder / f"{self.name}.mirror"),
            "CLIPPER_TOKEN_FILE": str(admin.token_file),
        }
        self.process = _run("clipper_nomad_frontend", settings, self._folder / f"{self.name}.log")
        wait_until(lambda: self.report(admin), f"{self.name} answers the roll call", within_s=20)

    def report(self, admin: AdminServer) -> Mapping[str, Any] | None:  # Any: JSON
        """Return what this frontend says of itself, or None."""
        return next((one for one in admin.client().frontends().reports if one["frontend"] == self.name), None)

    def kill(self) -> None:
        """As kill -9."""
        _kill(self.process)


def _run(module: str, settings: Mapping[str, str], log: Path, *inherit: int) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLIPPER_")}
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", module], env={**environment, **settings}, stdout=out, stderr=out, pass_fds=inherit
        )


def _kill(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.kill()
        process.wait(10)
