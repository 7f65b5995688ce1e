"""Queries become batches, batches go to replicas, and every query is answered once: the plain way, clients that go,
overload, replicas that die. Models that fail and replicas that stall: test_dispatch_failures.py.
"""

from __future__ import annotations

from typing import cast

import pytest

from clipper_nomad.protocol.wire import MAX_BATCH_COUNT, Result
from clipper_nomad_frontend import dispatch as module
from clipper_nomad_frontend.admission import QueueBounds
from clipper_nomad_frontend.endpoints import Query
from clipper_nomad_frontend.poison import REFUSED_FOR_S
from clipper_nomad_frontend.sessions import Session
from tests.unit.dispatch_rig import Rig, output_of
from tests.unit.queries import Inbox, endpoint

# ---- the plain way


def test_a_query_goes_to_a_replica_and_its_output_comes_back() -> None:
    rig = Rig()
    (asked,) = rig.ask()

    rig.pump()
    rig.result(rig.sessions[0])

    (answer,) = rig.answers(asked)
    assert answer.body == b'{"query_id":0,"output":0.0,"default":false}'
    assert answer.headers == b"X-Clipper-Model: m:1\r\nX-Clipper-Replica: r\r\n"
    assert rig.channel.budgets == [60_000_000]


def test_batches_grow_under_a_backlog_and_everyone_gets_their_own_output() -> None:
    rig = Rig()
    rig.ask(200)

    rig.pump()
    rig.work_off()

    assert [output_of(answer) for answer in rig.answers()] == [float(number) for number in range(200)]
    sizes = [len(batch.queries) for _, batch in rig.channel.sent]
    assert sizes[:3] == [1, 2, 4]
    assert max(sizes) >= 32


def test_an_answer_past_the_slo_is_marked_late() -> None:
    rig = Rig(apps=[endpoint(slo_s=0.1)])
    rig.ask()
    rig.pump()

    rig.now += 0.2
    rig.result(rig.sessions[0])

    assert b'"late":true' in rig.answers()[0].body


def test_an_answer_that_comes_just_before_the_timer_of_a_default_does_not_pass_for_one_in_time() -> None:
    rig = Rig(apps=[endpoint(slo_s=0.1, policy="default")])
    rig.ask()
    rig.pump()

    rig.now += 0.2  # the loop was busy: results are read before timers go off
    rig.result(rig.sessions[0])

    assert b'"default":true' in rig.answers()[0].body


def test_a_backlog_is_shared_by_the_replicas_that_rest() -> None:
    rig = Rig(replicas=3)
    rig.teach(largest=64)
    rig.ask(30)

    rig.pump()

    assert rig.in_flight() == [10, 10, 10]


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4, 4, 2]), (1, [1] * 10)])
def test_a_fixed_batch_size_is_kept(batch_size: int, sizes: list[int]) -> None:
    rig = Rig(batch_size=batch_size)
    rig.ask(10)

    rig.pump()
    rig.work_off()

    assert [len(batch.queries) for _, batch in rig.channel.sent] == sizes


@pytest.mark.parametrize(("batch_size", "limit"), [(0, 1), (-7, 1), (10**9, MAX_BATCH_COUNT)])
def test_a_batch_size_that_cannot_be_is_not_taken_literally(batch_size: int, limit: int) -> None:
    assert Rig(batch_size=batch_size).dispatch.limit.limit == limit


def test_a_second_batch_waits_at_a_busy_replica_once_it_is_as_large_as_the_first() -> None:
    rig = Rig()
    rig.teach(largest=8)
    rig.ask(4)
    rig.pump()

    rig.ask(3)
    rig.pump()
    assert rig.in_flight() == [4]

    rig.ask(1)
    rig.pump()
    assert rig.in_flight() == [4, 4]

    rig.ask(8)
    rig.pump()
    assert rig.in_flight() == [4, 4]


def test_no_second_batch_waits_behind_a_long_one() -> None:
    rig = Rig()
    rig.ask(20)
    rig.pump()

    for _ in range(4):
        rig.result(rig.sessions[0], took_s=0.5)
        assert len(rig.sessions[0].in_flight) == 1


def test_a_batch_has_no_more_bytes_than_a_message_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BATCH_BYTES", 80)
    rig = Rig(batch_size=100)
    rig.ask(5, shape=4)  # 32 bytes each

    rig.pump()
    rig.work_off()

    assert [len(batch.queries) for _, batch in rig.channel.sent] == [2, 2, 1]
    assert rig.statuses() == [200] * 5
    assert rig.dispatch.queue.count == 0


def test_an_input_larger_than_a_batch_may_be_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BATCH_BYTES", 10)
    rig = Rig(batch_size=100)
    rig.ask(2, shape=4)

    rig.pump()

    assert rig.in_flight() == [1]


def test_what_is_sent_late_has_no_budget_below_nothing() -> None:
    rig = Rig(replicas=0, apps=[endpoint(slo_s=0.1, timeout_s=1.0)])
    rig.ask()
    rig.join()
    rig.now += 5.0

    rig.pump()

    assert rig.channel.budgets == [0]


# ---- clients that go


def test_a_cancelled_query_does_not_harm_its_batch_mates() -> None:
    rig = Rig(batch_size=3)
    first, gone, last = rig.ask(3)
    rig.pump()

    rig.leave(gone)
    rig.result(rig.sessions[0])

    assert [output_of(answer) for answer in rig.answers(first, last)] == [0.0, 2.0]
    assert rig.answers(gone) == []


def test_a_client_that_goes_while_its_query_waits_frees_its_place() -> None:
    rig = Rig(replicas=0, bounds=QueueBounds(queries=2))
    _, gone = rig.ask(2)
    assert rig.statuses(*rig.ask()) == [429]

    rig.leave(gone)

    assert rig.dispatch.queue.count == 1
    assert rig.statuses(*rig.ask()) == []


def test_a_query_that_is_to_be_tried_again_is_not_when_its_client_has_gone() -> None:
    rig = Rig(batch_size=3)
    rig.ask(3)
    rig.pump()
    rig.lose(rig.sessions[0])
    for query in rig.asked[:2]:
        rig.leave(query)

    rig.join()
    rig.pump()

    assert [batch.queries for _, batch in rig.channel.sent[1:]] == [[rig.asked[2]]]
    rig.leave(rig.asked[2])
    rig.work_off()
    assert rig.statuses() == []


def test_of_several_to_be_tried_again_only_those_go_whose_clients_are_there() -> None:
    rig = Rig(batch_size=3)
    rig.ask(3)
    rig.pump()
    rig.lose(rig.sessions[0])
    rig.leave(rig.asked[1])
    rig.join()
    rig.join()

    rig.pump()

    assert [batch.queries for _, batch in rig.channel.sent[1:]] == [[rig.asked[0]], [rig.asked[2]]]


# ---- overload


def test_a_full_queue_refuses_with_when_to_come_again() -> None:
    rig = Rig(replicas=0, bounds=QueueBounds(queries=3))

    rig.ask(5)

    assert rig.statuses() == [429, 429]
    assert b"Retry-After: 1\r\n" in rig.answers()[0].headers
    assert rig.dispatch.queue.count == 3
    assert rig.dispatch.counters.refused == 2


def test_what_was_refused_leaves_the_queue_as_it_was() -> None:
    """Each refusal used to take one off the count, so that the bound bound nothing and the pump ran into an empty lane."""
    rig = Rig(replicas=0, bounds=QueueBounds(queries=3))
    rig.ask(50)

    rig.join()
    rig.pump()
    rig.work_off()

    assert sorted(rig.statuses()) == [200] * 3 + [429] * 47
    assert rig.dispatch.queue.count == rig.dispatch.queue.input_bytes == 0


def test_large_inputs_fill_a_queue_too() -> None:
    rig = Rig(replicas=0, bounds=QueueBounds(input_bytes=100))

    rig.ask(3, shape=10)

    assert rig.statuses() == [429]
    assert "bytes" in rig.answers()[0].cause


def test_a_wait_longer_than_the_timeout_is_refused_at_once() -> None:
    rig = Rig(apps=[endpoint(slo_s=0.1, timeout_s=5.0)], batch_size=1)
    for _ in range(3):
        rig.ask()
        rig.pump()
        rig.result(rig.sessions[0], took_s=1.0)

    queries = rig.ask(8)

    assert rig.statuses(*queries) == [429, 429]
    assert b"Retry-After: 6\r\n" in rig.answers(*queries)[0].headers


def test_without_a_replica_the_wait_is_not_known_and_nobody_is_refused_for_it() -> None:
    rig = Rig(apps=[endpoint(slo_s=0.1, timeout_s=5.0)], batch_size=1)
    for _ in range(3):
        rig.ask()
        rig.pump()
        rig.result(rig.sessions[0], took_s=1.0)
    rig.lose(rig.sessions[0])

    assert rig.statuses(*rig.ask(8)) == []


# ---- a replica dies


def test_the_queries_of_a_dead_replica_are_tried_again_each_alone_and_once() -> None:
    rig = Rig(replicas=1, batch_size=3)
    rig.ask(3)
    rig.pump()

    rig.lose(rig.sessions[0])
    rig.join()
    rig.pump()

    assert rig.in_flight() == [1]
    rig.work_off()
    assert [output_of(answer) for answer in rig.answers()] == [0.0, 1.0, 2.0]
    assert [len(batch.queries) for _, batch in rig.channel.sent] == [3, 1, 1, 1]
    assert rig.dispatch.counters.lost == 1
    assert rig.dispatch.counters.resent == 3


def test_nothing_else_is_at_a_replica_while_it_works_on_a_suspect() -> None:
    rig = Rig()
    rig.teach(largest=4)
    rig.ask(1)
    rig.pump()
    rig.lose(rig.sessions[0])
    rig.join()
    rig.ask(8)

    rig.pump()

    assert rig.in_flight() == [1]
    rig.result(rig.sessions[0])
    assert rig.in_flight() == [8]


def test_suspects_do_not_starve_while_second_slots_keep_every_replica_busy() -> None:
    rig = Rig(replicas=2, batch_size=4)
    rig.teach(largest=4)
    rig.ask(16)
    rig.pump()
    assert rig.in_flight() == [4, 4, 4, 4]
    suspects = rig.asked[:4]

    rig.lose(rig.sessions[0])
    for _ in range(12):
        rig.ask(8)  # the queue never runs empty
        rig.result(rig.sessions[0])

    assert rig.statuses(*suspects) == [200] * 4


def test_suspects_and_ordinary_batches_take_turns() -> None:
    rig = Rig(batch_size=4)
    suspects = rig.ask(4)
    rig.pump()
    rig.lose(rig.sessions[0])
    rig.join()
    others = rig.ask(8)

    rig.pump()
    rig.work_off()

    sent = [batch.queries for _, batch in rig.channel.sent[1:]]
    assert sent == [suspects[:1], others[:4], suspects[1:2], others[4:], suspects[2:3], suspects[3:]]


def test_an_input_that_ends_two_replicas_is_poison_and_refused_for_ten_minutes() -> None:
    rig = Rig(replicas=2, apps=[endpoint(slo_s=1.0, timeout_s=5000.0)])
    (poison,) = rig.ask()
    rig.pump()
    rig.lose(rig.sessions[0])

    rig.lose(rig.sessions[0])

    assert rig.statuses(poison) == [422]
    assert rig.dispatch.counters.poisoned == 1
    again = rig.submit(Query(rig.apps[0], poison.data, 1, rig.now, Inbox(), 99))
    assert rig.statuses(again) == [422]
    assert rig.dispatch.queue.count == 0
    rig.now += REFUSED_FOR_S
    assert rig.statuses(rig.submit(Query(rig.apps[0], poison.data, 1, rig.now, Inbox(), 100))) == []


def test_other_inputs_pass_while_one_is_refused() -> None:
    rig = Rig(replicas=3)
    rig.ask()
    rig.pump()
    rig.lose(rig.sessions[0])
    rig.lose(rig.sessions[0])

    (other,) = rig.ask()
    rig.pump()
    rig.work_off()

    assert rig.statuses(other) == [200]


def test_without_retry_a_query_of_a_dead_replica_is_told_so() -> None:
    rig = Rig(retry=False, batch_size=2)
    rig.ask(2)
    rig.pump()

    rig.lose(rig.sessions[0])

    assert rig.statuses() == [503, 503]
    assert rig.dispatch.counters.resent == 0


def test_a_replica_that_is_gone_when_a_batch_is_sent_costs_no_try() -> None:
    rig = Rig(replicas=2, batch_size=4)
    rig.channel.gone.add(rig.sessions[0])
    queries = rig.ask(4)

    rig.pump()

    assert [(session, batch.queries) for session, batch in rig.channel.sent] == [(rig.sessions[1], queries)]
    assert all(query.tries == 1 for query in queries)


def test_what_cannot_be_sent_waits_in_its_old_order() -> None:
    rig = Rig(batch_size=3)
    rig.channel.gone.add(rig.sessions[0])
    queries = rig.ask(5)
    rig.pump()
    assert rig.dispatch.queue.count == 5
    assert not rig.dispatch.replicas.ready

    rig.join()
    rig.pump()

    assert rig.channel.sent[0][1].queries == queries[:3]


def test_a_suspect_that_cannot_be_sent_stays_a_suspect() -> None:
    rig = Rig(replicas=2)
    first, _ = rig.ask(1), rig.ask(1)
    rig.pump()
    rig.channel.gone.add(rig.sessions[1])
    rig.result(rig.sessions[1])

    rig.lose(rig.sessions[0])
    assert first[0].tries == 1
    rig.join()
    rig.pump()

    assert rig.channel.sent[-1][1].queries == first
    assert rig.channel.sent[-1][1].is_alone


def test_a_replica_that_asked_for_no_more_finishes_and_gets_no_more() -> None:
    rig = Rig(batch_size=1)
    rig.ask(2)
    rig.pump()

    rig.dispatch.drain(rig.sessions[0])
    rig.result(rig.sessions[0])

    assert rig.statuses() == [200]
    assert rig.in_flight() == []
    assert rig.dispatch.queue.count == 1


def test_a_session_of_another_version_changes_nothing() -> None:
    rig = Rig()
    rig.ask()
    rig.pump()
    batch = next(iter(rig.sessions[0].in_flight.values()))
    stranger = Session(99, b"x", rig.sessions[0].hello)

    rig.dispatch.drain(stranger)
    rig.dispatch.on_lost(stranger, rig.now)
    rig.dispatch.on_result(stranger, batch, cast("Result", None), rig.now)  # not looked at

    assert rig.in_flight() == [1]
    assert rig.statuses() == []
