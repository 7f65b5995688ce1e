"""The rig that all cluster tests share; skipped loudly where a binary is missing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.nomad_api import NomadApi
from tests.cluster.rig import Rig, end_all_jobs, missing_binaries, running_rig


@pytest.fixture(scope="session")
def rig() -> Iterator[Rig]:
    """Real Consul, Nomad and Fabio."""
    if missing := missing_binaries():
        pytest.skip(f"the cluster tests need {', '.join(missing)} on PATH")
    # not pytest's folder: that is kept for later runs, with the mounts that a killed run left in it
    with tempfile.TemporaryDirectory(prefix="clipper-rig-") as folder, running_rig(Path(folder)) as running:
        yield running


@pytest.fixture
def nomad(rig: Rig) -> Iterator[NomadApi]:
    """The rig's Nomad, without a job."""
    yield rig.nomad()
    end_all_jobs(rig)


@pytest.fixture
def consul(rig: Rig) -> ConsulApi:
    """The rig's Consul."""
    return rig.consul()
