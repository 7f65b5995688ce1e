"""Whether a queue takes one more query."""

from __future__ import annotations

import pytest

from clipper_nomad_frontend.admission import QueueBounds, Refusal, refusal

BOUNDS = QueueBounds(queries=100, input_bytes=1000)


def refused(
    *, queued: int = 10, queued_bytes: int = 10, per_query_s: float = 0.0, ready: int = 1, timeout_s: float = 10.0
) -> Refusal | None:
    return refusal(
        BOUNDS, queued=queued, queued_bytes=queued_bytes, per_query_s=per_query_s, ready=ready, timeout_s=timeout_s
    )


def test_a_queue_within_its_bounds_takes_one_more() -> None:
    assert refused(queued=99, queued_bytes=999, per_query_s=0.1) is None


def test_a_queue_has_the_bounds_that_are_documented() -> None:
    assert QueueBounds() == QueueBounds(queries=20_000, input_bytes=256 * 1024 * 1024)


def test_a_queue_that_holds_its_bound_of_queries_is_full() -> None:
    answer = refused(queued=100)

    assert answer == Refusal("holds 100 queries, which is its bound", 1)


def test_a_queue_that_holds_its_bound_of_bytes_is_full() -> None:
    answer = refused(queued_bytes=1000)

    assert answer == Refusal("holds 1000 bytes of inputs; its bound is 1000", 1)


def test_a_wait_longer_than_the_timeout_is_refused_with_the_estimate_rounded_up() -> None:
    answer = refused(queued=51, per_query_s=0.5, ready=2, timeout_s=12.0)

    assert answer == Refusal("would take about 12.8 s to come to this query, whose timeout is 12 s", 13)


def test_a_wait_of_just_the_timeout_is_taken() -> None:
    assert refused(queued=48, per_query_s=0.5, ready=2, timeout_s=12.0) is None


def test_more_replicas_make_the_wait_shorter() -> None:
    assert refused(queued=90, per_query_s=0.5, ready=1) is not None
    assert refused(queued=90, per_query_s=0.5, ready=5) is None


@pytest.mark.parametrize("per_query_s", [0.0, 100.0])
def test_without_a_replica_only_counts_bound_the_queue(per_query_s: float) -> None:
    assert refused(queued=99, per_query_s=per_query_s, ready=0) is None
    assert refused(queued=100, per_query_s=per_query_s, ready=0) is not None


def test_a_version_that_never_answered_is_bounded_by_count_only() -> None:
    assert refused(queued=99, per_query_s=0.0, timeout_s=0.001) is None


def test_nobody_is_told_to_come_again_at_once() -> None:
    answer = refused(queued=100, per_query_s=0.0001)

    assert answer is not None
    assert answer.retry_after_s == 1
