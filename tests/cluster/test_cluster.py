"""A whole cluster on a real Nomad, Consul, Fabio and Docker, through the library: up, deploy, scale, fail, down."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import docker
import pytest
import requests

from clipper_nomad import ClipperConnection, DeployFailed, FabioLoadBalancer, NomadContainerManager, NotOurs
from clipper_nomad.cluster.rollout.events import Unchanged
from clipper_nomad.container_manager import USUAL_CACHE_BYTES
from clipper_nomad.deployers import python as python_deployer
from clipper_nomad.errors import RolloutFailed
from clipper_nomad.images.image_set import ImageSet
from tests.cluster.clusters import APP, MODEL, Cluster, deploy, running_cluster
from tests.cluster.parts import redis_image
from tests.cluster.processes import free_ports
from tests.cluster.rig import Rig
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

FRONTENDS = 2


@pytest.fixture(scope="module")
def cluster(rig: Rig, daemon: docker.DockerClient, images: ImageSet) -> Iterator[Cluster]:
    with running_cluster(rig, daemon, images, frontends=FRONTENDS) as cluster:
        yield cluster


class Load:
    """One raw client who asks through Fabio without a retry and checks each answer, until its block ends."""

    def __init__(self, url: str, *, pause_s: float = 0.005) -> None:
        self.right = 0
        self.failed: list[str] = []
        self._url = url
        self.pause_s = pause_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        with requests.Session() as session:
            number = 0
            while not self._is_over.wait(self.pause_s):
                number += 1
                try:
                    reply = session.post(self._url, json={"input": [float(number)]}, timeout=15)
                    said = reply.json()
                except (requests.RequestException, ValueError) as exc:
                    self.failed.append(repr(exc))
                    continue
                if reply.status_code == requests.codes.ok and said["output"] == number and not said["default"]:
                    self.right += 1
                else:
                    self.failed.append(f"{reply.status_code} {said}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        self._thread.join(20)


def test_a_model_answers_through_fabio_and_at_every_frontend(cluster: Cluster) -> None:
    answer = cluster.ask(3.5)

    assert (answer["output"], answer["default"]) == (3.5, False)
    assert len(cluster.frontends()) == FRONTENDS
    assert [cluster.ask(float(number), url)["output"] for number, url in enumerate(cluster.frontends())] == [0.0, 1.0]


def test_v2_its_document_and_the_page_are_reached_through_fabio(cluster: Cluster) -> None:
    root = cluster.url.removesuffix(f"/{APP}/predict")
    tensor = {"name": "input", "datatype": "FP64", "shape": [2, 1], "data": [1.5, 2.5]}

    answer = requests.post(f"{root}/v2/models/{APP}/infer", json={"inputs": [tensor]}, timeout=20).json()
    described = requests.get(f"{root}/openapi.json", timeout=20).json()
    page = requests.get(f"{root}/{APP}/docs", timeout=20)

    assert answer["outputs"] == [{"name": "output", "datatype": "FP64", "shape": [2], "data": [1.5, 2.5]}]
    assert f"/{APP}/predict" in described["paths"]
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert f'data-app="{APP}"' in page.text


def test_up_again_changes_nothing(cluster: Cluster) -> None:
    seen = len(cluster.events)

    ClipperConnection(cluster.manager).start_clipper(num_frontend_replicas=FRONTENDS)

    assert {type(event) for event in cluster.events[seen:]} == {Unchanged}


def test_secrets_are_in_no_job(cluster: Cluster) -> None:
    nomad, names = cluster.manager.nomad, cluster.manager.names
    secrets = [
        value
        for job in (names.redis_job, names.admin_job, names.frontend_job, names.model_job(MODEL, "1"))
        for name, value in nomad.variable(f"nomad/jobs/{job}").items.items()  # type: ignore[union-attr]  # each has one
        # whose they are, as it stands in the job, and a public key
        if not name.startswith("clipper_") and name != "curve_server_keys"
    ]
    jobs = str([nomad.job(job["ID"]) for job in nomad.jobs()])

    assert len(secrets) == 7
    assert not [secret for secret in secrets if secret in jobs]


def test_scaling_to_four_and_back_loses_no_query(cluster: Cluster) -> None:
    with Load(cluster.url) as load:
        cluster.conn.set_num_replicas(MODEL, 4)
        wait_until(lambda: cluster.ready_replicas() == 4 * FRONTENDS, "four replicas at each frontend", within_s=60)
        cluster.conn.set_num_replicas(MODEL, 1)
        wait_until(lambda: cluster.ready_replicas() == FRONTENDS, "one replica at each frontend", within_s=60)

    assert load.failed == []
    assert load.right > 100
    assert cluster.conn.get_num_replicas(MODEL) == 1


def test_a_new_version_takes_over_without_a_lost_query(cluster: Cluster) -> None:
    with Load(cluster.url) as load:
        deploy(cluster.conn, "2", lambda inputs: [float(row.sum()) for row in inputs])

    assert load.failed == []
    assert load.right > 100
    assert cluster.conn.get_current_model_version(MODEL) == "2"
    cluster.conn.set_model_version(MODEL, "1")
    cluster.conn.stop_versioned_models({MODEL: ["2"]})
    assert cluster.ask(2.0)["output"] == 2.0


def test_a_killed_replica_serves_again_within_seconds(cluster: Cluster, daemon: docker.DockerClient) -> None:
    names = cluster.manager.names
    (allocation,) = [
        each for each in cluster.manager.nomad.allocations(names.model_job(MODEL, "1")) if each["ClientStatus"] == "running"
    ]
    container = daemon.containers.get(f"{names.model_job(MODEL, '1')}-{allocation['ID']}")

    container.kill(signal.SIGKILL)
    killed = time.monotonic()
    answer = cluster.ask(5.0)

    assert answer["output"] == 5.0  # it waited for the replica: the policy `late`
    assert time.monotonic() - killed < 15.0


def test_a_killed_frontend_costs_less_than_a_hundredth_of_a_minute_s_queries_and_none_after_two_seconds(
    cluster: Cluster, daemon: docker.DockerClient
) -> None:
    job = cluster.manager.names.frontend_job
    running = [each for each in cluster.manager.nomad.allocations(job) if each["ClientStatus"] == "running"]
    with Load(cluster.url) as load:
        time.sleep(1.0)
        daemon.containers.get(f"{job}-{running[0]['ID']}").kill(signal.SIGKILL)
        time.sleep(2.0)
        failed_by_then = len(load.failed)
        time.sleep(5.0)

    assert len(load.failed) == failed_by_then
    assert len(load.failed) <= 0.01 * 60 / load.pause_s, load.failed[:5]  # its client asks 200 times a second at most
    wait_until(lambda: len(cluster.frontends()) == FRONTENDS, "the frontend is back", within_s=60)


@pytest.mark.slow
def test_a_deploy_that_does_not_answer_through_fabio_fails_and_names_the_way(
    cluster: Cluster, rig: Rig, daemon: docker.DockerClient, images: ImageSet
) -> None:
    manager = NomadContainerManager(
        rig.nomad_url,
        rig.dns(),
        FabioLoadBalancer("127.0.0.1", free_ports(1)[0], rig.fabio_tcp_port),  # nobody listens for HTTP there
        consul_address=rig.consul_url,
        redis_image=redis_image(daemon),
        images=images,
    )
    conn = ClipperConnection(manager)
    conn.connect()

    with pytest.raises(
        DeployFailed, match=f"waiting for a prediction through {manager.public_url()}: query frontend behind"
    ):
        python_deployer.deploy_python_closure(conn, "unseen", "1", "doubles", lambda inputs: inputs[:, 0], timeout_s=25)

    assert "unseen:1" not in str(cluster.conn.get_all_models(verbose=True))
    assert not [job["ID"] for job in manager.nomad.jobs() if "unseen" in job["ID"]]


def test_logs_of_every_allocation_are_written(cluster: Cluster, tmp_path: Path) -> None:
    written = cluster.manager.get_logs(str(tmp_path))

    assert any("query-frontend" in path for path in written)
    model_logs = [Path(path).read_text() for path in written if f"model-{MODEL}-1" in path and "stderr" in path]
    assert any("replica is ready" in text for text in model_logs)


@pytest.mark.slow
def test_a_second_cluster_without_a_load_balancer_lives_beside_the_first(
    cluster: Cluster, rig: Rig, daemon: docker.DockerClient, images: ImageSet
) -> None:
    dns = rig.dns()
    manager = NomadContainerManager(
        rig.nomad_url, dns, None, "b", consul_address=rig.consul_url, redis_image=redis_image(daemon), images=images
    )
    conn = ClipperConnection(manager)
    try:
        conn.start_clipper()
        conn.register_application(APP, "doubles", "-1.0", 10_000_000)
        deploy(conn, "1", lambda inputs: [2 * float(row.sum()) for row in inputs])
        conn.link_model_to_app(APP, MODEL)

        answers = [cluster.ask(3.0)["output"], cluster.ask(3.0, manager.predict_url(APP))["output"]]
        caches = [(report["cache"]["capacity"], report["cache"]["entries"]) for report in conn.frontends()]
    finally:
        conn.stop_all()

    assert answers == [3.0, 6.0]
    assert caches == [(USUAL_CACHE_BYTES, 1)]
    assert [report["cache"] for report in cluster.conn.frontends()] == [None] * FRONTENDS
    assert cluster.ask(4.0)["output"] == 4.0
    assert not [job["ID"] for job in manager.nomad.jobs() if job["ID"].startswith("clipper-b-")]


@pytest.mark.slow
def test_a_store_that_cannot_start_ends_the_whole_up_and_nothing_is_left(rig: Rig, images: ImageSet) -> None:
    manager = NomadContainerManager(
        rig.nomad_url,
        None,
        None,
        "d",
        consul_address=rig.consul_url,
        redis_image="127.0.0.1:1/no-such-redis:1",
        images=images,
    )

    with pytest.raises(RolloutFailed, match="clipper-d-redis"):
        ClipperConnection(manager).start_clipper()

    assert not [job["ID"] for job in manager.nomad.jobs() if job["ID"].startswith("clipper-d-")]


def test_a_second_cluster_on_the_same_tcp_port_is_refused_before_anything_is_registered(
    cluster: Cluster, rig: Rig, daemon: docker.DockerClient, images: ImageSet
) -> None:
    fabio = cluster.manager.load_balancer
    manager = NomadContainerManager(
        rig.nomad_url, None, fabio, "c", consul_address=rig.consul_url, redis_image=redis_image(daemon), images=images
    )

    with pytest.raises(NotOurs, match="clipper-default-cluster-query-frontend-rpc"):
        ClipperConnection(manager).start_clipper()

    assert not [job["ID"] for job in manager.nomad.jobs() if job["ID"].startswith("clipper-c-")]
