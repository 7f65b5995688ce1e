"""Clipper's RPC version 3 on a real Nomad: a byte-level container, through Fabio's listener, beside replicas of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from clipper_nomad import ClipperConnection, FabioLoadBalancer, JobOptions, NomadContainerManager, NotOurs
from clipper_nomad.cluster.rollout.events import RolloutEvent, Unchanged
from clipper_nomad.errors import ClipperException, FabioUnreachable, InvalidSpec
from clipper_nomad.images.image_set import ImageSet
from clipper_nomad.images.parts import Part
from tests.cluster.clusters import SLO_MICROS, Cluster, a_manager, running_cluster
from tests.cluster.legacy_image import legacy_image
from tests.cluster.parts import redis_image
from tests.cluster.processes import free_ports
from tests.cluster.rig import Rig
from tests.cluster.shell import Shell
from tests.process.clipper_containers import ServingContainer
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

FRONTENDS = 2
OLD_APP, OLD = "old-app", "old"
JOINED_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def cluster(rig: Rig, daemon: docker.DockerClient, images: ImageSet) -> Iterator[Cluster]:
    with running_cluster(rig, daemon, images, frontends=FRONTENDS, legacy_rpc=True) as cluster:
        cluster.conn.register_application(OLD_APP, "doubles", "-1.0", SLO_MICROS)
        cluster.conn.register_model(OLD, "1", "doubles")
        cluster.conn.link_model_to_app(OLD_APP, OLD)
        yield cluster


@pytest.fixture
def container(cluster: Cluster) -> Iterator[ServingContainer]:
    """A container of version 3 that serves, once every frontend has a way to it."""
    with ServingContainer(cluster.manager.get_rpc_addr(), model=OLD) as container:
        wait_until(lambda: reached_by(cluster) == FRONTENDS, "both frontends to reach it", within_s=JOINED_WITHIN_S)
        yield container


def reached_by(cluster: Cluster) -> int:
    """How many frontends have a way to the container: its own link, or a peer that has it."""
    rows = (row for report in cluster.reports().values() for row in report["versions"] if row["model"] == OLD)
    return sum(bool(row["ready"] or row["via_peers"]) for row in rows)


def test_its_address_is_fabios_listener_for_it(cluster: Cluster, rig: Rig) -> None:
    assert cluster.manager.get_rpc_addr() == f"127.0.0.1:{rig.fabio_legacy_port}"


def test_a_container_answers_through_fabio_and_at_every_frontend(cluster: Cluster, container: ServingContainer) -> None:
    urls = [cluster.manager.predict_url(OLD_APP), *(url.replace("/app/", f"/{OLD_APP}/") for url in cluster.frontends())]

    answers = [cluster.ask(float(number), url) for number, url in enumerate(urls)]

    assert [(each["output"], each["default"]) for each in answers] == [(0.0, False), (1.0, False), (2.0, False)]
    assert sum(container.batches) == len(urls)
    assert cluster.ask(4.5)["output"] == 4.5  # replicas of ours, on their encrypted channel


@pytest.mark.slow
def test_an_image_of_clipper_s_own_is_deployed_scaled_and_stopped_as_any(
    cluster: Cluster, daemon: docker.DockerClient, images: ImageSet
) -> None:
    conn, options = cluster.conn, JobOptions(rpc_version=3, memory_mb=128)
    conn.register_application("sum-app", "doubles", "-1.0", SLO_MICROS)
    with legacy_image(daemon, base=str(images.find(Part.RUNTIME))) as image:
        deployed = conn.deploy_model("sum", "1", "doubles", image, job_options=options, num_replicas=2)
        conn.link_model_to_app("sum-app", "sum")
        urls = [url.replace("/app/", "/sum-app/") for url in (cluster.url, *cluster.frontends())]
        answers = [cluster.ask(float(number), url)["output"] for number, url in enumerate(urls)]
        conn.set_num_replicas("sum", 1)
        job = cluster.manager.nomad.job(cluster.manager.names.model_job("sum", "1"))
        after = cluster.ask(7.0, urls[0])["output"]
        conn.stop_models(["sum"])

    assert deployed.output is not None
    assert answers == [0.0, 1.0, 2.0]
    assert after == 7.0
    assert job is not None
    assert "CLIPPER_CURVE" not in str(job)
    assert cluster.ask(1.0, urls[0])["default"] is True
    assert not cluster.running(cluster.manager.names.model_job("sum", "1"))


@pytest.mark.slow
def test_without_fabio_an_image_of_clipper_s_own_follows_the_frontends(
    rig: Rig, daemon: docker.DockerClient, images: ImageSet
) -> None:
    manager = NomadContainerManager(
        rig.nomad_url,
        rig.dns(),
        None,
        "d",
        consul_address=rig.consul_url,
        redis_image=redis_image(daemon),
        images=images,
        legacy_rpc=True,
    )
    conn = ClipperConnection(manager)
    try:
        conn.start_clipper()
        conn.register_application("sum-app", "doubles", "-1.0", SLO_MICROS)
        with legacy_image(daemon, base=str(images.find(Part.RUNTIME))) as image:
            conn.deploy_model("sum", "1", "doubles", image, job_options=JobOptions(rpc_version=3))
            conn.link_model_to_app("sum-app", "sum")
            dialled, before = manager.get_rpc_addr(), conn.predict("sum-app", [1.0, 2.0]).output
            manager.want_parts({"frontend": JobOptions(env={"CLIPPER_ACCESS_LOG": "off"})})
            conn.start_clipper()  # the frontends are replaced
            wait_until(lambda: conn.predict("sum-app", [2.0, 2.0]).output == 4.0, "it serves again", within_s=60)
            moved = manager.get_rpc_addr()
    finally:
        conn.stop_all()

    assert before == 3.0
    assert moved != dialled


def test_an_image_of_clipper_s_own_is_refused_before_it_is_registered_where_version_3_is_off(
    rig: Rig, daemon: docker.DockerClient, images: ImageSet
) -> None:
    manager = a_manager(rig, daemon, images, cluster_name="c", progress=print)

    with pytest.raises(ClipperException, match="do not serve Clipper's RPC version 3"):
        manager.check_job_options("sum", "1", JobOptions(rpc_version=3))


def test_status_tells_it_from_replicas_of_ours(
    cluster: Cluster, container: ServingContainer, rig: Rig, tmp_path: Path
) -> None:
    shell = Shell(rig, tmp_path)

    said, found = shell.types("status").stdout, shell.types("status", "--json").document

    versions = {
        each["model"]: (each["legacy"], each["replicas_wanted"], each["replicas_ready"]) for each in found["versions"]
    }
    assert versions == {OLD: (True, 0, 1), "sums": (False, 1, 1)}
    assert f"{OLD}:1 (RPC version 3)" in said
    assert f":{rig.fabio_legacy_port}" in found["routes"]
    assert found["warnings"] == []
    assert container.heard


def test_up_again_keeps_it_without_being_told(
    cluster: Cluster, rig: Rig, daemon: docker.DockerClient, images: ImageSet, tmp_path: Path
) -> None:
    events: list[RolloutEvent] = []
    shell = Shell(rig, tmp_path)

    ClipperConnection(a_manager(rig, daemon, images, progress=events.append)).start_clipper(num_frontend_replicas=FRONTENDS)
    rendered = shell.types("render", "frontend").stdout
    planned = {
        each["job"]: each["change"] for each in shell.types("plan", "--json", "--no-legacy-rpc", expect=1).document["jobs"]
    }

    assert {type(event) for event in events} == {Unchanged}
    assert "CLIPPER_LEGACY_RPC_ADDRESS" in rendered
    assert f"urlprefix-:{rig.fabio_legacy_port} proto=tcp" in rendered
    assert [job for job, change in planned.items() if change == "update"] == [cluster.manager.names.frontend_job]


def test_another_cluster_on_the_same_port_is_refused_before_anything_is_registered(
    cluster: Cluster, rig: Rig, daemon: docker.DockerClient, images: ImageSet
) -> None:
    fabio = FabioLoadBalancer("127.0.0.1", rig.fabio_http_port, rig.fabio_legacy_port, legacy_rpc_port=rig.fabio_tcp_port)
    manager = a_manager(rig, daemon, images, load_balancer=fabio, cluster_name="c", legacy_rpc=True, progress=print)

    with pytest.raises(NotOurs) as error:
        ClipperConnection(manager).start_clipper()

    assert "'clipper-default-cluster-query-frontend-rpc3' holds" in error.value.msg
    assert "legacy_rpc_port=" in (error.value.hint or "")
    assert not [job["ID"] for job in manager.nomad.jobs() if job["ID"].startswith("clipper-c-")]


def test_a_listener_that_is_missing_is_named(
    cluster: Cluster, rig: Rig, daemon: docker.DockerClient, images: ImageSet, tmp_path: Path
) -> None:
    (nobody,) = free_ports(1)
    fabio = FabioLoadBalancer("127.0.0.1", rig.fabio_http_port, rig.fabio_tcp_port, legacy_rpc_port=nobody)
    manager = a_manager(rig, daemon, images, load_balancer=fabio, legacy_rpc=True, progress=print)

    with pytest.raises(FabioUnreachable, match=f"127.0.0.1:{nobody} does not listen") as error:
        ClipperConnection(manager).start_clipper()
    words = ("--json", "--tcp-port", str(rig.fabio_tcp_port), "--legacy-rpc", "--legacy-rpc-port", str(nobody))
    said = Shell(rig, tmp_path).types("doctor", *words, expect=1).document

    assert f"`,:{nobody};proto=tcp` to Fabio's -proxy.addr" in (error.value.hint or "")
    (problem,) = [check for check in said["checks"] if check["area"] == "Fabio" and check["level"] == "problem"]
    assert problem["text"] == f"no listener for TCP {nobody} at 127.0.0.1:{nobody}"
    assert "--legacy-rpc-port" in problem["fix"]


def test_one_port_for_both_channels_is_refused(rig: Rig, daemon: docker.DockerClient, images: ImageSet) -> None:
    fabio = FabioLoadBalancer("127.0.0.1", rig.fabio_http_port, 7001, legacy_rpc_port=7001)
    manager = a_manager(rig, daemon, images, load_balancer=fabio, cluster_name="c", legacy_rpc=True, progress=print)

    with pytest.raises(InvalidSpec, match="both cannot share a port"):
        ClipperConnection(manager).start_clipper()


def test_where_it_is_off_that_is_said(rig: Rig, daemon: docker.DockerClient, images: ImageSet) -> None:
    manager = a_manager(rig, daemon, images, cluster_name="c", progress=print)

    with pytest.raises(ClipperException, match="do not serve Clipper's RPC version 3") as error:
        manager.get_rpc_addr()

    assert "up --legacy-rpc" in (error.value.hint or "")
