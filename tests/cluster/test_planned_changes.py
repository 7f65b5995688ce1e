"""What operators do on purpose costs no query: each change amid 10,000 raw queries through Fabio, on a real Nomad.

The client is an open loop of 200 queries a second on keep-alive connections; each query is a number of its own, is sent
once, and its answer is checked. A test fails as well if the change did not happen while the load ran, and if the client
did not keep its pace.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import docker
import pytest

from benchmarks.checked_answers import Verdict
from clipper_nomad.cluster.jobs.requirements import Resources
from clipper_nomad.images.image_set import ImageSet
from clipper_nomad.images.parts import Part
from tests.cluster.clusters import MODEL, Cluster, answered_by, await_frontends, deploy, running_cluster
from tests.cluster.parts import REGISTRY, docker_client, local_images, redis_image
from tests.cluster.public_load import raw_queries
from tests.cluster.rig import Rig
from tests.process.steady_load import SteadyLoad
from tests.waiting import wait_until

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

FRONTENDS, REPLICAS = 2, 2
QUERIES = 10_000
CHANGED_WITHIN_S = 120.0
OTHER_IMAGE = "clipper-nomad-frontend-renamed:1"


@pytest.fixture(scope="module")
def daemon() -> docker.DockerClient:
    return docker_client()


@pytest.fixture(scope="module")
def images(daemon: docker.DockerClient) -> ImageSet:
    return local_images()


@pytest.fixture(scope="module")
def cluster(rig: Rig, daemon: docker.DockerClient, images: ImageSet) -> Iterator[Cluster]:
    with running_cluster(rig, daemon, images, frontends=FRONTENDS, replicas=REPLICAS) as cluster:
        yield cluster


@contextmanager
def no_query_lost(cluster: Cluster) -> Iterator[SteadyLoad]:
    """Run the load round a change; every query must get its true answer."""
    with raw_queries(cluster, least=QUERIES) as load:
        yield load
    assert load.tally.queries >= QUERIES
    assert load.tally.verdicts == {Verdict.RIGHT: load.tally.queries}, load.tally.describe()


def up(rig: Rig, cluster: Cluster, daemon: docker.DockerClient, *, frontends: int) -> None:
    """Type `clipper-nomad up --frontends N`."""
    words = [
        *("up", "--nomad", rig.nomad_url, "--consul", rig.consul_url, "--frontends", str(frontends)),
        *("--fabio", "127.0.0.1", "--http-port", str(rig.fabio_http_port), "--tcp-port", str(rig.fabio_tcp_port)),
        *("--redis-image", redis_image(daemon), "--registry", REGISTRY),
    ]
    said = subprocess.run(
        [sys.executable, "-m", "clipper_nomad.cli", *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert "frontend (scaled from" in said.stdout, said.stdout


def replicas_of(load: SteadyLoad, version: str = "1") -> set[str]:
    """The replicas of a version whose answers came."""
    return {replica for model, replica in load.answered_by if model == f"{MODEL}:{version}"}


def test_scaling_a_model_from_one_to_four_and_back(cluster: Cluster) -> None:
    cluster.conn.set_num_replicas(MODEL, 1)
    wait_until(lambda: cluster.ready_replicas() == FRONTENDS, "one replica at each", within_s=CHANGED_WITHIN_S)

    with no_query_lost(cluster) as load:
        cluster.conn.set_num_replicas(MODEL, 4)
        wait_until(lambda: cluster.ready_replicas() == 4 * FRONTENDS, "four replicas at each", within_s=CHANGED_WITHIN_S)
        wait_until(lambda: len(replicas_of(load)) == 4, "answers of all four", within_s=CHANGED_WITHIN_S)
        cluster.conn.set_num_replicas(MODEL, 1)
        wait_until(lambda: cluster.ready_replicas() == FRONTENDS, "one replica at each", within_s=CHANGED_WITHIN_S)

    cluster.conn.set_num_replicas(MODEL, REPLICAS)
    wait_until(lambda: cluster.ready_replicas() == REPLICAS * FRONTENDS, "as before", within_s=CHANGED_WITHIN_S)


def test_a_new_version_and_the_switch_of_the_route(cluster: Cluster) -> None:
    with no_query_lost(cluster) as load:
        deploy(cluster.conn, "2", lambda inputs: [float(row.sum()) for row in inputs])
        wait_until(lambda: replicas_of(load, "2"), "answers of version 2", within_s=CHANGED_WITHIN_S)
        cluster.conn.set_model_version(MODEL, "1")
        cluster.conn.stop_versioned_models({MODEL: ["2"]})

    assert cluster.ask(2.0)["output"] == 2.0
    assert len(replicas_of(load, "1")) == REPLICAS


def test_a_frontend_is_added(cluster: Cluster, rig: Rig, daemon: docker.DockerClient) -> None:
    before = set(answered_by(cluster))
    with no_query_lost(cluster):
        up(rig, cluster, daemon, frontends=FRONTENDS + 1)
        wait_until(lambda: set(answered_by(cluster)) - before, "the new frontend", within_s=CHANGED_WITHIN_S)
        (new,) = set(answered_by(cluster)) - before
        wait_until(lambda: answered_by(cluster)[new] > 100, "its answers", within_s=CHANGED_WITHIN_S)

    up(rig, cluster, daemon, frontends=FRONTENDS)
    await_frontends(cluster, FRONTENDS)


def test_a_frontend_is_removed(cluster: Cluster, rig: Rig, daemon: docker.DockerClient) -> None:
    up(rig, cluster, daemon, frontends=FRONTENDS + 1)
    with no_query_lost(cluster):
        before = answered_by(cluster)
        up(rig, cluster, daemon, frontends=FRONTENDS)
        await_frontends(cluster, FRONTENDS)

    assert len(before) == FRONTENDS + 1
    assert all(before.values()), "one of them took no part in the load"


def test_a_rolling_update_of_the_frontends(cluster: Cluster, daemon: docker.DockerClient, images: ImageSet) -> None:
    image = images.find(Part.FRONTEND)
    daemon.images.get(str(image)).tag(*OTHER_IMAGE.split(":"))
    before = {each["ID"] for each in cluster.running(cluster.manager.names.frontend_job)}

    with no_query_lost(cluster):
        cluster.manager.start_clipper(query_frontend_image=OTHER_IMAGE, num_frontend_replicas=FRONTENDS)
        await_frontends(cluster, FRONTENDS)

    after = {each["ID"] for each in cluster.running(cluster.manager.names.frontend_job)}
    assert len(after) == FRONTENDS
    assert not before & after


def test_a_model_s_job_is_redeployed(cluster: Cluster) -> None:
    manager = cluster.manager
    (record,) = [each for each in cluster.conn.get_all_models(verbose=True) if each["model_version"] == "1"]
    job = manager.nomad.job(manager.names.model_job(MODEL, "1"))
    assert job
    with no_query_lost(cluster) as load:
        seen = replicas_of(load)
        manager.blueprint = replace(manager.blueprint, resources=Resources(memory_mb=320))
        manager.deploy_model(MODEL, "1", "doubles", record["container_name"], REPLICAS, uid=job["Meta"]["clipper_model_uid"])
        wait_until(lambda: len(replicas_of(load) - seen) == REPLICAS, "answers of both new replicas", within_s=60)


def test_a_killed_frontend_costs_less_than_a_hundredth_and_nothing_after_two_seconds(
    cluster: Cluster, daemon: docker.DockerClient
) -> None:
    job = cluster.manager.names.frontend_job
    victim = cluster.running(job)[0]
    with raw_queries(cluster, least=QUERIES) as load:
        daemon.containers.get(f"{job}-{victim['ID']}").kill(signal.SIGKILL)
        killed = time.monotonic()
        wait_until(lambda: len(cluster.frontends()) < FRONTENDS, "Consul sees it", within_s=CHANGED_WITHIN_S)
        wait_until(lambda: len(cluster.frontends()) == FRONTENDS, "it is replaced", within_s=CHANGED_WITHIN_S)

    failed = [record for record in load.missed if record.verdict is not Verdict.RIGHT]
    sent = sorted(record.started_at - killed for record in failed)
    log.info("%d failed, the last one sent %.2f s after the kill", len(failed), max(sent, default=0.0))
    assert load.tally.wrong == 0
    assert len(failed) <= 0.01 * QUERIES, load.tally.describe()
    assert max(sent, default=0.0) <= 2.0, load.tally.describe()
