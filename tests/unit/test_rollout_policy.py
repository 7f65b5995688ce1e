"""When a rollout goes on, is healthy or has failed: judged from what Nomad said, on a clock of the test's own."""

from __future__ import annotations

from typing import Any

import pytest

from clipper_nomad.cluster.rollout.parsed_job import Json
from clipper_nomad.cluster.rollout.policy import (
    MISSING_PATIENCE_S,
    ROOM_PATIENCE_S,
    SETTLED_S,
    Counts,
    Failed,
    GoOn,
    Healthy,
    Promote,
    RolloutPolicy,
    Verdict,
    View,
)
from tests.unit.nomad_samples import sample

DONE = {"ID": "e1", "Status": "complete", "CreateIndex": 7}
NOT_PLACED = ["constraint_filtered", "driver_missing", "unknown_datacenter", "volume_missing"]
NO_ROOM = ["no_capacity_cpu", "no_capacity_memory", "no_capacity_partial", "port_clash_nomad"]
RUNS_BADLY = ["bad_driver_config", "exit_127_no_command", "image_missing_tag", "image_no_auth", "image_wrong_auth"]
CRASHES = ["exit_1", "oom", "port_clash_foreign", "image_unreachable_registry", "image_unresolvable_registry"]


def policy(*, count: int = 1, deadline_s: float = 60.0, kind: str = "service") -> RolloutPolicy:
    job: Json = {"ID": "j", "Type": kind, "TaskGroups": [{"Name": "g", "Count": count}]}
    return RolloutPolicy(job=job, started=0.0, deadline_s=deadline_s)


def view(
    *,
    evaluation: Json | None = DONE,
    blocked: Json | None = None,
    deployment: Json | None = None,
    allocations: list[Json] | None = None,
) -> View:
    return View(
        evaluation=evaluation,
        evaluations=[blocked] if blocked else [],
        deployment=deployment,
        allocations=allocations or [],
    )


def deployment(status: str = "running", *, wanted: int = 1, **group: Any) -> Json:  # Any: Nomad's fields
    state = {"DesiredTotal": wanted, "PlacedAllocs": wanted, "HealthyAllocs": 0, "DesiredCanaries": 0, **group}
    return {"ID": "d1", "Status": status, "StatusDescription": "Failed due to progress deadline", "TaskGroups": {"g": state}}


def allocation(name: str, *, client: str = "running", healthy: bool | None = None, events: list[Json] | None = None) -> Json:
    return {
        "ID": f"{name}-4f1c88",
        "ClientStatus": client,
        "DesiredStatus": "run",
        "DeploymentStatus": None if healthy is None else {"Healthy": healthy},
        "TaskStates": {"t": {"State": client, "Failed": False, "Events": events or []}},
    }


def exited(times: int, *, oom: bool = False) -> list[Json]:
    details = {"exit_code": "137" if oom else "1", "oom_killed": str(oom).lower()}
    return [each for _ in range(times) for each in ({"Type": "Started"}, {"Type": "Terminated", "Details": details})]


def moment_of(name: str) -> View:
    """What a sample would have looked like while its deployment was still running, with its first allocation only."""
    said = sample(name)
    blocked = next((each for each in said["evaluations"] if each["TriggeredBy"] == "queued-allocs"), None)
    return View(
        evaluation=said["evaluations"][0],
        evaluations=[{**blocked, "Status": "blocked"}] if blocked else [],
        deployment={**said["deployment"], "Status": "running"},
        allocations=[{**each, "DesiredStatus": "run", "DeploymentStatus": None} for each in said["allocations"][:1]],
    )


def test_a_pending_evaluation_is_waited_for() -> None:
    assert policy().judge(view(evaluation={"ID": "e", "Status": "pending"}), now=1) == GoOn(
        waiting_for="Nomad's scheduler (the evaluation is pending)"
    )


def test_a_successful_deployment_is_healthy() -> None:
    assert policy().judge(view(deployment=deployment("successful")), now=1) == Healthy()


def test_a_deployment_without_canaries_is_healthy_when_all_its_allocations_are() -> None:
    both = [allocation("a", healthy=True), allocation("b", healthy=True)]
    whole = deployment(wanted=2, HealthyAllocs=2)
    with_canaries = deployment(wanted=2, HealthyAllocs=2, DesiredCanaries=2, Promoted=True, AutoPromote=True)

    assert policy().judge(view(deployment=whole, allocations=both), now=1) == Healthy()
    assert isinstance(policy().judge(view(deployment=whole, allocations=both[:1]), now=1), GoOn)
    assert isinstance(policy().judge(view(deployment=deployment(wanted=2, HealthyAllocs=1), allocations=both), now=1), GoOn)
    assert isinstance(policy().judge(view(deployment=with_canaries, allocations=both), now=1), GoOn)


def test_a_failed_deployment_has_failed() -> None:
    assert policy().judge(view(deployment=deployment("failed")), now=1) == Failed(reason="failed due to progress deadline")


def test_a_newer_version_ends_the_rollout_and_must_not_be_undone() -> None:
    verdict = policy().judge(view(deployment=deployment("cancelled")), now=1)

    assert isinstance(verdict, Failed)
    assert verdict.superseded


@pytest.mark.parametrize("name", NOT_PLACED)
def test_what_no_client_has_fails_at_once(name: str) -> None:
    assert policy().judge(moment_of(name), now=0.1) == Failed(reason="no client takes it")


@pytest.mark.parametrize("name", NO_ROOM)
def test_room_that_is_used_up_gets_a_little_patience(name: str) -> None:
    rollout, blocked = policy(), moment_of(name)

    first = rollout.judge(blocked, now=1)
    still = rollout.judge(blocked, now=1 + ROOM_PATIENCE_S - 0.1)
    last = rollout.judge(blocked, now=1 + ROOM_PATIENCE_S)

    assert first == still == GoOn(waiting_for="room on a client")
    assert last == Failed(reason="no client takes it")


def test_room_that_comes_in_time_is_forgotten() -> None:
    rollout, blocked = policy(), moment_of("no_capacity_memory")

    rollout.judge(blocked, now=1)
    rollout.judge(view(deployment=deployment()), now=4)
    later = rollout.judge(blocked, now=4 + ROOM_PATIENCE_S - 0.1)

    assert isinstance(later, GoOn)


@pytest.mark.parametrize("name", [*RUNS_BADLY, *CRASHES])
def test_a_failed_allocation_ends_the_rollout_before_the_progress_deadline(name: str) -> None:
    assert isinstance(policy().judge(moment_of(name), now=1), Failed)


@pytest.mark.parametrize("name", RUNS_BADLY)
def test_what_no_restart_can_help_fails_before_the_allocation_does(name: str) -> None:
    moment = moment_of(name)
    trying = [{**each, "ClientStatus": "pending"} for each in moment.allocations]

    verdict = policy().judge(view(deployment=deployment(), allocations=trying), now=1)

    assert isinstance(verdict, Failed)


@pytest.mark.parametrize(("times", "decided"), [(1, GoOn), (2, GoOn), (3, Failed)])
def test_the_third_exit_is_a_crash_loop(times: int, decided: type[Verdict]) -> None:
    crashing = allocation("a", events=exited(times))

    assert isinstance(policy().judge(view(deployment=deployment(), allocations=[crashing]), now=1), decided)


@pytest.mark.parametrize(("times", "decided"), [(1, GoOn), (2, Failed)])
def test_the_second_oom_kill_is_enough(times: int, decided: type[Verdict]) -> None:
    killed = allocation("a", events=exited(times, oom=True))

    assert isinstance(policy().judge(view(deployment=deployment(), allocations=[killed]), now=1), decided)


def test_a_missing_variable_fails_after_a_moment() -> None:
    rollout, waiting = policy(), moment_of("template_missing_variable")

    first = rollout.judge(waiting, now=1)
    later = rollout.judge(waiting, now=1 + MISSING_PATIENCE_S)

    assert isinstance(first, GoOn)
    assert isinstance(later, Failed)


def test_one_bad_client_does_not_end_what_is_healthy_elsewhere() -> None:
    good, bad = allocation("a", healthy=True), allocation("b", client="failed", healthy=False)
    two_bad = [good, bad, allocation("c", client="failed", healthy=False)]

    with_one = policy(count=2).judge(view(deployment=deployment(wanted=2), allocations=[good, bad]), now=1)
    with_two = policy(count=2).judge(view(deployment=deployment(wanted=2), allocations=two_bad), now=1)

    assert isinstance(with_one, GoOn)
    assert with_two == Failed(reason="2 of its allocations failed")


def test_a_lost_client_is_no_failure_of_the_job() -> None:
    assert isinstance(
        policy().judge(view(deployment=deployment(), allocations=[allocation("a", client="lost")]), now=1), GoOn
    )


def test_healthy_canaries_ask_to_be_promoted_once() -> None:
    rollout = policy()
    ready = deployment(DesiredCanaries=1, HealthyAllocs=1, Promoted=False, AutoPromote=False)
    promoted = deployment(DesiredCanaries=1, HealthyAllocs=1, Promoted=True, AutoPromote=False)
    by_itself = deployment(DesiredCanaries=1, HealthyAllocs=1, Promoted=False, AutoPromote=True)

    assert rollout.judge(view(deployment=ready), now=1) == Promote(deployment_id="d1")
    assert isinstance(rollout.judge(view(deployment=promoted), now=2), GoOn)
    assert isinstance(rollout.judge(view(deployment=by_itself), now=3), GoOn)


def test_a_canary_that_is_not_healthy_is_not_promoted() -> None:
    unready = deployment(DesiredCanaries=1, HealthyAllocs=0, Promoted=False, AutoPromote=False)

    assert isinstance(policy().judge(view(deployment=unready), now=1), GoOn)


def test_the_deadline_says_what_was_waited_for() -> None:
    pulling = allocation(
        "a", client="pending", events=[{"Type": "Driver", "Time": 1, "DisplayMessage": "Downloading image"}]
    )

    verdict = policy(deadline_s=60).judge(view(deployment=deployment(), allocations=[pulling]), now=60)

    assert verdict == Failed(
        reason="gave up after 60 s waiting for health (0 of 1 allocations are healthy;"
        " allocation a-4f1c88 is pending: Downloading image)"
    )


def test_without_a_deployment_all_must_stay_up_for_a_while() -> None:
    rollout, up = policy(), view(allocations=[allocation("a")])

    assert rollout.judge(up, now=1) == GoOn(waiting_for="its tasks to stay up")
    assert rollout.judge(up, now=1 + SETTLED_S) == Healthy()


def test_without_a_deployment_a_restart_begins_the_wait_anew() -> None:
    rollout, up, down = policy(), view(allocations=[allocation("a")]), view(allocations=[allocation("a", client="pending")])

    rollout.judge(up, now=1)
    rollout.judge(down, now=2)
    rollout.judge(up, now=3)

    assert isinstance(rollout.judge(up, now=1 + SETTLED_S), GoOn)


def test_a_job_with_count_0_is_healthy_once_it_is_evaluated() -> None:
    rollout = policy(count=0)

    rollout.judge(view(), now=1)

    assert rollout.judge(view(), now=1 + SETTLED_S) == Healthy()


def test_counts_are_those_of_what_shall_run() -> None:
    old = {**allocation("o", healthy=True), "DesiredStatus": "stop"}
    moment = view(
        deployment=deployment(wanted=3),
        allocations=[old, allocation("a", healthy=True), allocation("b", client="pending")],
    )

    assert policy(count=3).counts(moment) == Counts(wanted=3, placed=2, running=1, healthy=1)
