"""One cluster on each container manager, for the tests of Clipper's contract: what holds on one holds on all.

Each place is started as Clipper's users start it. Where it is not present, its leg is skipped with the reason.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from clipper_nomad import (
    ClipperConnection,
    ConsulDNS,
    DockerContainerManager,
    FabioLoadBalancer,
    LocalContainerManager,
    NomadContainerManager,
)
from clipper_nomad.container_manager import CLIPPER_DOCKER_LABEL, CLIPPER_MODEL_CONTAINER_LABEL, ContainerManager
from clipper_nomad.images.image_set import ImageSet
from tests.cluster.parts import forget_here, redis_image
from tests.cluster.rig import Rig

_ELSEWHERE = (pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600))
PLACES = [
    pytest.param("local"),
    pytest.param("docker", marks=_ELSEWHERE),
    pytest.param("nomad", marks=_ELSEWHERE),
]
ENDED = ("complete", "failed", "lost")  # of Nomad's allocations; one that serves may still be said to be pending


@dataclass
class Place:
    """A cluster that runs. `another` makes a manager of it that is not connected; `replicas`: what runs of a model."""

    clipper: ClipperConnection
    another: Callable[[], ContainerManager]
    replicas: Callable[[str], list[str]]

    @property
    def cluster(self) -> str:
        return self.clipper.cm.cluster_name

    def empty(self) -> Place:
        """The same without apps and models."""
        self.clipper.stop_all_model_containers()
        for name in self.clipper.get_all_apps():
            self.clipper.unregister_application(name)
        return self


def opened(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    """The place of that kind, until it is closed."""
    if kind == "local":
        made = _local(folder)
    else:
        daemon: docker.DockerClient = request.getfixturevalue("docker_host")
        if kind == "nomad":
            request.getfixturevalue("daemon")  # skips where Nomad has no docker driver
            made = _nomad(request.getfixturevalue("rig"), daemon, request.getfixturevalue("images"))
        else:
            made = _docker(daemon, request.getfixturevalue("images"))
    with made as place:
        yield place


@contextmanager
def _running(manager: ContainerManager) -> Iterator[ClipperConnection]:
    clipper = ClipperConnection(manager)
    try:
        assert clipper.start_clipper() is None  # type: ignore[func-returns-value]  # as in Clipper
        yield clipper
    finally:
        clipper.stop_all()


@contextmanager
def _local(home: Path) -> Iterator[Place]:
    manager = LocalContainerManager(home=home, port=0)

    def replicas(model: str) -> list[str]:
        return [part.name for part in manager.status().parts if part.name.startswith(f"model-{model}-")]

    with _running(manager) as clipper:
        yield Place(clipper, lambda: LocalContainerManager(home=home), replicas)


@contextmanager
def _docker(daemon: docker.DockerClient, images: ImageSet) -> Iterator[Place]:
    cluster = f"contract-{secrets.token_hex(3)}"  # others may test on this Docker too

    def manager() -> DockerContainerManager:
        network, image = f"clipper-{cluster}", redis_image(daemon)
        return DockerContainerManager(cluster, docker_network=network, redis_image=image, images=images)

    def replicas(model: str) -> list[str]:
        labels = [f"{CLIPPER_DOCKER_LABEL}={cluster}", CLIPPER_MODEL_CONTAINER_LABEL]
        found = daemon.containers.list(all=True, filters={"label": labels})
        return [each.name or "" for each in found if each.labels[CLIPPER_MODEL_CONTAINER_LABEL].startswith(f"{model}_")]

    with _running(manager()) as clipper:
        yield Place(clipper, manager, replicas)
    _forget_models(daemon, cluster)


@contextmanager
def _nomad(rig: Rig, daemon: docker.DockerClient, images: ImageSet) -> Iterator[Place]:
    def manager() -> NomadContainerManager:
        return NomadContainerManager(
            rig.nomad_url,
            ConsulDNS("127.0.0.1", rig.consul_dns_port),
            FabioLoadBalancer("127.0.0.1", rig.fabio_http_port, rig.fabio_tcp_port, admin_port=rig.fabio_admin_port),
            consul_address=rig.consul_url,
            redis_image=redis_image(daemon),
            images=images,
        )

    def replicas(model: str) -> list[str]:
        jobs = [job["ID"] for job in rig.nomad().jobs() if f"-model-{model}-" in job["ID"]]
        found = [each for job in jobs for each in rig.nomad().allocations(job)]
        return [each["ID"] for each in found if each["ClientStatus"] not in ENDED]

    with _running(manager()) as clipper:
        yield Place(clipper, manager, replicas)


def _forget_models(client: docker.DockerClient, cluster: str) -> None:
    """Take the images of a cluster's models away."""
    for repository in {tag.rpartition(":")[0] for image in client.images.list() for tag in image.tags}:
        if repository.rpartition("/")[2].startswith(f"{cluster}-"):
            forget_here(client, repository)
