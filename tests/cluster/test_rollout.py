"""Rollouts on a real Nomad: what becomes healthy, what fails and with which words, and what is there afterwards."""

from __future__ import annotations

import threading
import time

import pytest

from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.rollout.events import BecameHealthy, Progress, Registered, RollingBack, RolloutEvent
from clipper_nomad.cluster.rollout.parsed_job import Json
from clipper_nomad.cluster.rollout.rollout import RolledOut, Rollout
from clipper_nomad.errors import RolloutFailed
from tests.cluster.jobs import CRASH, STUBBORN, web_job
from tests.cluster.rig import Rig, tasks_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

DEADLINE_S = 40.0
WAITS_FOR_A_VARIABLE = """
template {
  data        = "K={{ with nomadVar \\"nomad/jobs/locked\\" }}{{ .k }}{{ end }}"
  destination = "secrets/k.env"
}
"""


def roll_out(nomad: NomadApi, hcl: str, *, consul: ConsulApi | None = None, deadline_s: float = DEADLINE_S) -> RolledOut:
    return Rollout(nomad, consul=consul).run(nomad.parse(hcl), source=hcl, deadline_s=deadline_s)


def fails(nomad: NomadApi, hcl: str, *, consul: ConsulApi | None = None, deadline_s: float = DEADLINE_S) -> RolloutFailed:
    with pytest.raises(RolloutFailed) as caught:
        roll_out(nomad, hcl, consul=consul, deadline_s=deadline_s)
    return caught.value


def running(nomad: NomadApi, job_id: str) -> list[Json]:
    return [each for each in nomad.allocations(job_id) if each["ClientStatus"] == "running"]


def assert_nothing_is_left(rig: Rig, job_id: str) -> None:
    assert rig.nomad().job(job_id) is None
    assert tasks_of(rig, job_id) == []


def assert_serves(nomad: NomadApi, consul: ConsulApi, job_id: str, *, word: str) -> None:
    """The job runs, passes its checks, and has this word in its environment."""
    wait_until(lambda: consul.instances(job_id).found, f"an instance of {job_id} that passes")
    job = nomad.job(job_id)
    assert job
    assert job["TaskGroups"][0]["Tasks"][0]["Env"]["WORD"] == word


def test_a_job_becomes_healthy_and_tells_how(nomad: NomadApi, consul: ConsulApi) -> None:
    told: list[RolloutEvent] = []
    hcl = web_job("web", count=2, env={"WORD": "one"})

    done = Rollout(nomad, progress=told.append).run(nomad.parse(hcl), source=hcl, deadline_s=DEADLINE_S)

    assert (done.changed, done.version) == (True, 0)
    assert len(running(nomad, "web")) == 2
    assert_serves(nomad, consul, "web", word="one")
    assert isinstance(told[0], Registered)
    assert any(isinstance(each, Progress) for each in told)
    assert isinstance(told[-1], BecameHealthy)
    assert told[-1].healthy == 2


def test_the_same_job_again_changes_nothing(nomad: NomadApi) -> None:
    first = roll_out(nomad, web_job("web"))
    before = running(nomad, "web")

    again = roll_out(nomad, web_job("web"))

    assert not again.changed
    assert (again.version, again.modify_index) == (first.version, first.modify_index)
    assert [each["ID"] for each in running(nomad, "web")] == [each["ID"] for each in before]


def test_room_that_is_taken_is_waited_for_and_then_missed(nomad: NomadApi) -> None:
    roll_out(nomad, web_job("first", cpu=12_000))

    failed = fails(nomad, web_job("second", cpu=12_000))

    assert failed.cause.startswith("needs 12,000 MHz of CPU; the roomiest client has ")
    assert nomad.job("second") is None


def test_room_that_is_set_free_in_time_is_taken(nomad: NomadApi) -> None:
    roll_out(nomad, web_job("first", cpu=12_000))
    threading.Timer(1.0, lambda: nomad.deregister("first", purge=True)).start()

    done = roll_out(nomad, web_job("second", cpu=12_000))

    assert done.changed


def test_a_new_job_that_crashes_says_why_and_is_gone(rig: Rig, nomad: NomadApi) -> None:
    started = time.monotonic()

    failed = fails(nomad, web_job("crash", program=CRASH))

    assert failed.cause == "exited with code 1, 2 times: ValueError: the model has no weights"
    assert "Traceback" in failed.log_tail
    assert failed.outcome == "It is removed again."
    assert_nothing_is_left(rig, "crash")
    assert time.monotonic() - started < 10


def test_a_command_that_is_not_there_fails_at_once(rig: Rig, nomad: NomadApi) -> None:
    job = nomad.parse(web_job("typo"))
    job["TaskGroups"][0]["Tasks"][0]["Config"]["command"] = "/no/such/program"

    with pytest.raises(RolloutFailed) as caught:
        Rollout(nomad).run(job, deadline_s=DEADLINE_S)

    assert "'/no/such/program' is not there" in caught.value.cause
    assert_nothing_is_left(rig, "typo")


def test_an_image_that_cannot_be_pulled_is_named_with_its_registry(rig: Rig, nomad: NomadApi) -> None:
    rig.need_docker()
    job = nomad.parse(web_job("image"))
    job["TaskGroups"][0]["Tasks"][0] |= {"Driver": "docker", "Config": {"image": "127.0.0.1:9/team/model:1"}}

    with pytest.raises(RolloutFailed) as caught:
        Rollout(nomad).run(job, deadline_s=DEADLINE_S)

    assert caught.value.cause == (
        "image 127.0.0.1:9/team/model:1 cannot be pulled: the registry 127.0.0.1:9 refuses the connection"
    )
    assert_nothing_is_left(rig, "image")


@pytest.mark.slow
def test_a_failing_check_is_named_with_what_it_said(rig: Rig, nomad: NomadApi, consul: ConsulApi) -> None:
    failed = fails(nomad, web_job("sick", env={"STATUS": "503"}, healthy_deadline_s=15), consul=consul)

    assert failed.cause.startswith("the check 'answers' (http /health) of service 'sick' does not pass: HTTP GET http://")
    assert "503 Service Unavailable" in failed.cause
    assert_nothing_is_left(rig, "sick")


def test_a_missing_variable_is_named_long_before_the_deadline(rig: Rig, nomad: NomadApi) -> None:
    failed = fails(nomad, web_job("locked", template=WAITS_FOR_A_VARIABLE, healthy_deadline_s=60))

    assert failed.cause == "waits for the Nomad variable 'nomad/jobs/locked', which does not exist"
    assert_nothing_is_left(rig, "locked")


def test_a_variable_that_is_there_is_not_waited_for(nomad: NomadApi) -> None:
    nomad.put_variable("nomad/jobs/locked", {"k": "v"})

    done = roll_out(nomad, web_job("locked", template=WAITS_FOR_A_VARIABLE))
    nomad.delete_variable("nomad/jobs/locked")

    assert done.changed


@pytest.mark.parametrize("auto_revert", [False, True])
def test_a_failed_change_brings_back_the_version_before(nomad: NomadApi, consul: ConsulApi, *, auto_revert: bool) -> None:
    told: list[RolloutEvent] = []
    roll_out(nomad, web_job("web", env={"WORD": "good"}, auto_revert=auto_revert))
    bad = web_job("web", program=CRASH, env={"WORD": "bad"}, auto_revert=auto_revert)

    with pytest.raises(RolloutFailed) as caught:
        Rollout(nomad, progress=told.append).run(nomad.parse(bad), deadline_s=DEADLINE_S)

    assert "ValueError: the model has no weights" in caught.value.cause
    assert caught.value.outcome == "Version 0 serves again."
    assert [each.to_version for each in told if isinstance(each, RollingBack)] == [0]
    assert_serves(nomad, consul, "web", word="good")


def test_a_change_that_nomad_refuses_leaves_the_job_as_it_is(nomad: NomadApi, consul: ConsulApi) -> None:
    roll_out(nomad, web_job("web", env={"WORD": "good"}))
    job = nomad.parse(web_job("web", env={"WORD": "bad"}))
    job["NodePool"] = "gpu"

    with pytest.raises(RolloutFailed) as caught:
        Rollout(nomad).run(job, deadline_s=DEADLINE_S)

    assert caught.value.cause == "the node pool 'gpu' does not exist"
    assert_serves(nomad, consul, "web", word="good")


def test_a_deadline_that_ends_says_what_was_waited_for(rig: Rig, nomad: NomadApi) -> None:
    failed = fails(nomad, web_job("slow", env={"STATUS": "503"}, healthy_deadline_s=60), deadline_s=3)

    assert failed.cause.startswith("gave up after 3 s waiting for health (0 of 1 allocations are healthy; allocation ")
    assert_nothing_is_left(rig, "slow")


def test_a_failed_job_is_gone_only_when_its_tasks_are(rig: Rig, nomad: NomadApi) -> None:
    failed = fails(nomad, web_job("stubborn", program=STUBBORN), deadline_s=2)

    assert failed.outcome == "It is removed again."
    assert_nothing_is_left(rig, "stubborn")


def test_an_interrupt_leaves_nothing(rig: Rig, nomad: NomadApi) -> None:
    def interrupt(event: RolloutEvent) -> None:
        if isinstance(event, Progress) and event.running:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        Rollout(nomad, progress=interrupt).run(nomad.parse(web_job("web")), deadline_s=DEADLINE_S)

    assert caught.value.__notes__ == ["web: it is removed again; what it had started ends."]
    wait_until(lambda: not tasks_of(rig, "web"), "what it had started ends", within_s=30)
    assert_nothing_is_left(rig, "web")


def test_somebody_elses_newer_version_is_left_alone(nomad: NomadApi, consul: ConsulApi) -> None:
    theirs = nomad.parse(web_job("web", env={"WORD": "theirs"}))

    def register_theirs(event: RolloutEvent) -> None:
        if isinstance(event, Progress) and event.running:
            now = nomad.job("web")
            if now and now["Version"] == 0:
                nomad.register(theirs, modify_index=now["JobModifyIndex"])

    with pytest.raises(RolloutFailed) as caught:
        Rollout(nomad, progress=register_theirs).run(
            nomad.parse(web_job("web", env={"WORD": "ours"})), deadline_s=DEADLINE_S
        )

    assert caught.value.outcome == "The newer version was left alone."
    assert_serves(nomad, consul, "web", word="theirs")


@pytest.mark.slow
def test_a_scaled_count_survives_the_next_rollout(nomad: NomadApi) -> None:
    roll_out(nomad, web_job("web", count=1))
    nomad.scale("web", group="g", count=3, message="more", deadline_s=20)
    wait_until(lambda: len(running(nomad, "web")) == 3, "three allocations", within_s=20)

    again = roll_out(nomad, web_job("web", count=1))
    changed = roll_out(nomad, web_job("web", count=1, env={"WORD": "two"}))

    job = nomad.job("web")
    assert not again.changed
    assert changed.changed
    assert job
    assert job["TaskGroups"][0]["Count"] == 3
    assert len(running(nomad, "web")) == 3


def test_scaling_waits_for_a_deployment_that_is_under_way(nomad: NomadApi) -> None:
    answer = nomad.register(nomad.parse(web_job("web")), modify_index=0)

    nomad.scale("web", group="g", count=2, message="at once", deadline_s=30)

    assert answer.job_modify_index
    wait_until(lambda: len(running(nomad, "web")) == 2, "two allocations", within_s=20)


def test_removing_a_job_leaves_no_task_running(rig: Rig, nomad: NomadApi) -> None:
    roll_out(nomad, web_job("web", count=2))

    Rollout(nomad).remove("web")
    Rollout(nomad).remove("web")

    assert_nothing_is_left(rig, "web")
