"""Identical queries with a cache before the queue: executed once, each with its own deadline. On simulated time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipper_nomad_frontend.admission import QueueBounds
from clipper_nomad_frontend.endpoints import Query
from clipper_nomad_frontend.metrics import VersionCounters
from tests.unit.simulation import (
    Answered,
    SimulatedFrontend,
    SimulatedReplica,
    Speed,
    current,
    identity_app,
    identity_version,
)

CACHE = 1 << 20
SLOW = Speed(start_s=1.0, per_query_s=0.0)
V1 = identity_version("1")
HIT = b"X-Clipper-Model: identity:1\r\nX-Clipper-Cache: hit\r\n"


def serving(*, cache_bytes: int = CACHE, **app: float | str) -> SimulatedFrontend:
    frontend = SimulatedFrontend(cache_bytes=cache_bytes)
    frontend.serve(identity_app(**app), V1, current(V1))  # type: ignore[arg-type]  # fields of several types
    return frontend


def counters(frontend: SimulatedFrontend) -> VersionCounters:
    (dispatch,) = frontend.serving.dispatches.values()
    return dispatch.counters


def leave(frontend: SimulatedFrontend, query: Query) -> None:
    with frontend.loop.running():
        frontend.serving.abandon(query)


# ---- answers of before


def test_a_query_asked_before_is_answered_at_once_and_says_so() -> None:
    frontend = serving()
    replica = frontend.start_replica(V1, SLOW)
    frontend.ask(number=3.0)
    frontend.run_for(2)

    again = frontend.ask(number=3.0)

    answer = frontend.answer_of(again)
    assert (answer.output, answer.answer.headers, answer.at) == (3.0, HIT, again.arrived)
    assert again.query_id == 1
    assert b'"query_id":1,' in answer.answer.body
    assert replica.executed == [3.0]
    assert (counters(frontend).cache_hits, counters(frontend).cache_misses) == (1, 1)


def test_with_no_replica_alive_answers_of_before_are_served() -> None:
    frontend = serving()
    replica = frontend.start_replica(V1, SLOW)
    frontend.ask(number=3.0)
    frontend.run_for(2)
    replica.die()
    frontend.run_for(1)

    assert frontend.answer_of(frontend.ask(number=3.0)).answer.headers == HIT


def test_a_late_output_is_kept_so_that_a_retry_succeeds_at_once() -> None:
    frontend = serving(slo_s=0.5, policy="default")
    frontend.start_replica(V1, SLOW)
    first = frontend.ask(number=3.0)
    frontend.run_for(2)

    retry = frontend.ask(number=3.0)

    assert b'"default":true' in frontend.answer_of(first).answer.body
    assert frontend.answer_of(retry).output == 3.0


def test_the_output_for_a_client_that_has_gone_is_kept() -> None:
    frontend = serving()
    replica = frontend.start_replica(V1, SLOW)
    leave(frontend, frontend.ask(number=3.0))
    frontend.run_for(2)

    assert frontend.answer_of(frontend.ask(number=3.0)).output == 3.0
    assert replica.executed == [3.0]


def test_a_version_asked_for_has_answers_of_its_own() -> None:
    frontend, other = SimulatedFrontend(cache_bytes=CACHE), identity_version("2")
    frontend.serve(identity_app(), V1, other, current(V1))
    for version in (V1, other):
        frontend.start_replica(version, SLOW)
    frontend.ask(number=3.0)
    frontend.run_for(2)

    asked = frontend.ask(number=3.0, version="2")
    frontend.run_for(2)

    assert frontend.answer_of(asked).model == "identity:2"


def test_a_version_registered_anew_has_no_answers_of_before() -> None:
    frontend, anew = serving(), identity_version("1", uid="another")
    frontend.start_replica(V1, SLOW)
    frontend.ask(number=3.0)
    frontend.run_for(2)
    frontend.serve(identity_app(), anew, current(anew))
    replica = frontend.start_replica(anew, SLOW)

    again = frontend.ask(number=3.0)
    frontend.run_for(2)

    assert b"Cache" not in frontend.answer_of(again).answer.headers
    assert replica.executed == [3.0]
    assert frontend.serving.cache is not None
    assert frontend.serving.cache.count == 1


def test_an_output_that_comes_after_its_version_was_removed_answers_and_is_not_kept() -> None:
    frontend, other = serving(), identity_version("2")
    frontend.start_replica(V1, SLOW)
    query = frontend.ask(number=3.0)
    frontend.run_for(0.5)
    frontend.serve(identity_app(), other, current(other))
    frontend.run_for(1)

    assert frontend.answer_of(query).output == 3.0
    assert frontend.serving.cache is not None
    assert frontend.serving.cache.count == 0


# ---- what is never kept


def test_defaults_are_not_kept() -> None:
    frontend = serving(slo_s=0.5, policy="default")
    frontend.ask(number=3.0)
    frontend.run_for(1)

    again = frontend.ask(number=3.0)
    frontend.run_for(1)

    assert frontend.answer_of(again).at == pytest.approx(again.arrived + 0.5, abs=0.01)
    assert frontend.serving.cache is not None
    assert frontend.serving.cache.count == 0


def test_errors_are_not_kept() -> None:
    frontend = serving()
    replica = frontend.start_replica(V1, SLOW, bad=frozenset({3.0}))
    for _ in range(2):
        query = frontend.ask(number=3.0)
        frontend.run_for(2)
        assert frontend.answer_of(query).answer.status == 500

    assert replica.executed == [3.0, 3.0]


def test_probes_are_executed_and_neither_counted_nor_kept() -> None:
    frontend = serving()
    replica = frontend.start_replica(V1, SLOW)
    (dispatch,) = frontend.serving.dispatches.values()
    for _ in range(2):
        with frontend.loop.running():
            frontend.serving.probe(dispatch, (b"\0" * 8, 1), 10_000_000, frontend)
        frontend.run_for(2)

    assert replica.executed == [0.0, 0.0]
    assert counters(frontend).cache_lookups == 0
    assert frontend.serving.cache is not None
    assert frontend.serving.cache.count == 0


def test_a_version_that_may_not_be_tried_twice_sees_every_query() -> None:
    frontend, once = SimulatedFrontend(cache_bytes=CACHE), identity_version("1", retry=False)
    frontend.serve(identity_app(), once, current(once))
    replica = frontend.start_replica(once, SLOW)
    for _ in range(2):
        frontend.ask(number=3.0)
        frontend.ask(number=3.0)
        frontend.run_for(5)

    assert replica.executed == [3.0] * 4


def test_without_a_cache_no_query_joins_another() -> None:
    frontend = serving(cache_bytes=0)
    replica = frontend.start_replica(V1, SLOW)
    for _ in range(2):
        frontend.ask(number=3.0)
        frontend.ask(number=3.0)
        frontend.run_for(5)

    assert replica.executed == [3.0] * 4
    assert frontend.serving.cache is None


# ---- queries that join


def test_identical_queries_under_way_are_executed_once_and_each_is_answered() -> None:
    frontend = serving()
    replica = frontend.start_replica(V1, SLOW)
    queries = [frontend.ask(number=3.0) for _ in range(5)]
    frontend.run_for(0.5)
    queries += [frontend.ask(number=3.0) for _ in range(5)]
    frontend.run_for(1)

    answers = [frontend.answer_of(query) for query in queries]
    assert [answer.output for answer in answers] == [3.0] * 10
    assert [b'"query_id":%d,' % number in answer.answer.body for number, answer in enumerate(answers)] == [True] * 10
    assert all(answer.answer.headers.startswith(b"X-Clipper-Model: identity:1\r\nX-Clipper-Replica: ") for answer in answers)
    assert replica.executed == [3.0]
    assert (counters(frontend).cache_misses, counters(frontend).cache_joins) == (1, 9)


def test_when_the_first_one_s_client_leaves_the_others_are_answered() -> None:
    frontend = serving()
    replica = frontend.start_replica(V1, SLOW)
    busy, first, other = frontend.ask(number=1.0), frontend.ask(number=3.0), frontend.ask(number=3.0)
    frontend.run_for(0.5)

    leave(frontend, first)  # it is queued behind `busy`
    frontend.run_for(3)

    assert frontend.answer_of(other).output == 3.0
    assert frontend.answer_of(busy).output == 1.0
    assert replica.executed == [1.0, 3.0]


def test_what_nobody_waits_for_leaves_its_place_in_the_queue() -> None:
    frontend = serving()
    replica = frontend.start_replica(V1, SLOW)
    frontend.ask(number=1.0)
    frontend.run_for(0.5)
    queries = [frontend.ask(number=3.0) for _ in range(3)]

    for query in queries:
        leave(frontend, query)
    frontend.run_for(3)

    assert replica.executed == [1.0]
    assert frontend.ask(number=3.0) not in [each.query for each in frontend.answered]


def test_each_who_waits_has_its_own_deadline_and_policy() -> None:
    frontend = SimulatedFrontend(cache_bytes=CACHE)
    hasty = replace(identity_app(slo_s=0.5, policy="error"), name="hasty")
    frontend.serve(identity_app(slo_s=0.7), hasty, V1, current(V1))
    frontend.start_replica(V1, SLOW)
    late, missed = frontend.ask(number=3.0), frontend.ask("hasty", number=3.0)
    frontend.run_for(0.6)
    in_time = frontend.ask(number=3.0)
    frontend.run_for(2)

    assert frontend.answer_of(missed).answer.status == 504
    assert b'"late":true' in frontend.answer_of(late).answer.body
    assert frontend.answer_of(in_time).answer.body.endswith(b'"default":false}')


def test_a_query_that_is_more_urgent_does_not_wait_behind_what_one_with_time_waits_for() -> None:
    frontend = SimulatedFrontend(cache_bytes=CACHE)
    urgent = replace(identity_app(slo_s=1.5), name="urgent")
    frontend.serve(identity_app(slo_s=60.0), urgent, replace(V1, batch_size=1), current(V1))
    frontend.start_replica(V1, SLOW)
    for number in range(5):
        frontend.ask(number=float(number))
    patient = frontend.ask(number=9.0)
    hasty = frontend.ask("urgent", number=9.0)

    frontend.run_for(3.5)

    assert frontend.answer_of(hasty).output == 9.0
    assert frontend.answer_of(hasty).at < hasty.arrived + 3
    assert frontend.answer_of(patient).at == frontend.answer_of(hasty).at  # one output is enough for both


def test_a_query_does_not_wait_for_one_that_may_hang() -> None:
    frontend = serving(slo_s=1.0)
    hanging = frontend.start_replica(V1, SLOW)
    first = frontend.ask(number=3.0)
    frontend.run_for(0.1)
    hanging.pause(1000)
    frontend.run_for(5)
    frontend.start_replica(V1, SLOW)

    second = frontend.ask(number=3.0)
    frontend.run_for(2)

    assert frontend.answer_of(second).output == 3.0
    assert frontend.answer_of(first).output == 3.0


def test_an_error_is_told_to_all_who_wait() -> None:
    frontend = serving()
    replica = frontend.start_replica(V1, SLOW, bad=frozenset({3.0}))
    queries = [frontend.ask(number=3.0) for _ in range(3)]
    frontend.run_for(5)

    assert [frontend.answer_of(query).answer.status for query in queries] == [500] * 3
    assert replica.executed == [3.0]


def test_an_input_that_ends_its_replicas_is_tried_twice_for_all_who_wait_together() -> None:
    frontend = serving()
    for _ in range(3):
        frontend.start_replica(V1, SLOW, deadly=frozenset({3.0}), restart_s=0.5)
    queries = [frontend.ask(number=3.0) for _ in range(5)]
    frontend.run_for(20)

    assert [frontend.answer_of(query).answer.status for query in queries] == [422] * 5
    assert frontend.deaths == 2


def test_an_input_that_ended_a_replica_is_not_tried_again_for_nobody() -> None:
    frontend = serving()
    for _ in range(3):
        frontend.start_replica(V1, SLOW, deadly=frozenset({3.0}), restart_s=0.5)
    query = frontend.ask(number=3.0)
    frontend.run_for(0.5)
    leave(frontend, query)
    frontend.run_for(20)

    assert frontend.deaths == 1
    other = frontend.ask(number=4.0)
    frontend.run_for(2)
    assert frontend.answer_of(other).output == 4.0


def test_a_suspect_whose_clients_have_gone_is_not_tried_again() -> None:
    frontend = serving()
    frontend.start_replica(V1, SLOW, deadly=frozenset({3.0}), restart_s=5)
    query = frontend.ask(number=3.0)
    frontend.run_for(2)  # its replica is gone, and it waits for the next one
    leave(frontend, query)
    frontend.run_for(20)

    assert frontend.deaths == 1


def test_who_waits_for_a_version_that_is_removed_goes_to_its_successor_each_on_its_own_terms() -> None:
    frontend, other = SimulatedFrontend(cache_bytes=CACHE), identity_version("2")
    frontend.serve(identity_app(), V1, other, current(V1))
    free, pinned = frontend.ask(number=3.0), frontend.ask(number=3.0, version="1")
    frontend.serve(identity_app(), other, current(other))
    frontend.start_replica(other, SLOW)
    frontend.run_for(3)

    assert frontend.answer_of(free).model == "identity:2"
    assert frontend.answer_of(pinned).answer.status == 400


def test_a_full_queue_refuses_a_query_and_not_those_that_join_what_is_in_it() -> None:
    frontend = SimulatedFrontend(cache_bytes=CACHE, bounds=QueueBounds(queries=1))
    frontend.serve(identity_app(), V1, current(V1))
    frontend.ask(number=3.0)

    refused, joined = frontend.ask(number=4.0), frontend.ask(number=3.0)
    frontend.start_replica(V1, SLOW)
    frontend.run_for(3)

    assert frontend.answer_of(refused).answer.status == 429
    assert frontend.answer_of(joined).output == 3.0


def test_thousands_who_come_and_go_leave_nothing_behind() -> None:
    frontend = serving()
    first = frontend.ask(number=3.0)
    flight = first.dispatch
    for _ in range(2000):
        leave(frontend, frontend.ask(number=3.0))

    assert len(flight._joined) < 200  # type: ignore[union-attr]  # noqa: SLF001  # what grows is not seen from outside
    frontend.start_replica(V1, SLOW)
    frontend.run_for(3)
    assert frontend.answer_of(first).output == 3.0


# ---- everything at once, against what must hold however it comes

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(["app", "hasty"]), st.integers(0, 4)),
        st.tuples(st.just("leave"), st.just(""), st.integers(0, 9)),
        st.tuples(st.just("wait"), st.just(""), st.integers(1, 30)),
        st.tuples(st.just("die"), st.just(""), st.integers(0, 2)),
        st.tuples(st.just("start"), st.just(""), st.integers(0, 2)),
        st.tuples(st.just("pause"), st.just(""), st.integers(0, 2)),
        st.tuples(st.just("deploy"), st.just(""), st.integers(0, 2)),
    ),
    max_size=60,
)


BAD, DEADLY = 3.0, 4.0


class World:
    """A frontend, two apps and one model, and what was asked of them."""

    def __init__(self, cache_bytes: int) -> None:
        self.frontend = SimulatedFrontend(cache_bytes=cache_bytes)
        self.replicas: list[SimulatedReplica] = []
        self.asked: list[tuple[Query, float]] = []
        self.gone: set[Query] = set()
        self.builds = 0
        self.deploy()

    def deploy(self) -> None:
        """Register the version anew."""
        self.builds += 1
        self.version = identity_version("1", uid=f"build-{self.builds}")
        apps = (identity_app(slo_s=1.0), replace(identity_app(slo_s=0.2, policy="default"), name="hasty"))
        self.frontend.serve(*apps, self.version, current(self.version))

    def step(self, what: str, app: str, number: int) -> None:
        """Let something happen."""
        alive = [replica for replica in self.replicas if replica.is_alive]
        match what:
            case "ask":
                self.asked.append((self.frontend.ask(app, number=float(number)), float(number)))
            case "leave" if self.asked:
                query, _ = self.asked[number % len(self.asked)]
                leave(self.frontend, query)
                self.gone.add(query)
            case "wait":
                self.frontend.run_for(number / 10)
            case "die" if alive:
                alive[number % len(alive)].die()
            case "pause" if alive:
                alive[number % len(alive)].pause(3.0)
            case "start":
                speed = Speed(start_s=0.05 * (number + 1), per_query_s=0.01)
                bad, deadly = frozenset({BAD}), frozenset({DEADLY})
                replica = self.frontend.start_replica(self.version, speed, bad=bad, deadly=deadly, restart_s=1.0)
                self.replicas.append(replica)
            case "deploy":
                self.deploy()

    def check(self) -> None:
        """See that each query has its one answer, and that nothing waits any more."""
        said: dict[Query, list[Answered]] = {}
        for each in self.frontend.answered:
            said.setdefault(each.query, []).append(each)
        for query, number in self.asked:
            answers = said.get(query, [])
            assert len(answers) == 1 or (query in self.gone and not answers)
            assert all(answer.output in ({None} if number in (BAD, DEADLY) else {number, None}) for answer in answers)
        assert not self.frontend.serving.owes_answers
        for dispatch in self.frontend.serving.dispatches.values():
            assert dispatch.queue.count == 0
            assert dispatch.flights is None or not dispatch.flights.under_way


@settings(max_examples=150, deadline=None)
@given(STEPS, st.sampled_from([0, 600, CACHE]))
def test_whatever_happens_every_query_has_one_answer_and_it_is_its_own(
    steps: list[tuple[str, str, int]], cache_bytes: int
) -> None:
    world = World(cache_bytes)
    for what, app, number in steps:
        world.step(what, app, number)

    world.frontend.run_for(120)

    world.check()
    cache = world.frontend.serving.cache
    assert cache is None or cache.bytes_held <= cache_bytes
