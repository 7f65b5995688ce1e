"""ACLs and TLS of a rig: a CA of its own, certificates of the agents and of who calls them, tokens. Made with `nomad tls`.

Consul's agents find each other in clear, and so do Nomad's client and Fabio find it: what is tried is how we call both.
"""

from __future__ import annotations

import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.processes import binary

SERVER_NAMES = ("server.dc1.consul",)  # besides server.global.nomad, localhost and 127.0.0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Files and tokens. `server` and `caller` are certificate and key; the tokens may do anything."""

    ca: Path
    server: tuple[Path, Path]
    caller: tuple[Path, Path]
    consul_https_port: int
    nomad_token: str = field(default_factory=lambda: str(uuid.uuid4()), repr=False)
    consul_token: str = field(default_factory=lambda: str(uuid.uuid4()), repr=False)

    @property
    def caller_files(self) -> tuple[str, str]:
        certificate, key = self.caller
        return str(certificate), str(key)

    def of_nomad(self) -> dict[str, Any]:  # Any: JSON
        certificate, key = map(str, self.server)
        return {
            "acl": {"enabled": True},
            "tls": {
                "http": True,
                "rpc": True,
                "ca_file": str(self.ca),
                "cert_file": certificate,
                "key_file": key,
                "verify_server_hostname": True,
                "verify_https_client": True,
            },
        }

    def of_consul(self) -> dict[str, Any]:  # Any: JSON
        certificate, key = map(str, self.server)
        return {
            "acl": {
                "enabled": True,
                "default_policy": "deny",
                "tokens": {"master": self.consul_token, "agent": self.consul_token},
            },
            "ca_file": str(self.ca),
            "cert_file": certificate,
            "key_file": key,
            "verify_incoming_https": True,
        }

    def shell(self) -> dict[str, str]:
        """What somebody who calls the agents has in the environment."""
        certificate, key = self.caller_files
        found = {
            "NOMAD_TOKEN": self.nomad_token,
            "CONSUL_HTTP_TOKEN": self.consul_token,
            "CONSUL_HTTP_SSL": "true",
        }
        for service in ("NOMAD", "CONSUL"):
            found |= {
                f"{service}_CACERT": str(self.ca),
                f"{service}_CLIENT_CERT": certificate,
                f"{service}_CLIENT_KEY": key,
            }
        return found


def new_guard(folder: Path, *, consul_https_port: int) -> Guard:
    """Make a CA, a certificate that is a server's, and one of somebody who calls."""
    folder.mkdir()
    authority = new_authority(folder)
    names = [option for name in SERVER_NAMES for option in ("-additional-dnsname", name)]
    return Guard(
        ca=authority,
        server=certificate(folder, "-server", *names, name="global-server-nomad"),
        caller=certificate(folder, "-cli", name="global-cli-nomad"),
        consul_https_port=consul_https_port,
    )


def new_authority(folder: Path) -> Path:
    """Make a CA in `folder` and return its certificate."""
    run(folder, "ca", "create")
    return folder / "nomad-agent-ca.pem"


def certificate(folder: Path, *options: str, name: str) -> tuple[Path, Path]:
    """Make a certificate of the folder's CA; return it and its key."""
    run(folder, "cert", "create", *options)
    return folder / f"{name}.pem", folder / f"{name}-key.pem"


def run(folder: Path, *words: str) -> None:
    done = subprocess.run(
        [binary("nomad"), "tls", *words], cwd=folder, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
