"""The rig that all cluster tests share, and the images; skipped with the reason where something is missing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.images.image_set import ImageSet
from tests.cluster.parts import docker_client, forget_here, local_images, registry_images
from tests.cluster.processes import names_a_cluster
from tests.cluster.registry import BINARIES, Registry
from tests.cluster.rig import Rig, end_all_jobs, running_rig, what_is_missing


@pytest.fixture(scope="session", autouse=True)
def no_other_cluster() -> Iterator[None]:
    """Nothing in the environment names a cluster."""
    with pytest.MonkeyPatch.context() as patch:
        for name in filter(names_a_cluster, tuple(os.environ)):
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def rig(no_other_cluster: None) -> Iterator[Rig]:
    """Real Consul, Nomad, Fabio and registry; Docker's credentials are the rig's while they run."""
    if why := what_is_missing():
        pytest.skip(why)
    # not pytest's folder: that is kept for later runs, with the mounts that a killed run left in it
    with (
        tempfile.TemporaryDirectory(prefix="clipper-rig-") as folder,
        running_rig(Path(folder)) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        if running.registry is not None:
            patch.setenv("DOCKER_CONFIG", str(running.registry.operator))
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


@pytest.fixture(scope="session")
def daemon(rig: Rig) -> docker.DockerClient:
    """The Docker daemon, with the base image, that Nomad's driver uses too."""
    client = docker_client()
    if not rig.has_docker:
        pytest.skip("Nomad has no docker driver here: `docker info` got no answer")
    return client


@pytest.fixture(scope="session")
def images(daemon: docker.DockerClient) -> ImageSet:
    """The images of the parts, built and kept on this Docker daemon."""
    return local_images()


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
