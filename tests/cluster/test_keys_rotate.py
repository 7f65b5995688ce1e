"""`clipper-nomad keys rotate` amid raw queries through Fabio, on a real Nomad: all have the new key, no query is lost."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import zmq

from benchmarks.checked_answers import Verdict
from clipper_nomad.cluster.jobs.task_files import CURVE_KEYS, CURVE_NEXT, CURVE_SECRET
from clipper_nomad.cluster.names import META_KEY_ROUND, variable_path
from clipper_nomad.images.image_set import ImageSet
from tests.cluster.clusters import MODEL, Cluster, running_cluster
from tests.cluster.public_load import raw_queries
from tests.cluster.rig import Rig
from tests.cluster.shell import Shell, interrupted
from tests.waiting import wait_until

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1500)]

FRONTENDS, REPLICAS = 2, 2
ROUNDS = 10
STANDS_WITHIN_MS = 30_000
_REFUSED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH


@pytest.fixture(scope="module")
def cluster(rig: Rig, daemon: docker.DockerClient, images: ImageSet) -> Iterator[Cluster]:
    with running_cluster(rig, daemon, images, frontends=FRONTENDS, replicas=REPLICAS) as cluster:
        yield cluster


def the_key(cluster: Cluster) -> str:
    """The one public key that all frontends say they have."""
    (key,) = {report["curve_key"] for report in cluster.reports().values()}
    return str(key)


def variables(cluster: Cluster) -> list[dict[str, str]]:
    """The items of the frontends' Variable and of the model's."""
    names, nomad = cluster.manager.names, cluster.manager.nomad
    jobs = (names.frontend_job, names.model_job(MODEL, "1"))
    return [dict(nomad.variable(variable_path(job)).items) for job in jobs]  # type: ignore[union-attr]  # they are there


def frontends_job(cluster: Cluster) -> dict[str, Any]:  # Any: Nomad's JSON
    job = cluster.manager.nomad.job(cluster.manager.names.frontend_job)
    assert job is not None
    return job


def is_let_in(address: str, *, server: str, secret: str) -> bool:
    """Whether a replica that holds `server` for the frontends' key gets through the handshake."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.curve_serverkey, socket.curve_secretkey = server.encode(), secret.encode()
        socket.curve_publickey = zmq.curve_public(secret.encode())
        monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | _REFUSED)
        try:
            socket.connect(address)
            assert monitor.poll(STANDS_WITHIN_MS), f"{address} neither takes nor refuses it"
            event = int.from_bytes(monitor.recv_multipart()[0][:2], "little")
            return event == zmq.EVENT_HANDSHAKE_SUCCEEDED
        finally:
            socket.disable_monitor()
            monitor.close(linger=0)


def test_ten_changes_in_a_row_lose_no_query_and_the_old_key_opens_nothing(
    cluster: Cluster, rig: Rig, daemon: docker.DockerClient, tmp_path: Path
) -> None:
    names, shell = cluster.manager.names, Shell(rig, tmp_path)
    model = names.model_job(MODEL, "1")
    replicas = {each["ID"] for each in cluster.running(model)}
    image = frontends_job(cluster)["TaskGroups"][0]["Tasks"][0]["Config"]["image"]
    took = []

    with raw_queries(cluster, longest_s=1_200.0) as load:
        for number in range(1, ROUNDS + 1):
            old = the_key(cluster)
            frontends = {each["ID"] for each in cluster.running(names.frontend_job)}
            said = shell.types("keys", "rotate", "--json").document
            took.append(said["took_s"])

            assert the_key(cluster) == said["key"] != old
            assert (said["frontends"], said["replicas"]) == (FRONTENDS, REPLICAS)
            now = {each["ID"] for each in cluster.running(names.frontend_job)}
            assert len(now) == FRONTENDS
            assert not now & frontends  # who took the old key has ended
            assert [items[CURVE_KEYS] for items in variables(cluster)] == [said["key"]] * 2
            secret = variables(cluster)[1][CURVE_SECRET]
            for report in cluster.reports().values():
                assert is_let_in(report["rpc"], server=said["key"], secret=secret)
                assert not is_let_in(report["rpc"], server=old, secret=secret)
            assert frontends_job(cluster)["Meta"][META_KEY_ROUND] == str(number)

    log.info("changed in %s s\n%s", took, load.tally.describe())
    assert load.tally.verdicts == {Verdict.RIGHT: load.tally.queries}, load.tally.describe()
    assert CURVE_NEXT not in variables(cluster)[0]
    assert {each["ID"] for each in cluster.running(model)} == replicas  # they ran on
    assert cluster.ready_replicas() == REPLICAS * FRONTENDS
    containers = [
        daemon.containers.get(f"{names.frontend_job}-{each['ID']}") for each in cluster.running(names.frontend_job)
    ]
    ids = {str(each.attrs["Image"]).removeprefix("sha256:")[:12] for each in containers}
    assert ids == {image.rpartition("-")[2]}  # of no build that came since


def test_starting_it_again_changes_nothing_of_it(cluster: Cluster) -> None:
    before = frontends_job(cluster)["Version"]

    cluster.manager.start_clipper(num_frontend_replicas=FRONTENDS, cache_size=0)

    assert frontends_job(cluster)["Version"] == before


@pytest.mark.parametrize("steps", [1, 2, 3], ids=["a new one is made", "all were told", "frontends that start have it"])
def test_a_change_that_was_interrupted_between_two_steps_is_ended_by_the_next(
    cluster: Cluster, rig: Rig, tmp_path: Path, steps: int
) -> None:
    secrets, old = cluster.manager.secrets, the_key(cluster)
    begun = secrets.begin_key_change()
    if steps > 1:
        secrets.tell_keys([old, begun])
    if steps > 2:
        secrets.make_key_change()

    said = Shell(rig, tmp_path).types("keys", "rotate", "--json").document

    assert said["key"] == begun == the_key(cluster)
    assert [items[CURVE_KEYS] for items in variables(cluster)] == [begun] * 2


def test_ctrl_c_amid_the_replacing_loses_no_query_and_the_next_call_ends_it(
    cluster: Cluster, rig: Rig, tmp_path: Path
) -> None:
    shell, version = Shell(rig, tmp_path), frontends_job(cluster)["Version"]

    with raw_queries(cluster, longest_s=600.0) as load:
        with shell.running("keys", "rotate") as process:
            wait_until(lambda: frontends_job(cluster)["Version"] > version, "new frontends are registered", within_s=120)
            said = interrupted(process)
        both = variables(cluster)[0][CURVE_KEYS].split()
        ended = shell.types("keys", "rotate", "--json").document

    assert said.exit_code == 130, said.stderr
    assert len(both) == 2
    assert ended["key"] == the_key(cluster) == both[1]
    assert load.tally.verdicts == {Verdict.RIGHT: load.tally.queries}, load.tally.describe()
    assert [items[CURVE_KEYS] for items in variables(cluster)] == [ended["key"]] * 2
