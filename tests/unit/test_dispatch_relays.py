"""Peer frontends as replicas of last resort: what is relayed, what comes back, and what is done for peers in turn."""

from __future__ import annotations

import pytest

from clipper_nomad.protocol.mesh_messages import Fate
from clipper_nomad_frontend import answers
from clipper_nomad_frontend.admission import QueueBounds
from clipper_nomad_frontend.answers import MISSED_SLO
from clipper_nomad_frontend.dispatch import MAX_RELAYED
from tests.unit.dispatch_rig import Rig, output_of, raised
from tests.unit.queries import Inbox, endpoint

# ---- what is relayed


def test_without_a_replica_a_query_goes_to_a_peer_and_is_answered_like_any_other() -> None:
    rig = Rig(replicas=0)
    peer = rig.join_peer()
    (query,) = rig.ask()
    rig.pump()

    rig.relayed(peer)

    (answer,) = rig.answers(query)
    assert output_of(answer) == 0.0
    assert answer.headers == b"X-Clipper-Model: m:1\r\nX-Clipper-Replica: r\r\n"
    assert rig.dispatch.counters.relayed == 1


def test_nothing_is_relayed_while_a_replica_is_ready_here_however_busy() -> None:
    rig = Rig(replicas=1, batch_size=1)
    rig.join_peer()

    rig.ask(20)
    rig.pump()

    assert not rig.channel.relayed


def test_what_waits_is_relayed_when_the_last_replica_goes_and_no_more_once_one_is_back() -> None:
    rig = Rig(replicas=1)
    rig.teach(largest=8)
    rig.join_peer()
    rig.dispatch.drain(rig.sessions[0])
    rig.ask(3)
    rig.pump()
    rig.join()
    rig.ask(2)
    rig.pump()

    assert [len(batch.queries) for _, batch in rig.channel.relayed] == [3]
    assert [len(batch.queries) for _, batch in rig.channel.sent] == [2]


def test_a_peer_gets_as_many_batches_at_once_as_it_has_ready_replicas() -> None:
    rig = Rig(replicas=0)
    peer = rig.join_peer(ready=2)

    rig.ask(3 * MAX_RELAYED)
    rig.pump()

    assert [len(batch.queries) for batch in peer.in_flight.values()] == [MAX_RELAYED] * 2
    assert rig.dispatch.queue.count == MAX_RELAYED


def test_a_peer_that_serves_the_version_no_more_gets_nothing() -> None:
    rig = Rig(replicas=0)
    rig.announce(rig.join_peer(), ready=0)

    rig.ask()
    rig.pump()

    assert not rig.channel.relayed
    assert not rig.dispatch.has_replicas


def test_what_could_not_be_sent_to_a_peer_goes_to_the_next_with_all_its_tries() -> None:
    rig = Rig(replicas=0)
    gone, there = rig.join_peer(), rig.join_peer(delay_micros=1000)
    rig.channel.gone.add(gone)

    rig.ask(2)
    rig.pump()

    assert [session for session, _ in rig.channel.relayed] == [there]
    assert [query.tries for query in rig.asked] == [1, 1]


# ---- what comes back


def test_refused_queries_come_back_first_in_line_and_uncounted() -> None:
    rig = Rig(replicas=0)
    peer = rig.join_peer()
    first = rig.ask(2)
    rig.pump()
    later = rig.ask(2)

    rig.relayed(peer, Fate.REFUSED)

    assert [query.tries for query in first] == [0, 0]
    rig.announce(peer)
    _, batch = rig.channel.relayed[-1]
    assert batch.queries == first + later


def test_a_peer_that_refused_gets_nothing_until_it_announces_anew() -> None:
    rig = Rig(replicas=0)
    peer = rig.join_peer()
    rig.ask()
    rig.pump()
    rig.relayed(peer, Fate.REFUSED)

    rig.ask()
    rig.pump()
    assert len(rig.channel.relayed) == 1

    rig.announce(peer)
    assert len(rig.channel.relayed) == 2


def test_a_refused_suspect_stays_one() -> None:
    rig = Rig(replicas=1)
    (query,) = rig.ask()
    rig.pump()
    peer = rig.join_peer()
    rig.lose(rig.sessions[0])
    rig.relayed(peer, Fate.REFUSED)

    rig.announce(peer)

    assert [batch.is_alone for _, batch in rig.channel.relayed] == [True, True]
    assert query.tries == 2


def test_what_a_lost_peer_had_is_sent_once_more_each_query_alone() -> None:
    rig = Rig(replicas=0)
    peer, other = rig.join_peer(), rig.join_peer(ready=9)
    rig.ask(3)
    rig.pump()
    assert rig.channel.relayed[0][0] is peer or rig.channel.relayed[0][0] is other
    holder = rig.channel.relayed[0][0]
    rest = other if holder is peer else peer
    rig.announce(rest, ready=9)

    rig.lose_peer(holder)

    again = [batch for session, batch in rig.channel.relayed[1:] if session is rest]
    assert [len(batch.queries) for batch in again] == [1, 1, 1]
    assert all(batch.is_alone for batch in again)
    while rest.in_flight:
        rig.relayed(rest)
    assert rig.statuses() == [200] * 3


def test_a_query_whose_second_peer_is_lost_too_gets_503() -> None:
    rig = Rig(replicas=0)
    peers = [rig.join_peer(), rig.join_peer()]
    (query,) = rig.ask()
    rig.pump()

    for _ in peers:
        rig.lose_peer(rig.channel.relayed[-1][0])

    assert rig.statuses(query) == [503]
    assert rig.channel.sends[query] == 2


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.SPLIT])
def test_what_was_lost_or_raised_at_a_peer_is_sent_once_more_alone(fate: Fate) -> None:
    rig = Rig(replicas=0)
    peer = rig.join_peer(ready=3)
    rig.ask(2)
    rig.pump()

    rig.relayed(peer, fate)

    assert [(len(batch.queries), batch.is_alone) for batch in peer.in_flight.values()] == [(1, True), (1, True)]
    rig.relayed(peer, Fate.FAILED, status=500, error="Model error", cause="ValueError: no (model 'm:1')", kind="raised")
    rig.relayed(peer)
    assert rig.statuses() == [500, 200]
    assert "ValueError: no" in rig.answers(rig.asked[0])[0].cause


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.SPLIT])
def test_without_retry_it_is_not(fate: Fate) -> None:
    rig = Rig(replicas=0, retry=False)
    peer = rig.join_peer()
    rig.ask()
    rig.pump()

    rig.relayed(peer, fate)

    assert rig.statuses() == [503]
    assert not peer.in_flight


def test_an_input_that_is_poison_at_a_peer_is_refused_here_for_a_while() -> None:
    rig = Rig(replicas=0)
    peer = rig.join_peer(ready=2)
    (query,) = rig.ask()
    rig.pump()
    rig.relayed(peer, Fate.LOST)
    rig.relayed(peer, Fate.FAILED, status=422, error="poison_input", cause="it ended two", kind=answers.POISON)

    again = rig.submit(type(query)(query.endpoint, query.data, 1, rig.now, Inbox(), 99))

    assert rig.statuses(query, again) == [422, 422]
    assert rig.channel.sends[again] == 0


def test_an_answer_past_the_slo_is_marked_and_one_past_patience_is_what_the_app_wants() -> None:
    rig = Rig(replicas=0, apps=[endpoint(slo_s=1.0, timeout_s=5.0), endpoint("strict", slo_s=1.0, policy="default")])
    peer = rig.join_peer(ready=2)
    rig.ask(app=0)
    rig.ask(app=1)
    rig.pump()
    rig.now += 2.0

    rig.relayed(peer)

    late, default = rig.answers(rig.asked[0])[0], rig.answers(rig.asked[1])[0]
    assert b'"late":true' in late.body
    assert MISSED_SLO.encode() in default.body


@pytest.mark.parametrize("fate", [Fate.REFUSED, Fate.LOST, Fate.SPLIT])
def test_a_query_out_of_time_is_not_tried_again(fate: Fate) -> None:
    rig = Rig(replicas=0, apps=[endpoint(slo_s=1.0, timeout_s=5.0)])
    peer = rig.join_peer(ready=2)
    rig.ask()
    rig.pump()
    rig.now += 6.0

    rig.relayed(peer, fate)

    assert rig.statuses() == [504]
    assert not peer.in_flight


def test_what_a_peer_refuses_of_a_removed_version_is_answered() -> None:
    """It went back to a queue that nobody looks at any more."""
    rig = Rig(replicas=0)
    peer = rig.join_peer()
    rig.ask()
    rig.pump()
    rig.dispatch.take_waiting()

    rig.relayed(peer, Fate.REFUSED)

    assert rig.statuses() == [503]
    assert rig.dispatch.queue.count == 0


# ---- what is done for peers


def test_a_peer_s_query_is_executed_here() -> None:
    rig = Rig()

    (query,) = rig.ask_as_peer()
    rig.result(rig.sessions[0])

    assert output_of(rig.answers(query)[0]) == 0.0


def test_a_peer_s_query_is_never_relayed_on() -> None:
    rig = Rig(replicas=0)
    rig.join_peer()

    (query,) = rig.ask_as_peer()

    assert rig.answers(query)[0].kind == answers.NOT_TAKEN
    assert not rig.channel.relayed


@pytest.mark.parametrize("is_alone", [False, True])
def test_when_the_last_replica_goes_peers_get_back_what_waits_and_the_own_queries_are_relayed(*, is_alone: bool) -> None:
    rig = Rig(batch_size=1)
    rig.ask()
    rig.pump()
    rig.join_peer(ready=9)
    theirs = rig.ask_as_peer(2, is_alone=is_alone)
    own = rig.ask(2)

    rig.lose(rig.sessions[0])

    assert [answer.kind for answer in rig.answers(*theirs)] == [answers.NOT_TAKEN] * 2
    relayed = [query for _, batch in rig.channel.relayed for query in batch.queries]
    assert set(relayed) == {rig.asked[0], *own}


def test_a_peer_s_query_is_executed_once_whatever_becomes_of_its_replica() -> None:
    rig = Rig(replicas=2)

    (query,) = rig.ask_as_peer()
    rig.lose(rig.channel.sent[0][0])

    assert [answer.kind for answer in rig.answers(query)] == [answers.LOST]
    assert rig.channel.sends[query] == 1


def test_a_batch_that_raised_goes_back_to_the_peer_to_be_split() -> None:
    rig = Rig()

    queries = rig.ask_as_peer(3)
    while rig.sessions[0].in_flight:
        rig.result(rig.sessions[0], raised())

    kinds = [answer.kind for answer in rig.answers(*queries)]
    assert set(kinds) <= {answers.SPLIT, "raised"}
    assert rig.channel.sends.most_common(1)[0][1] == 1


def test_without_retry_a_batch_that_raised_fails_at_the_peer_as_it_does_here() -> None:
    rig = Rig(retry=False)
    rig.teach(largest=8)

    queries = rig.ask_as_peer(3)
    while rig.sessions[0].in_flight:
        rig.result(rig.sessions[0], raised())

    assert rig.statuses(*queries) == [500] * 3
    assert {answer.kind for answer in rig.answers(*queries)} == {"raised"}


def test_a_peer_s_suspect_that_ends_its_replica_is_poison() -> None:
    rig = Rig()

    (query,) = rig.ask_as_peer(is_alone=True)
    rig.lose(rig.sessions[0])

    assert rig.statuses(query) == [422]
    assert rig.answers(query)[0].kind == answers.POISON


def test_a_peer_s_query_that_nobody_executed_in_time_is_refused_not_defaulted() -> None:
    """A default in place of an output kept the peer waiting for the whole batch."""
    rig = Rig(batch_size=1)
    rig.ask()
    rig.pump()
    waits = rig.ask_as_peer(1)

    rig.wait(3600)

    assert [answer.kind for answer in rig.answers(*waits)] == [answers.NOT_TAKEN]


def test_suspects_of_peers_have_a_bound_too() -> None:
    rig = Rig(bounds=QueueBounds(queries=5))
    rig.ask()
    rig.pump()

    queries = rig.ask_as_peer(10, is_alone=True)

    assert len(rig.answers(*queries)) == 5
    assert {answer.kind for answer in rig.answers(*queries)} == {answers.NOT_TAKEN}


def test_a_peer_s_suspect_that_is_known_for_poison_is_not_tried() -> None:
    rig = Rig()
    (query,) = rig.ask_as_peer(is_alone=True)
    rig.lose(rig.sessions[0])
    rig.join()

    again = type(query)(rig.guests, query.data, 1, rig.now, Inbox(), 99)
    rig.guests.owed[again] = None
    again.dispatch = rig.dispatch
    rig.dispatch.submit_relayed(again, is_alone=True)

    assert rig.statuses(again) == [422]
    assert rig.channel.sends[again] == 0


def test_a_full_queue_refuses_peers_as_one_without_a_slot_does() -> None:
    rig = Rig(batch_size=1)

    queries = rig.ask_as_peer(20_010)

    assert {answer.kind for answer in rig.answers(*queries)} == {answers.NOT_TAKEN}
    assert rig.dispatch.queue.count <= 20_000
