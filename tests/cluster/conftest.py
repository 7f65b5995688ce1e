"""What the cluster tests alone share; the rig and the images are in fixtures.py, for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest

from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.images.image_set import ImageSet
from tests.cluster.parts import forget_here, registry_images
from tests.cluster.registry import BINARIES, Registry
from tests.cluster.rig import Rig, end_all_jobs


@pytest.fixture(scope="session", autouse=True)
def _no_other_cluster(no_other_cluster: None) -> None:
    """For all tests here."""


@pytest.fixture
def nomad(rig: Rig) -> Iterator[NomadApi]:
    """The rig's Nomad, without a job."""
    yield rig.nomad()
    end_all_jobs(rig)


@pytest.fixture
def consul(rig: Rig) -> ConsulApi:
    """The rig's Consul."""
    return rig.consul()


@pytest.fixture(scope="session")
def registry(rig: Rig) -> Registry:
    """A registry that wants a password, which Docker's own configuration knows."""
    if rig.registry is None:
        pytest.skip(f"{' and '.join(BINARIES)} are not both on PATH (Debian: docker-registry, apache2-utils)")
    return rig.registry


@pytest.fixture(scope="session")
def pushed_images(daemon: docker.DockerClient, registry: Registry) -> Iterator[ImageSet]:
    """The images of the parts, built and pushed to the registry."""
    made = registry_images(registry.address)
    made.build_parts()
    made.push_parts()
    yield made
    for repository in {tag.rpartition(":")[0] for image in daemon.images.list() for tag in image.tags}:
        if repository.startswith((f"{registry.address}/", f"{registry.misremembered}/")):
            forget_here(daemon, repository)
