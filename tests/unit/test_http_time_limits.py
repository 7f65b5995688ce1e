"""Every time limit of a connection, and its behaviour at drain, on simulated time."""

from __future__ import annotations

import pytest

from tests.process.http_clients import http_request, predict_request
from tests.unit.http_rig import BODY_LIMIT, PREDICT, Rig


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_head_has_ten_seconds_from_its_first_byte(rig: Rig) -> None:
    rig.pass_time(60)
    rig.feed(b"P")
    for byte in PREDICT[1:11]:
        rig.feed(bytes([byte]))
        rig.pass_time(1)
    assert not rig.is_closed()

    rig.pass_time(1)

    assert rig.statuses == [408]
    assert rig.is_closed()


def test_a_body_has_thirty_seconds_without_progress(rig: Rig) -> None:
    rig.feed(PREDICT[:-6])
    for place in (-6, -5, -4):
        rig.pass_time(30)
        rig.feed(PREDICT[place : place + 1])
    assert not rig.is_closed()

    rig.pass_time(31)

    assert rig.statuses == [408]
    assert rig.is_closed()


def test_an_idle_connection_has_75_seconds(rig: Rig) -> None:
    rig.pass_time(70)
    rig.feed(PREDICT)
    rig.pass_time(200)  # its answer takes that long: not the client's fault
    rig.answer()
    rig.pass_time(75)
    assert not rig.is_closed()

    rig.pass_time(2)

    assert rig.is_closed()
    assert rig.statuses == [200]


def test_a_head_that_began_behind_a_slow_answer_has_its_ten_seconds_after_it(rig: Rig) -> None:
    rig.feed(PREDICT + PREDICT[:20])
    rig.pass_time(60)
    rig.answer()

    rig.pass_time(9)
    rig.feed(PREDICT[20:])
    rig.answer()

    assert rig.statuses == [200, 200]


def test_a_client_that_reads_nothing_for_30_seconds_is_closed(rig: Rig) -> None:
    rig.feed(PREDICT + PREDICT)
    rig.answer()
    rig.transport.unread_bytes = 100_000
    rig.connection.pause_writing()
    assert not rig.reads()

    rig.pass_time(30)
    assert not rig.is_closed()
    rig.pass_time(1)

    assert rig.is_aborted()


def test_a_client_that_reads_slowly_is_not_closed(rig: Rig) -> None:
    rig.feed(PREDICT)
    rig.answer()
    rig.transport.unread_bytes = 1_000_000
    rig.connection.pause_writing()

    for _ in range(10):
        rig.pass_time(25)
        rig.transport.unread_bytes -= 50_000
    rig.connection.resume_writing()

    assert not rig.is_closed()
    assert rig.reads()


def test_time_in_which_a_client_could_not_write_does_not_count(rig: Rig) -> None:
    rig.feed(PREDICT + PREDICT[:-5])
    rig.answer()
    rig.connection.pause_writing()
    rig.pass_time(29)
    rig.connection.resume_writing()

    rig.pass_time(29)
    rig.feed(PREDICT[-5:])

    assert len(rig.predictions.waiting) == 1


def test_requests_that_are_held_wait_while_the_client_does_not_read(rig: Rig) -> None:
    rig.feed(PREDICT * 70)
    rig.connection.pause_writing()

    rig.answer()
    assert len(rig.predictions.waiting) == 63
    rig.connection.resume_writing()

    assert len(rig.predictions.waiting) == 64


def test_after_a_refusal_the_rest_is_discarded_until_the_client_ends(rig: Rig) -> None:
    rig.feed(http_request("POST", "/a/predict", None, [f"Content-Length: {10 * BODY_LIMIT}"]))
    rig.feed(b"x" * BODY_LIMIT, PREDICT)

    assert rig.has_ended()
    assert not rig.is_closed()
    assert rig.connection.eof_received() is False
    assert rig.statuses == [413]


def test_a_client_that_sends_on_after_a_refusal_is_cut_off_after_5_seconds(rig: Rig) -> None:
    rig.feed(http_request("POST", "/a/predict", None, [f"Content-Length: {10 * BODY_LIMIT}"]))

    for _ in range(5):
        rig.feed(b"x" * 1024)
        rig.pass_time(1)
    assert not rig.is_closed()
    rig.pass_time(1)

    assert rig.is_aborted()


def test_a_reply_that_nobody_takes_does_not_keep_a_closing_connection() -> None:
    rig = Rig(answers_at_once=True)
    rig.feed(predict_request("a", [1.0], ["Connection: close"]))
    assert rig.is_closed()
    assert not rig.is_aborted()

    rig.pass_time(31)  # the transport is still flushing: connection_lost has not come

    assert rig.is_aborted()


# ---- drain -----------------------------------------------------------------------------------------------------------


def drain(rig: Rig) -> None:
    rig.server.drain(rig.clock.now)


def test_at_drain_the_next_reply_says_close(rig: Rig) -> None:
    rig.feed(PREDICT)

    drain(rig)
    rig.answer()

    assert rig.replies[0].header("Connection") == "close"
    assert rig.is_closed()


@pytest.mark.parametrize("order", [(0, 0, 0), (2, 1, 0), (1, 0, 0), (2, 0, 0)])
def test_at_drain_all_that_is_owed_is_answered_and_the_last_reply_says_close(rig: Rig, order: tuple[int, ...]) -> None:
    rig.feed(PREDICT * 3)

    drain(rig)
    for number in order:
        rig.answer(number)
        rig.feed(PREDICT)  # sent by a client that did not read yet; it may send it again elsewhere

    assert [reply.header("Connection") for reply in rig.replies] == [None, None, "close"]
    assert rig.is_closed()


def test_at_drain_a_reply_that_was_ready_before_says_close_if_it_is_the_last(rig: Rig) -> None:
    rig.feed(PREDICT * 2)
    rig.answer(1)

    drain(rig)
    rig.answer(0)

    assert [reply.header("Connection") for reply in rig.replies] == [None, "close"]


def test_at_drain_an_idle_client_has_a_second_to_ask_again(rig: Rig) -> None:
    rig.pass_time(60)
    drain(rig)

    rig.pass_time(0.9)
    assert not rig.is_closed()
    rig.feed(PREDICT)
    rig.answer()

    assert rig.replies[0].header("Connection") == "close"


def test_at_drain_a_connection_that_stays_idle_is_closed(rig: Rig) -> None:
    drain(rig)

    rig.pass_time(2)

    assert rig.is_closed()
    assert rig.transport.written == b""


def test_at_drain_a_request_that_is_being_sent_is_still_answered(rig: Rig) -> None:
    rig.feed(PREDICT[:50])
    drain(rig)
    rig.pass_time(5)

    rig.feed(PREDICT[50:])
    rig.answer()

    assert rig.replies[0].header("Connection") == "close"
