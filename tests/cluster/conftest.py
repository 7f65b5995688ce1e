"""What the cluster tests alone share; the rig and the images are in fixtures.py, for all tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.policies import CONSUL_TOOLKIT, NOMAD_TOOLKIT, policy
from clipper_nomad.images.image_set import ImageSet
from clipper_nomad.images.parts import Part
from tests.cluster.operators import MODEL, Operator
from tests.cluster.parts import forget_here, redis_image, registry_images
from tests.cluster.registry import BINARIES, USER, Registry
from tests.cluster.rig import Rig, end_all_jobs, running_rig, what_is_missing
from tests.cluster.tokens import call, consul_token, nomad_token


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


@pytest.fixture(scope="module")
def guarded(no_other_cluster: None) -> Iterator[Rig]:
    """A rig with ACLs and TLS, whose agents have tokens of our policies, and a namespace `ml`."""
    if why := what_is_missing():
        pytest.skip(why)
    with (
        tempfile.TemporaryDirectory(prefix="clipper-rig-") as folder,
        running_rig(Path(folder), guarded=True) as rig,
    ):
        call(rig, "nomad", "namespace/ml", {"Name": "ml"})
        yield rig


@pytest.fixture(scope="module")
def operator(guarded: Rig, daemon: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Somebody with tokens of our policies, and a registry for which Nomad's clients have a wrong password."""
    registry = guarded.registry
    if registry is None:
        pytest.skip("there is no registry here")
    folder = tmp_path_factory.mktemp("operator")
    (folder / "model.py").write_text(MODEL)
    yield Operator(
        folder,
        guarded,
        redis_image=redis_image(daemon),
        variables={
            "NOMAD_TOKEN": nomad_token(guarded, NOMAD_TOOLKIT, policy(NOMAD_TOOLKIT))["SecretID"],
            "CONSUL_HTTP_TOKEN": consul_token(guarded, CONSUL_TOOLKIT, policy(CONSUL_TOOLKIT))["SecretID"],
            "CLIPPER_REGISTRY": registry.misremembered,
            "CLIPPER_REGISTRY_USER": USER,
            "CLIPPER_REGISTRY_PASSWORD": registry.password,
        },
    )
    for repository in [f"clipper-nomad-{part}" for part in Part] + ["default-cluster-sums"]:
        forget_here(daemon, f"{registry.misremembered}/{repository}")


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
