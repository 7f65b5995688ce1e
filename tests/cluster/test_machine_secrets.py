"""The secrets of a cluster of machines on their way through a secret store, which is a folder here: `clipper-secrets`.

Containers without systemd, with the files of the Terraform module cluster-config. test_cloud_init.py hands secrets on.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import docker
import pytest

from clipper_nomad.resources import terraform_folder
from tests.cluster.machines import Machine, bare_machine, rendered

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        shutil.which("terraform") is None or shutil.which("nomad") is None, reason="terraform and nomad are not both on PATH"
    ),
]

MODULE = terraform_folder() / "modules/cluster-config"
STORE = '[ "$CLIPPER_REPLACE" = true ] || [ ! -e "/store/$CLIPPER_ROLE" ] || exit 9; cat >"/store/$CLIPPER_ROLE"'
FETCH = 'cat "/store/$CLIPPER_ROLE"'
VARIABLES = {
    "name": "ml",
    "servers": 3,
    "clients": 1,
    "retry_join": ["10.0.0.10"],
    "allowed_cidrs": ["10.0.0.0/8"],
    "query_cidrs": [],
    "private_cidr": "10.0.0.0/16",
    "releases": {
        name: {"version": version, "sha256": {"amd64": "a" * 64}}
        for name, version in {"consul": "1.22.1", "nomad": "1.11.3", "fabio": "1.7.3"}.items()
    },
    "secrets": {"fetch": FETCH, "store": STORE},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:  # Any: Terraform's
    """The files of each machine, by its name."""
    outputs = rendered(tmp_path_factory.mktemp("module") / "root", MODULE, VARIABLES)
    return dict(outputs["files"])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def started(docker_host: docker.DockerClient, files: dict[str, dict[str, Any]], store: Path) -> Iterator[Starter]:
    with ExitStack() as stack:
        yield Starter(docker_host, files, store, stack)


class Starter:
    """Starts machines that reach the store, and ends them with the test."""

    def __init__(self, client: docker.DockerClient, files: dict[str, dict[str, Any]], store: Path, stack: ExitStack) -> None:
        self._client, self._files, self._store, self._stack = client, files, store, stack

    def __call__(self, name: str) -> Machine:
        texts = {path.lstrip("/"): file["content"] for path, file in self._files[name].items()}
        return self._stack.enter_context(bare_machine(self._client, name, files=texts, store=self._store))


def authority(each: Machine) -> str:
    return each.says("cat /etc/clipper/secrets/*/ca.pem | head -n 20")


def finish_acls(server: Machine) -> None:
    """What clipper-acl leaves on the first server; test_cloud_init.py runs it on a real Nomad."""
    server.says("echo 'export NOMAD_TOKEN=t' > /etc/clipper/secrets/operator/env")


def test_each_role_fetches_its_own_bundle_and_no_other(started: Starter, store: Path) -> None:
    first, second = started("ml-server-0"), started("ml-server-1")
    client, balancer = started("ml-client-0"), started("ml-lb-0")

    first.says("clipper-secrets ready")
    assert [each.name for each in store.iterdir()] == ["server"]  # the other servers need it before there are ACLs
    second.says("clipper-secrets ready")
    finish_acls(first)
    first.says("clipper-secrets publish")
    for each in (client, balancer):
        each.says("clipper-secrets ready")

    assert sorted(each.name for each in store.iterdir()) == ["client", "load_balancer", "operator", "server"]
    assert second.says("ls /etc/clipper/secrets").split() == ["client", "load_balancer", "operator", "server"]
    assert client.says("ls /etc/clipper/secrets") == "client"
    assert balancer.says("ls /etc/clipper/secrets") == "load_balancer"
    assert "CONSUL_MANAGEMENT" not in client.says("cat /etc/clipper/secrets/client/secrets.env")
    assert not client.holds("ls /etc/clipper/secrets/client/ca-key.pem")
    token = client.says("sed -n 's/CONSUL_NOMAD_CLIENT_TOKEN=//p' /etc/clipper/secrets/client/secrets.env")
    assert f'token = "{token}"' in client.says("cat /etc/nomad.d/secrets.hcl")
    assert "FABIO_REGISTRY_CONSUL_TOKEN=" in balancer.says("cat /etc/fabio/secrets.env")
    for each in (first, second, client, balancer):
        each.says("openssl verify -CAfile /etc/clipper/tls/ca.pem /etc/clipper/tls/cert.pem")


def test_a_first_server_that_is_made_anew_takes_the_secrets_that_there_are(started: Starter) -> None:
    first, anew = started("ml-server-0"), started("ml-server-0")
    first.says("clipper-secrets ready")

    anew.says("clipper-secrets ready")
    finish_acls(anew)
    anew.says("clipper-secrets publish")

    assert authority(anew) == authority(first)
    assert anew.says("sha256sum < /etc/clipper/secrets/server/secrets.env") == first.says(
        "sha256sum < /etc/clipper/secrets/server/secrets.env"
    )


def test_secrets_that_the_store_does_not_take_are_dropped(started: Starter, store: Path) -> None:
    (store / "server").mkdir()  # nothing can be read there or written
    first = started("ml-server-0")

    exit_code, said = first.does("clipper-secrets ready")

    assert exit_code == 1
    assert "the secrets of server could not be stored; trying again" in said
    assert not first.holds("ls /etc/clipper/secrets")
    assert not first.holds("ls /etc/consul.d/secrets.hcl")


def test_without_acls_that_stand_nothing_is_handed_to_clients(started: Starter) -> None:
    first = started("ml-server-0")
    first.says("clipper-secrets ready")

    exit_code, said = first.does("clipper-secrets export client")

    assert exit_code == 1
    assert "the ACLs are not set up yet, so nobody could use the secrets of client: journalctl -u clipper-setup" in said
    assert first.says("clipper-secrets export server").isascii()
    assert "'nobody' is no role" in first.does("clipper-secrets export nobody")[1]


def test_a_bundle_that_is_not_this_machines_is_refused(started: Starter) -> None:
    first, client, another = started("ml-server-0"), started("ml-client-0"), started("ml-server-1")
    first.says("clipper-secrets ready")
    finish_acls(first)
    bundle, others = (first.says(f"clipper-secrets export {role}") for role in ("client", "load_balancer"))
    client.says("clipper-secrets import", stdin=bundle)
    before = client.says("find /etc/clipper/secrets -type f | sort | xargs sha256sum")
    half = "\n".join(bundle.splitlines()[: len(bundle.splitlines()) // 2])
    another.says(
        "mkdir /tmp/a && cd /tmp/a && mkdir client && echo A=b > client/secrets.env && ln -s /etc/shadow client/ca.pem"
    )
    odd = another.says("cd /tmp/a && tar -cz client | base64")
    stranger = another.says("cd /tmp/a && rm client/ca.pem && echo other > client/ca.pem && tar -cz client | base64")
    refused = {
        others: "it is of load_balancer",
        half: "it is no archive; was it cut off?",
        "no bundle!": "it is not base64",
        odd: "it has something that is no file",
        stranger: "this machine has the secrets of another cluster",
    }

    said = {text: client.does("clipper-secrets import", stdin=text) for text in refused}

    for text, why in refused.items():
        assert said[text][0] == 1
        assert f"this bundle is refused, and nothing was changed: {why}" in said[text][1]
    assert client.says("find /etc/clipper/secrets -type f | sort | xargs sha256sum") == before
    assert client.says("ls /etc/clipper") == client.says("ls /etc/clipper | grep -v secrets.new")
