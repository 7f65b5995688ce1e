"""A result counts only if epoch, session, batch id and count match a batch in flight on its own session."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipper_nomad.protocol.wire import Header, Hello, MessageType
from clipper_nomad_frontend.endpoints import Query
from clipper_nomad_frontend.sessions import Batch, Session, SessionTable
from tests.unit.queries import endpoint, query

EPOCH = 0xC0FFEE
HELLO = Hello(model="m", version="1", uid="u", input_type="doubles", replica="r", python="3.11", toolkit="t")
APP = endpoint()


def queries(count: int) -> list[Query]:
    return [query(APP) for _ in range(count)]


def opened(table: SessionTable, routing_id: bytes = b"a") -> Session:
    session = table.open(routing_id, HELLO)
    assert session is not None
    return session


def header_of(session: Session, batch: Batch) -> Header:
    """The header of the result that answers `batch`."""
    return Header(MessageType.RESULT, 0, len(batch.queries), EPOCH, session.id, batch.id)


def test_a_result_gets_its_batch_once() -> None:
    table = SessionTable(EPOCH)
    session = opened(table)
    batch = table.begin(session, queries(3), 5.0, 0.1)

    assert table.finish(session, header_of(session, batch)) is batch
    assert table.finish(session, header_of(session, batch)) is None
    assert not session.in_flight


@pytest.mark.parametrize("stale", [{"epoch": EPOCH + 1}, {"session": 2}, {"batch": 2}, {"count": 2}, {"count": 4}])
def test_a_result_that_does_not_match_in_every_number_answers_nothing(stale: dict[str, Any]) -> None:
    table = SessionTable(EPOCH)
    session = opened(table)
    batch = table.begin(session, queries(3), 5.0, 0.1)

    assert table.finish(session, replace(header_of(session, batch), **stale)) is None
    assert session.in_flight == {batch.id: batch}


def test_a_result_that_came_over_another_session_answers_nothing() -> None:
    table = SessionTable(EPOCH)
    one, other = opened(table, b"a"), opened(table, b"b")
    batch = table.begin(one, queries(1), 5.0, 0.1)

    assert table.finish(other, header_of(one, batch)) is None
    assert table.finish(other, replace(header_of(one, batch), session=other.id)) is None


def test_a_connection_has_one_session_and_a_new_connection_a_new_one() -> None:
    table = SessionTable(EPOCH)
    first = opened(table)

    assert table.open(b"a", HELLO) is None
    assert table.close(b"a") is first
    assert table.close(b"a") is None
    assert opened(table).id != first.id


def test_the_table_knows_the_open_sessions() -> None:
    table = SessionTable(EPOCH)
    one, other = opened(table, b"a"), opened(table, b"b")

    assert len(table) == 2
    assert table.all() == [one, other]
    assert table.find(b"a") is one
    assert table.find(b"c") is None


def test_batches_are_in_flight_in_the_order_they_were_sent_and_never_share_a_number() -> None:
    table = SessionTable(EPOCH)
    one, other = opened(table, b"a"), opened(table, b"b")

    batches = [table.begin(session, queries(1), 5.0, 0.1) for session in (one, other, one)]

    assert list(one.in_flight.values()) == [batches[0], batches[2]]
    assert len({batch.id for batch in batches}) == 3


NUMBERS = st.one_of(st.integers(0, 4), st.just(EPOCH), st.integers(0, 2**64 - 1))


@settings(max_examples=60, deadline=None)
@given(NUMBERS, NUMBERS, NUMBERS, st.integers(0, 4), st.booleans())
def test_no_other_header_ever_matches(epoch: int, session: int, batch: int, count: int, came_over_another: bool) -> None:  # noqa: FBT001
    table = SessionTable(EPOCH)
    one, other = opened(table, b"a"), opened(table, b"b")
    sent = {one: table.begin(one, queries(1), 5.0, 0.1), other: table.begin(other, queries(2), 5.0, 0.1)}
    over = other if came_over_another else one
    header = Header(MessageType.RESULT, 0, count, epoch, session, batch)

    found = table.finish(over, header)

    assert (found is sent[over]) == (header == header_of(over, sent[over]))
    assert found is None or found is sent[over]
