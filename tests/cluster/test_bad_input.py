"""Bad input on a real cluster gets a clear error before anything is registered: no job, no Variable, no version, no app."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from clipper_nomad import ClipperConnection, FabioLoadBalancer, NomadContainerManager
from clipper_nomad.deployers import python as python_deployer
from clipper_nomad.errors import (
    AdminRefused,
    ClipperException,
    ConsulRefused,
    ConsulUnreachable,
    FabioUnreachable,
    ImageError,
    InvalidName,
    InvalidSetting,
    InvalidSpec,
    NomadRefused,
    NomadUnreachable,
)
from clipper_nomad.images.image_set import ImageSet
from clipper_nomad.images.parts import Part
from clipper_nomad.protocol.bundle import MANIFEST_NAME
from tests.cluster.clusters import APP, MODEL, Cluster, running_cluster
from tests.cluster.parts import redis_image
from tests.cluster.rig import Rig
from tests.process.bundles import pack

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NOBODY = "127.0.0.1:9"  # nothing listens on the port of `discard`
LABEL = "must be a valid DNS-1123 label"


@pytest.fixture(scope="module")
def cluster(rig: Rig, daemon: docker.DockerClient, images: ImageSet) -> Iterator[Cluster]:
    with running_cluster(rig, daemon, images, frontends=1) as cluster:
        yield cluster


@dataclass(frozen=True)
class Place:
    """Where it is tried: a cluster that runs, and how to make managers with other settings."""

    cluster: Cluster
    rig: Rig
    daemon: docker.DockerClient
    images: ImageSet

    def manager(self, **other: Any) -> NomadContainerManager:  # Any: as the manager has it
        usual: dict[str, Any] = {
            "nomad_ip": self.rig.nomad_url,
            "load_balancer": self.rig.fabio(),
            "consul_address": self.rig.consul_url,
            "redis_image": redis_image(self.daemon),
            "images": self.images,
        }
        return NomadContainerManager(**{**usual, **other})

    def starts(self, **other: Any) -> None:  # Any: the same
        """Start a cluster; without Fabio it would not clash with the one that runs."""
        frontends = other.pop("num_frontend_replicas", 1)
        ClipperConnection(self.manager(**other)).start_clipper(num_frontend_replicas=frontends)

    def deploys(
        self, name: object = "new", version: object = "1", conn: ClipperConnection | None = None, **more: Any
    ) -> None:
        python_deployer.deploy_python_closure(
            conn or self.cluster.conn,
            name,  # type: ignore[arg-type]  # that is the test
            version,
            more.pop("input_type", "doubles"),
            lambda inputs: [1.0 for _ in inputs],
            **more,
        )

    def deploys_with(self, **other: Any) -> None:  # Any: as the manager has it
        conn = ClipperConnection(self.manager(**other))
        conn.connect()
        self.deploys(conn=conn)

    def everything(self) -> object:
        """All that could have been left."""
        nomad, conn = self.cluster.manager.nomad, self.cluster.conn
        variables = self.rig.session().get(f"{self.rig.nomad_url}/v1/vars", timeout=10).json()
        jobs = {job["ID"]: (job["JobModifyIndex"], job["Status"]) for job in nomad.jobs()}
        return jobs, [(each["Path"], each["ModifyIndex"]) for each in variables], conn.get_all_models(), conn.get_all_apps()


@pytest.fixture
def place(cluster: Cluster, rig: Rig, daemon: docker.DockerClient, images: ImageSet) -> Place:
    return Place(cluster, rig, daemon, images)


Refused = tuple[Callable[[Place], object], type[ClipperException], str]
NAMES: dict[str, Refused] = {
    "model, empty": (lambda place: place.deploys(""), InvalidName, f"a model name {LABEL}"),
    "model, upper case": (
        lambda place: place.deploys("Digits"),
        InvalidName,
        f"Invalid value: Digits: a model name {LABEL}",
    ),
    "model, slash": (lambda place: place.deploys("a/b"), InvalidName, LABEL),
    "model, no text": (lambda place: place.deploys(None), InvalidName, f"Invalid value: None: a model name {LABEL}"),
    "model, too long": (lambda place: place.deploys("x" * 60), InvalidName, "characters too long; the model name may have "),
    "version, white space": (lambda place: place.deploys(version="1 2"), InvalidName, f"a model version {LABEL}"),
    "version, there already": (lambda place: place.deploys(MODEL), AdminRefused, "already exists"),
    "input type": (lambda place: place.deploys(input_type="dubbles"), ClipperException, "unknown input type 'dubbles'"),
    "input type, not the app's": (
        lambda place: place.deploys(MODEL, "2", input_type="strings"),
        AdminRefused,
        f"already linked to app '{APP}' using input type 'doubles'",
    ),
    "app": (
        lambda place: place.cluster.conn.register_application("a b", "doubles", "0", 1000),
        AdminRefused,
        "Invalid application name: 'a b'",
    ),
    "cluster": (lambda place: place.starts(cluster_name="My_Cluster"), InvalidName, f"a cluster name {LABEL}"),
    "cluster, no text": (lambda place: place.starts(cluster_name=None), InvalidName, f"a cluster name {LABEL}"),
    "cluster, reserved": (lambda place: place.starts(cluster_name="admin"), InvalidName, "cannot be called 'admin'"),
    "cluster, too long": (lambda place: place.starts(cluster_name="x" * 33), InvalidName, "the cluster name may have 32"),
    "no such cluster": (
        lambda place: place.deploys_with(cluster_name="nobody"),
        ClipperException,
        "runs no cluster 'nobody'",
    ),
}
Act = Callable[[Place], object]


def deploying(count: object) -> Act:
    return lambda place: place.deploys(num_replicas=count)


def scaling(count: Any) -> Act:  # noqa: ANN401  # that is the test
    return lambda place: place.cluster.conn.set_num_replicas(MODEL, count)


def starting(count: object) -> Act:
    return lambda place: place.starts(cluster_name="b", load_balancer=None, num_frontend_replicas=count)


REPLICAS = "expected an integer from 0 to 10000"
COUNTS: dict[str, Refused] = {
    **{
        f"replicas, {count!r}": (
            deploying(count),
            InvalidSpec,
            f"{count!r}; {REPLICAS}",
        )
        for count in (-1, 10**9, 1.5, "2", None, True)
    },
    **{
        f"scaling to {count!r}": (
            scaling(count),
            InvalidSpec,
            f"{count!r}; {REPLICAS}",
        )
        for count in (-1, 10**9, None)
    },
    "replicas, more than a job may have": (lambda place: place.deploys(num_replicas=1001), InvalidSpec, "at most 1000"),
    "scaling to more than a job may have": (
        lambda place: place.cluster.conn.set_num_replicas(MODEL, 1001),
        NomadRefused,
        "greater than scaling policy maximum: 1001 > 1000",
    ),
    **{
        f"frontends, {count!r}": (
            starting(count),
            InvalidSpec,
            f"count: {count!r}; expected an integer of at least 1 and at most 1000",
        )
        for count in (0, -1, 10**9, "3")
    },
    "cpu, none": (lambda place: place.starts(default_cpu=0), InvalidSpec, "cpu_mhz: 0; expected an integer of at least 1"),
    "memory, negative": (lambda place: place.starts(default_memory=-5), InvalidSpec, "memory_mb: -5; expected an integer"),
    "datacenters, none": (lambda place: place.starts(datacenters=()), InvalidSpec, "expected at least one"),
}
ADDRESSES: dict[str, Refused] = {
    "Nomad, nobody": (lambda place: place.starts(nomad_ip=NOBODY), NomadUnreachable, "did not answer: Connection refused"),
    "Nomad, no such host": (
        lambda place: place.starts(nomad_ip="nomad.invalid"),
        NomadUnreachable,
        "nomad.invalid:4646 did not",
    ),
    "Nomad, no address": (lambda place: place.starts(nomad_ip="ftp://x"), InvalidSetting, "expected http://host:4646"),
    "Nomad, is Fabio": (
        lambda place: place.starts(nomad_ip=place.rig.fabio().http()),
        NomadRefused,
        "NOMAD_ADDR names Nomad's HTTP port, 4646 by default",
    ),
    "Consul, nobody": (
        lambda place: place.starts(consul_address=NOBODY),
        ConsulUnreachable,
        "did not answer: Connection refused",
    ),
    "Consul, nobody, without Fabio": (
        lambda place: place.starts(consul_address=NOBODY, cluster_name="b", load_balancer=None),
        ConsulUnreachable,
        "did not answer: Connection refused",
    ),
    "Consul, is Nomad": (
        lambda place: place.starts(consul_address=place.rig.nomad_url),
        ConsulRefused,
        "CONSUL_HTTP_ADDR names Consul's HTTP port, 8500 by default",
    ),
    "Consul, nobody, at a deploy": (
        lambda place: place.deploys_with(consul_address=NOBODY),
        ConsulUnreachable,
        "did not answer: Connection refused",
    ),
    "Fabio, nobody": (
        lambda place: place.starts(load_balancer=FabioLoadBalancer("127.0.0.1", 9, 9)),
        FabioUnreachable,
        "TCP proxy at 127.0.0.1:9 does not listen: Connection refused",
    ),
    "Fabio, no HTTP": (
        lambda place: place.starts(load_balancer=FabioLoadBalancer("127.0.0.1", 9, place.rig.fabio_tcp_port)),
        FabioUnreachable,
        "HTTP proxy at 127.0.0.1:9 does not answer: Connection refused",
    ),
}
IMAGES: dict[str, Refused] = {
    "registry, with a scheme": (
        lambda place: place.starts(images=None, registry="http://registry.example"),
        InvalidName,
        "without http://",
    ),
    "registry, nobody": (
        lambda place: place.starts(images=None, registry=NOBODY),
        ImageError,
        f"See whether {NOBODY} is the registry's address",
    ),
    "registry, nobody, at a deploy": (
        lambda place: place.deploys_with(images=None, registry=NOBODY),
        ImageError,
        f"See whether {NOBODY} is the registry's address",
    ),
    "registry, without the images": (
        lambda place: place.starts(images=None, registry=f"{registry_of(place)}/empty"),
        ImageError,
        "clipper-nomad images push",
    ),
    "user without a password": (
        lambda place: place.starts(images=None, registry=registry_of(place), registry_user="me"),
        InvalidSetting,
        "the password is not given",
    ),
    "base image, no name": (lambda place: place.deploys(base_image="No Image!"), InvalidName, "is no image's name"),
}


def registry_of(place: Place) -> str:
    if place.rig.registry is None:
        pytest.skip("there is no registry here")
    return place.rig.registry.address


CASES = {**NAMES, **COUNTS, **ADDRESSES, **IMAGES}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_with_what_was_expected_and_changes_nothing(place: Place, name: str) -> None:
    act, error, says = CASES[name]
    before = place.everything()

    with pytest.raises(error) as caught:
        act(place)

    assert says in str(caught.value)
    assert place.everything() == before


def test_a_bundle_of_another_python_than_the_image_s_is_refused_before_anything_is_built(
    place: Place, tmp_path: Path
) -> None:
    pack(tmp_path, lambda inputs: [1.0 for _ in inputs])
    manifest = json.loads((tmp_path / MANIFEST_NAME).read_text())
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(manifest | {"python": "3.9"}))
    runtime, before = str(place.images.name(Part.RUNTIME)), place.everything()

    for base in ("default", runtime):
        with pytest.raises(ImageError, match=r"The model was packed by Python 3\.9, and .* has Python 3") as caught:
            place.cluster.conn.build_and_deploy_model("old", "1", "doubles", str(tmp_path), base)

        assert "or on an image with Python 3.9" in str(caught.value.hint)
    assert place.everything() == before


def test_one_datacenter_may_be_a_text(place: Place) -> None:
    assert place.manager(datacenters="dc1").blueprint.placement.datacenters == ("dc1",)
