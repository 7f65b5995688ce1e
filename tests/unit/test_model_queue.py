"""Which queries the next batch takes."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from clipper_nomad_frontend.endpoints import Endpoint, Query
from clipper_nomad_frontend.model_queue import LATE_SHARE, ModelQueue
from tests.unit.queries import endpoint, query

ONE_IN = round(1 / LATE_SHARE)  # places, of which one is a late query's


def queue_of(queries: Sequence[Query]) -> ModelQueue:
    queue = ModelQueue()
    for each in queries:
        queue.add(each)
    return queue


def asked(at: Endpoint, count: int, *, arrived: float = 0.0, shape: int = 1) -> list[Query]:
    """`count` queries that arrive a millisecond after one another."""
    return [query(at, arrived=arrived + index / 1000, shape=shape) for index in range(count)]


# ---- order


def test_queries_of_one_app_leave_in_the_order_of_their_arrival() -> None:
    queries = asked(endpoint(slo_s=1.0), 5)
    queue = queue_of(queries)

    assert queue.take(3, 0.01, 0.0) == queries[:3]
    assert queue.take(3, 0.01, 0.0) == queries[3:]


def test_the_earliest_deadline_of_all_apps_goes_first() -> None:
    patient, hasty = query(endpoint("a", slo_s=10.0), arrived=0.0), query(endpoint("b", slo_s=1.0), arrived=1.0)
    later = query(endpoint("c", slo_s=0.5), arrived=2.0)
    queue = queue_of([patient, hasty, later])

    assert queue.take(2, 1.5, 0.0) == [hasty, later]
    assert queue.take(2, 1.5, 0.0) == [patient]


def test_apps_with_one_slo_share_a_lane() -> None:
    first, second = query(endpoint("a"), arrived=0.0), query(endpoint("b"), arrived=0.1)

    assert queue_of([first, second]).take(8, 0.2, 0.0) == [first, second]


def test_a_query_that_cannot_make_its_slo_gives_way_to_those_that_can() -> None:
    app = endpoint(slo_s=1.0)
    late, on_time = query(app, arrived=0.0), asked(app, 2, arrived=0.5)
    queue = queue_of([late, *on_time])

    assert queue.take(2, 0.9, 0.2) == on_time
    assert queue.take(2, 0.9, 0.2) == [late]


def test_late_queries_fill_the_room_that_is_left() -> None:
    app = endpoint(slo_s=1.0)
    late, on_time = asked(app, 3), asked(app, 2, arrived=5.0)

    assert queue_of([*late, *on_time]).take(4, 5.1, 0.1) == [*on_time, *late[:2]]


def test_of_late_queries_the_oldest_goes_first_whatever_its_app() -> None:
    old, new = query(endpoint("a", slo_s=2.0), arrived=0.0), query(endpoint("b", slo_s=0.1), arrived=1.0)
    queue = queue_of([old, new])
    assert queue.take(0, 1.5, 0.0) == []  # `new` becomes late long before `old`

    assert queue.take(1, 9.0, 0.0) == [old]
    assert queue.take(1, 9.0, 0.0) == [new]


def test_apps_that_become_late_together_take_turns_by_age() -> None:
    slow, fast = endpoint("a", slo_s=2.0), endpoint("b", slo_s=1.0)
    queries = [query((slow, fast)[index % 2], arrived=index / 10) for index in range(6)]

    assert queue_of(queries).take(6, 9.0, 0.0) == queries


def test_late_queries_get_their_share_of_places_though_others_are_in_time() -> None:
    app = endpoint(slo_s=1.0)
    late, on_time = asked(app, 4), asked(app, 200, arrived=5.0)
    queue = queue_of([*late, *on_time])

    batches = [queue.take(ONE_IN, 5.3, 0.1) for _ in range(4)]

    assert [[each for each in batch if each in late] for batch in batches] == [[each] for each in late]


def test_batches_of_one_serve_a_late_query_now_and_then() -> None:
    app = endpoint(slo_s=1.0)
    late, on_time = asked(app, 2), asked(app, 200, arrived=5.0)
    queue = queue_of([*late, *on_time])

    batches = [queue.take(1, 5.3, 0.1) for _ in range(2 * ONE_IN)]

    assert [index + 1 for index, batch in enumerate(batches) if batch[0] in late] == [ONE_IN, 2 * ONE_IN]


def test_places_due_to_late_queries_are_not_saved_up_while_none_waits() -> None:
    app = endpoint(slo_s=1.0)
    queue = queue_of([query(app), *asked(app, 100, arrived=5.0)])
    for _ in range(ONE_IN - 1):
        queue.take(1, 5.2, 0.1)
    assert queue.take(1, 5.2, 0.1)[0].arrived == 0.0
    for _ in range(3 * ONE_IN):
        queue.take(1, 5.2, 0.1)
    queue.put_back(query(app, arrived=4.0))

    assert queue.take(1, 5.2, 0.1)[0].arrived > 5.0


def test_one_that_would_make_it_only_with_luck_gives_way_where_more_wait_than_the_batch_takes() -> None:
    app = endpoint(slo_s=1.0)
    doubtful, safe = query(app, arrived=0.0), asked(app, 2, arrived=0.3)
    queue = queue_of([doubtful, *safe])

    assert queue.take(2, 0.8, 0.1, slack_s=0.15) == safe


def test_a_doubtful_query_is_taken_where_there_is_room() -> None:
    app = endpoint(slo_s=1.0)
    doubtful, safe = query(app, arrived=0.0), asked(app, 2, arrived=0.3)
    queue = queue_of([doubtful, *safe])

    assert queue.take(3, 0.8, 0.1, slack_s=0.15) == [doubtful, *safe]


def test_no_more_doubtful_queries_give_way_than_there_is_surplus() -> None:
    app = endpoint(slo_s=1.0)
    queries = asked(app, 5)
    queries[0].is_done = True
    queue = queue_of(queries)
    queue.forget(queries[0])

    assert queue.take(3, 0.8, 0.1, slack_s=5.0) == queries[2:]
    assert queue.take(3, 0.8, 0.1, slack_s=5.0) == [queries[1]]


def test_an_app_whose_queries_are_all_doubtful_gives_way_as_a_whole() -> None:
    doubtful, safe = asked(endpoint("a", slo_s=1.0), 2), asked(endpoint("b", slo_s=5.0), 4)
    queue = queue_of([*doubtful, *safe])

    assert queue.take(3, 0.5, 0.1, slack_s=1.0) == safe[:3]
    assert queue.take(3, 0.5, 0.1, slack_s=1.0) == [safe[3], *doubtful]


# ---- shapes


def test_a_batch_holds_one_shape_that_of_the_earliest_deadline() -> None:
    app = endpoint(slo_s=1.0)
    wide, narrow = asked(app, 2, shape=3), asked(app, 2, arrived=0.5, shape=1)
    queue = queue_of([wide[0], narrow[0], wide[1], narrow[1]])

    assert queue.take(4, 0.6, 0.0) == wide
    assert queue.take(4, 0.6, 0.0) == narrow


def test_late_queries_of_another_shape_do_not_starve() -> None:
    app = endpoint(slo_s=1.0)
    late, on_time = asked(app, 4, shape=2), asked(app, 1000, arrived=5.0, shape=1)
    queue = queue_of([*late, *on_time])

    batches = [queue.take(4, 5.0, 0.1) for _ in range(ONE_IN)]

    assert batches[-1] == late
    assert all(batch[0] in on_time for batch in batches[:-1])


def test_late_queries_of_the_shape_that_is_served_fill_up_while_another_shape_waits() -> None:
    app = endpoint(slo_s=1.0)
    other, same, on_time = query(app, shape=2), query(app, arrived=0.1), query(app, arrived=5.0)
    queue = queue_of([other, same, on_time])

    assert queue.take(4, 5.0, 0.1) == [on_time, same]
    assert queue.take(4, 5.0, 0.1) == [other]


def test_places_saved_for_a_late_shape_are_no_more_than_a_batch() -> None:
    app = endpoint(slo_s=1.0)
    late, on_time = asked(app, 20, shape=2), asked(app, 200, arrived=5.0, shape=1)
    queue = queue_of([*late, *on_time])
    for _ in range(ONE_IN - 1):
        queue.take(8, 5.1, 0.1)

    sizes = [len([each for each in queue.take(2, 5.1, 0.1) if each in late]) for _ in range(3)]

    assert sizes == [2, 0, 0]


# ---- queries that end while they wait


def test_a_query_whose_client_has_gone_is_not_handed_out() -> None:
    first, gone, last = queries = asked(endpoint(), 3)
    queue = queue_of(queries)

    queue.forget(gone)

    assert queue.count == 2
    assert queue.input_bytes == 16
    assert queue.take(8, 0.1, 0.0) == [first, last]


def test_a_queue_of_husks_is_empty() -> None:
    queries = [*asked(endpoint("a", slo_s=1.0), 3), *asked(endpoint("b", slo_s=2.0), 3), *asked(endpoint(), 3, shape=2)]
    queue = queue_of(queries)
    queue.take(0, 1.5, 0.0)  # some are late by now
    for each in queries:
        queue.forget(each)

    assert queue.count == queue.input_bytes == 0
    assert queue.take(8, 1.5, 0.0) == []


def test_husks_at_the_head_of_a_lane_do_not_hide_its_deadline() -> None:
    hasty, patient = asked(endpoint("a", slo_s=1.0), 3), asked(endpoint("b", slo_s=1.2), 2)
    queue = queue_of([*hasty, *patient])
    queue.forget(hasty[0])
    queue.forget(hasty[1])

    assert queue.take(2, 0.1, 0.0) == [hasty[2], patient[0]]
    queue.forget(patient[1])
    assert queue.take(2, 0.1, 0.0) == []


def test_many_husks_are_swept_out_and_the_living_stay_in_order() -> None:
    queries = asked(endpoint(), 300)
    queue = queue_of(queries)

    for each in queries[:290]:
        queue.forget(each)

    assert queue.count == 10
    assert queue.take(4, 0.1, 0.0) == queries[290:294]
    assert queue.drain() == queries[294:]


def test_a_queue_of_many_husks_lets_go_of_them() -> None:
    queue = ModelQueue()
    app = endpoint()
    kept = query(app)
    queue.add(kept)
    gone = [query(app) for _ in range(100)]
    for each in gone:
        queue.add(each)
    trace = weakref.ref(gone[0].sink)

    for each in gone:
        queue.forget(each)
    gone.clear()
    del each

    assert trace() is None
    assert queue.drain() == [kept]


# ---- put back, drain


def test_what_is_put_back_goes_first() -> None:
    queries = asked(endpoint(), 4)
    queue = queue_of(queries)
    taken = queue.take(3, 0.0, 0.0)

    for each in reversed(taken[1:]):
        queue.put_back(each)

    assert queue.count == 3
    assert queue.take(8, 0.0, 0.0) == queries[1:]


def test_a_late_query_that_is_put_back_keeps_its_place_before_other_late_ones() -> None:
    queries = asked(endpoint(slo_s=1.0), 6)
    queue = queue_of(queries)
    taken = queue.take(4, 9.0, 0.0)

    for each in reversed(taken[2:]):
        queue.put_back(each)

    assert queue.take(8, 9.0, 0.0) == queries[2:]


def test_a_drained_queue_gives_back_all_that_wait_and_starts_anew() -> None:
    app = endpoint(slo_s=1.0)
    late, on_time, gone = query(app), query(app, arrived=5.0), query(app, arrived=5.1)
    queue = queue_of([late, on_time, gone])
    queue.take(0, 5.2, 0.0)
    queue.forget(gone)

    assert queue.drain() == [late, on_time]
    assert not late.is_queued
    assert queue.count == queue.input_bytes == 0
    queue.add(late)
    assert queue.take(1, 0.0, 0.0) == [late]


# ---- whatever happens

APPS = [endpoint(f"app-{index}", slo_s=slo_s) for index, slo_s in enumerate((0.1, 0.1, 1.0, 5.0))]
ADD = st.tuples(st.just("add"), st.integers(0, len(APPS) - 1), st.integers(0, 2))
TAKE = st.tuples(st.just("take"), st.integers(1, 20), st.sampled_from([0.0, 0.05, 0.5]))
FORGET = st.tuples(st.just("forget"), st.integers(0, 1000), st.just(0))
PUT_BACK = st.tuples(st.just("put back"), st.integers(0, 20), st.just(0))
WAIT = st.tuples(st.just("wait"), st.sampled_from([0.01, 0.1, 1.0]), st.just(0))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(ADD, ADD, TAKE, FORGET, PUT_BACK, WAIT), max_size=120))
def test_nothing_is_lost_or_doubled_and_the_counters_are_right(steps: list[tuple[str, float, float]]) -> None:
    queue, now = ModelQueue(), 100.0
    waiting: set[Query] = set()
    last_batch: list[Query] = []
    for step, one, two in steps:
        match step:
            case "add":
                new = query(APPS[int(one)], arrived=now, shape=int(two))
                queue.add(new)
                waiting.add(new)
            case "take":
                last_batch = queue.take(int(one), now, two, slack_s=two / 2)
                assert len(last_batch) <= one
                assert bool(last_batch) == bool(waiting)
                assert len({each.item_length for each in last_batch}) <= 1
                assert len(set(last_batch)) == len(last_batch)
                assert waiting.issuperset(last_batch)
                waiting.difference_update(last_batch)
            case "forget" if waiting:
                gone = sorted(waiting, key=lambda each: each.query_id)[int(one) % len(waiting)]
                queue.forget(gone)
                waiting.discard(gone)
            case "put back":
                for each in reversed(last_batch[int(one) :]):
                    queue.put_back(each)
                    waiting.add(each)
                last_batch = []
            case "wait":
                now += one
        assert queue.count == len(waiting)
        assert queue.input_bytes == sum(len(each.data) for each in waiting)
        assert all(each.is_queued for each in waiting)

    assert set(queue.drain()) == waiting


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(APPS), st.floats(0, 3), st.integers(1, 2)), min_size=1, max_size=40),
    st.integers(1, 8),
    st.floats(0, 2),
)
def test_no_query_is_passed_over_by_a_worse_one_of_its_kind(
    arrivals: list[tuple[Endpoint, float, int]], limit: int, expected_s: float
) -> None:
    queries = [query(app, arrived=at, shape=shape) for app, at, shape in sorted(arrivals, key=lambda each: each[1])]
    queue = queue_of(queries)

    batch = queue.take(limit, 3.0, expected_s)

    left = [each for each in queries if each.is_queued and each.item_length == batch[0].item_length]
    in_time = [each.slo_at for each in batch if each.slo_at >= 3.0 + expected_s]
    late = [each.arrived for each in batch if each.slo_at < 3.0 + expected_s]
    for each in left:
        if each.slo_at < 3.0 + expected_s:
            assert all(each.arrived >= arrived for arrived in late)
        else:
            assert all(each.slo_at >= slo_at for slo_at in in_time)
    if left:
        assert len(batch) == limit
