"""Which peer gets the next batch, and what a peer is told of the queries that it relayed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipper_nomad.protocol.mesh_messages import Fate, RelayedAnswer, Served
from clipper_nomad.protocol.wire import ErrorKind, Hello, OutputError
from clipper_nomad_frontend import answers
from clipper_nomad_frontend.output_text import text_as_json
from clipper_nomad_frontend.relay_desk import RelayedBatch, row_of
from clipper_nomad_frontend.relays import MAX_IN_FLIGHT, NOTHING, RelaySlots
from clipper_nomad_frontend.replicas import LONGEST_NAME, replica_headers
from clipper_nomad_frontend.sessions import Session, SessionTable
from tests.unit.queries import endpoint, query

TABLE = SessionTable(7)


def session() -> Session:
    hello = Hello(model="m", version="1", uid="", input_type="", replica="f", python="", toolkit="", role="peer")
    return TABLE.open_relay(b"f", hello)


def busy(at: Session, batches: int) -> Session:
    for _ in range(batches):
        TABLE.begin(at, [query(endpoint())], 0.0, 0.0)
    return at


# ---- the choice


def test_the_peer_with_the_least_in_hand_is_next_and_of_those_the_one_where_a_query_waits_least() -> None:
    slots = RelaySlots()
    working, slow, quick = busy(session(), 1), session(), session()
    slots.announced(working, Served(3, 0))
    slots.announced(slow, Served(3, 500))
    slots.announced(quick, Served(3, 100))

    chosen = slots.next()

    assert chosen is not None
    assert chosen.session is quick


def test_equal_peers_take_turns() -> None:
    slots = RelaySlots()
    for _ in range(3):
        slots.announced(session(), Served(1, 0))

    chosen = [slots.next() for _ in range(6)]

    assert {id(slot) for slot in chosen[:3]} == {id(slot) for slot in slots.all.values()}
    assert chosen[:3] == chosen[3:]


@pytest.mark.parametrize(("ready", "room"), [(0, 0), (1, 1), (3, 3), (1000, MAX_IN_FLIGHT)])
def test_a_peer_takes_as_many_batches_as_it_has_replicas_and_not_too_many(ready: int, room: int) -> None:
    slots = RelaySlots()
    peer = session()
    slots.announced(peer, Served(ready, 0))

    taken = 0
    while slots.next() is not None:
        busy(peer, 1)
        taken += 1

    assert taken == room


def test_a_peer_that_refused_or_serves_it_no_more_is_not_chosen() -> None:
    slots = RelaySlots()
    peer = session()
    slots.announced(peer, Served(2, 0))
    slots.all[peer.id].has_refused = True
    assert slots.next() is None

    slots.announced(peer, Served(2, 0))
    assert slots.next() is not None

    slots.announced(peer, NOTHING)
    assert slots.next() is None
    assert slots.ready == 0


# ---- what the peer is told


@given(st.text(max_size=2 * LONGEST_NAME))
def test_a_replica_s_name_stands_in_the_relayed_answer_s_header_as_in_the_direct_one(name: str) -> None:
    """It was quoted twice: `r 0` came as `r%25200`."""
    direct = replica_headers("m:1", name)

    row = row_of(answers.prediction(1, b"1.0", direct, is_late=False))

    assert replica_headers("m:1", row.replica) == direct


@given(st.binary(max_size=60), st.booleans())
def test_an_output_is_the_same_after_a_relay(output: bytes, is_late: bool) -> None:  # noqa: FBT001  # hypothesis
    text = text_as_json(output)

    row = row_of(answers.prediction(1, text, replica_headers("m:1", "r"), is_late=is_late))

    assert (row.fate, row.output) == (Fate.ANSWERED, text)
    assert text_as_json(row.output) == text


def test_an_output_that_looks_like_the_end_of_a_body_is_the_same_too() -> None:
    text = text_as_json(b'","default":false} "output":')

    assert row_of(answers.prediction(1, text, b"", is_late=True)).output == text


FAILED = OutputError(0, ErrorKind.RAISED, "ValueError: no \u2603", "t1")


@pytest.mark.parametrize(
    ("answer", "fate"),
    [
        (answers.lost("m:1", 1), Fate.LOST),
        (answers.not_taken("m:1"), Fate.REFUSED),
        (answers.queue_full("m:1", "is full", 3), Fate.REFUSED),
        (answers.split("m:1"), Fate.SPLIT),
        (answers.poison("m:1"), Fate.FAILED),
        (answers.model_failed("m:1", "r", FAILED), Fate.FAILED),
    ],
    ids=["lost", "not taken", "queue full", "split", "poison", "model failed"],
)
def test_what_became_of_a_query_is_told(answer: answers.Answer, fate: Fate) -> None:
    assert row_of(answer).fate is fate


@pytest.mark.parametrize("answer", [answers.poison("m:1"), answers.model_failed("m:1", "r", FAILED)])
def test_a_final_error_reads_after_a_relay_as_before(answer: answers.Answer) -> None:
    row = row_of(answer)

    again = answers.relayed_failure(row.status, row.error, row.cause, row.kind)

    assert (again.status, again.body, again.kind) == (answer.status, answer.body, answer.kind)


def test_a_batch_is_answered_when_its_last_query_is_each_in_its_place() -> None:
    replies: list[list[RelayedAnswer]] = []
    batch = RelayedBatch(3, replies.append)
    queries = [query(endpoint()) for _ in range(3)]
    batch.expect(queries)

    for place in (2, 0, 1):
        assert not replies
        batch.take(queries[place], answers.prediction(0, b"%d" % place, b"", is_late=False))

    assert [[row.output for row in rows] for rows in replies] == [[b"0", b"1", b"2"]]


@pytest.mark.parametrize("tries", [0, 1])
@pytest.mark.parametrize("has_replica", [False, True])
def test_a_relayed_query_out_of_time_has_an_answer_that_can_be_told(tries: int, *, has_replica: bool) -> None:
    """A default output in its place raised, and the peer never got the batch."""
    asked = query(endpoint(is_relay=True))
    asked.tries = tries

    row = row_of(asked.endpoint.out_of_patience(asked, has_replica=has_replica, model="m:1"))

    assert row.fate is (Fate.LOST if tries else Fate.REFUSED)
