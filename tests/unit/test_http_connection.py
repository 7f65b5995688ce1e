"""How a connection takes its bytes: split anywhere, in order, within bounds. On a simulated transport.

Time limits are in test_http_time_limits.py; what only real sockets show is in tests/process/test_http_rules.py.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from clipper_nomad_frontend import http_rules
from clipper_nomad_frontend.http_predict import PredictConnection
from tests.process.http_clients import http_request, predict_request
from tests.unit.http_rig import BODY_LIMIT, PREDICT, Rig, chunked

CORPUS = {
    "a prediction": PREDICT,
    "three pipelined": PREDICT + predict_request("a", [1.0]) + PREDICT,
    "a batch": http_request("POST", "/a/predict", b'{"input_batch":[[1.0],[2.0,3.0]]}'),
    "bad JSON, then a prediction": http_request("POST", "/a/predict", b"{") + PREDICT,
    "an empty body": http_request("POST", "/a/predict", b""),
    "no body": http_request("POST", "/a/predict"),
    "chunks": chunked(b'{"input":', b"[1.0", b"]}") + PREDICT,
    "chunks with trailers": chunked(b'{"input":[1.0]}', trailers=b"X-Request-Id: late\r\n") + PREDICT,
    "chunks with extensions": chunked(b'{"input":[1.0]}').replace(b"f\r\n", b'f;a="b";c\r\n'),
    "a URL with a query": http_request("POST", "/a/predict?x=1&y=%2F", b'{"input":[1.0]}') + PREDICT,
    "an encoded URL": http_request("POST", "/%61/pred%69ct/", b'{"input":[1.0]}') + PREDICT,
    "an absolute URL": http_request("POST", "http://host:1/a/predict", b'{"input":[1.0]}') + PREDICT,
    "a GET behind a prediction": PREDICT + http_request("GET", "/metrics") + PREDICT,
    "an unknown app": http_request("POST", "/b/predict", b"{}") + PREDICT,
    "a chunked body for aiohttp": chunked(b"abc", b"def", trailers=b"X-Trailer: 1\r\n").replace(b"/a/", b"/b/"),
    "a request id": predict_request("a", [1.0], ["X-Request-Id: mine"]) + PREDICT,
    "an id with a space": predict_request("a", [1.0], ["X-Request-Id: not mine"]),
    "expecting 100": predict_request("a", [1.0], ["Expect: 100-continue"]) + PREDICT,
    "expecting else": predict_request("a", [1.0], ["Expect: much"]) + PREDICT,
    "closing": predict_request("a", [1.0], ["Connection: close"]) + PREDICT,
    "HTTP/1.0": http_request("POST", "/a/predict", b'{"input":[1.0]}', version="1.0"),
    "HTTP/1.0 kept alive": http_request("POST", "/a/predict", b'{"input":[1.0]}', ["Connection: keep-alive"], version="1.0"),
    "HTTP/1.0 expecting 100": http_request("POST", "/a/predict", b"{}", ["Expect: 100-continue"], version="1.0"),
    "an upgrade": predict_request("a", [1.0], ["Connection: upgrade", "Upgrade: h2c"]) + PREDICT,
    "CONNECT": b"CONNECT host:443 HTTP/1.1\r\nHost: host\r\n\r\n" + PREDICT,
    "gzip": predict_request("a", [1.0], ["Content-Encoding: gzip"]) + PREDICT,
    "identity": predict_request("a", [1.0], ["Content-Encoding: identity"]) + PREDICT,
    "65 headers": predict_request("a", [1.0], [f"X-{number}: 1" for number in range(63)]) + PREDICT,
    "two lengths": predict_request("a", [1.0], ["Content-Length: 15"]) + PREDICT,
    "a length and chunks": predict_request("a", [1.0], ["Transfer-Encoding: chunked"]) + PREDICT,
    "a negative length": http_request("POST", "/a/predict", None, ["Content-Length: -1"]) + PREDICT,
    "a huge length": http_request("POST", "/a/predict", None, ["Content-Length: 99999999999999999999"]) + PREDICT,
    "a length over the limit": http_request("POST", "/a/predict", b" " * (BODY_LIMIT + 1)) + PREDICT,
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello",
    "garbage behind a prediction": PREDICT + b"\0\0\0\0",
    "an empty line first": b"\r\n\r\n" + PREDICT,
}


@pytest.fixture
def rig() -> Rig:
    return Rig()


def transcript(*chunks: bytes) -> tuple[bytes, bytes, bool, bool]:
    rig = Rig(answers_at_once=True)
    rig.feed(*chunks)
    return rig.transcript


@pytest.mark.parametrize("name", CORPUS)
def test_a_request_split_at_any_byte_is_the_same_request(name: str) -> None:
    data = CORPUS[name]
    whole = transcript(data)

    assert whole[:2] != (b"", b"")
    step = max(1, len(data) // 700)
    for place in range(1, len(data), step):
        assert transcript(data[:place], data[place:]) == whole, f"split at byte {place}"


@pytest.mark.parametrize("name", CORPUS)
def test_a_request_may_come_byte_by_byte(name: str) -> None:
    data = CORPUS[name]

    assert transcript(*(data[place : place + 1] for place in range(len(data)))) == transcript(data)


@pytest.mark.parametrize("name", CORPUS)
def test_a_head_that_was_seen_before_means_the_same_again(name: str) -> None:
    data = CORPUS[name]
    first, again = Rig(answers_at_once=True), Rig(answers_at_once=True)
    again.server.known_heads = first.server.known_heads

    first.feed(PREDICT, data)
    again.feed(PREDICT, data)

    assert PREDICT[: PREDICT.index(b"\r\n\r\n") + 4] in first.server.known_heads
    assert again.transcript == first.transcript


def test_a_known_head_with_another_length_of_body_waits_for_the_rest(rig: Rig) -> None:
    rig.feed(PREDICT)

    rig.feed(PREDICT[:-3])
    assert len(rig.predictions.waiting) == 1
    rig.feed(PREDICT[-3:] + PREDICT)

    assert len(rig.predictions.waiting) == 3


def test_clients_that_never_repeat_a_head_do_not_fill_the_memory(rig: Rig) -> None:
    for number in range(3 * http_rules.MOST_KNOWN_HEADS):
        rig.server.known_heads.remember(b"%d" % number, http_rules.KnownHead(b"/", 0))

    assert len(rig.server.known_heads) <= http_rules.MOST_KNOWN_HEADS


def test_the_date_is_the_wall_clock_s(rig: Rig) -> None:
    rig.server.tick(rig.clock.now, 784111777.9)

    rig.feed(http_request("POST", "/a/predict", b"{"))

    assert rig.replies[0].header("Date") == "Sun, 06 Nov 1994 08:49:37 GMT"


# ---- order and bounds ------------------------------------------------------------------------------------------------


def outputs(rig: Rig) -> list[Any]:
    return [reply.json.get("output", reply.status) for reply in rig.replies]


def test_replies_leave_in_the_order_of_their_requests(rig: Rig) -> None:
    rig.feed(predict_request("a", [1.0]) + predict_request("a", [1.0, 2.0]) + http_request("POST", "/a/predict", b"{"))

    rig.answer(1)
    assert rig.transport.written == b""
    rig.answer(0)

    assert outputs(rig) == [8, 16, 400]


def test_a_batch_keeps_its_place_and_its_order(rig: Rig) -> None:
    rig.feed(http_request("POST", "/a/predict", b'{"input_batch":[[1.0],[1.0,2.0]]}') + PREDICT)

    rig.answer(2)
    rig.answer(1)
    rig.answer(0)

    first, second = rig.replies
    assert [part["output"] for part in first.json["batch_predictions"]] == [8, 16]
    assert second.json["output"] == 16


def test_one_chunk_of_many_requests_has_64_under_way_and_all_are_answered(rig: Rig) -> None:
    rig.feed(b"".join(predict_request("a", [1.0] * (number % 7)) for number in range(200)))

    assert len(rig.predictions.waiting) == 64
    assert not rig.reads()
    while rig.predictions.waiting:
        assert len(rig.predictions.waiting) <= 64
        rig.answer(len(rig.predictions.waiting) // 2)
    assert outputs(rig) == [8 * (number % 7) for number in range(200)]
    assert rig.reads()


def test_held_batches_and_bad_requests_wait_for_their_turn_too(rig: Rig) -> None:
    batch = http_request("POST", "/a/predict", b'{"input_batch":[[1.0],[1.0]]}')
    rig.feed(PREDICT * 64 + batch + http_request("POST", "/a/predict", b"{") + PREDICT + batch)

    assert len(rig.predictions.waiting) == 64
    while rig.predictions.waiting:
        rig.answer()

    assert rig.statuses == [200] * 65 + [400] + [200] * 2


def test_requests_beyond_the_limit_that_are_answered_at_once_need_no_deep_stack(rig: Rig) -> None:
    rig.feed(PREDICT * 1200)
    rig.predictions.answers_at_once = True  # from now on

    while rig.predictions.waiting:
        rig.answer()

    assert rig.statuses == [200] * 1200


def test_bad_requests_behind_a_slow_one_do_not_pile_up(rig: Rig) -> None:
    rig.feed(PREDICT, *[http_request("POST", "/a/predict", b"{")] * 70)

    assert not rig.reads()
    rig.answer()

    assert rig.statuses == [200] + [400] * 70
    assert rig.reads()


def test_a_client_that_leaves_frees_the_places_of_its_queries_once(rig: Rig) -> None:
    rig.feed(PREDICT * 70 + http_request("POST", "/a/predict", b'{"input_batch":[[1.0],[1.0]]}'))
    mine = list(rig.predictions.waiting)

    rig.connection.connection_lost(None)
    rig.answer()

    assert rig.predictions.abandoned == mine
    assert rig.transport.written == b""
    assert not rig.server.connections


def test_a_closed_transport_raises_into_no_batch(rig: Rig) -> None:
    rig.feed(PREDICT + PREDICT)
    rig.transport.close()

    rig.answer()
    rig.answer()

    assert rig.transport.written == b""


@pytest.mark.parametrize("last", [b"", http_request("GET", "/metrics")])
def test_an_ended_connection_does_not_wait_for_the_collector(last: bytes) -> None:
    gc.collect()
    gc.disable()
    try:
        rig = Rig(answers_at_once=True)
        rig.feed(PREDICT, last)
        if not last:
            rig.connection.connection_lost(None)
        del rig.connection

        left = [each for each in gc.get_objects() if isinstance(each, PredictConnection)]
    finally:
        gc.enable()
    assert not left


def test_a_half_closed_client_gets_its_answers_then_the_end(rig: Rig) -> None:
    rig.feed(PREDICT + PREDICT)

    assert rig.connection.eof_received() is True
    rig.answer()
    assert not rig.is_closed()
    rig.answer()

    assert rig.statuses == [200, 200]
    assert rig.is_closed()


def test_a_half_closed_client_that_is_owed_nothing_is_closed(rig: Rig) -> None:
    rig.feed(PREDICT[:20])

    assert rig.connection.eof_received() is False


# ---- hand-over -------------------------------------------------------------------------------------------------------


def test_a_request_is_handed_over_when_nothing_is_owed_before_it(rig: Rig) -> None:
    rig.feed(PREDICT + PREDICT + http_request("GET", "/metrics", None, ["X-Mine: 1"]) + PREDICT)

    rig.answer()
    assert rig.transport.protocol is not rig.other
    rig.answer()

    assert rig.transport.protocol is rig.other
    assert rig.statuses == [200, 200]
    assert rig.other.received.startswith(b"GET /metrics HTTP/1.1\r\n")
    assert b"X-Mine: 1\r\n" in rig.other.received
    assert b"Connection: close\r\n" in rig.other.received
    assert rig.reads()
    assert not rig.server.connections


def test_what_is_handed_over_has_one_length_and_no_trailers(rig: Rig) -> None:
    rig.feed(chunked(b"abc", b"def", trailers=b"X-Trailer: 1\r\n").replace(b"/a/", b"/b/"))

    head, _, body = rig.other.received.partition(b"\r\n\r\n")
    assert body == b"abcdef"
    assert b"Content-Length: 6" in head
    assert b"chunked" not in head
    assert b"X-Trailer" not in head


def test_headers_of_a_plain_request_are_handed_over_also_after_a_chunked_one(rig: Rig) -> None:
    rig.feed(chunked(b'{"input":[1.0]}'))
    rig.answer()

    rig.feed(http_request("GET", "/metrics", None, ["X-One: 1", "X-Two: 2"]))

    assert b"X-Two: 2" in rig.other.received


# ---- limits of size --------------------------------------------------------------------------------------------------

LONG_URL = "/" + "x" * (http_rules.MAX_REQUEST_LINE - 1)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (http_request("POST", LONG_URL + "x", b""), 431),
        (predict_request("a", [1.0], [f"X-{n}: 1" for n in range(63)]), 431),
        (predict_request("a", [1.0], ["X: " + "x" * http_rules.MAX_HEADER_BYTES]), 431),
        (http_request("POST", "/a/predict", b" " * (BODY_LIMIT + 1)), 413),
        (chunked(b" " * BODY_LIMIT, b" "), 413),
        (chunked(*[b" "] * (BODY_LIMIT + 1)), 413),
    ],
    ids=["request line", "number of headers", "size of headers", "length of body", "chunks of body", "many chunks of body"],
)
def test_one_more_than_a_limit_is_refused_with_a_reason_and_the_end(rig: Rig, data: bytes, status: int) -> None:
    rig.feed(data)

    (reply,) = rig.replies
    assert reply.status == status
    assert reply.header("Connection") == "close"
    assert reply.json["error"] == "HTTP error"
    assert rig.has_ended()


@pytest.mark.parametrize(
    "data",
    [
        predict_request("a", [1.0], [f"X-{n}: 1" for n in range(62)]),
        predict_request("a", [1.0], ["X: " + "x" * (http_rules.MAX_HEADER_BYTES - 100)]),
        http_request("POST", "/a/predict", b" " * BODY_LIMIT),
        chunked(b" " * (BODY_LIMIT - 1), b" "),
        http_request("POST", f"/a/predict?{'x' * (http_rules.MAX_REQUEST_LINE - 11)}", b"{}"),
    ],
    ids=["number of headers", "size of headers", "length of body", "chunks of body", "request line"],
)
def test_a_request_at_its_limit_is_taken(rig: Rig, data: bytes) -> None:
    rig.feed(data)

    assert not rig.has_ended()
    assert len(rig.predictions.waiting) + rig.statuses.count(400) == 1


@pytest.mark.parametrize(
    "start",
    [
        b"POST /",
        b"POST /a/predict HTTP/1.1\r\nX: ",
        chunked(b"x").removesuffix(b"\r\n") + b"X-Trailer: ",
        http_request("POST", "/a/predict", None, ["Transfer-Encoding: chunked"]) + b"5;extension=",
    ],
    ids=["URL", "header", "trailer", "chunk extension"],
)
def test_what_never_ends_is_refused_after_40_kib(rig: Rig, start: bytes) -> None:
    rig.feed(start)

    for _ in range(50):
        rig.feed(b"x" * 1024)

    assert rig.statuses == [431]


def test_many_trailers_are_refused_after_40_kib(rig: Rig) -> None:
    rig.feed(chunked(b"x").removesuffix(b"\r\n"))

    for number in range(100):
        rig.feed(b"X-%d: %b\r\n" % (number, b"y" * 1000))

    assert rig.statuses == [431]


def test_a_large_body_before_the_start_of_the_next_head_is_no_large_head() -> None:
    rig = Rig(answers_at_once=True)
    large = http_request("POST", "/a/predict", b'{"input":[1.0]}' + b" " * (BODY_LIMIT - 15))

    for _ in range(3):
        rig.feed(large * 25 + PREDICT[:30], PREDICT[30:])

    assert rig.statuses == [200] * 78


def test_a_body_in_many_small_chunks_is_no_large_head(rig: Rig) -> None:
    data = chunked(*[b'{"input":['] + [b" " * 3] * 500 + [b"1.0]}"]).replace(b"3\r\n", b"3;x=" + b"y" * 100 + b"\r\n")

    rig.feed(*(data[place : place + 1000] for place in range(0, len(data), 1000)))

    assert len(rig.predictions.waiting) == 1


# ---- header rules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"a b", b"a\tb", b"", b"\xc3\xa9", b"x" * 129, b"a\r\nSet-Cookie: b", b"\x7f", b"a\n"])
def test_an_id_that_could_break_a_header_or_a_log_line_is_not_used(value: bytes) -> None:
    assert http_rules.usable_request_id(value) is None


@pytest.mark.parametrize("value", [b"a", b"7b3a-4f", b"!~", b"x" * 128])
def test_a_printable_id_is_used(value: bytes) -> None:
    assert http_rules.usable_request_id(value) == value


def test_an_idempotency_key_is_the_id_of_a_request_that_has_no_other() -> None:
    rig = Rig(answers_at_once=True)

    rig.feed(predict_request("a", [1.0], ["Idempotency-Key: key"]))
    rig.feed(predict_request("a", [1.0], ["X-Request-Id: id", "Idempotency-Key: key"]))
    rig.feed(predict_request("a", [1.0], ["Idempotency-Key: key", "X-Request-Id: id"]))

    assert [reply.header("X-Request-Id") for reply in rig.replies] == ["key", "id", "id"]


def test_new_ids_are_unique_across_frontends() -> None:
    def some() -> Iterator[bytes]:
        ids = http_rules.RequestIds()
        return (ids.next() for _ in range(100))

    assert len({*some(), *some(), *some()}) == 300
