"""Ctrl-C, and time that is up, on a real cluster: commands end soon, say what they left, and leave what they say."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.cluster.nomad_api import NomadApi
from tests.cluster.parts import docker_client, local_images, redis_image
from tests.cluster.rig import Rig
from tests.cluster.shell import Said, Shell, interrupted
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

NAMES = ClusterNames("halt")
WHERE = ("--cluster", NAMES.cluster)
SOON_S = 4.0  # 2 s on a machine with nothing else to do
MODEL = """
import os, time

def load():
    time.sleep(float(os.environ.get("LOADS_FOR_S", "0")))
    return Total()

class Total:
    def __call__(self, inputs):
        return [float(one.sum()) for one in inputs]

    def __reduce__(self):
        return load, ()

total = Total()
"""
DEPLOY = ("deploy", *WHERE, "model.py:total", "--sample", "[1.0, 2.0]")
LOADS_LONG = ("--env", "LOADS_FOR_S=100", "--no-trial")


@pytest.fixture(scope="module")
def shell(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    rig.need_docker()
    docker_client()
    local_images()
    folder = tmp_path_factory.mktemp("shell")
    (folder / "model.py").write_text(MODEL)
    return Shell(rig, folder)


@pytest.fixture(scope="module")
def up(shell: Shell, rig: Rig) -> tuple[str, ...]:
    return ("up", *WHERE, "--tcp-port", str(rig.fabio_tcp_port), "--redis-image", redis_image(docker_client()))


@pytest.fixture(scope="module")
def cluster(shell: Shell, up: tuple[str, ...]) -> Iterator[Shell]:
    """A shell beside a cluster with one model."""
    try:
        shell.types(*up)
        shell.types(*DEPLOY, "--name", "sums")
        yield shell
    finally:
        shell.types("down", *WHERE, "--yes", "--volumes")


def jobs(rig: Rig) -> dict[str, dict[str, Any]]:
    return {job["ID"]: job for job in rig.nomad().jobs() if job["ID"].startswith(f"{NAMES.prefix}-")}


def interrupted_soon(process: subprocess.Popen[str]) -> Said:
    said = interrupted(process)
    assert said.exit_code == 130, f"{said.stdout}\n{said.stderr}"
    assert "Traceback" not in said.stderr
    print(f"ended after {said.took_s:.2f} s\n{said.stderr}")  # noqa: T201
    assert said.took_s < SOON_S, f"{said.took_s:.1f} s\n{said.stderr}"
    return said


def running_task(nomad: NomadApi, job: str) -> bool:
    return nomad.job(job) is not None and any(each["ClientStatus"] == "running" for each in nomad.allocations(job))


def test_up_that_is_interrupted_puts_back_what_was_not_ready_and_says_what_stays(
    shell: Shell, rig: Rig, up: tuple[str, ...]
) -> None:
    try:
        with shell.running(*up, "--set", "frontend.env.CLIPPER_HTTP_ADDRESS_=x") as process:
            told = process.stderr or ()
            assert any(line.startswith("redis") and "healthy" in line for line in told), "it ended before redis was healthy"
            said = interrupted_soon(process)

        for job in (NAMES.admin_job, NAMES.frontend_job):
            assert f"{job}: it is removed again" in said.stderr or f"{job}: it is as it is wanted" in said.stderr
        assert f"{NAMES.redis_job}: it is as it is wanted, and stays." in said.stderr
        assert "goes on from here" in said.stderr
        there = {job for job in jobs(rig) if f"{job}: it is as it is wanted" in said.stderr}
        assert set(jobs(rig)) == there
    finally:
        shell.types("down", *WHERE, "--yes", "--volumes")


def test_an_up_that_changes_a_part_and_is_interrupted_leaves_the_version_before(cluster: Shell, rig: Rig) -> None:
    nomad = rig.nomad()
    with cluster.running("up", *WHERE, "--set", "frontend.memory=300") as process:
        wait_until(lambda: (nomad.job(NAMES.frontend_job) or {})["Version"] > 0, "the new version", within_s=60)
        said = interrupted_soon(process)

    assert f"{NAMES.frontend_job}: it goes back to version 0, which serves on meanwhile." in said.stderr
    wait_until(
        lambda: cluster.types("plan", *WHERE, "--json").document["changes"] is False, "nothing to change", within_s=60
    )
    assert cluster.types("predict", "sums", "[1, 2]", *WHERE).stdout == "3.0\n"


@pytest.mark.parametrize("moment", ["while it builds", "while it loads"])
def test_a_deploy_that_is_interrupted_leaves_nothing(cluster: Shell, rig: Rig, moment: str) -> None:
    before, job = set(jobs(rig)), NAMES.model_job("late", "1")
    with cluster.running(*DEPLOY, "--name", "late", *LOADS_LONG) as process:
        if moment == "while it builds":
            time.sleep(2.0)  # no state of the cluster tells that a build goes on
        else:
            wait_until(lambda: running_task(rig.nomad(), job), "a replica runs", within_s=90)
        said = interrupted_soon(process)

    assert "was not deployed; " in said.stderr
    assert set(jobs(rig)) == before
    assert rig.nomad().variable(f"nomad/jobs/{job}") is None
    status = cluster.types("status", *WHERE, "--json").document
    assert [version["model"] for version in status["versions"]] == ["sums"]
    assert [app["name"] for app in status["apps"]] == ["sums"]


def test_a_deploy_ends_when_its_time_is_up_and_says_what_it_waited_for(cluster: Shell, rig: Rig) -> None:
    before = set(jobs(rig))
    began = time.monotonic()

    said = cluster.types(*DEPLOY, "--name", "late", *LOADS_LONG, "--timeout", "8", expect=1)

    assert re.search(r"gave up after [678](\.\d)? s waiting for health \(0 of 1 allocations are healthy", said.stderr), (
        said.stderr
    )
    assert time.monotonic() - began < 60  # 8 s, the build before, the removal after
    assert set(jobs(rig)) == before


def test_a_wait_for_room_ends_when_the_time_is_up(cluster: Shell, rig: Rig) -> None:
    before = set(jobs(rig))
    began = time.monotonic()

    said = cluster.types(*DEPLOY, "--name", "late", "--cpu", "15900", "--timeout", "3", expect=1)

    assert "MHz" in said.stderr
    assert "Nothing was registered." in said.stderr
    assert time.monotonic() - began < 25  # room is waited for up to 30 s where there is time
    assert set(jobs(rig)) == before


def test_a_scale_that_is_interrupted_says_what_is_wanted_now(cluster: Shell, rig: Rig) -> None:
    job = NAMES.model_job("sums", "1")
    with cluster.running("scale", "sums", "3", *WHERE) as process:
        wait_until(lambda: (rig.nomad().job(job) or {})["TaskGroups"][0]["Count"] == 3, "three are wanted", within_s=60)
        said = interrupted(process)

    assert said.exit_code in {0, 130}  # three replicas may be there within a second
    assert said.exit_code == 0 or "sums:1 is wanted with 3 replicas, it had 1" in said.stderr
    assert said.took_s < SOON_S
    cluster.types("scale", "sums", "1", *WHERE)


def test_a_down_that_is_interrupted_goes_on_when_it_is_asked_again(cluster: Shell, rig: Rig) -> None:
    nomad, model = rig.nomad(), NAMES.model_job("sums", "1")
    with cluster.running("down", *WHERE, "--yes") as process:
        wait_until(lambda: (nomad.job(model) or {"Stop": True}).get("Stop"), "the model is stopped", within_s=60)
        said = interrupted_soon(process)

    assert "goes on from here" in said.stderr
    cluster.types("down", *WHERE, "--yes")
    assert not jobs(rig)
