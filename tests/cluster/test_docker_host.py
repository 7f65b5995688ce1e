"""DockerContainerManager on a real Docker: what it has beside the contract that all container managers keep.

That contract is in tests/process/test_connection_contract.py and test_connection_deploys.py, which run here as well.
"""

from __future__ import annotations

import importlib
import io
import json
import secrets
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import numpy as np
import pytest
import requests
from docker.models.containers import Container

from clipper_nomad import ClipperConnection, ClipperException, DeployFailed, DockerContainerManager
from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.cluster.jobs.requirements import HostVolume
from clipper_nomad.container_manager import CLIPPER_DOCKER_LABEL
from clipper_nomad.deployers.packing import packed
from clipper_nomad.errors import DockerHostError, ImageError, InvalidSpec
from clipper_nomad.images.contexts import packed as context
from clipper_nomad.images.image_set import ImageSet
from clipper_nomad.images.parts import Part
from clipper_nomad.protocol.datatypes import InputType
from tests.cluster.parts import BASE, forget_here, redis_image
from tests.process.clipper_containers import ServingContainer
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ONES_CLASS = """\
from clipper_nomad_runtime import rpc


class Ones(rpc.ModelContainerBase):
    def predict_doubles(self, inputs):
        return ["1.0"] * len(inputs)


rpc.RPCService().start(Ones())
"""
ONES_RECIPE = """\
ARG BASE
FROM ${BASE}
COPY ones.py /container/
ENTRYPOINT ["python", "/container/ones.py"]
"""
FRONTENDS = 2
BACK_WITHIN_S = 60.0


class Host:
    """One cluster's part of the Docker host, under a name of its own."""

    def __init__(self, daemon: docker.DockerClient, images: ImageSet) -> None:
        self.daemon, self.images = daemon, images
        self.cluster = f"host-{secrets.token_hex(3)}"
        self.network = f"clipper-{self.cluster}"

    def manager(self, **more: Any) -> DockerContainerManager:
        settings: dict[str, Any] = {
            "docker_network": self.network,
            "redis_image": redis_image(self.daemon),
            "images": self.images,
        }
        return DockerContainerManager(self.cluster, **settings | more)

    def containers(self, *stems: str) -> list[Container]:
        """Its containers, those only whose names begin so; ended ones too."""
        found = self.daemon.containers.list(all=True, filters={"label": f"{CLIPPER_DOCKER_LABEL}={self.cluster}"})
        return [each for each in found if (each.name or "").startswith(stems or ("",))]

    def has_network(self) -> bool:
        return bool(self.daemon.networks.list(names=[f"^{self.network}$"]))

    def clear(self) -> None:
        self.manager().stop_all(graceful=False)
        assert (self.containers(), self.has_network()) == ([], False)
        for repository in {tag.rpartition(":")[0] for image in self.daemon.images.list() for tag in image.tags}:
            if repository.startswith(f"{self.cluster}-"):
                forget_here(self.daemon, repository)


@pytest.fixture(scope="module")
def running(docker_host: docker.DockerClient, images: ImageSet) -> Iterator[tuple[Host, ClipperConnection]]:
    """A cluster with two frontends, whose wished port for queries is taken by somebody else."""
    host = Host(docker_host, images)
    extra = {"labels": {"of": "the user"}, "environment": {"CLIPPER_ACCESS_LOG": "all"}}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        clipper = ClipperConnection(host.manager(clipper_query_port=taken.getsockname()[1], extra_container_kwargs=extra))
        try:
            clipper.start_clipper(num_frontend_replicas=FRONTENDS)
            assert manager_of(clipper).clipper_query_port != taken.getsockname()[1]
            yield host, clipper
        finally:
            host.clear()


@pytest.fixture
def host(running: tuple[Host, ClipperConnection]) -> Host:
    return running[0]


@pytest.fixture
def clipper(running: tuple[Host, ClipperConnection]) -> ClipperConnection:
    """A connection to the cluster, without apps and models."""
    clipper = running[1]
    clipper.stop_all_model_containers()
    for name in clipper.get_all_apps():
        clipper.unregister_application(name)
    return clipper


@pytest.fixture
def unstarted(docker_host: docker.DockerClient, images: ImageSet) -> Iterator[Host]:
    """A name under which nothing runs yet, and nothing does afterwards."""
    host = Host(docker_host, images)
    yield host
    host.clear()


def manager_of(clipper: ClipperConnection) -> DockerContainerManager:
    assert isinstance(clipper.cm, DockerContainerManager)
    return clipper.cm


def add_up(inputs: np.ndarray) -> list[float]:
    return [float(row.sum()) for row in inputs]


def ask(address: str, app: str, value: float) -> float:
    output: float = requests.post(f"http://{address}/{app}/predict", json={"input": [value]}, timeout=15).json()["output"]
    return output


def inspected(container: Container) -> dict[str, Any]:  # Any: the library's
    container.reload()
    found: dict[str, Any] = container.attrs
    return found


# --- where it is reached ---


def test_ports_are_reported_as_they_are_by_addresses_labels_and_whoever_connects(
    host: Host, clipper: ClipperConnection
) -> None:
    manager, other = manager_of(clipper), host.manager()
    other.connect()

    reported = []
    for frontend in host.containers("query_frontend-"):
        attrs = inspected(frontend)
        published = {name: found[0]["HostPort"] for name, found in attrs["NetworkSettings"]["Ports"].items() if found}
        labels = attrs["Config"]["Labels"]
        assert labels["ai.clipper.query_frontend.query.port"] == published["1337/tcp"]
        assert labels["ai.clipper.query_frontend.rpc.port"] == published["7000/tcp"]
        assert {each["HostIp"] for found in attrs["NetworkSettings"]["Ports"].values() for each in found} == {"127.0.0.1"}
        reported.append(f"localhost:{published['1337/tcp']}")
    assert sorted(reported) == sorted(manager.get_query_addrs())
    assert other.get_query_addrs() == manager.get_query_addrs()
    assert other.get_rpc_addr() == manager.get_rpc_addr()
    assert (other.clipper_query_port, other.clipper_management_port) == (
        int(manager.get_query_addr().partition(":")[2]),
        int(manager.get_admin_addr().partition(":")[2]),
    )


def test_what_the_user_gives_every_container_each_has(host: Host, clipper: ClipperConnection) -> None:
    clipper.deploy(add_up, "m", sample=[1.0])

    containers = host.containers()
    assert len(containers) == 2 + FRONTENDS + 1
    assert {each.labels["of"] for each in containers} == {"the user"}
    assert all("CLIPPER_ACCESS_LOG=all" in inspected(each)["Config"]["Env"] for each in containers)


def test_secrets_are_in_nothing_that_docker_shows(host: Host, clipper: ClipperConnection) -> None:
    clipper.deploy(add_up, "m", sample=[1.0])

    shown = json.dumps([inspected(each) for each in host.containers()]) + "".join(
        each.logs().decode() for each in host.containers()
    )
    assert clipper.cm.get_admin_token() not in shown
    assert "redis://:" not in shown


def test_a_cluster_that_runs_is_not_started_again(host: Host, clipper: ClipperConnection) -> None:
    with pytest.raises(ClipperException, match=f"Cluster {host.cluster} cannot be started because it already exists"):
        host.manager().start_clipper()

    assert len(host.containers()) == 2 + FRONTENDS


def test_who_connects_need_not_know_the_network(host: Host, clipper: ClipperConnection) -> None:
    other = ClipperConnection(host.manager(docker_network="some-other-network"))
    other.connect()

    app = other.deploy(add_up, "m", sample=[1.0])

    assert app.predict([2.0]).output == 2.0
    assert clipper.get_all_models() == ["m:1"]


# --- several frontends ---


def test_every_frontend_answers_whichever_the_replica_met(clipper: ClipperConnection) -> None:
    clipper.deploy(add_up, "m", sample=[1.0])

    assert [ask(address, "m", 2.5) for address in manager_of(clipper).get_query_addrs()] == [2.5] * FRONTENDS
    assert [len(report["peers"]) for report in clipper.frontends()] == [FRONTENDS - 1] * FRONTENDS


def test_a_frontend_that_was_killed_comes_back_and_has_its_replicas_again(host: Host, clipper: ClipperConnection) -> None:
    clipper.deploy(add_up, "m", sample=[1.0])
    killed = host.containers("query_frontend-")[0]

    kill(host, killed)

    port = killed.labels["ai.clipper.query_frontend.query.port"]
    wait_until(lambda: answer_or_none(f"localhost:{port}", 3.0) == 3.0, "it answers again", within_s=BACK_WITHIN_S)
    assert inspected(killed)["RestartCount"] == 1


def test_a_query_waits_for_a_replica_that_was_killed(host: Host, clipper: ClipperConnection) -> None:
    app = clipper.deploy(add_up, "m", sample=[1.0], slo_micros=20_000_000)

    kill(host, host.containers("m_1-")[0])

    assert app.predict([4.0]).output == 4.0


def test_an_acknowledged_write_survives_kill_9_of_the_store(host: Host, clipper: ClipperConnection) -> None:
    clipper.register_application("kept", "doubles", "-1.0", 100_000)

    kill(host, host.containers("redis-")[0])

    wait_until(lambda: inspected(host.containers("redis-")[0])["State"]["Running"], "the store runs", within_s=BACK_WITHIN_S)
    clipper.register_application("after", "doubles", "-1.0", 100_000)
    assert clipper.get_all_apps() == ["after", "kept"]


def test_after_a_restart_of_every_container_it_serves_as_before(host: Host, clipper: ClipperConnection) -> None:
    """As after the host's own restart."""
    clipper.deploy(add_up, "m", sample=[1.0])

    for container in host.containers():
        container.restart(timeout=1)

    addresses = manager_of(clipper).get_query_addrs()
    wait_until(
        lambda: [answer_or_none(address, 3.0) for address in addresses] == [3.0] * FRONTENDS,
        "every frontend answers again",
        within_s=BACK_WITHIN_S,
    )
    assert clipper.get_all_models() == ["m:1"]


def kill(host: Host, container: Container) -> None:
    """Kill the container's process as the kernel would: Docker does not start again what was killed through it."""
    pid = inspected(container)["State"]["Pid"]
    assert pid > 1
    host.daemon.containers.run(BASE, ["sh", "-c", f"kill -9 {pid}"], pid_mode="host", user="0", remove=True)


def answer_or_none(address: str, value: float) -> float | None:
    try:
        return ask(address, "m", value)
    except (requests.RequestException, KeyError):
        return None


# --- what replicas get ---


def test_options_are_docker_s_and_stay_however_it_is_scaled(host: Host, clipper: ClipperConnection) -> None:
    volume = host.daemon.volumes.create(f"{host.cluster}-data")
    options = JobOptions(
        cores=1, memory_mb=300, env={"MY_OWN": "word"}, volumes=(HostVolume(source=volume.name, path="/data"),)
    )
    try:
        clipper.deploy(add_up, "m", sample=[1.0], job_options=options)
        clipper.set_num_replicas("m", 0)
        clipper.set_num_replicas("m", 2)

        replicas = host.containers("m_1-")
        assert len(replicas) == 2
        for replica in replicas:
            attrs = inspected(replica)
            assert (attrs["HostConfig"]["NanoCpus"], attrs["HostConfig"]["Memory"]) == (10**9, 300 * 2**20)
            assert "MY_OWN=word" in attrs["Config"]["Env"]
            assert [(each["Name"], each["Destination"]) for each in attrs["Mounts"]] == [(volume.name, "/data")]
        clipper.stop_all_model_containers()
    finally:
        volume.remove()


def test_a_volume_that_is_not_there_is_refused_before_anything_is_built(host: Host, clipper: ClipperConnection) -> None:
    options = JobOptions(volumes=(HostVolume(source="no-such-volume", path="/data"),))

    with pytest.raises(InvalidSpec, match="docker volume create"):
        clipper.deploy(add_up, "unbuilt", sample=[1.0], job_options=options)

    assert clipper.get_all_models() == []
    assert not host.daemon.images.list(f"{host.cluster}-unbuilt")


def test_a_model_that_takes_too_much_memory_is_told_so(host: Host, clipper: ClipperConnection) -> None:
    def hungry(inputs: np.ndarray) -> list[float]:
        return [float(len(b"x" * 2**30)) for _ in inputs]

    with pytest.raises(DeployFailed, match=r"was OOM-killed at 200 MiB|died, 2 times"):
        clipper.deploy(hungry, "m", sample=[1.0], job_options=JobOptions(memory_mb=200))

    assert host.containers("m_") == []


def test_an_image_without_our_runtime_is_refused_with_what_to_do_instead(host: Host, clipper: ClipperConnection) -> None:
    with pytest.raises(ClipperException, match="has no model runtime of this toolkit in it") as caught:
        clipper.deploy_model("m", 1, "doubles", redis_image(host.daemon))

    assert host.network in str(caught.value)
    assert (clipper.get_all_models(), host.containers("m_")) == ([], [])


def test_packages_of_a_model_s_own_are_in_its_image(clipper: ClipperConnection) -> None:
    def version_of_six(inputs: np.ndarray) -> list[str]:
        return [importlib.import_module("six").__version__ for _ in inputs]

    app = clipper.deploy(version_of_six, "m", sample=[1.0], pkgs_to_install=["six==1.16.0"])

    assert app.predict([1.0]).output == "1.16.0"


def test_a_container_of_clipper_s_serves_at_the_rpc_address(clipper: ClipperConnection) -> None:
    clipper.register_application("legacy", "doubles", "-1.0", 10_000_000)
    clipper.register_model("legacy", "1", "doubles")
    clipper.link_model_to_app("legacy", "legacy")

    with ServingContainer(clipper.cm.get_rpc_addr(), model="legacy"):
        answers = [ask(address, "legacy", 7.5) for address in manager_of(clipper).get_query_addrs()]

    assert answers == [7.5] * FRONTENDS


def test_a_container_of_clipper_s_on_the_network_needs_the_frontends_name_alone(
    host: Host, clipper: ClipperConnection
) -> None:
    """Ours plays one: it speaks RPC version 3, on Clipper's default port."""
    clipper.register_application("legacy", "doubles", "-1.0", 20_000_000)
    clipper.register_model("legacy", "1", "doubles")
    clipper.link_model_to_app("legacy", "legacy")
    with packed(add_up, kind=InputType.DOUBLES, sample=[1.0]) as bundle:
        image = clipper.build_model("legacy", 1, str(bundle), "default")
    said = {"NAME": "legacy", "VERSION": "1"}

    container = host.daemon.containers.run(
        image,
        network=host.network,
        environment={
            "CLIPPER_IP": manager_of(clipper).names.frontends,
            "CLIPPER_RPC_VERSION": "3",
            "CLIPPER_INPUT_TYPE": "doubles",
            **{f"CLIPPER_MODEL_{name}": value for name, value in said.items()},
        },
        detach=True,
    )
    try:
        answers = [ask(address, "legacy", 7.5) for address in manager_of(clipper).get_query_addrs()]
    finally:
        container.remove(force=True)

    assert answers == [7.5] * FRONTENDS


def test_a_container_class_of_clipper_s_is_built_without_files_deployed_and_scaled(
    host: Host, clipper: ClipperConnection
) -> None:
    """As users of Clipper have images of their own kinds of models: a base image with the class, a folder with its files."""
    base = f"{host.cluster}-ones-base:1"
    files = {"Dockerfile": ONES_RECIPE.encode(), "ones.py": ONES_CLASS.encode()}
    runtime = str(host.images.find(Part.RUNTIME))
    host.daemon.images.build(
        fileobj=io.BytesIO(context(files)), custom_context=True, tag=base, buildargs={"BASE": runtime}, rm=True
    )
    with tempfile.TemporaryDirectory() as empty:
        clipper.build_and_deploy_model("ones", "v1", "doubles", empty, base, num_replicas=2)
        clipper.build_and_deploy_model("ones", "v2", "doubles", empty, base, num_replicas=1)

    of_base: dict[str, Any] = {"ancestor": base, "label": f"{CLIPPER_DOCKER_LABEL}={host.cluster}"}
    assert len(host.daemon.containers.list(filters=of_base)) == 3
    clipper.register_application("ones-app", "doubles", "-1.0", 10_000_000)
    clipper.link_model_to_app("ones-app", "ones")
    assert clipper.predict("ones-app", [1.0, 2.0]).output == 1.0
    clipper.stop_inactive_model_versions(["ones"])
    clipper.set_num_replicas(name="ones", version="v2", num_replicas=2)
    assert clipper.get_num_replicas("ones") == len(host.daemon.containers.list(filters=of_base)) == 2
    clipper.set_num_replicas("ones", 0)
    assert host.daemon.containers.list(all=True, filters=of_base) == []
    assert clipper.get_all_models() == ["ones:v2"]


# --- logs ---


def test_each_container_has_a_log_file_of_clipper_s_name(host: Host, clipper: ClipperConnection, tmp_path: Path) -> None:
    files = clipper.get_clipper_logs(str(tmp_path))

    wanted = {f"image_{inspected(each)['Image'][:19]}:container_{each.short_id}.log" for each in host.containers()}
    assert {Path(file).name for file in files} == wanted


# --- the beginning and the end ---


def test_a_part_that_cannot_start_is_told_with_its_log_and_nothing_is_left(unstarted: Host) -> None:
    manager = unstarted.manager(extra_container_kwargs={"environment": {"CLIPPER_MAX_BODY_BYTES": "much"}})

    with pytest.raises(DockerHostError, match=r"container query_frontend-.* exited with code 2") as caught:
        manager.start_clipper()

    assert "CLIPPER_MAX_BODY_BYTES" in caught.value.log_tail
    assert (unstarted.containers(), unstarted.has_network()) == ([], False)


def test_an_image_that_is_not_there_is_named_before_anything_is_started(unstarted: Host) -> None:
    with pytest.raises(ImageError, match=r"127\.0\.0\.1:9/no-such-redis:1"):
        unstarted.manager(redis_image="127.0.0.1:9/no-such-redis:1").start_clipper()

    assert (unstarted.containers(), unstarted.has_network()) == ([], False)


@pytest.mark.slow
def test_without_encryption_and_with_a_store_of_somebody_else_s_it_serves_too(unstarted: Host) -> None:
    network = unstarted.daemon.networks.create(unstarted.network)
    store = unstarted.daemon.containers.run(
        redis_image(unstarted.daemon),
        ["--port", "6380", "--requirepass", "theirs", "--protected-mode", "no"],
        entrypoint="redis-server",
        name=f"{unstarted.cluster}-store",
        network=unstarted.network,
        detach=True,
    )
    try:
        manager = unstarted.manager(
            redis_ip=store.name, redis_port=6380, redis_password="theirs", encrypted=False, legacy_rpc=False
        )
        clipper = ClipperConnection(manager)
        clipper.start_clipper()
        app = clipper.deploy(add_up, "m", sample=[1.0])

        assert app.predict([2.0]).output == 2.0
        assert unstarted.containers("redis-") == []
        with pytest.raises(ClipperException, match="without RPC version 3"):
            manager.get_rpc_addr()
        clipper.stop_all()
        assert (unstarted.containers(), unstarted.has_network()) == ([], True)  # it was not made here
    finally:
        store.remove(force=True)
        network.remove()


@pytest.mark.slow
def test_two_clusters_share_a_network_and_the_end_of_one_leaves_the_other(
    host: Host, clipper: ClipperConnection, unstarted: Host
) -> None:
    app = clipper.deploy(add_up, "m", sample=[1.0])
    other = ClipperConnection(unstarted.manager(docker_network=host.network))
    other.start_clipper()
    twice = other.deploy(lambda inputs: [2 * float(row.sum()) for row in inputs], "m", sample=[1.0])
    answers = (app.predict([3.0]).output, twice.predict([3.0]).output)

    ClipperConnection(unstarted.manager(docker_network=host.network)).stop_all()

    assert answers == (3.0, 6.0)
    assert unstarted.containers() == []
    assert app.predict([4.0]).output == 4.0


def test_nothing_that_runs_cannot_be_connected_to_and_is_stopped_at_once(unstarted: Host) -> None:
    with pytest.raises(ClipperException, match=f"runs no cluster '{unstarted.cluster}'"):
        unstarted.manager().connect()

    unstarted.manager().stop_all()
