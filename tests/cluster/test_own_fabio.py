"""`up --with-fabio` on a Nomad that has no Fabio: it comes up as a job, doctor is content, and a second one is refused."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from clipper_nomad.cli.on_nomad.changes import job_change
from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.images.contexts import packed
from tests.cluster.parts import BASE, docker_client, local_images, redis_image
from tests.cluster.processes import free_ports
from tests.cluster.rig import Rig
from tests.cluster.shell import Shell

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

NAMES = ClusterNames("alone")
WHERE = ("--cluster", NAMES.cluster)
IMAGE = "clipper-nomad-test-fabio:1"
RECIPE = """\
ARG BASE
FROM ${BASE}
COPY fabio /fabio
RUN chmod 0755 /fabio
ENTRYPOINT ["/fabio", "-insecure"]
"""
MODEL = "def total(inputs):\n    return [float(one.sum()) for one in inputs]\n"


@pytest.fixture(scope="module")
def daemon(rig: Rig) -> docker.DockerClient:
    """A Docker daemon with an image of the Fabio that is on PATH."""
    rig.need_docker()
    client = docker_client()
    fabio = shutil.which("fabio")
    assert fabio
    context = io.BytesIO(packed({"Dockerfile": RECIPE.encode(), "fabio": Path(fabio).read_bytes()}))
    client.images.build(fileobj=context, custom_context=True, tag=IMAGE, buildargs={"BASE": BASE})
    return client


@pytest.fixture(scope="module")
def ports() -> list[int]:
    """For HTTP, the model channel and Fabio's own pages: not those of the rig's Fabio."""
    return free_ports(3)


@pytest.fixture(scope="module")
def up(rig: Rig, daemon: docker.DockerClient, ports: list[int]) -> tuple[str, ...]:
    http, tcp, pages = map(str, ports)
    return (
        *("up", *WHERE, "--with-fabio", IMAGE, "--fabio-consul", rig.consul_url.removeprefix("http://")),
        *(
            "--http-port",
            http,
            "--tcp-port",
            tcp,
            "--fabio-admin-port",
            pages,
            "--fabio-open-files",
            "4096",
            "--redis-image",
            redis_image(daemon),
        ),
    )


@pytest.fixture(scope="module")
def shell(rig: Rig, up: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell beside a cluster that brought its Fabio along; CLIPPER_FABIO is not set."""
    local_images()
    folder = tmp_path_factory.mktemp("shell")
    (folder / "model.py").write_text(MODEL)
    shell = Shell(rig, folder, {"CLIPPER_FABIO": None})
    try:
        before = shell.types("doctor", *up[1:], "--json").document
        assert "starts it" in str(before["checks"])
        shell.types(*up)
        shell.types("deploy", *WHERE, "model.py:total", "--name", "sums", "--sample", "[1.0]", *fabio_at(up))
        yield shell
    finally:
        shell.types("down", *WHERE, "--yes", "--volumes")
        assert not [job["ID"] for job in rig.nomad().jobs() if job["ID"].startswith(f"{NAMES.prefix}-")]


def changes(plan: dict[str, Any]) -> tuple[str, ...]:
    """What a plan changes, by name."""
    return job_change({"ID": ""}, plan, exists=True).fields


def fabio_at(up: tuple[str, ...]) -> tuple[str, str]:
    return "--fabio", f"127.0.0.1:{up[up.index('--http-port') + 1]}"


def test_a_query_comes_through_it_and_replicas_dial_the_service_fabio(shell: Shell, rig: Rig, up: tuple[str, ...]) -> None:
    answer = shell.types("predict", "sums", "[1, 2]", "--json", *WHERE, *fabio_at(up)).document

    task = (rig.nomad().job(NAMES.model_job("sums", "1")) or {})["TaskGroups"][0]["Tasks"][0]
    assert answer["reply"]["output"] == 3.0
    assert answer["url"].startswith(f"http://{fabio_at(up)[1]}/")
    assert any('service "fabio"' in template["EmbeddedTmpl"] for template in task["Templates"])


def test_doctor_is_content_and_up_again_changes_nothing(shell: Shell) -> None:
    doctor = shell.types("doctor", *WHERE, "--json").document
    again = shell.types("up", *WHERE, "--json").document
    plan = shell.types("plan", *WHERE, "--json").document

    assert doctor["problems"] == 0
    assert any(each["area"] == "Fabio" and "TCP proxy" in each["text"] for each in doctor["checks"])
    assert again["parts"]["fabio"] == "unchanged"
    assert (again["was_up"], plan["changes"]) == (True, False)


def test_a_second_one_on_its_ports_is_refused_before_anything_is_registered(
    shell: Shell, rig: Rig, up: tuple[str, ...]
) -> None:
    said = shell.types("up", "--cluster", "other", *up[3:], expect=1)

    assert "listens at 127.0.0.1:" in said.stderr
    assert "leave out --with-fabio" in said.stderr
    assert not [job["ID"] for job in rig.nomad().jobs() if job["ID"].startswith("clipper-other-")]


def test_its_job_and_those_of_models_are_rendered_as_they_are_registered(shell: Shell, rig: Rig) -> None:
    shell.types("scale", "sums", "2", *WHERE)

    shell.types("render", "fabio", "--out", "jobs", *WHERE)
    shell.types("render", "model", "sums", "--version", "1", "--out", "jobs", *WHERE)
    every = shell.types("render", "models", *WHERE).stdout
    nobody = shell.types("render", "model", "nobody", *WHERE, expect=1)

    nomad = rig.nomad()
    for job in (NAMES.fabio_job, NAMES.model_job("sums", "1")):
        text = (shell.folder / "jobs" / f"{job}.nomad.hcl").read_text()
        assert changes(nomad.plan(nomad.parse(text))) == ()  # of a job that was scaled Nomad calls the diff "Edited"
    assert f'job "{NAMES.model_job("sums", "1")}"' in every
    assert "There is no version of model 'nobody'" in nobody.stderr
