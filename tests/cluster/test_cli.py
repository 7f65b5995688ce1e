"""The command line on a real Nomad, from doctor to down: what an operator types, sees and gets.

With a registry that wants a password: what is pushed with Docker's login here is pulled with the one of Nomad's clients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest

from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.images.parts import Part
from tests.cluster.operators import Operator
from tests.cluster.parts import BASE, BUILD_NETWORK, forget_here, redis_image
from tests.cluster.registry import Registry
from tests.cluster.rig import Rig
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAMES = ClusterNames()
MODEL = """
def total(inputs):
    return [float(one.sum()) for one in inputs]

def broken(inputs):
    raise ValueError("no such feature: height")
"""


@pytest.fixture(scope="module")
def newcomer(
    rig: Rig, registry: Registry, daemon: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Operator:
    """An operator of a Nomad on which no cluster runs."""
    folder = tmp_path_factory.mktemp("operator")
    (folder / "model.py").write_text(MODEL)
    return Operator(folder, rig, redis_image=redis_image(daemon))


@pytest.fixture(scope="module")
def operator(newcomer: Operator, daemon: docker.DockerClient, registry: Registry) -> Iterator[Operator]:
    """An operator whose cluster is up, with the model `sums`; at the end nothing is left of it."""
    try:
        pushed = newcomer.types("images", "push", "--base-image", BASE, "--build-network", BUILD_NETWORK)
        assert "✔ built and pushed 3 images" in pushed.stdout
        for part in Part:  # the clients must pull
            forget_here(daemon, f"{registry.address}/clipper-nomad-{part}")
            assert not daemon.images.list(f"{registry.address}/clipper-nomad-{part}")
        plan = newcomer.types("plan", "--frontends", "2", expect=1)
        assert plan.stdout.count("+ job ") == 3
        up = newcomer.types("up", "--frontends", "2")
        assert up.stdout.startswith(f"✔ cluster {NAMES.cluster!r} is up on Nomad")
        newcomer.types("deploy", "model.py:total", "--name", "sums", "--sample", "[0.5, 1.0]")
        yield newcomer
    finally:
        newcomer.types("down", "--yes", "--volumes")
    assert newcomer.nomad.jobs() == []


def jobs_of(operator: Operator) -> dict[str, dict[str, Any]]:
    return {job["part"]: job for job in operator.types("status", "--json").document["jobs"]}


def versions_registered(operator: Operator) -> dict[str, int]:
    return {job["ID"]: job["JobModifyIndex"] for job in operator.nomad.jobs() if job["ID"].startswith(f"{NAMES.prefix}-")}


def test_doctor_finds_nothing_in_the_way(operator: Operator) -> None:
    said = operator.types("doctor", "--json").document

    assert said["problems"] == 0
    assert {"Nomad", "Clients", "Room", "Consul", "Routes", "DNS", "Fabio", "Docker", "Images"} == {
        each["area"] for each in said["checks"]
    }


def test_doctor_names_the_tcp_listener_that_is_missing(newcomer: Operator) -> None:
    said = newcomer.types("doctor", "--tcp-port", "7999", expect=1)

    assert "✖ no listener for TCP 7999 at " in said.stdout
    assert ",:7999;proto=tcp` to Fabio's -proxy.addr" in said.stdout
    assert "1 problem" in said.stdout


def test_without_a_cluster_verbs_say_how_to_start_one(newcomer: Operator) -> None:
    status = newcomer.types("status", "--cluster", "nobody", expect=1)
    predict = newcomer.types("predict", "sums", "[1]", "--cluster", "nobody", expect=1)
    down = newcomer.types("down", "--cluster", "nobody")

    assert "runs no cluster 'nobody'" in status.stdout
    assert "fix  Start it: clipper-nomad up --cluster nobody" in predict.stderr
    assert down.stdout.startswith("✔ cluster 'nobody' does not run on Nomad: nothing to stop")


def test_up_without_its_tcp_listener_registers_nothing(newcomer: Operator) -> None:
    said = newcomer.types("up", "--cluster", "portless", "--tcp-port", "7999", expect=1)

    assert ",:7999;proto=tcp" in said.stderr
    assert not [job["ID"] for job in newcomer.nomad.jobs() if "portless" in job["ID"]]


@pytest.mark.parametrize("part", [Part.ADMIN, Part.FRONTEND])
def test_the_clients_pulled_the_images_with_their_own_login(
    operator: Operator, daemon: docker.DockerClient, registry: Registry, part: Part
) -> None:
    job = operator.nomad.job(NAMES.admin_job if part is Part.ADMIN else NAMES.frontend_job)

    assert job
    assert job["TaskGroups"][0]["Tasks"][0]["Config"]["image"].startswith(f"{registry.address}/clipper-nomad-{part}:")
    assert daemon.images.list(f"{registry.address}/clipper-nomad-{part}")  # it was not there before `up`


def test_up_again_changes_nothing_and_plan_says_so(operator: Operator) -> None:
    before = versions_registered(operator)

    again = operator.types("up", "--json").document
    plan = operator.types("plan", "--json").document

    assert (again["was_up"], set(again["parts"].values()), again["frontends"]) == (True, {"unchanged"}, 2)
    assert plan["changes"] is False
    assert versions_registered(operator) == before


def test_a_plan_that_fails_ends_with_255(operator: Operator) -> None:
    said = operator.types("up", "--plan", "--tcp-port", "7999", expect=255)

    assert said.stderr.startswith("✖ Fabio's TCP proxy")


def test_no_secret_is_printed(operator: Operator) -> None:
    secrets: set[str] = set()
    for job in (NAMES.redis_job, NAMES.admin_job, NAMES.frontend_job):
        variable = operator.nomad.variable(f"nomad/jobs/{job}")
        assert variable is not None
        secrets |= set(variable.items.values())

    said = [
        operator.types("plan", "--frontends", "3", expect=1),
        operator.types("render"),
        operator.types("status", "--json"),
        operator.types("doctor"),
    ]

    assert not [secret for secret in secrets if any(secret in each.stdout + each.stderr for each in said)]


def test_status_has_jobs_models_apps_and_the_mesh(operator: Operator) -> None:
    found = operator.types("status", "--json").document
    shown = operator.types("status").stdout

    assert (found["state"], found["place"], found["warnings"]) == ("up", "nomad", [])
    assert {part: (job["healthy"], job["wanted"]) for part, job in jobs_of(operator).items()}["frontend"] == (2, 2)
    assert len(found["frontends"]) == 2
    assert found["mesh"]["links"] == found["mesh"]["wanted"]
    assert found["apps"][0]["serves"] == ["sums:1"]
    for word in ("query-frontend", "2/2", "sums  doubles → sums:1", "links"):
        assert word in shown


def test_a_model_predicts_through_fabio(operator: Operator) -> None:
    said = operator.types("predict", "sums", "[1, 2]")
    document = operator.types("predict", "sums", "[1, 2]", "--json").document

    assert said.stdout == "3.0\n"
    assert document["url"].endswith("/clipper/sums/predict")
    assert document["reply"]["output"] == 3.0


def test_scale_up_and_down_is_done_when_the_frontends_know(operator: Operator) -> None:
    for count in (3, 1):
        operator.types("scale", "sums", str(count))

        (version,) = operator.types("status", "--json").document["versions"]
        assert (version["replicas_ready"], version["replicas_wanted"]) == (count, count)


@pytest.mark.slow
def test_more_frontends_are_a_change_that_up_makes(operator: Operator) -> None:
    plan = operator.types("plan", "--frontends", "3", expect=1)
    more = operator.types("up", "--frontends", "3", "--json").document
    fewer = operator.types("up", "--frontends", "2", "--json").document

    assert "Count 2 → 3" in plan.stdout
    assert (more["frontends"], fewer["frontends"]) == (3, 2)
    assert more["parts"]["frontend"] == "scaled from 2"
    wait_until(
        lambda: jobs_of(operator)["frontend"]["healthy"] == 2 and operator.types("predict", "sums", "[1]").stdout == "1.0\n",
        "two frontends serve",
        within_s=60.0,
    )


def test_a_model_that_fails_leaves_the_one_before_and_its_line_is_told(operator: Operator) -> None:
    said = operator.types("deploy", "model.py:broken", "--name", "sums", "--sample", "[0.5, 1.0]", expect=1)

    assert "no such feature: height" in said.stderr
    assert said.stdout == ""
    assert operator.types("predict", "sums", "[1, 2]").stdout == "3.0\n"
    assert "sums:2" not in jobs_of(operator)


def test_logs_of_a_part_a_model_and_of_nobody(operator: Operator) -> None:
    model = operator.types("logs", "sums", "--lines", "50")
    all_parts = operator.types("logs", "--lines", "1")
    nobody = operator.types("logs", "nobody", expect=1)

    assert "replica is ready" in model.stdout
    assert "frontend-" in all_parts.stdout
    assert "There are logs of: " in nobody.stderr


def test_logs_are_followed(operator: Operator) -> None:
    with operator.shell.running("logs", "frontend", "--follow", "--lines", "0") as process:
        operator.types("scale", "sums", "2")

        assert process.stdout is not None
        assert "replica joined" in process.stdout.readline()


def test_rendered_jobs_are_what_nomad_has(operator: Operator) -> None:
    operator.types("render", "--frontends", "2", "--out", "jobs")

    files = sorted((operator.folder / "jobs").iterdir())
    assert [file.name.removesuffix(".nomad.hcl") for file in files] == sorted(
        [NAMES.redis_job, NAMES.admin_job, NAMES.frontend_job]
    )
    redis = next(file for file in files if "redis" in file.name)
    plan = operator.nomad.plan(operator.nomad.parse(redis.read_text()))
    assert plan["Diff"]["Type"] == "None"


def test_down_asks_and_without_a_terminal_stops_nothing(operator: Operator) -> None:
    before = versions_registered(operator)

    said = operator.types("down", expect=2)

    assert f"delete    job {NAMES.frontend_job} (2 allocs)" in said.stdout
    assert "down --yes" in said.stderr
    assert versions_registered(operator) == before


@pytest.fixture
def impostor(newcomer: Operator) -> Iterator[Callable[[], None]]:
    """A job whose id looks like one of cluster `mine`, and whose meta does not say so."""
    nomad = newcomer.nomad
    job_id = "clipper-mine-mgmt"

    def register() -> None:
        hcl = f"""
job "{job_id}" {{
  type        = "batch"
  datacenters = ["nowhere"]
  group "g" {{
    task "t" {{
      driver = "docker"
      config {{ image = "none" }}
    }}
  }}
}}
"""
        nomad.register(nomad.parse(hcl), modify_index=0)

    yield register
    nomad.deregister(job_id, purge=True)


def test_down_touches_nothing_while_it_cannot_be_told_whose_a_job_is(
    newcomer: Operator, impostor: Callable[[], None]
) -> None:
    impostor()

    said = newcomer.types("down", "--cluster", "mine", "--yes", expect=1)

    assert "It cannot be told whether these jobs are of the cluster 'mine'; nothing was changed:" in said.stderr
    assert newcomer.nomad.job("clipper-mine-mgmt") is not None
