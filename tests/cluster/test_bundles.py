"""Models without an image on a real cluster: whoever deploys has no Docker; admin keeps the bundle, replicas fetch it."""

from __future__ import annotations

import importlib
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
from clipper_nomad.errors import ClipperException
from clipper_nomad.images.image_set import this_python
from clipper_nomad.images.parts import Part
from tests.cluster.parts import docker_client, local_images, redis_image
from tests.cluster.rig import Rig
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

APP, MODEL, PACKAGES = "app", "spelled", ["six==1.16.0"]
NOWHERE = "unix:///nowhere/docker.sock"
Options = Any  # a manager's, and a deploy's


@dataclass
class Laptop:
    """Somebody who reaches Nomad, Consul and Fabio, and no Docker daemon. `daemon`: the clients, for tests to look at."""

    manager: NomadContainerManager
    conn: ClipperConnection
    daemon: docker.DockerClient

    def deploy(self, version: str, function: Callable[[Any], Any], **options: Options) -> None:
        python_deployer.deploy_python_closure(self.conn, MODEL, version, "doubles", function, **options)

    def ask(self, value: float) -> object:
        """What the app answers; it waits for a replica (the policy `late`)."""
        reply = requests.post(self.manager.predict_url(APP), json={"input": [value]}, timeout=90).json()
        return reply.get("output")

    def allocations(self, job: str) -> list[str]:
        """Ids of those that run."""
        return [each["ID"] for each in self.manager.nomad.allocations(job) if each["ClientStatus"] == "running"]

    def replicas(self, version: str) -> list[str]:
        return self.allocations(self.manager.names.model_job(MODEL, version))

    def log(self, job: str, allocation: str) -> str:
        return self.manager.nomad.log_tail(allocation, task=job, last_bytes=20_000)

    def kill(self, job: str, allocation: str) -> None:
        self.daemon.containers.get(f"{job}-{allocation}").kill(signal.SIGKILL)

    def move(self, allocation: str) -> None:
        """Have Nomad stop an allocation and start another in its place."""
        url = f"{self.manager.nomad.endpoint.url}/v1/allocation/{allocation}/stop"
        requests.post(url, timeout=10).raise_for_status()

    def ready(self) -> int:
        """How many replicas the frontend has ready."""
        reports = self.conn._admin.frontends().reports  # noqa: SLF001  # what frontends say of themselves
        return sum(each["state"] == "ready" for report in reports for each in report["replicas"])

    def bundle_of(self, version: str) -> str:
        """The digest of a version's bundle, as the catalog has it."""
        model = self.conn.get_model_info(MODEL, version)
        assert model is not None
        return str(model["container_name"]).removeprefix("bundle:").partition("/")[0]

    def state(self, digest: str) -> str:
        """What admin has of a bundle; "" while it does not answer."""
        address, token = self.manager.get_admin_addr(), self.manager.get_admin_token()
        headers = {"Authorization": f"Bearer {token}"}
        reply = requests.get(f"http://{address}/admin/v1/bundles/{digest}", headers=headers, timeout=10)
        return str(reply.json().get("state")) if reply.ok else ""  # Fabio has no route to it while it moves


def spelled(inputs: Any) -> list[str]:  # noqa: ANN401  # an array
    version = importlib.import_module("six").__version__  # a package that is not in the runtime image
    return [f"{version} {row.sum():g}" for row in inputs]


@pytest.fixture(scope="module")
def daemon() -> docker.DockerClient:
    return docker_client()


@pytest.fixture(scope="module")
def images(daemon: docker.DockerClient) -> Iterator[dict[Part, str]]:
    """Names of the parts' images that no other build takes away meanwhile."""
    names: dict[Part, str] = {}
    for part, reference in local_images().build_parts().items():
        image = daemon.images.get(str(reference))
        name, tag = f"clipper-nomad-test-{part.value}", f"{str(image.id)[7:19]}-py{this_python()}"
        image.tag(name, tag)
        names[part] = f"{name}:{tag}"
    yield names
    for each in names.values():
        daemon.images.remove(each, noprune=True)


def manager_of(rig: Rig, **options: Options) -> NomadContainerManager:
    return NomadContainerManager(
        rig.nomad_url,
        ConsulDNS("127.0.0.1", rig.consul_dns_port),
        FabioLoadBalancer("127.0.0.1", rig.fabio_http_port, rig.fabio_tcp_port, admin_port=rig.fabio_admin_port),
        consul_address=rig.consul_url,
        **options,
    )


class Operator:
    """Who brings the cluster up, where the images are."""

    def __init__(self, rig: Rig, daemon: docker.DockerClient, images: dict[Part, str], **options: Options) -> None:
        manager = manager_of(rig, redis_image=redis_image(daemon), runtime_image=images[Part.RUNTIME], **options)
        self.conn = ClipperConnection(manager)
        self._images = images

    def up(self) -> None:
        self.conn.start_clipper(self._images[Part.FRONTEND], self._images[Part.ADMIN])


@pytest.fixture
def no_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    """For this process, which deploys, no Docker daemon and no registry are to be found."""
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)
    monkeypatch.delenv("CLIPPER_REGISTRY", raising=False)


def connected(rig: Rig, daemon: docker.DockerClient) -> Laptop:
    manager = manager_of(rig)
    conn = ClipperConnection(manager)
    conn.connect()
    conn.register_application(APP, "doubles", "-", 60_000_000)
    return Laptop(manager, conn, daemon)


@pytest.fixture
def laptop(rig: Rig, daemon: docker.DockerClient, images: dict[Part, str], no_docker: None) -> Iterator[Laptop]:
    """On a cluster that keeps bundles in admin's allocation."""
    rig.need_docker()
    operator = Operator(rig, daemon, images)
    try:
        operator.up()
        yield connected(rig, daemon)
    finally:
        operator.conn.stop_all()


@pytest.mark.slow
def test_a_laptop_without_docker_deploys_and_scales_and_admin_moves(laptop: Laptop, daemon: docker.DockerClient) -> None:
    names = laptop.manager.names
    job = names.model_job(MODEL, "1")
    images_before = {tag for image in daemon.images.list() for tag in image.tags if MODEL in tag}

    started = time.monotonic()
    laptop.deploy("1", spelled, pkgs_to_install=PACKAGES)
    took_s = time.monotonic() - started
    laptop.conn.link_model_to_app(APP, MODEL)
    digest = laptop.bundle_of("1")

    assert laptop.ask(3.0) == "1.16.0 3"
    assert took_s < 60
    assert {tag for image in daemon.images.list() for tag in image.tags if MODEL in tag} == images_before
    assert laptop.state(digest) == "whole"
    (token,) = [
        value
        for item, value in laptop.manager.nomad.variable(f"nomad/jobs/{job}").items.items()  # type: ignore[union-attr]  # it has one
        if item == "bundle_token"
    ]
    assert token not in str(laptop.manager.nomad.job(job))

    laptop.conn.set_num_replicas(MODEL, 3)
    wait_until(lambda: laptop.ready() == 3, "three replicas", within_s=90)
    assert all("bundle fetched" in laptop.log(job, each) for each in laptop.replicas("1"))

    victim = laptop.replicas("1")[0]
    laptop.kill(job, victim)
    wait_until(lambda: laptop.log(job, victim).count("replica is ready") == 2, "the killed one is back", within_s=60)
    assert laptop.log(job, victim).count("bundle fetched") == 1  # it is still there, with its packages

    (admin,) = laptop.allocations(names.admin_job)
    laptop.move(admin)
    assert laptop.ask(4.0) == "1.16.0 4"  # meanwhile
    wait_until(lambda: laptop.allocations(names.admin_job) not in ([], [admin]), "another allocation of admin", within_s=90)
    wait_until(lambda: laptop.state(digest) == "whole", "admin has its bundles where it is now", within_s=60)
    laptop.conn.set_num_replicas(MODEL, 4)
    wait_until(lambda: laptop.ready() == 4, "one more, fetched from where admin is now", within_s=90)

    laptop.deploy("2", spelled, pkgs_to_install=PACKAGES)
    assert laptop.bundle_of("2") == digest  # the same content is the same bundle
    laptop.conn.stop_versioned_models({MODEL: ["1"]})
    assert laptop.state(digest) == "whole"
    assert laptop.ask(5.0) == "1.16.0 5"
    laptop.conn.stop_models([MODEL])
    assert laptop.state(digest) == "absent"


class Unloadable:
    """A model whose weights exist on its maker's machine only."""

    def __call__(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def __setstate__(self, state: object) -> None:
        raise FileNotFoundError("no weights are here")

    def __getstate__(self) -> dict[str, int]:
        return {"weights": 1}


def test_what_cannot_be_deployed_leaves_nothing_and_says_why(laptop: Laptop) -> None:
    names = laptop.manager.names

    with pytest.raises(ClipperException, match="no weights are here"):
        laptop.deploy("1", Unloadable(), trial=False)
    with pytest.raises(ClipperException, match="is not kept here: it was never sent"):
        laptop.conn.deploy_model(MODEL, 2, "doubles", f"bundle:sha256-{'0' * 64}/{runtime_of(laptop)}")

    assert [job["ID"] for job in laptop.manager.nomad.jobs() if job["ID"].startswith(f"{names.prefix}-model-")] == []
    assert laptop.conn.get_all_models() == []
    (admin,) = laptop.allocations(names.admin_job)
    container = laptop.daemon.containers.get(f"{names.admin_job}-{admin}")
    assert container.exec_run("ls /alloc/data/bundles").output == b""


def runtime_of(laptop: Laptop) -> str:
    job = laptop.manager.nomad.job(laptop.manager.names.admin_job)
    assert job is not None
    return str(job["TaskGroups"][0]["Tasks"][0]["Env"]["CLIPPER_RUNTIME_IMAGE"])


@pytest.mark.slow
def test_with_volumes_new_replicas_start_while_admin_is_away_and_bundles_outlive_it(
    rig: Rig, daemon: docker.DockerClient, images: dict[Part, str], no_docker: None
) -> None:
    operator = Operator(rig, daemon, images, bundle_volume="bundles", bundle_cache="bundle-cache")
    try:
        operator.up()
        laptop = connected(rig, daemon)
        names = laptop.manager.names
        laptop.deploy("1", spelled, pkgs_to_install=PACKAGES)
        laptop.conn.link_model_to_app(APP, MODEL)
        digest = laptop.bundle_of("1")
        (replica,) = laptop.replicas("1")

        laptop.manager.nomad.deregister(names.admin_job)
        wait_until(lambda: not laptop.allocations(names.admin_job), "admin has ended", within_s=60)
        laptop.move(replica)
        wait_until(lambda: laptop.replicas("1") not in ([], [replica]), "another replica", within_s=60)
        (other,) = [each for each in laptop.replicas("1") if each != replica]
        assert laptop.ask(6.0) == "1.16.0 6"
        assert "bundle was in the cache" in laptop.log(names.model_job(MODEL, "1"), other)

        operator.up()
        assert laptop.state(digest) == "whole"
        assert laptop.conn.get_current_model_version(MODEL) == "1"
    finally:
        operator.conn.stop_all()

    assert [job["ID"] for job in rig.nomad().jobs()] == []
    assert [each["ID"] for each in rig.nomad().all_allocations() if each["ClientStatus"] == "running"] == []
