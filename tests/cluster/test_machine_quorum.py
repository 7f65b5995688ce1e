"""Three servers that start from the Terraform module cluster-config: they find each other, and one of them may be lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.cluster.machines import IS_SET_UP, Machine, distribute
from tests.cluster.sites import Site, missing_for_machines, running_site

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(missing_for_machines()), reason=missing_for_machines()),
]

WITHIN_S = 420.0
AS_MANAGER = (
    ". /etc/clipper/secrets/server/secrets.env; export CONSUL_HTTP_TOKEN=$CONSUL_MANAGEMENT_TOKEN"
    " NOMAD_TOKEN=$NOMAD_MANAGEMENT_TOKEN NOMAD_ADDR=https://127.0.0.1:4646 NOMAD_CACERT=/etc/clipper/tls/ca.pem;"
)


@pytest.fixture(scope="module")
def site(docker_host: docker.DockerClient) -> Iterator[Site]:
    with running_site(docker_host, servers=3) as running:
        yield running


def voters(server: Machine) -> tuple[int, int]:
    """How many servers Consul and Nomad count, as one of them sees it."""
    consul = server.does(f"{AS_MANAGER} consul operator raft list-peers | grep -c true")[1]
    nomad = server.does(f"{AS_MANAGER} nomad operator raft list-peers | grep -c true")[1]
    return int(consul.split()[-1]), int(nomad.split()[-1])


def test_three_servers_elect_and_go_on_without_the_first(site: Site, tmp_path: Path) -> None:
    servers = [site.starts(f"ml-server-{place}", place=10 + place) for place in range(3)]

    distribute(servers[0], [("server", each) for each in servers[1:]], tmp_path, f"operator={tmp_path / 'operator'}")

    for each in servers:
        each.awaits(IS_SET_UP, "to be set up", within_s=WITHIN_S)
        each.awaits(f"{AS_MANAGER} nomad operator raft list-peers | grep -c true | grep -q 3", "3 of Nomad", within_s=120)
    assert voters(servers[2]) == (3, 3)
    assert "NOMAD_TOKEN=" in (tmp_path / "operator/env").read_text()

    servers[0].container.stop(timeout=60)

    for each in servers[1:]:
        each.awaits(f"{AS_MANAGER} nomad acl policy list | grep -q clipper-toolkit", "Nomad to have a leader", within_s=120)
        each.awaits(f"{AS_MANAGER} consul acl policy list | grep -q clipper-toolkit", "Consul to have one", within_s=120)
