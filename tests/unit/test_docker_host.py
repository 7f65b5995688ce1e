"""A cluster on a Docker host, as far as it can be told without one: names, what containers are made from, verdicts."""

from __future__ import annotations

import ast
import inspect
import socket
from dataclasses import replace
from typing import Any

import pytest

from clipper_nomad import DockerContainerManager
from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.cluster.jobs.requirements import Gpus, HostVolume
from clipper_nomad.docker_host.containers import ContainerSpec, DataVolume, ExtraSettings
from clipper_nomad.docker_host.limits import check, limits_of, volumes_of
from clipper_nomad.docker_host.names import DockerNames, Kind
from clipper_nomad.docker_host.parts import Parts, StoreAddress
from clipper_nomad.docker_host.ports import FIRST, LAST, free_port
from clipper_nomad.docker_host.replicas import REPLICA_ENV, Version
from clipper_nomad.docker_host.verdicts import Seen, failure_of
from clipper_nomad.errors import ClipperException, InvalidName, InvalidSpec, UnconnectedException

NAMES = DockerNames("c", "1.0")
PARTS = Parts(
    names=NAMES, token="the-token", store_password="the-password", curve_secret="the-secret", curve_public="the-public"
)
VERSION = Version(name="m", version="1", uid="u", input_type="doubles", image="i:1", curve_secret="the-secret")

SIGNATURE = """
def __init__(cluster_name="default-cluster", docker_ip_address="localhost", use_centralized_log=False, fluentd_port=24224,
    clipper_query_port=1337, clipper_management_port=1338, clipper_rpc_port=7000, redis_ip=None, redis_port=6379,
    prometheus_port=9090, docker_network="clipper_network", extra_container_kwargs=None): ...
"""


def all_parts() -> list[ContainerSpec]:
    return [
        PARTS.store(7, image="redis", volume=None),
        PARTS.admin(7, image="admin", port=1338),
        PARTS.frontend(7, image="frontend", query_port=1337, rpc_port=7000),
    ]


# --- the manager ---


def test_the_manager_takes_what_clipper_s_takes_in_its_order_and_with_its_defaults() -> None:
    [wanted] = (node.args for node in ast.parse(SIGNATURE).body if isinstance(node, ast.FunctionDef))
    parameters = list(inspect.signature(DockerContainerManager).parameters.values())

    clippers = [each for each in parameters if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert [each.name for each in clippers] == [each.arg for each in wanted.args]
    assert [each.default for each in clippers] == [ast.literal_eval(each) for each in wanted.defaults]
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in parameters[len(clippers) :])


@pytest.mark.parametrize("network", ["host", "none", "bridge"])
def test_a_network_on_which_containers_do_not_find_each_other_is_refused(network: str) -> None:
    with pytest.raises(ClipperException, match=f"docker_network is '{network}'"):
        DockerContainerManager(docker_network=network)


def test_centralized_logs_are_refused_with_another_way() -> None:
    with pytest.raises(ClipperException, match="no fluentd is started here") as caught:
        DockerContainerManager(use_centralized_log=True)

    assert "log_config" in (caught.value.hint or "")
    assert DockerContainerManager().centralize_log is False  # Clipper's attribute: its users ask before they read logs


@pytest.mark.parametrize("count", [0, 65])
def test_a_number_of_frontends_that_cannot_be_is_refused(count: int) -> None:
    with pytest.raises(ClipperException, match=f"num_frontend_replicas is {count}"):
        DockerContainerManager().start_clipper(num_frontend_replicas=count)


@pytest.mark.parametrize("name", ["Upper", "a_b", "-a", ""])
def test_a_cluster_s_name_that_can_be_no_host_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidName, match="cluster name"):
        DockerContainerManager(name)


def test_before_there_is_a_connection_it_says_so() -> None:
    manager = DockerContainerManager()

    for call in (manager.get_admin_addr, manager.get_query_addr, manager.get_rpc_addr, manager.get_admin_token):
        with pytest.raises(UnconnectedException):
            call()
    assert (manager.cluster_identifier, manager.public_url()) == ("default-cluster", "")


# --- names and labels ---


def test_names_and_labels_are_clipper_s() -> None:
    store, admin, frontend = all_parts()
    replica = VERSION.replica(7, names=NAMES, server_key="")

    names = [each.name for each in (store, admin, frontend, replica)]
    assert names == ["redis-7", "mgmt_frontend-7", "query_frontend-7", "m_1-7"]
    assert all(each.labels["ai.clipper.container.label"] == "c" for each in (store, admin, frontend, replica))
    assert admin.labels["ai.clipper.management_frontend.label"] == ""
    assert admin.labels["ai.clipper.management.port"] == "1338"
    assert frontend.labels["ai.clipper.query_frontend.label"] == ""
    assert frontend.labels["ai.clipper.query_frontend.query.port"] == "1337"
    assert frontend.labels["ai.clipper.query_frontend.rpc.port"] == "7000"
    assert frontend.labels["ai.clipper.metric.port"] == "1337"
    assert replica.labels["ai.clipper.model_container.label"] == "m_1"
    assert [kind.value for kind in Kind] == ["redis", "mgmt_frontend", "query_frontend", "model"]


def test_inside_a_frontend_s_ports_are_clipper_s_and_outside_those_of_its_labels() -> None:
    frontend = PARTS.frontend(7, image="frontend", query_port=20_000, rpc_port=20_001)

    assert frontend.ports == {1337: 20_000, 7000: 20_001}
    assert PARTS.admin(7, image="admin", port=20_002).ports == {1338: 20_002}
    assert PARTS.store(7, image="redis", volume=None).ports == {}  # for the containers alone


# --- what stands where ---


def test_secrets_are_in_files_and_nowhere_that_docker_shows() -> None:
    for spec in (*all_parts(), VERSION.replica(7, names=NAMES, server_key="the-public")):
        shown = repr((spec.env, spec.labels, spec.command, spec.health))
        assert not [secret for secret in ("the-token", "the-password", "the-secret") if secret in shown]
        assert spec.files
    assert "the-token" not in repr(PARTS)
    assert "the-secret" not in repr(VERSION)


def test_a_replica_dials_the_frontends_by_the_name_of_them_all() -> None:
    replica = VERSION.replica(7, names=NAMES, server_key="the-public")
    frontend = PARTS.frontend(7, image="frontend", query_port=1, rpc_port=2)

    assert replica.env["CLIPPER_IP"] in frontend.aliases
    assert frontend.env["CLIPPER_RPC_ADDRESS"].endswith(":" + replica.env["CLIPPER_PORT"])
    assert (replica.env["CLIPPER_MODEL_UID"], replica.env["CLIPPER_CURVE_SERVER_KEY"]) == ("u", "the-public")
    assert set(replica.env) <= REPLICA_ENV


def test_a_store_of_somebody_else_s_is_reached_at_its_own_port() -> None:
    """Clipper takes 6379 whatever redis_port says."""
    parts = Parts(
        names=NAMES,
        token="t",
        store_password="p",
        curve_secret="",
        external=StoreAddress(host="10.0.0.5", port=6380),
        has_legacy=False,
    )
    frontend = parts.frontend(7, image="frontend", query_port=1, rpc_port=2)

    assert "redis://:p@10.0.0.5:6380/0" in frontend.files.values()
    assert "CLIPPER_LEGACY_RPC_ADDRESS" not in frontend.env
    assert "CLIPPER_CURVE_SECRET_FILE" not in frontend.env
    assert 7000 not in frontend.ports


def test_every_write_of_the_store_is_on_disk_before_it_is_answered() -> None:
    [settings] = PARTS.store(7, image="redis", volume="kept").files.values()

    assert {"appendonly yes", "appendfsync always", "requirepass the-password"} <= set(settings.splitlines())
    assert PARTS.store(7, image="redis", volume="kept").volumes == (DataVolume(path="/data", source="kept"),)


# --- what a user adds ---


def test_labels_and_variables_of_the_user_s_are_added_and_the_network_stays_ours() -> None:
    extra = ExtraSettings(
        {"labels": ["mine"], "environment": ["A=1=2", "B="], "network": "theirs", "detach": False, "dns": ["10.0.0.1"]}
    )

    assert extra.labels == {"mine": ""}
    assert extra.environment == {"A": "1=2", "B": ""}
    assert extra.others("labels", "environment") == {"dns": ["10.0.0.1"]}
    assert ExtraSettings({"labels": {"a": "b"}, "environment": {"C": "d"}}).labels == {"a": "b"}


@pytest.mark.parametrize("name", ["name", "ports", "healthcheck", "command"])
def test_what_each_container_has_of_its_own_is_not_the_user_s_to_say(name: str) -> None:
    with pytest.raises(ClipperException, match=f"extra_container_kwargs has {name}"):
        DockerContainerManager(extra_container_kwargs={name: "x"})


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        (JobOptions(), {}),
        (JobOptions(cores=2), {"nano_cpus": 2_000_000_000}),
        (JobOptions(cpu_mhz=500), {"cpu_shares": 500}),
        (JobOptions(memory_mb=256), {"mem_limit": 256 * 2**20}),
        (JobOptions(memory_mb=256, memory_max_mb=512), {"mem_limit": 512 * 2**20, "mem_reservation": 256 * 2**20}),
        (JobOptions(driver_options={"shm_size": 2**30}), {"shm_size": 2**30}),
    ],
)
def test_options_are_what_nomad_s_driver_makes_of_them(options: JobOptions, limits: dict[str, Any]) -> None:
    assert limits_of(options) == limits


def test_gpus_and_volumes_are_those_of_the_host() -> None:
    [request] = limits_of(JobOptions(gpus=(Gpus(count=2),)))["device_requests"]

    assert (request.count, request.capabilities) == (2, [["gpu"]])
    assert volumes_of(JobOptions(volumes=(HostVolume(source="data", path="/d", read_only=True),))) == (
        DataVolume(path="/d", source="data", read_only=True),
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (JobOptions(env={"CLIPPER_IP": "x"}), "env: CLIPPER_IP is set by the cluster itself"),
        (JobOptions(network_mode="host"), "network_mode: 'host'; expected none"),
        (JobOptions(gpus=(Gpus(device="amd/gpu"),)), "gpus: 'amd/gpu'"),
        (JobOptions(driver_options={"ulimit": {"nofile": "1"}}), "driver_options: ulimit; expected some of"),
    ],
)
def test_what_docker_cannot_do_is_refused_by_name(options: JobOptions, problem: str) -> None:
    with pytest.raises(InvalidSpec, match=problem):
        check("m", "1", options, ours=REPLICA_ENV)


# --- ports ---


def test_a_port_that_is_free_is_taken_and_one_that_is_not_gives_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = free_port(port, address="127.0.0.1")
    again = free_port(port, address="127.0.0.1")

    assert other != port
    assert FIRST <= other < LAST
    assert again == port
    assert free_port(port, address="127.0.0.1", but=frozenset({port})) != port


# --- verdicts ---


def seen(**more: Any) -> Seen:
    return Seen(id="a" * 64, name="m_1-7", image_id="sha256:b", **more)


@pytest.mark.parametrize(
    "container",
    [
        seen(status="running", health="starting"),
        seen(status="running", health="healthy", deaths=9),
        seen(status="running", health="starting", deaths=1),
        seen(status="restarting", exit_code=1, deaths=1),
        seen(status="created"),
    ],
)
def test_a_container_that_may_still_serve_has_not_failed(container: Seen) -> None:
    assert failure_of(container, log="") is None


@pytest.mark.parametrize(
    ("container", "log", "cause"),
    [
        (seen(status="restarting", exit_code=1, deaths=2), "a\nb: c", "container m_1-7 exited with code 1, 2 times: b: c"),
        (seen(status="restarting", exit_code=3, deaths=1), "", "container m_1-7 exited with code 3"),
        (seen(status="restarting", exit_code=137, deaths=2), "", "container m_1-7 was killed by SIGKILL, 2 times"),
        (seen(status="restarting", exit_code=228, deaths=2), "", "container m_1-7 was killed by signal 100, 2 times"),
        (seen(status="running", health="starting", deaths=3), "why", "container m_1-7 died, 3 times: why"),
        (seen(status="exited", exit_code=0), "", "container m_1-7 exited with code 0"),
        (seen(status="exited", is_oom=True, memory_mb=64), "x", "container m_1-7 was OOM-killed at 64 MiB"),
        (seen(status="dead", error="no such file"), "", "container m_1-7 could not be started: no such file"),
    ],
)
def test_a_container_that_is_given_up_is_told_with_its_last_words(container: Seen, log: str, cause: str) -> None:
    failure = failure_of(container, log=log)

    assert failure is not None
    assert failure.cause == cause
    assert failure.log_tail == log


@pytest.mark.parametrize(("cache_bytes", "env"), [(0, None), (1_000_000, "1000000")])
def test_frontends_have_the_prediction_cache_that_was_asked_for(cache_bytes: int, env: str | None) -> None:
    frontend = replace(PARTS, cache_bytes=cache_bytes).frontend(1, image="f", query_port=1337, rpc_port=7000)

    assert frontend.env.get("CLIPPER_CACHE_BYTES") == env
