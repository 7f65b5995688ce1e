"""ACLs and TLS of a rig: a CA of its own, certificates of the agents and of who calls them, tokens. Made with `nomad tls`.

The agents and Fabio have tokens of our policies and may do no more; only the tests themselves may do anything.
Consul's agents find each other in clear, and so do Nomad's client and Fabio find it: what is tried is how we call both.
"""

from __future__ import annotations

import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from clipper_nomad.cluster.policies import CONSUL_ANONYMOUS, CONSUL_FABIO, policy
from tests.cluster.processes import READY_WITHIN_S, binary
from tests.waiting import wait_until

OF_AGENTS = ("consul-agent", "consul-nomad-server", "consul-nomad-client", CONSUL_FABIO)  # policies
ANONYMOUS = "00000000-0000-0000-0000-000000000002"  # Consul's token of who has none
SERVER_NAMES = ("server.dc1.consul",)  # besides server.global.nomad, localhost and 127.0.0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Files and tokens. `server` and `caller` are certificate and key; `nomad_token` and `consul_token` may do anything,
    each of `tokens` what the policy of its name says."""

    ca: Path
    server: tuple[Path, Path]
    caller: tuple[Path, Path]
    consul_https_port: int
    nomad_token: str = field(default_factory=lambda: str(uuid.uuid4()), repr=False)
    consul_token: str = field(default_factory=lambda: str(uuid.uuid4()), repr=False)
    tokens: dict[str, str] = field(default_factory=lambda: {each: str(uuid.uuid4()) for each in OF_AGENTS}, repr=False)

    @property
    def caller_files(self) -> tuple[str, str]:
        certificate, key = self.caller
        return str(certificate), str(key)

    def of_nomad(self) -> dict[str, Any]:  # Any: JSON
        certificate, key = map(str, self.server)
        return {
            "acl": {"enabled": True, "token_min_expiration_ttl": "1s"},
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
                "tokens": {"master": self.consul_token, "agent": self.tokens["consul-agent"]},
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


def hand_out_tokens(guard: Guard, session: requests.Session, consul_url: str) -> None:
    """Make Consul's policies, and the tokens that the agents and Fabio were started with or will be."""

    def make(name: str, token: str, body: dict[str, Any]) -> None:  # Any: JSON
        put_policy(session, consul_url, name, policy(name))
        answer = session.put(f"{consul_url}/v1/acl/{token}", json=body | {"Policies": [{"Name": name}]}, timeout=10)
        assert answer.ok, answer.text

    def knows_us() -> bool:  # a leader is there a moment before its tokens are
        return session.get(f"{consul_url}/v1/acl/tokens", timeout=10).ok

    wait_until(knows_us, "Consul to take its first token", within_s=READY_WITHIN_S)
    for name, secret in guard.tokens.items():
        make(name, "token", {"SecretID": secret})
    make(CONSUL_ANONYMOUS, f"token/{ANONYMOUS}", {})


def put_policy(session: requests.Session, consul_url: str, name: str, rules: str) -> None:
    """Make a policy of Consul's, or give it other rules."""
    known = session.get(f"{consul_url}/v1/acl/policies", timeout=10).json()
    at = next((f"/{each['ID']}" for each in known if each["Name"] == name), "")
    answer = session.put(f"{consul_url}/v1/acl/policy{at}", json={"Name": name, "Rules": rules}, timeout=10)
    assert answer.ok, answer.text


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
