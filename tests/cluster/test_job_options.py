"""What users ask of Nomad for parts and models, in the containers that run: memory, environment, a host volume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import docker
import pytest

from clipper_nomad.cluster.names import ClusterNames
from tests.cluster.parts import docker_client, local_images, redis_image
from tests.cluster.rig import Rig
from tests.cluster.shell import Shell

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

NAMES = ClusterNames("opts")
MIB = 1024 * 1024
MODEL = """
import os

def tell(inputs):
    with open("/weights/name") as file:
        name = file.read()
    return [f"{os.environ['GREETING']}, {name}" for _ in inputs]
"""


@pytest.fixture(scope="module")
def daemon(rig: Rig) -> docker.DockerClient:
    rig.need_docker()
    return docker_client()


@pytest.fixture(scope="module")
def shell(rig: Rig, daemon: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell beside a cluster that was brought up with options for two parts, and one model with options."""
    local_images()
    folder = tmp_path_factory.mktemp("shell")
    (folder / "model.py").write_text(MODEL)
    (rig.volumes["shared"] / "name").write_text("weights")
    shell = Shell(rig, folder)
    try:
        shell.types(
            *("up", "--cluster", NAMES.cluster, "--tcp-port", str(rig.fabio_tcp_port), "--redis-image", redis_image(daemon)),
            *("--set", "redis.memory=300", "--set", "frontend.env.CLIPPER_ACCESS_LOG=sample:100"),
        )
        shell.types(
            *("deploy", "--cluster", NAMES.cluster, "model.py:tell", "--name", "teller", "--input-type", "doubles"),
            *("--memory", "280", "--memory-max", "320", "--cpu", "250", "--env", "GREETING=hello"),
            *("--volume", "shared:/weights:ro", "--constraint", "attr.kernel.name = linux"),
        )
        yield shell
    finally:
        shell.types("down", "--cluster", NAMES.cluster, "--yes", "--volumes")


def containers(daemon: docker.DockerClient, job: str) -> list[dict[str, Any]]:
    """What Docker says of the running containers of a job."""
    return [each.attrs for each in daemon.containers.list() if str(each.name).startswith(f"{job}-")]


def registered(rig: Rig) -> dict[str, int]:
    jobs = rig.nomad().jobs()
    return {job["ID"]: job["JobModifyIndex"] for job in jobs if job["ID"].startswith(f"{NAMES.prefix}-")}


def test_a_models_containers_have_what_was_asked_for_and_keep_it_when_scaled(
    shell: Shell, rig: Rig, daemon: docker.DockerClient
) -> None:
    job = NAMES.model_job("teller", "1")
    answer = shell.types("predict", "teller", "[1.0]", "--cluster", NAMES.cluster).stdout

    shell.types("scale", "teller", "2", "--cluster", NAMES.cluster)

    both = containers(daemon, job)
    assert answer == '"hello, weights"\n'
    assert len(both) == 2
    assert {(each["HostConfig"]["Memory"], each["HostConfig"]["CpuShares"]) for each in both} == {(280 * MIB, 250)}
    assert all("GREETING=hello" in each["Config"]["Env"] for each in both)
    assert all(any(mount["Destination"] == "/weights" and not mount["RW"] for mount in each["Mounts"]) for each in both)
    assert rig.nomad().job(job)["Constraints"][0]["LTarget"] == "${attr.kernel.name}"  # type: ignore[index]  # it runs


def test_parts_have_what_was_asked_for_and_up_again_without_it_changes_nothing(
    shell: Shell, rig: Rig, daemon: docker.DockerClient
) -> None:
    before = registered(rig)

    again = shell.types("up", "--cluster", NAMES.cluster, "--json").document
    plan = shell.types("plan", "--cluster", NAMES.cluster, "--json").document

    (redis,) = containers(daemon, NAMES.redis_job)
    (frontend,) = containers(daemon, NAMES.frontend_job)
    assert redis["HostConfig"]["Memory"] == 300 * MIB
    assert "CLIPPER_ACCESS_LOG=sample:100" in frontend["Config"]["Env"]
    assert (again["was_up"], plan["changes"]) == (True, False)
    assert registered(rig) == before


def test_a_part_is_changed_alone_and_an_empty_value_puts_the_default_back(
    shell: Shell, rig: Rig, daemon: docker.DockerClient
) -> None:
    plan = shell.types("plan", "--cluster", NAMES.cluster, "--set", "admin.memory=290", "--json", expect=1).document

    shell.types("up", "--cluster", NAMES.cluster, "--set", "admin.memory=290")
    (larger,) = containers(daemon, NAMES.admin_job)
    shell.types("up", "--cluster", NAMES.cluster, "--set", "admin.memory=")
    (usual,) = containers(daemon, NAMES.admin_job)

    assert {job["job"]: job["change"] for job in plan["jobs"]}[NAMES.admin_job] == "update"
    assert [job["change"] for job in plan["jobs"]].count("none") == 2
    assert (larger["HostConfig"]["Memory"], usual["HostConfig"]["Memory"]) == (290 * MIB, 256 * MIB)
    assert containers(daemon, NAMES.redis_job)[0]["HostConfig"]["Memory"] == 300 * MIB


def test_what_cannot_be_is_refused_at_once_before_anything_is_built(
    shell: Shell, rig: Rig, daemon: docker.DockerClient
) -> None:
    before, images = registered(rig), {image.id for image in daemon.images.list()}
    deploy = ("deploy", "--cluster", NAMES.cluster, "model.py:tell", "--name", "other", "--input-type", "doubles")

    wrong = shell.types(*deploy, "--memory", "3", "--env", "X", "--volume", "w", expect=2)
    ours = shell.types(*deploy, "--env", "CLIPPER_IP=x", expect=1)
    part = shell.types("up", "--cluster", NAMES.cluster, "--set", "redis.memory=1", "--set", "store.cpu=1", expect=2)

    assert all(f"--{option}: " in wrong.stderr for option in ("memory", "env", "volume"))
    assert "env.CLIPPER_IP: the job sets this one itself" in ours.stderr
    assert "redis.memory: 1; expected" in part.stderr
    assert "'store.cpu=1'" in part.stderr
    assert registered(rig) == before
    assert {image.id for image in daemon.images.list()} == images
