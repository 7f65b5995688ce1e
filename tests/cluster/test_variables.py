"""The Nomad Variables of a cluster: what a removed job left is found again, and what is somebody else's is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clipper_nomad import NomadContainerManager
from clipper_nomad.cluster.names import variable_path
from tests.cluster.rig import Rig
from tests.cluster.shell import Shell

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

CLUSTER = "v"
OTHERS = {
    "clipper-v-model-redis": {"store_password": "of the cluster v-model"},
    "clipper-v-model-model-m-1": {"clipper_cluster": "v-model", "clipper_kind": "model"},
    "clipper-v-model-m-1-1": {"curve_secret": "nobody says whose this is"},
}


@pytest.fixture
def manager(rig: Rig) -> Iterator[NomadContainerManager]:
    """Of a cluster that does not run, beside Variables of others that begin like its own."""
    nomad = rig.nomad()
    for job, items in OTHERS.items():
        nomad.put_variable(variable_path(job), items)
    yield NomadContainerManager(rig.nomad_url, None, None, CLUSTER, consul_address=rig.consul_url)
    for job in OTHERS:
        nomad.delete_variable(variable_path(job))


def test_down_with_volumes_deletes_the_keys_of_models_whose_jobs_were_stopped_before(
    manager: NomadContainerManager, rig: Rig, tmp_path: Path
) -> None:
    manager.make_channel_key("m", "1")
    manager.make_channel_key("m-1", "2")
    manager.stop_all()
    assert manager.secrets.models() == ["clipper-v-model-m-1", "clipper-v-model-m-1-2"]

    said = Shell(rig, tmp_path).types("down", "--cluster", CLUSTER, "--yes", "--volumes", "--json").document

    deleted = [variable_path("clipper-v-model-m-1"), variable_path("clipper-v-model-m-1-2")]
    assert said["deleted"] == deleted
    assert [rig.nomad().variable(path) for path in deleted] == [None, None]
    assert {job: rig.nomad().variable(variable_path(job)).items for job in OTHERS} == OTHERS  # type: ignore[union-attr]  # they are there
