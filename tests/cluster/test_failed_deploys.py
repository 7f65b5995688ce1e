"""Deploys that must fail, each with its message: nothing of the version is left, and the one before it serves on.

All are versions "2" of one model, so that each also shows that the one before it left nothing in the way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import docker
import pytest
import requests

from clipper_nomad import ClipperConnection, DeployFailed, FabioLoadBalancer, NomadContainerManager, NotOurs
from clipper_nomad.cluster.jobs.requirements import Placement
from clipper_nomad.cluster.names import variable_path
from clipper_nomad.deployers import python as python_deployer
from clipper_nomad.errors import ClipperException, FabioUnreachable, RolloutFailed
from clipper_nomad.images.image_set import ImageSet
from clipper_nomad.images.references import parse
from tests.cluster.clusters import MODEL, Cluster, running_cluster
from tests.cluster.jobs import web_job
from tests.cluster.parts import forget_here, redis_image, registry_images
from tests.cluster.processes import free_ports
from tests.cluster.registry import USER, Registry
from tests.cluster.rig import Rig

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

VERSION = "2"
WRONG_COUNT = "Expected model to return 1 outputs, found 2 outputs."
Rows = Sequence[Any]  # Any: of an array, for which numpy has no simple type
Function = Callable[[Any], Any]


@pytest.fixture(scope="module")
def cluster(rig: Rig, daemon: docker.DockerClient, images: ImageSet) -> Iterator[Cluster]:
    with running_cluster(rig, daemon, images, frontends=1) as cluster:
        yield cluster


class FromElsewhere(NomadContainerManager):
    """Deploys from a machine that is no client: what it published is on no client's Docker."""

    daemon: docker.DockerClient

    def publish_bundle(self, *args: Any, **more: Any) -> str:  # Any: passed on
        image = super().publish_bundle(*args, **more)
        forget_here(self.daemon, parse(image).repository)
        return image


class WhoseImageVanishes(FromElsewhere):
    """The same, and the registry loses the image at once."""

    login: tuple[str, str]

    def publish_bundle(self, *args: Any, **more: Any) -> str:  # Any: passed on
        image = super().publish_bundle(*args, **more)
        registry, _, repository = parse(image).repository.partition("/")
        manifest = f"http://{registry}/v2/{repository}/manifests/{parse(image).digest}"
        requests.delete(manifest, auth=self.login, timeout=10).raise_for_status()
        return image


# --- models, as classes within functions, so that they are packed by value ---


def sums() -> Function:
    return lambda inputs: [float(row.sum()) for row in inputs]


def raises() -> Function:
    def predict(inputs: Rows) -> list[float]:
        raise ValueError("no such feature: height")

    return predict


def one_too_many() -> Function:
    return lambda inputs: [1.0] * (len(inputs) + 1)


def raises_at_load() -> Function:
    return _loading(lambda: (_ for _ in ()).throw(FileNotFoundError("no weights are here")))


def takes_a_gigabyte_at_load() -> Function:
    return _loading(lambda: b"x" * 2**30)


def never_ends_loading() -> Function:
    return _loading(lambda: time.sleep(3600))


def _loading(act: Callable[[], object]) -> Function:
    class Model:
        """Does something when it is loaded."""

        def __call__(self, inputs: Rows) -> list[float]:
            return [1.0] * len(inputs)

        def __getstate__(self) -> dict[str, object]:
            return {"act": act}

        def __setstate__(self, state: dict[str, Any]) -> None:
            state["act"]()

    return Model()


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to fail. `options`: of the manager; `registry`: by which of its names, "" without; `hint`: a part of it."""

    says: str
    hint: str
    function: Callable[[], Function] = sums
    options: Mapping[str, Any] = field(default_factory=dict)
    registry: str = ""
    sample: Sequence[float] | None = (1.0, 2.0)
    manager: type[NomadContainerManager] = NomadContainerManager
    timeout_s: float = 90.0
    error: type[ClipperException] = RolloutFailed


CASES = {
    "no capacity: cpu": Case(
        options={"default_cpu": 900_000},
        says="needs 900,000 MHz of CPU; the roomiest client has ",
        hint="Lower cpu=, or free some",
    ),
    "no capacity: memory": Case(
        options={"default_memory": 9_000_000},
        says="needs 9,000,000 MiB of memory; the roomiest client has ",
        hint="Lower memory=, or free some",
    ),
    "unknown datacenter": Case(
        options={"datacenters": ("mars-1",)},
        says="no client of node pool 'default' is in datacenter 'mars-1'",
        hint="The clients are in: dc1.",
    ),
    "unknown node pool": Case(
        options={"placement": Placement(node_pool="nowhere")},
        says="the node pool 'nowhere' does not exist",
        hint="`nomad node pool list`",
    ),
    "image not in the registry": Case(
        registry="address",
        manager=WhoseImageVanishes,
        says="has no such image: it does not know this digest",
        hint="Push the image",
    ),
    "wrong password of the clients": Case(
        registry="misremembered",
        manager=FromElsewhere,
        says=" cannot be pulled: the registry refused the credentials",
        hint="give the registry's user and password",
    ),
    "wrong password of the job": Case(
        registry="address",
        manager=FromElsewhere,
        options={"registry_user": USER, "registry_password": "wrong"},
        says=" cannot be pulled: the registry refused the credentials",
        hint="give the registry's user and password",
    ),
    "raises at load": Case(function=raises_at_load, says="no weights are here", hint=""),
    "killed for memory": Case(
        function=takes_a_gigabyte_at_load,
        options={"default_memory": 200},
        says="OOM-killed at 200 MiB",
        hint="try memory=400",
    ),
    "raises at its first prediction": Case(function=raises, says="no such feature: height", hint=""),
    "wrong count at its first prediction": Case(function=one_too_many, says=WRONG_COUNT, hint=""),
    "wrong count at the first prediction of a made-up input": Case(
        function=one_too_many, sample=None, says=WRONG_COUNT, hint="", error=DeployFailed
    ),
    "never ready": Case(function=never_ends_loading, timeout_s=12.0, says="gave up after ", hint=""),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if case.registry or name == "never ready" else ())
        for name, case in CASES.items()
    ],
)
def test_a_deploy_that_must_fail_says_why_and_leaves_nothing(
    cluster: Cluster, rig: Rig, daemon: docker.DockerClient, images: ImageSet, request: pytest.FixtureRequest, name: str
) -> None:
    case = CASES[name]
    if case.registry:
        request.getfixturevalue("pushed_images")
        registry: Registry = request.getfixturevalue("registry")
        images = registry_images(getattr(registry, case.registry))
    conn = connected(rig, daemon, images, case)
    began = time.monotonic()

    with pytest.raises(case.error) as caught:
        deploy(conn, case.function(), sample=case.sample, timeout_s=case.timeout_s)

    assert case.says in str(caught.value)
    assert case.hint in (caught.value.hint or "")
    assert time.monotonic() - began < case.timeout_s + 60.0
    assert_nothing_is_left(cluster)


def connected(rig: Rig, daemon: docker.DockerClient, images: ImageSet, case: Case) -> ClipperConnection:
    """Connect to the cluster that runs, with other settings."""
    manager = case.manager(
        rig.nomad_url,
        rig.dns(),
        rig.fabio(),
        consul_address=rig.consul_url,
        redis_image=redis_image(daemon),
        images=images,
        **case.options,
    )
    if isinstance(manager, FromElsewhere):
        manager.daemon = daemon
    if isinstance(manager, WhoseImageVanishes) and rig.registry is not None:
        manager.login = (USER, rig.registry.password)
    conn = ClipperConnection(manager)
    conn.connect()
    return conn


def deploy(
    conn: ClipperConnection, function: Function, *, sample: Sequence[float] | None = None, timeout_s: float = 60.0
) -> None:
    # without the trial on this machine, which would find most of it: what a replica finds is under test
    python_deployer.deploy_python_closure(
        conn, MODEL, VERSION, "doubles", function, sample=sample, timeout_s=timeout_s, trial=False
    )


def assert_nothing_is_left(cluster: Cluster) -> None:
    """No job, no Variable, no registration; and version 1 serves."""
    nomad, job = cluster.manager.nomad, cluster.manager.names.model_job(MODEL, VERSION)
    assert nomad.job(job) is None
    assert nomad.variable(variable_path(job)) is None
    assert_not_registered(cluster)
    assert cluster.ask(2.0)["output"] == 2.0


def assert_not_registered(cluster: Cluster) -> None:
    known = {(each["model_name"], each["model_version"]) for each in cluster.conn.get_all_models(verbose=True)}
    assert known == {(MODEL, "1")}
    assert cluster.conn.get_current_model_version(MODEL) == "1"


def test_a_fabio_that_does_not_listen_for_replicas_is_told_before_any_starts(
    cluster: Cluster, rig: Rig, daemon: docker.DockerClient, images: ImageSet
) -> None:
    manager = NomadContainerManager(
        rig.nomad_url,
        rig.dns(),
        FabioLoadBalancer("127.0.0.1", rig.fabio_http_port, free_ports(1)[0]),
        consul_address=rig.consul_url,
        images=images,
    )
    conn = ClipperConnection(manager)
    conn.connect()

    with pytest.raises(FabioUnreachable, match="does not listen: Connection refused") as caught:
        deploy(conn, sums())

    assert ";proto=tcp` to Fabio's -proxy.addr" in str(caught.value.hint)
    assert_nothing_is_left(cluster)


def test_a_job_of_somebody_else_with_our_id_is_refused_and_left_alone_with_its_variable(cluster: Cluster) -> None:
    nomad, taken = cluster.manager.nomad, cluster.manager.names.model_job(MODEL, VERSION)
    registered = nomad.register(nomad.parse(web_job(taken)), modify_index=0)
    nomad.put_variable(variable_path(taken), {"theirs": "kept"})
    try:
        with pytest.raises(NotOurs, match="is not this cluster's"):
            deploy(cluster.conn, sums())

        job, variable = nomad.job(taken), nomad.variable(variable_path(taken))
    finally:
        nomad.deregister(taken, purge=True)
        nomad.delete_variable(variable_path(taken))
    assert job
    assert job["JobModifyIndex"] == registered.job_modify_index
    assert variable
    assert dict(variable.items) == {"theirs": "kept"}
    assert_not_registered(cluster)
