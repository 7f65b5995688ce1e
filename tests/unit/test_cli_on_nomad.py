"""A cluster on Nomad as status and logs see it: from Nomad's JSON and admin's reports to one document."""

from __future__ import annotations

from typing import Any

import pytest

from clipper_nomad.cli.on_nomad.settings import Settings, read_settings
from clipper_nomad.cli.on_nomad.state import Addresses, JobState, nomad_document, show_nomad
from clipper_nomad.cli.on_nomad.task_logs import added, last_lines
from clipper_nomad.cli.output import Output
from clipper_nomad.cli.overview import Served
from clipper_nomad.cluster.legacy_rpc import LegacyRpc, legacy_rpc_of
from clipper_nomad.cluster.names import ClusterNames, rpc_tag
from clipper_nomad.container_manager import Failure

NAMES = ClusterNames("b")
NOTHING: dict[str, Any] = {"apps": [], "models": [], "versions": []}


def allocation(number: int, job: str, status: str = "running", *, healthy: bool | None = True) -> dict[str, Any]:
    return {
        "ID": f"{number:08x}-0000",
        "DesiredStatus": "run",
        "ClientStatus": status,
        "CreateTime": 0,
        "DeploymentStatus": None if healthy is None else {"Healthy": healthy},
        "TaskStates": {job: {"Restarts": 1, "Events": []}},
    }


def state(job: str, count: int = 1, *, allocations: list[dict[str, Any]] | None = None, **more: Any) -> JobState:
    found = allocations if allocations is not None else [allocation(number, job) for number in range(count)]
    meta = more.pop("meta", {})
    described = {"ID": job, "Type": "service", "Status": "running", "Version": 3, "SubmitTime": 0, "Meta": meta}
    return JobState(job=described | {"TaskGroups": [{"Count": count}]}, allocations=found, **more)


def found(*states: JobState, served: Served | None = None) -> dict[str, Any]:
    return nomad_document(
        states,
        served or Served(catalog=NOTHING, reports=[]),
        names=NAMES,
        addresses=Addresses(query="http://lb:9999/clipper-b", admin="http://lb:9999/clipper-b/admin"),
        nomad="http://10.0.0.5:4646",
        toolkit="1.0",
        now=60.0,
    )


def parts() -> list[JobState]:
    return [state(NAMES.frontend_job, 2), state(NAMES.admin_job), state(NAMES.redis_job)]


def test_a_whole_cluster_is_up_its_jobs_in_the_order_of_their_start() -> None:
    said = found(*parts())

    assert (said["state"], said["place"], said["age_s"]) == ("up", "nomad", 60.0)
    assert [(job["part"], job["healthy"], job["wanted"]) for job in said["jobs"]] == [
        ("redis", 1, 1),
        ("admin", 1, 1),
        ("frontend", 2, 2),
    ]
    assert {part["name"] for part in said["parts"]} >= {"frontend-00000000", "frontend-00000001", "admin-00000000"}
    assert said["jobs"][2]["restarts"] == 2


def test_a_job_that_is_not_whole_is_warned_of_first_with_its_cause() -> None:
    broken = state(
        NAMES.admin_job,
        allocations=[allocation(1, NAMES.admin_job, "pending", healthy=None)],
        failure=Failure(cause="the image cannot be pulled"),
    )

    said = found(state(NAMES.frontend_job), broken)

    assert said["warnings"][0] == "admin: 0 of 1 are healthy: the image cannot be pulled"


def test_an_allocation_that_ended_or_is_unhealthy_does_not_count() -> None:
    job = NAMES.frontend_job
    allocations = [allocation(1, job, "complete"), allocation(2, job, healthy=False), allocation(3, job, healthy=None)]

    one = state(job, 2, allocations=allocations)

    assert (one.wanted, one.running, one.healthy) == (2, 2, 1)


def test_versions_apps_and_mesh_come_from_admin_and_wanted_replicas_from_nomad() -> None:
    meta = {"clipper_model": "m", "clipper_model_version": "1"}
    catalog: dict[str, Any] = {
        "revision": 7,
        "store_id": "s",
        "apps": [
            {"name": "a", "input_type": "doubles", "default_output": "-1", "slo_micros": 1, "slo_policy": "late",
             "linked_models": ["m"]}
        ],
        "models": [{"name": "m", "current_version": "1"}],
        "versions": [{"name": "m", "version": "1", "uid": "u", "input_type": "doubles", "staged": False}],
    }  # fmt: skip

    said = found(*parts(), state("clipper-b-model-m-1", 3, meta=meta), served=Served(catalog=catalog, reports=[]))

    assert said["versions"][0]["replicas_wanted"] == 3
    assert said["apps"][0]["predict_url"] == "http://lb:9999/clipper-b/a/predict"
    assert said["jobs"][-1]["part"] == "m:1"
    assert said["mesh"]["wanted"] == 8


def test_people_see_jobs_and_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    show_nomad(Output(), found(*parts(), served=Served(catalog=NOTHING, reports=[], problem="it did not answer")))

    said = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert said[0] == "✔ cluster 'b' is up on Nomad, for 60 s"
    assert "job clipper-b-…  healthy  version  restarts  last error" in said
    assert "query-frontend       2/2        3         2  –" in said
    assert said[-1].startswith("! apps and models cannot be shown")


def test_what_a_cluster_was_brought_up_with_is_read_from_its_frontends() -> None:
    services = [{"Name": NAMES.rpc_service, "Tags": ["clipper", "urlprefix-:7001 proto=tcp"]}]
    task = {
        "Config": {"image": "r.example:5000/team/clipper-nomad-frontend:1-py3.11@sha256:ab"},
        "Env": {},
        "Services": services,
    }
    job = {"TaskGroups": [{"Tasks": [task]}], "Datacenters": ["dc2"], "NodePool": "ml"}

    assert read_settings(job, NAMES) == Settings(
        tcp_port=7001, registry="r.example:5000/team", datacenters=("dc2",), node_pool="ml", encrypted=False
    )


def test_a_cluster_without_fabio_is_read_so() -> None:
    services = [{"Name": NAMES.rpc_service, "Tags": ["clipper"]}]
    env = {"CLIPPER_CURVE_SECRET_FILE": "/secrets/curve-secret"}
    task = {"Config": {"image": "clipper-nomad-frontend:1"}, "Env": env, "Services": services}
    job = {"TaskGroups": [{"Tasks": [task]}], "Datacenters": ["dc1"]}

    settings = read_settings(job, NAMES)

    assert (settings.tcp_port, settings.encrypted, settings.legacy_rpc) == (None, True, None)


@pytest.mark.parametrize(
    ("tags", "found"),
    [(["clipper", rpc_tag(7005)], LegacyRpc(port=7005)), (["clipper"], LegacyRpc(port=None))],
)
def test_that_a_cluster_serves_rpc_version_3_is_read_from_its_frontends(tags: list[str], found: LegacyRpc) -> None:
    services = [{"Name": NAMES.rpc_service, "Tags": ["clipper"]}, {"Name": NAMES.legacy_service, "Tags": tags}]
    job = {"TaskGroups": [{"Tasks": [{"Services": services}]}]}

    assert legacy_rpc_of(job, NAMES) == found
    assert legacy_rpc_of(job | {"Stop": True}, NAMES) is None
    assert legacy_rpc_of(None, NAMES) is None


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ("", "a\nb\n", "a\nb\n"),
        ("a\nb\n", "a\nb\n", ""),
        ("a\nb\n", "a\nb\nc\n", "c\n"),
        ("x\na\nb\n", "b\nc\n", "b\nc\n"),  # so much was written that nothing of before is left: better twice than never
    ],
)
def test_what_is_added_to_a_log_is_told_once(before: str, now: str, new: str) -> None:
    assert added(before, now) == new


def test_the_last_lines_of_a_log() -> None:
    assert last_lines("a\nb\nc\n", 2) == ["b", "c"]
    assert last_lines("a\n", 0) == []
