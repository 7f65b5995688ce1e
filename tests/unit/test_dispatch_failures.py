"""What becomes of queries when the model fails, a replica stalls, or their version is removed."""

from __future__ import annotations

import pytest

from clipper_nomad.protocol.wire import ErrorKind, OutputError
from clipper_nomad_frontend.replicas import STALLED_AFTER_S, ReplicaState
from tests.unit.dispatch_rig import Rig, header_of, output_of, raised
from tests.unit.queries import endpoint

# ---- the model fails


def test_a_batch_that_raised_is_tried_again_each_input_alone() -> None:
    rig = Rig(batch_size=3)
    rig.ask(3)
    rig.pump()

    rig.result(rig.sessions[0], raised())
    rig.result(rig.sessions[0])
    rig.result(rig.sessions[0], raised())
    rig.result(rig.sessions[0])

    assert rig.statuses(*rig.asked) == [200, 500, 200]
    assert "traceback id t1" in rig.answers(rig.asked[1])[0].cause
    assert [len(batch.queries) for _, batch in rig.channel.sent] == [3, 1, 1, 1]
    assert rig.dispatch.last_error == "ValueError: no"
    assert rig.dispatch.counters.errors == 1


def test_an_input_that_raised_alone_is_not_tried_again() -> None:
    rig = Rig()
    rig.ask()
    rig.pump()

    rig.result(rig.sessions[0], raised())

    assert rig.statuses() == [500]
    assert len(rig.channel.sent) == 1


def test_without_retry_a_batch_that_raised_fails_as_a_whole() -> None:
    rig = Rig(batch_size=3, retry=False)
    rig.ask(3)
    rig.pump()

    rig.result(rig.sessions[0], raised())

    assert rig.statuses() == [500] * 3


@pytest.mark.parametrize("kind", [ErrorKind.WRONG_COUNT, ErrorKind.WRONG_TYPE])
def test_a_wrong_count_fails_all_and_is_not_tried_again(kind: ErrorKind) -> None:
    rig = Rig(batch_size=3)
    rig.ask(3)
    rig.pump()
    rig.leave(rig.asked[1])

    rig.result(rig.sessions[0], OutputError(None, kind, "7 outputs for 3 inputs", ""))

    assert rig.statuses() == [500] * 2
    assert len(rig.channel.sent) == 1


def test_one_wrong_output_fails_alone_and_its_mates_are_answered() -> None:
    rig = Rig(batch_size=4)
    rig.ask(4)
    rig.pump()
    rig.leave(rig.asked[3])

    rig.result(rig.sessions[0], OutputError(1, ErrorKind.WRONG_TYPE, "None is no output", ""))

    assert rig.statuses() == [200, 500, 200]
    assert [output_of(answer) for answer in rig.answers(rig.asked[0], rig.asked[2])] == [0.0, 2.0]


def test_batches_grow_though_each_holds_a_wrong_output() -> None:
    rig = Rig()
    rig.ask(100)
    rig.pump()

    while rig.sessions[0].in_flight:
        rig.result(rig.sessions[0], OutputError(0, ErrorKind.WRONG_TYPE, "None is no output", ""))

    assert max(len(batch.queries) for _, batch in rig.channel.sent) >= 16


def test_a_suspect_that_raises_is_an_error_and_no_poison() -> None:
    rig = Rig(batch_size=2)
    rig.ask(2)
    rig.pump()
    rig.lose(rig.sessions[0])
    rig.join()
    rig.pump()

    rig.result(rig.sessions[0], raised())

    assert rig.statuses() == [500]
    assert rig.statuses(*rig.ask()) == []


# ---- a replica stalls


def stalled() -> Rig:
    """Two replicas; the first has two batches in hand, and the older one is overdue."""
    rig = Rig(replicas=1, batch_size=4)
    rig.teach(largest=4)
    rig.ask(8)
    rig.pump()
    rig.join()
    rig.wait(STALLED_AFTER_S + 0.1)
    return rig


def test_the_batch_behind_an_overdue_one_is_cancelled_and_sent_elsewhere() -> None:
    rig = stalled()
    slow, _ = rig.sessions

    assert rig.channel.cancelled == [(slow, 2)]
    assert [replica.state for replica in rig.dispatch.replicas.all.values()] == [ReplicaState.STALLED, ReplicaState.READY]
    rig.work_off()
    assert [output_of(answer) for answer in rig.answers()] == [float(number) for number in range(8)]
    assert [batch.queries for _, batch in rig.channel.sent[2:]] == [[each] for each in rig.asked[4:]]


def test_a_stalled_replica_gets_nothing_until_its_first_result() -> None:
    rig = stalled()
    slow, other = rig.sessions
    rig.dispatch.drain(other)
    rig.ask(2)
    rig.pump()
    assert len(slow.in_flight) == 1

    rig.result(slow)

    assert rig.dispatch.replicas.all[slow.id].state is ReplicaState.READY
    assert len(slow.in_flight) == 1


def test_the_result_of_a_cancelled_batch_answers_nothing() -> None:
    rig = stalled()
    slow = rig.sessions[0]
    (cancelled,) = [batch for session, batch in rig.channel.sent if session is slow and batch.id == 2]

    assert not rig.result_of(slow, header_of(slow, cancelled), cancelled)
    assert rig.statuses(*rig.asked[4:]) == []


def test_without_retry_the_batch_behind_an_overdue_one_is_told_so() -> None:
    rig = Rig(retry=False, batch_size=4)
    rig.teach(largest=4)
    rig.ask(8)
    rig.pump()
    rig.leave(rig.asked[4])

    rig.wait(STALLED_AFTER_S + 0.1)

    assert rig.statuses() == [503] * 3
    assert rig.statuses(*rig.asked[:4]) == []


def test_a_stalled_replica_that_cannot_be_told_keeps_its_batches_until_it_is_lost() -> None:
    rig = Rig(batch_size=4)
    rig.teach(largest=4)
    rig.ask(8)
    rig.pump()
    rig.channel.gone.add(rig.sessions[0])

    rig.wait(STALLED_AFTER_S + 0.1)
    assert rig.in_flight() == [4, 4]

    rig.lose(rig.sessions[0])
    rig.join()
    rig.pump()
    rig.work_off()
    assert rig.statuses() == [200] * 8


def test_a_replica_in_time_is_left_alone() -> None:
    rig = Rig()
    rig.ask()
    rig.pump()

    rig.wait(STALLED_AFTER_S - 0.1)

    assert rig.dispatch.replicas.ready


def test_a_slow_model_may_take_several_times_what_is_usual() -> None:
    rig = Rig(apps=[endpoint(slo_s=100.0)])
    for _ in range(3):
        rig.ask()
        rig.pump()
        rig.result(rig.sessions[0], took_s=3.0)
    rig.ask()
    rig.pump()

    rig.wait(14.9)
    assert rig.dispatch.replicas.ready
    rig.wait(0.2)
    assert not rig.dispatch.replicas.ready


# ---- a version is removed


def test_what_waits_at_a_removed_version_is_handed_out() -> None:
    rig = Rig(batch_size=2)
    rig.ask(5)
    rig.pump()
    rig.lose(rig.sessions[0])
    rig.leave(rig.asked[0])

    waiting = rig.dispatch.take_waiting()

    assert waiting == [rig.asked[1], *rig.asked[2:]]
    assert rig.dispatch.queue.count == 0
    assert rig.dispatch.take_waiting() == []


def test_a_query_taken_over_from_a_removed_version_leaves_the_queue_as_it_found_it() -> None:
    """A suspect had been sent before, and was taken for one that does not wait: its place stayed counted for ever."""
    old, new = Rig(batch_size=2), Rig(replicas=0)
    old.ask(2)
    old.pump()
    old.lose(old.sessions[0])

    (first, _) = old.dispatch.take_waiting()
    new.submit(first)
    new.leave(first)

    assert new.dispatch.queue.count == new.dispatch.queue.input_bytes == 0
    new.join()
    new.pump()
    assert new.in_flight() == []


def test_a_removed_version_tries_nothing_again() -> None:
    rig = Rig(replicas=2, batch_size=2)
    rig.ask(4)
    rig.pump()
    rig.dispatch.take_waiting()

    rig.lose(rig.sessions[0])
    rig.result(rig.sessions[0], raised())

    assert rig.statuses() == [503, 503, 500, 500]
