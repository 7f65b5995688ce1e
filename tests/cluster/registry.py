"""A docker registry that wants a password, and two Docker configurations: the operator's, and the one of Nomad's clients.

Both know the registry as 127.0.0.1. As `localhost` the operator's is right too, and the clients' has a wrong password: what
is pushed there arrives, and cannot be pulled.
"""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import requests

from tests.cluster.processes import answers, binary, free_ports, process

BINARIES = ("docker-registry", "htpasswd")  # of Debian's docker-registry and apache2-utils
USER = "deploy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """`operator`: a folder for DOCKER_CONFIG; `clients`: the file that Nomad's docker driver reads."""

    port: int
    password: str = field(repr=False)
    operator: Path
    clients: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def misremembered(self) -> str:
        """The same registry, by the name for which Nomad's clients have a wrong password."""
        return f"localhost:{self.port}"


def missing_for_registry() -> list[str]:
    return [name for name in BINARIES if shutil.which(name) is None]


@contextmanager
def running_registry(folder: Path) -> Iterator[Registry]:
    """Start it, and end it again."""
    (port,) = free_ports(1)
    password = secrets.token_hex(8)
    (folder / "operator").mkdir()
    registry = Registry(
        port=port, password=password, operator=folder / "operator", clients=folder / "docker-of-clients.json"
    )
    bcrypt = subprocess.run(
        [binary("htpasswd"), "-Bbn", USER, password], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    (folder / "htpasswd").write_text(bcrypt)
    (folder / "registry.json").write_text(
        json.dumps(
            {
                "version": "0.1",
                "storage": {"filesystem": {"rootdirectory": str(folder / "images")}, "delete": {"enabled": True}},
                "http": {"addr": registry.address, "secret": secrets.token_hex(8)},
                "auth": {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}},
            }
        )
    )
    (registry.operator / "config.json").write_text(
        logins({registry.address: password, registry.misremembered: password}), encoding="utf-8"
    )
    registry.clients.write_text(logins({registry.address: password, registry.misremembered: "forgotten"}), encoding="utf-8")
    with process("docker-registry", "serve", str(folder / "registry.json"), folder=folder) as log:
        session = requests.Session()
        session.trust_env = False
        answers(
            session,
            f"http://{registry.address}/v2/",
            lambda answer: answer.status_code == HTTPStatus.UNAUTHORIZED,
            "the registry asks for a password",
            log,
        )
        yield registry


def logins(passwords: dict[str, str]) -> str:
    """A config.json of Docker's."""
    auths = {
        server: {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()} for server, password in passwords.items()
    }
    return json.dumps({"auths": auths})
