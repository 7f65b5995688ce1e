"""The mesh behind a real Fabio: every query frontend answers for every model, however the replicas reach the frontends.

Three frontends, two models of three replicas each, in every mode. `proxy`, and `auto` that falls back to it, run with
frontends that advertise addresses nobody can reach: whoever is linked has come through Fabio's TCP port.
"""

from __future__ import annotations

import itertools
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import docker
import pytest
import requests

from benchmarks.checked_answers import Verdict
from clipper_nomad.images.image_set import ImageSet
from tests.cluster.clusters import APP, Cluster, await_frontends, deploy, running_cluster
from tests.cluster.parts import docker_client, local_images
from tests.cluster.public_load import raw_queries
from tests.cluster.rig import Rig
from tests.waiting import wait_until

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

FRONTENDS, REPLICAS = 3, 3
OTHER_APP, OTHER_MODEL = "other-app", "products"
UNREACHABLE = "tcp://192.0.2.1:${NOMAD_PORT_rpc}"  # TEST-NET-1: a direct dial cannot work by accident
ASKED = 120  # of each frontend and app
LINKED_WITHIN_S = 90.0  # by proxy a replica meets the last frontends by chance, one dial in 2 s
CHANGED_WITHIN_S = 120.0
FAILED_SHARE = 0.01
A_LOAD = 10_000  # the share is of so many queries


@dataclass(frozen=True, slots=True)
class Wiring:
    """How replicas are to reach frontends, and whether the frontends' own addresses lead anywhere."""

    mode: str
    is_reachable: bool

    def __str__(self) -> str:
        return f"{self.mode}-{'reachable' if self.is_reachable else 'unreachable'}"


WIRINGS = (Wiring("direct", True), Wiring("auto", True), Wiring("auto", False), Wiring("proxy", False))


@pytest.fixture(scope="module")
def daemon() -> docker.DockerClient:
    return docker_client()


@pytest.fixture(scope="module")
def images(daemon: docker.DockerClient) -> ImageSet:
    return local_images()


@pytest.fixture(scope="module", params=WIRINGS, ids=str)
def wiring(request: pytest.FixtureRequest) -> Wiring:
    wiring: Wiring = request.param
    return wiring


@pytest.fixture(scope="module")
def cluster(rig: Rig, daemon: docker.DockerClient, images: ImageSet, wiring: Wiring) -> Iterator[Cluster]:
    with running_cluster(rig, daemon, images, frontends=FRONTENDS, replicas=REPLICAS, rpc_mode=wiring.mode) as cluster:
        if not wiring.is_reachable:
            advertise(cluster, UNREACHABLE)
        conn = cluster.conn
        conn.register_application(OTHER_APP, "doubles", "-1.0", 10_000_000)
        deploy(conn, "1", lambda inputs: [float(row.prod()) for row in inputs], name=OTHER_MODEL, replicas=REPLICAS)
        conn.link_model_to_app(OTHER_APP, OTHER_MODEL)
        yield cluster


def advertise(cluster: Cluster, address: str) -> None:
    """Register the frontends' job with another advertised address, and return when only such frontends run."""
    nomad, job_id = cluster.manager.nomad, cluster.manager.names.frontend_job
    job = nomad.job(job_id)
    assert job
    before = {each["ID"] for each in cluster.running(job_id)}
    changed = deepcopy(job)
    changed["TaskGroups"][0]["Tasks"][0]["Env"]["CLIPPER_ADVERTISED_RPC_ADDRESS"] = address
    nomad.register(changed, modify_index=job["JobModifyIndex"])
    wait_until(
        lambda: len(cluster.frontends()) == FRONTENDS and not before & {each["ID"] for each in cluster.running(job_id)},
        "only frontends that advertise the other address",
        within_s=CHANGED_WITHIN_S,
    )
    wait_until(lambda: len(cluster.reports()) == FRONTENDS, "admin forgets those before", within_s=CHANGED_WITHIN_S)


def mesh_of(cluster: Cluster, rig: Rig) -> dict[str, Any]:
    """What `clipper-nomad status --json` says of the mesh."""
    places = ["--nomad", rig.nomad_url, "--consul", rig.consul_url, "--fabio", f"127.0.0.1:{rig.fabio_http_port}"]
    said = subprocess.run(
        [sys.executable, "-m", "clipper_nomad.cli", "status", "--json", *places],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    mesh: dict[str, Any] = json.loads(said.stdout)["mesh"]
    return mesh


def is_whole(cluster: Cluster, frontends: int) -> bool:
    """Whether each frontend has a ready link of its own to each replica."""
    reports = cluster.reports().values()
    own = [row["ready"] for report in reports for row in report["versions"]]
    return len(reports) == frontends and own == [REPLICAS] * 2 * frontends


def await_whole(cluster: Cluster, frontends: int = FRONTENDS) -> None:
    wait_until(lambda: is_whole(cluster, frontends), "every replica is linked to every frontend", within_s=LINKED_WITHIN_S)


def ask_each(cluster: Cluster) -> int:
    """Ask each frontend at its own address for both models, each time for something else; return how many were asked."""
    numbers = itertools.count(1)
    asked = 0
    with requests.Session() as session, ThreadPoolExecutor(8) as pool:

        def is_right(place: str, app: str, number: int) -> bool:
            said = session.post(f"{place}/{app}/predict", json={"input": [number, 0.5]}, timeout=15).json()
            return said["default"] is False and said["output"] == (number + 0.5 if app == APP else number * 0.5)

        for url in cluster.frontends():
            place = url.removesuffix(f"/{APP}/predict")
            for app in (APP, OTHER_APP):
                mine = list(itertools.islice(numbers, ASKED))
                right = list(pool.map(lambda number, place=place, app=app: is_right(place, app, number), mine))
                assert all(right), f"{right.count(False)} of {ASKED} answers of {place} for {app} are not right"
                asked += len(mine)
    return asked


def test_every_frontend_answers_for_every_model_and_the_mesh_is_whole(cluster: Cluster, rig: Rig, wiring: Wiring) -> None:
    await_whole(cluster)

    assert ask_each(cluster) == FRONTENDS * 2 * ASKED
    mesh = mesh_of(cluster, rig)
    assert (mesh["silent"], mesh["lacks"]) == ([], [])
    among_frontends = FRONTENDS * (FRONTENDS - 1)
    assert mesh["wanted"] == 2 * REPLICAS * FRONTENDS + among_frontends
    if wiring.is_reachable:
        assert (mesh["links"], mesh["unlinked_peers"]) == (mesh["wanted"], [])
    else:  # frontends reach each other at their own addresses only
        assert mesh["links"] == mesh["wanted"] - among_frontends
        assert len(mesh["unlinked_peers"]) == among_frontends


def test_a_frontend_that_is_added_under_load_answers_for_every_model(cluster: Cluster) -> None:
    await_whole(cluster)
    manager = cluster.manager
    with raw_queries(cluster) as load:
        scale_frontends(cluster, FRONTENDS + 1)
        try:
            await_whole(cluster, FRONTENDS + 1)
            wait_until(lambda: len(cluster.frontends()) == FRONTENDS + 1, "Consul has the new one", within_s=LINKED_WITHIN_S)
            assert ask_each(cluster) == (FRONTENDS + 1) * 2 * ASKED
        finally:
            scale_frontends(cluster, FRONTENDS)
        await_frontends(cluster, FRONTENDS)

    assert load.tally.verdicts == {Verdict.RIGHT: load.tally.queries}, load.tally.describe()
    await_whole(cluster)
    assert manager.failures.now(manager.names.frontend_job) is None


def scale_frontends(cluster: Cluster, count: int) -> None:
    names = cluster.manager.names
    cluster.manager.nomad.scale(names.frontend_job, group=names.group, count=count, message="test", deadline_s=60.0)


def test_a_frontend_that_is_killed_under_load_is_replaced_and_the_mesh_is_whole_again(
    cluster: Cluster, daemon: docker.DockerClient
) -> None:
    await_whole(cluster)
    job = cluster.manager.names.frontend_job
    before = containers(daemon, cluster, job)
    with raw_queries(cluster) as load:
        daemon.containers.get(before.pop()).kill(signal.SIGKILL)
        wait_until(
            lambda: before < containers(daemon, cluster, job) and len(containers(daemon, cluster, job)) == FRONTENDS,
            "another container in its place",
            within_s=CHANGED_WITHIN_S,
        )
        await_whole(cluster)

    log.info("%s", load.tally.describe())
    assert load.tally.wrong == 0
    assert load.tally.queries - load.tally.verdicts[Verdict.RIGHT] <= FAILED_SHARE * A_LOAD, load.tally.describe()
    assert ask_each(cluster) == FRONTENDS * 2 * ASKED


def containers(daemon: docker.DockerClient, cluster: Cluster, job_id: str) -> set[str]:
    """The ids of the containers that run a job's allocations; others on this Docker daemon are somebody else's."""
    names = {f"{job_id}-{each['ID']}" for each in cluster.running(job_id)}
    found = daemon.containers.list(filters={"name": f"{job_id}-"}, ignore_removed=True)
    return {each.id for each in found if each.id and each.name in names}
