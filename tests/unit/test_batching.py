"""How many queries a batch may have."""

from __future__ import annotations

import inspect
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipper_nomad.protocol.links import BOUND_BELOW_S
from clipper_nomad_frontend.batching import LARGEST_SLACK, MAX_BATCH, OFF_IN_A_ROW, BatchLimit


def learnt(*, start_s: float, per_query_s: float, slo_s: float, batches: int = 40) -> BatchLimit:
    """The limit after a long backlog: every batch is as large as it may be."""
    limit = BatchLimit(fixed=None, slo_s=slo_s)
    for _ in range(batches):
        limit.record(limit.limit, start_s + per_query_s * limit.limit)
    return limit


# ---- learning


def test_nothing_is_known_before_the_first_batch() -> None:
    limit = BatchLimit(fixed=None, slo_s=1.0)

    assert limit.limit == 1
    assert not limit.is_measured
    assert limit.expected_s(10) == 0.0
    assert limit.per_query_s == 0.0
    assert not limit.allows_second_slot


def test_the_first_batch_teaches_no_time_because_it_may_have_met_cold_caches() -> None:
    limit = BatchLimit(fixed=None, slo_s=1.0)

    limit.record(1, 9.0)

    assert not limit.is_measured
    assert limit.limit == 2


@pytest.mark.parametrize(
    ("start_s", "per_query_s", "slo_s", "expected"),
    [
        (0.005, 0.001, 0.1, 45),
        (0.0, 0.001, 0.1, 50),
        (0.02, 0.0005, 0.1, 60),
        (0.05, 0.005, 1.0, 90),
        (0.0001, 0.0001, 0.1, 499),
    ],
)
def test_the_limit_becomes_the_largest_batch_that_fits_half_of_the_slo(
    start_s: float, per_query_s: float, slo_s: float, expected: int
) -> None:
    limit = learnt(start_s=start_s, per_query_s=per_query_s, slo_s=slo_s)

    assert limit.limit in (expected - 1, expected)  # the division may fall just short
    assert limit.expected_s(10) == pytest.approx(start_s + 10 * per_query_s)


def test_the_limit_at_most_doubles_what_was_seen() -> None:
    limit = BatchLimit(fixed=None, slo_s=10.0)
    limits = []
    for _ in range(12):
        limits.append(limit.limit)
        limit.record(limit.limit, 0.0001 * limit.limit)

    assert limits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024]


def test_a_larger_batch_is_tried_though_twice_the_first_would_be_too_long() -> None:
    limit = learnt(start_s=0.030, per_query_s=0.0001, slo_s=0.1)  # one takes a third of the SLO, and so do a hundred

    assert limit.limit > 100


def test_a_model_whose_start_alone_takes_more_than_the_slo_gets_batches_of_twice_that_time() -> None:
    limit = learnt(start_s=0.2, per_query_s=0.001, slo_s=0.1)

    assert limit.limit in (199, 200)


def test_a_model_that_takes_as_long_for_any_batch_gets_the_largest() -> None:
    limit = learnt(start_s=0.04, per_query_s=0.0, slo_s=0.1)

    assert limit.limit == MAX_BATCH
    assert limit.expected_s(1) == pytest.approx(0.04)


def test_a_time_that_falls_with_the_size_is_taken_as_constant() -> None:
    limit = BatchLimit(fixed=None, slo_s=1.0)
    for count in (1, 2, 4, 8, 4, 2, 1):
        limit.record(count, 0.02 - count / 1000)

    assert limit.expected_s(1) == limit.expected_s(8)
    assert limit.limit == 16


def test_a_batch_never_starts_in_less_than_no_time() -> None:
    limit = BatchLimit(fixed=None, slo_s=1.0)
    for count in (1, 2, 4, 8, 16, 8, 4, 2, 1):
        limit.record(count, count * count / 1000)

    assert limit.expected_s(0) >= 0.0


def test_a_batch_that_takes_no_time_at_all_is_no_problem() -> None:
    limit = BatchLimit(fixed=None, slo_s=0.0)
    for count in (1, 1, 2, 4, 8, 16):
        limit.record(count, 0.0)

    assert limit.limit == 32
    assert limit.expected_s(5) == 0.0


def test_a_huge_slo_lets_batches_be_as_large_as_they_get() -> None:
    assert learnt(start_s=0.001, per_query_s=1e-300, slo_s=1e9).limit == MAX_BATCH


def test_a_model_that_becomes_slower_gets_smaller_batches() -> None:
    limit = learnt(start_s=0.005, per_query_s=0.001, slo_s=0.1)
    for index in range(60):
        count = max(1, limit.limit - index % 4)
        limit.record(count, 0.005 + 0.003 * count)

    assert limit.limit == pytest.approx(15, abs=2)


def test_a_model_that_becomes_slower_gets_smaller_batches_at_once_though_all_were_of_one_size() -> None:
    limit = learnt(start_s=0.005, per_query_s=0.001, slo_s=0.1, batches=300)
    sizes = []
    for _ in range(30):
        sizes.append(limit.limit)
        limit.record(limit.limit, 0.015 + 0.003 * limit.limit)

    assert sizes == sorted(sizes, reverse=True)
    assert limit.limit == pytest.approx(11, abs=2)


def test_batches_of_one_size_keep_the_slope_that_was_known() -> None:
    limit = learnt(start_s=0.02, per_query_s=0.0005, slo_s=0.1)
    for _ in range(500):
        limit.record(4, 0.022)

    assert limit.expected_s(60) == pytest.approx(0.05)


def test_a_pause_of_the_machine_teaches_nothing() -> None:
    limit = learnt(start_s=0.005, per_query_s=0.001, slo_s=0.1)
    before = limit.limit, limit.expected_s(20)

    for _ in range(OFF_IN_A_ROW - 1):
        limit.record(20, 0.5)

    assert (limit.limit, limit.expected_s(20)) == before


def test_pauses_that_do_not_follow_one_another_teach_nothing() -> None:
    limit = learnt(start_s=0.005, per_query_s=0.001, slo_s=0.1)
    for _ in range(10):
        limit.record(20, 0.5)
        limit.record(20, 0.025)

    assert limit.expected_s(20) == pytest.approx(0.025)


def test_a_row_of_slow_batches_is_believed() -> None:
    limit = learnt(start_s=0.005, per_query_s=0.001, slo_s=0.1)
    for _ in range(100):
        limit.record(20, 0.5)

    assert limit.expected_s(20) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_noise_does_not_let_batches_grow(seed: int) -> None:
    """Where sizes hardly differ, chance decided what the slope was: constant time, and so the largest batch there is."""
    chance = random.Random(seed)
    limit = learnt(start_s=0.003, per_query_s=0.001, slo_s=0.02)
    largest = 0
    for _ in range(1000):
        count = max(1, limit.limit - chance.randrange(2))
        limit.record(count, (0.003 + 0.001 * count) * chance.lognormvariate(0.0, 0.3))
        largest = max(largest, limit.limit)

    assert largest <= 3 * 7
    assert limit.limit == pytest.approx(7, abs=3)


# ---- promises and settings


def test_the_limit_follows_the_smallest_slo() -> None:
    limit = learnt(start_s=0.005, per_query_s=0.001, slo_s=0.1)

    limit.promise(0.05)

    assert limit.limit in (19, 20)


def test_a_fixed_batch_size_is_never_changed() -> None:
    limit = BatchLimit(fixed=7, slo_s=0.001)
    limit.promise(10.0)
    for _ in range(10):
        limit.record(7, 3.0)

    assert limit.limit == 7
    assert limit.expected_s(7) == pytest.approx(3.0)


def test_the_limit_cannot_depend_on_how_late_the_queue_is() -> None:
    """Nothing that the policy is told has to do with deadlines, waiting queries or the time."""
    told = {name for method in (BatchLimit.record, BatchLimit.promise) for name in inspect.signature(method).parameters}

    assert told == {"self", "count", "seconds", "overrun_s", "slo_s"}


def test_late_answers_change_the_slack_and_not_the_limit() -> None:
    limit = learnt(start_s=0.005, per_query_s=0.001, slo_s=0.1)
    before = limit.limit

    for _ in range(20):
        limit.record(20, 0.025, 0.5)

    assert limit.slack_s == pytest.approx(LARGEST_SLACK * 0.1)
    assert abs(limit.limit - before) <= 1


def test_the_slack_is_what_answers_overrun_by_and_vary() -> None:
    limit = BatchLimit(fixed=None, slo_s=1.0)
    assert limit.slack_s == 0.0

    for index in range(200):
        limit.record(1, 0.01, 0.002 + 0.001 * (-1) ** index)

    assert limit.slack_s == pytest.approx(0.004, rel=0.1)


def test_the_time_of_a_query_in_a_full_batch_is_known_when_batches_are_full() -> None:
    limit = BatchLimit(fixed=None, slo_s=0.8)
    for _ in range(100):
        limit.record(1, 0.105)
    assert limit.full_per_query_s == 0.0

    known = []
    for _ in range(20):
        limit.record(limit.limit, 0.1 + 0.005 * limit.limit)
        known.append(limit.full_per_query_s)

    assert known[0] == 0.0
    assert known[-1] == pytest.approx((0.1 + 0.005 * limit.limit) / limit.limit, rel=0.1)


def test_a_model_that_takes_one_query_at_a_time_is_known_by_its_batches_of_one() -> None:
    limit = BatchLimit(fixed=1, slo_s=0.1)
    limit.record(1, 3.0)
    assert limit.full_per_query_s == 0.0

    limit.record(1, 2.0)

    assert limit.full_per_query_s == 2.0


def test_a_second_batch_waits_only_behind_short_ones() -> None:
    assert learnt(start_s=0.0, per_query_s=BOUND_BELOW_S / 100, slo_s=0.001).allows_second_slot
    assert not learnt(start_s=BOUND_BELOW_S, per_query_s=0.0001, slo_s=0.1).allows_second_slot


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 2000), st.floats(0, 1e4), st.floats(-1e4, 1e4)), max_size=30),
    st.floats(0, 1e6),
)
def test_any_history_leaves_a_limit_that_can_be_used(history: list[tuple[int, float, float]], slo_s: float) -> None:
    limit = BatchLimit(fixed=None, slo_s=slo_s)
    largest = 0
    for count, seconds, overrun_s in history:
        limit.record(count, seconds, overrun_s)
        largest = max(largest, count)

        assert 1 <= limit.limit <= min(2 * largest, MAX_BATCH)
        assert limit.expected_s(1) >= -1e-9
        assert limit.expected_s(limit.limit) >= -1e-9
        assert 0.0 <= limit.slack_s <= LARGEST_SLACK * slo_s
