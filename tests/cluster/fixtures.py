"""What runs containers here, for every folder of tests: Docker with the images, and the rig; skipped with the reason where
something is missing. A plugin, named in tests/conftest.py, so that all share one rig.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from clipper_nomad.images.image_set import ImageSet
from tests.cluster.parts import docker_client, local_images
from tests.cluster.processes import names_a_cluster
from tests.cluster.rig import Rig, running_rig, what_is_missing


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def docker_host() -> docker.DockerClient:
    """The Docker daemon, with the base image."""
    return docker_client()


@pytest.fixture(scope="session")
def images(docker_host: docker.DockerClient) -> ImageSet:
    """The images of the parts, built and kept on this Docker daemon."""
    return local_images()


@pytest.fixture(scope="session")
def daemon(rig: Rig, docker_host: docker.DockerClient) -> docker.DockerClient:
    """The Docker daemon, which Nomad's driver uses too."""
    rig.need_docker()
    return docker_host
