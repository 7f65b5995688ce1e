"""Stalls end and overload does not collapse: the real policy code on simulated time. Figures: decision 0005."""

from __future__ import annotations

import logging

import pytest

from clipper_nomad.state.records import SloPolicy
from tests.unit.simulation import (
    Answered,
    SimulatedFrontend,
    SimulatedReplica,
    Speed,
    current,
    identity_app,
    identity_version,
)

WARM_UP_S = 2.0
STALL_S = 0.5

# (SLO, speed, replicas): a start that hardly counts, one that does, one that takes more than half of the time of a batch
SMALL_START = (0.1, Speed(start_s=0.0005, per_query_s=0.0045), 1)
SOME_START = (0.25, Speed(start_s=0.02, per_query_s=0.006), 2)
LARGE_START = (0.1, Speed(start_s=0.03, per_query_s=0.001), 1)
QUICK = (0.02, Speed(start_s=0.0005, per_query_s=0.0005), 1)


@pytest.fixture(autouse=True)
def _no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "clipper_nomad_frontend")  # replicas come and stall; that is the point


def system(
    slo_s: float, speed: Speed, replicas: int, *, policy: SloPolicy = "late"
) -> tuple[SimulatedFrontend, list[SimulatedReplica], float]:
    """A frontend with replicas, and how many queries a second they can answer in batches of half of the SLO."""
    frontend, version = SimulatedFrontend(), identity_version()
    frontend.serve(identity_app(slo_s=slo_s, policy=policy), version, current(version))
    team = [frontend.start_replica(version, speed) for _ in range(replicas)]
    return frontend, team, replicas * speed.capacity(slo_s / 2)


def on_time_share(answered: list[Answered]) -> float:
    """Of these answers, the share of true ones within the SLO."""
    assert answered
    return sum(each.is_on_time for each in answered) / len(answered)


def assert_no_answer_is_wrong(frontend: SimulatedFrontend) -> None:
    for each in frontend.answered:
        assert each.output is None or each.output == float(each.query.query_id)


# ---- a stall ends


@pytest.mark.parametrize("case", [SMALL_START, SOME_START, LARGE_START, QUICK])
def test_at_half_load_a_stall_is_over_within_a_second(case: tuple[float, Speed, int]) -> None:
    frontend, team, capacity = system(*case)
    frontend.load(per_s=capacity / 2, seconds=WARM_UP_S + STALL_S + 3.0, seed=1)
    frontend.run_for(WARM_UP_S)
    for replica in team:
        replica.pause(STALL_S)
    over_at = frontend.loop.time() + STALL_S

    frontend.run_for(20.0)

    again = [each for each in frontend.answered if each.query.arrived >= over_at + 1.0]
    assert on_time_share(again) >= 0.99
    assert_no_answer_is_wrong(frontend)
    assert not frontend.serving.owes_answers


def test_a_stall_of_one_replica_hardly_shows_where_there_are_others() -> None:
    frontend, team, capacity = system(0.25, Speed(start_s=0.02, per_query_s=0.006), 4)
    frontend.load(per_s=capacity / 2, seconds=8.0, seed=1)
    frontend.run_for(WARM_UP_S)

    team[0].pause(4.0)
    frontend.run_for(20.0)

    stalled = [each for each in frontend.answered if each.query.arrived >= frontend.answered[0].at + WARM_UP_S]
    assert on_time_share(stalled) >= 0.98  # all but the one batch that it had in hand
    assert_no_answer_is_wrong(frontend)


def test_the_end_of_a_replica_with_a_batch_in_hand_hardly_shows_where_there_are_others() -> None:
    """Each query of the batch is tried again alone: 38 × 30 ms that the others must not wait for."""
    frontend, team, capacity = system(0.1, Speed(start_s=0.03, per_query_s=0.0005), 3)
    frontend.load(per_s=capacity / 2, seconds=4.0, seed=1)
    frontend.run_for(WARM_UP_S + 0.02)
    died_at = frontend.loop.time()

    victim = max(team, key=lambda replica: replica.in_hand)
    victim.restart_s = 0.5
    victim.die()
    frontend.run_for(15.0)

    after = [each for each in frontend.answered if died_at <= each.query.arrived < died_at + 1.0]
    assert frontend.serving.dispatches["uid-1"].counters.resent > 10
    assert on_time_share(after) >= 0.9
    assert all(each.output is not None for each in frontend.answered)


def test_a_model_that_becomes_three_times_slower_serves_in_time_again_within_a_second() -> None:
    frontend, team, capacity = system(*SMALL_START)
    frontend.load(per_s=capacity / 4, seconds=WARM_UP_S + 4.0, seed=1)
    frontend.run_for(WARM_UP_S)
    slower_at = frontend.loop.time()

    team[0].speed = Speed(start_s=0.0015, per_query_s=0.0135)
    frontend.run_for(20.0)

    again = [each for each in frontend.answered if each.query.arrived >= slower_at + 1.0]
    assert on_time_share(again) >= 0.95  # three quarters of what it can do now


# ---- overload


@pytest.mark.parametrize(
    ("case", "policy", "jitter"),
    [(SMALL_START, "late", 0.0), (SMALL_START, "default", 0.0), (SOME_START, "late", 0.0), (SOME_START, "late", 0.1)],
)
def test_overload_costs_little_more_than_what_is_too_much(
    case: tuple[float, Speed, int], policy: SloPolicy, jitter: float
) -> None:
    slo_s, speed, replicas = case
    speed = Speed(start_s=speed.start_s, per_query_s=speed.per_query_s, jitter=jitter)
    frontend, _, capacity = system(slo_s, speed, replicas, policy=policy)

    frontend.load(per_s=1.25 * capacity, seconds=20.0, seed=1)
    frontend.run_for(35.0)

    assert on_time_share(frontend.answered) >= 0.9 / 1.25
    assert_no_answer_is_wrong(frontend)
    assert not frontend.serving.owes_answers


def test_noise_is_not_taken_for_a_start_that_large_batches_would_share() -> None:
    """Luck in the line through noisy times used to make the start look larger than it is, and batches with it."""
    frontend, _, capacity = system(0.1, Speed(start_s=0.03, per_query_s=0.002, jitter=0.1), 1)

    frontend.load(per_s=1.25 * capacity, seconds=8.0, seed=1)
    frontend.run_for(8.0)

    assert on_time_share(frontend.answered) >= 0.68


def test_under_overload_late_queries_are_answered_too() -> None:
    frontend, _, capacity = system(*SMALL_START)

    frontend.load(per_s=1.25 * capacity, seconds=8.0, seed=1)
    frontend.run_for(8.0)

    late = [each for each in frontend.answered if each.output is not None and not each.is_on_time]
    assert len(late) >= 0.05 * len(frontend.answered)


def test_a_model_that_never_makes_the_slo_still_answers_everyone() -> None:
    """A call takes twice the SLO, whatever the batch: with batches of one, most would time out."""
    frontend, _, _ = system(0.1, Speed(start_s=0.2, per_query_s=0.001), 1)

    frontend.load(per_s=100.0, seconds=5.0, seed=1)
    frontend.run_for(20.0)

    assert all(each.output is not None for each in frontend.answered)
    assert max(each.at - each.query.arrived for each in frontend.answered) < 2.0


def test_a_start_of_half_the_slo_is_not_the_end_of_throughput() -> None:
    """A call takes 45 of 100 ms, a query half a millisecond more: batches that fit half of the SLO would hold ten."""
    frontend, _, _ = system(0.1, Speed(start_s=0.045, per_query_s=0.0005), 1)

    frontend.load(per_s=400.0, seconds=5.0, seed=1)
    frontend.run_for(20.0)

    assert all(each.output is not None for each in frontend.answered)
    assert on_time_share(frontend.answered) >= 0.6
