"""Replicas that several frontends share: they are asked, and whoever calls first gets the batch."""

from __future__ import annotations

import pytest

from clipper_nomad_frontend.replicas import MOST_ASKED, STALLED_AFTER_S, ReplicaState
from tests.unit.dispatch_rig import Rig


def shared(*, replicas: int = 1, batch_size: int = -1, retry: bool = True) -> Rig:
    """A rig whose replicas want to be asked."""
    rig = Rig(replicas=replicas, batch_size=batch_size, retry=retry)
    rig.asks_first = True
    rig.dispatch.frontends = 4
    return rig


def test_nothing_is_sent_to_a_shared_replica_before_it_calls() -> None:
    rig = shared()
    (replica,) = rig.sessions
    (asked,) = rig.ask()
    rig.pump()
    assert rig.channel.asked == {replica: 0.0}
    assert not rig.channel.sent

    rig.now += 0.03
    rig.call(replica)
    rig.result(replica)

    assert rig.statuses(asked) == [200]
    assert asked.tries == 1


def test_what_waits_grows_into_one_batch_for_the_replica_that_calls_first() -> None:
    rig = shared(replicas=2, batch_size=8)
    for _ in range(5):
        rig.ask()
        rig.pump()

    rig.call(rig.sessions[1])

    assert [(session, len(batch.queries)) for session, batch in rig.channel.sent] == [(rig.sessions[1], 5)]


def test_the_others_hear_that_nothing_waits_any_more() -> None:
    rig = shared(replicas=3)
    rig.ask()
    rig.pump()
    first, *others = rig.sessions
    assert set(rig.channel.asked) == set(rig.sessions)

    rig.call(first)

    assert rig.channel.passes == [(other, 0) for other in others]
    rig.ask()
    rig.pump()
    assert set(rig.channel.asked) == set(others)


def test_the_others_hear_for_how_long_waits_what_is_left() -> None:
    rig = shared(replicas=2, batch_size=1)
    rig.ask()
    rig.pump()
    rig.now += 1.0
    rig.ask()
    rig.now += 0.5

    rig.call(rig.sessions[0])

    assert rig.channel.asked == {rig.sessions[1]: 0.5}


def test_a_call_for_which_nothing_waits_gets_a_pass() -> None:
    rig = shared()
    (asked,) = rig.ask()
    rig.pump()
    rig.leave(asked)

    rig.call(rig.sessions[0])

    assert rig.channel.passes == [(rig.sessions[0], 1)]
    assert rig.dispatch.counters.passed == 1


def test_a_call_that_nobody_asked_for_harms_nothing() -> None:
    rig = Rig()
    (replica,) = rig.sessions
    rig.call(replica)
    rig.ask(2)
    rig.pump()
    rig.call(replica)  # with a batch in hand

    assert rig.channel.passes == [(replica, 1), (replica, 2)]
    assert len(replica.in_flight) == 1
    rig.work_off()
    assert rig.statuses() == [200, 200]


@pytest.mark.parametrize("state", [ReplicaState.DRAINING, ReplicaState.STALLED])
def test_a_replica_that_gets_no_work_gets_none_by_calling(state: ReplicaState) -> None:
    rig = shared()
    rig.ask()
    rig.pump()
    replica = rig.dispatch.replicas.all[rig.sessions[0].id]

    rig.dispatch.replicas.set_state(replica, state)
    rig.call(rig.sessions[0])

    assert rig.channel.passes == [(rig.sessions[0], 1)]
    assert not rig.channel.sent


def test_a_replica_whose_results_say_nothing_of_asking_is_sent_batches_as_ever() -> None:
    rig = shared(batch_size=1)
    rig.asks_first = False
    rig.ask()
    rig.pump()
    rig.work_off()
    for _ in range(2):
        rig.dispatch.limit.record(1, 0.05)  # too long for a second slot
    rig.ask(2)
    rig.pump()
    assert len(rig.channel.sent) == 2

    rig.asks_first = True
    rig.result(rig.sessions[0])

    assert len(rig.channel.sent) == 2
    assert set(rig.channel.asked) == set(rig.sessions)


def test_a_frontend_that_knows_no_other_asks_nobody_before_a_result_says_so() -> None:
    rig = shared()
    rig.dispatch.frontends = 1
    rig.ask()
    rig.pump()
    assert not rig.channel.asked

    rig.result(rig.sessions[0])
    rig.ask()
    rig.pump()

    assert set(rig.channel.asked) == set(rig.sessions)
    rig.work_off()
    assert rig.statuses() == [200, 200]


def test_few_replicas_are_asked_for_a_batch_and_more_when_these_do_not_call() -> None:
    rig = shared(replicas=MOST_ASKED + 3, batch_size=8)
    rig.ask()
    rig.pump()
    assert len(rig.channel.asked) == MOST_ASKED
    rig.ask(7)
    rig.pump()
    assert len(rig.channel.asked) == MOST_ASKED

    rig.wait(STALLED_AFTER_S + 0.1)

    assert len(rig.channel.asked) == MOST_ASKED + 3


def test_more_replicas_are_asked_for_more_batches() -> None:
    rig = shared(replicas=3 * MOST_ASKED, batch_size=8)

    rig.ask(9)
    rig.pump()

    assert len(rig.channel.asked) == 2 * MOST_ASKED


def test_waiting_for_a_call_is_no_stall() -> None:
    rig = shared()
    (asked,) = rig.ask()
    rig.pump()
    rig.wait(10 * STALLED_AFTER_S)

    rig.call(rig.sessions[0])
    rig.wait(STALLED_AFTER_S / 2)

    assert rig.dispatch.replicas.ready
    rig.result(rig.sessions[0])
    assert rig.statuses(asked) == [200]


def test_a_lost_replica_that_was_asked_costs_no_try() -> None:
    rig = shared(replicas=2, retry=False)
    (asked,) = rig.ask()
    rig.pump()

    rig.lose(rig.sessions[0])
    rig.call(rig.sessions[0])
    rig.result(rig.sessions[0])

    assert rig.statuses(asked) == [200]


def test_a_replica_that_is_gone_when_it_is_asked_is_left_out() -> None:
    rig = shared(replicas=2)
    gone, good = rig.sessions
    rig.channel.gone.add(gone)
    rig.ask()
    rig.pump()

    assert set(rig.channel.asked) == {good}
    rig.work_off()
    assert rig.statuses() == [200]


def test_a_suspect_is_sent_alone_to_whoever_calls() -> None:
    rig = shared(replicas=2, batch_size=8)
    suspects = rig.ask(3)
    rig.pump()
    rig.call(rig.sessions[0])
    rig.lose(rig.sessions[0])
    (replica,) = rig.sessions
    others = rig.ask(2)
    rig.pump()

    rig.work_off()

    sizes = [(len(batch.queries), batch.is_alone) for session, batch in rig.channel.sent if session is replica]
    assert sorted(sizes) == [(1, True), (1, True), (1, True), (2, False)]
    assert rig.statuses(*suspects, *others) == [200] * 5
