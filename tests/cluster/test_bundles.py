"""Models without an image on a real cluster: whoever deploys has no Docker; admin keeps the bundle, replicas fetch it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import docker
import pytest
import requests

from clipper_nomad import ClipperConnection, ConsulDNS, FabioLoadBalancer, NomadContainerManager
from clipper_nomad.deployers import python as python_deployer
from clipper_nomad.errors import BundleError, ClipperException, ImageError
from clipper_nomad.images.image_set import ImageSet
from clipper_nomad.images.parts import Part
from tests.cluster.parts import docker_client, local_images, redis_image
from tests.cluster.rig import Rig
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

APP, MODEL = "app", "spelled"
NOWHERE = "unix:///nowhere/docker.sock"


@dataclass
class Laptop:
    """Somebody who reaches Nomad, Consul and Fabio, and no Docker daemon."""

    manager: NomadContainerManager
    conn: ClipperConnection

    def deploy(
        self, version: str, function: Callable[[Any], Any], *, name: str = MODEL, **options: Any
    ) -> None:  # Any: theirs
        python_deployer.deploy_python_closure(self.conn, name, version, "doubles", function, **options)

    def ask(self, value: float) -> dict[str, Any]:  # Any: JSON
        reply: dict[str, Any] = requests.post(self.manager.predict_url(APP), json={"input": [value]}, timeout=60).json()
        return reply

    def replicas(self, version: str) -> list[dict[str, Any]]:
        job = self.manager.names.model_job(MODEL, version)
        return [each for each in self.manager.nomad.allocations(job) if each["ClientStatus"] == "running"]

    def bundles(self) -> int:
        """How many archives admin has."""
        (allocation,) = self.admin_allocations()
        container = docker.from_env().containers.get(f"{self.manager.names.admin_job}-{allocation['ID']}")
        return len(container.exec_run("ls /alloc/data/bundles").output.split())

    def admin_allocations(self) -> list[dict[str, Any]]:
        allocations = self.manager.nomad.allocations(self.manager.names.admin_job)
        return [each for each in allocations if each["ClientStatus"] == "running"]


def spelled(inputs: Any) -> list[str]:  # Any: an array
    import six  # noqa: PLC0415  # where the model runs

    return [f"{six.__version__} {row.sum():g}" for row in inputs]


@pytest.fixture(scope="module")
def daemon() -> docker.DockerClient:
    return docker_client()


@pytest.fixture(scope="module")
def images(daemon: docker.DockerClient) -> dict[Part, str]:
    """Names of the parts' images that nobody else's build takes away."""
    names = {}
    for part, reference in local_images().build_parts().items():
        image = daemon.images.get(str(reference))
        name = f"clipper-nomad-test-{part.value}"
        tag = f"{image.id.removeprefix('sha256:')[:12]}-py{ImageSet().name(part).tag.rpartition('-py')[2]}"
        image.tag(name, tag)
        names[part] = f"{name}:{tag}"
    return names


def manager_of(rig: Rig, **options: Any) -> NomadContainerManager:  # Any: theirs
    return NomadContainerManager(
        rig.nomad_url,
        ConsulDNS("127.0.0.1", rig.consul_dns_port),
        FabioLoadBalancer("127.0.0.1", rig.fabio_http_port, rig.fabio_tcp_port, admin_port=rig.fabio_admin_port),
        consul_address=rig.consul_url,
        **options,
    )


@pytest.fixture(scope="module")
def laptop(rig: Rig, daemon: docker.DockerClient, images: dict[Part, str]) -> Iterator[Laptop]:
    if not rig.has_docker:
        pytest.skip("Nomad has no docker driver here: no Docker daemon answers")
    operator = ClipperConnection(manager_of(rig, redis_image=redis_image(daemon), runtime_image=images[Part.RUNTIME]))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CLIPPER_REGISTRY", raising=False)
        try:
            operator.start_clipper(images[Part.FRONTEND], images[Part.ADMIN])
            patch.setenv("DOCKER_HOST", NOWHERE)
            manager = manager_of(rig)
            conn = ClipperConnection(manager)
            conn.connect()
            conn.register_application(APP, "doubles", "-", 60_000_000)
            yield Laptop(manager, conn)
        finally:
            operator.stop_all()


def test_a_laptop_without_docker_deploys_a_model_with_its_packages(laptop: Laptop) -> None:
    started = time.monotonic()
    laptop.deploy("1", spelled, pkgs_to_install=["six==1.16.0"])
    took_s = time.monotonic() - started
    laptop.conn.link_model_to_app(APP, MODEL)

    assert laptop.ask(3.0)["output"] == "1.16.0 3"
    assert took_s < 60
    print(took_s)
