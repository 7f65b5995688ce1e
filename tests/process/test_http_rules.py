"""The HTTP rules of the predict path, on a real frontend process and real sockets; h11 is the judge of every reply.

Time limits and every way to split a request are in tests/unit, on simulated time and a simulated transport.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.process.frontends import Frontend, a_version, an_app, clients
from tests.process.http_clients import Client, http_request, predict_request
from tests.process.peer_replicas import PeerReplica
from tests.waiting import wait_until

pytestmark = pytest.mark.process

BODY_LIMIT = 16 * 1024 * 1024
GOOD = b'{"input":[1.0,2.0]}'


@pytest.fixture(scope="module")
def frontend() -> Iterator[Frontend]:
    """App `a` has a replica that answers, `held` has one that waits to be told, `unlinked` has no model."""
    apps = an_app("a"), an_app("held", model="held"), an_app("unlinked", model=None)
    with Frontend(*apps, a_version(), a_version("held")) as running, PeerReplica(running.rpc):
        yield running


@pytest.fixture
def client(frontend: Frontend) -> Iterator[Client]:
    with frontend.client() as connected:
        yield connected


@pytest.fixture
def held(frontend: Frontend) -> Iterator[PeerReplica]:
    wait_until(lambda: not frontend.outstanding("held"), "nothing of another test is left")
    with PeerReplica(frontend.rpc, model="held", holds=True) as replica:
        yield replica


# ---- order, and how much at once -------------------------------------------------------------------------------------


def test_answers_leave_in_the_order_of_their_requests(frontend: Frontend, client: Client, held: PeerReplica) -> None:
    client.send(predict_request("held", [1.0]) + predict_request("a", [2.0]) + predict_request("held", [3.0]))
    wait_until(lambda: frontend.outstanding("held") == 2, "the first and the third wait for their model")
    with frontend.client() as other:
        other.predict("a", [0.0])  # its answer comes after that of the second

    assert not client.has_data()
    held.answer_all()

    assert [client.reply().json["output"] for _ in range(3)] == [1.0, 2.0, 3.0]


def test_at_most_64_requests_of_a_connection_are_under_way_and_all_are_answered(
    frontend: Frontend, client: Client, held: PeerReplica
) -> None:
    client.send(b"".join(predict_request("held", [float(number)]) for number in range(300)))
    wait_until(lambda: frontend.outstanding("held") >= 64, "64 requests are under way")
    with frontend.client() as other:
        other.send(predict_request("held", [-1.0]))
        wait_until(lambda: frontend.outstanding("held") > 64, "that of another client, too")

        assert frontend.outstanding("held") == 65
        held.answer_all()

        assert [client.reply().json["output"] for _ in range(300)] == [float(number) for number in range(300)]
        assert other.reply().json["output"] == -1.0


def test_nothing_is_read_while_64_are_under_way(frontend: Frontend, client: Client, held: PeerReplica) -> None:
    client.send(predict_request("held", [0.0]) * 64)
    wait_until(lambda: frontend.outstanding("held") == 64, "64 requests are under way")
    large = http_request("POST", "/held/predict", b'{"input":[0.0]}' + b" " * 100_000)

    sent = client.send_what_goes(large * 500)
    assert sent < len(large) * 500, "the server went on reading"
    held.answer_all()
    client.send(large[sent % len(large) :])

    assert all(client.reply().status == 200 for _ in range(64 + sent // len(large) + 1))


def test_a_client_that_vanishes_mid_batch_harms_nobody(frontend: Frontend, held: PeerReplica) -> None:
    before = frontend.open_connections()
    with clients(frontend, 6) as connected:
        for number, each in enumerate(connected):
            each.send(predict_request("held", [float(number)]))
        wait_until(lambda: frontend.outstanding("held") == 6, "all wait")
        for number in (0, 2, 4):  # the first is in the batch that is being worked on
            connected[number].vanish()
        wait_until(lambda: frontend.open_connections() == before + 3, "the frontend noticed")
        held.answer_all()

        assert [connected[number].reply().json["output"] for number in (1, 3, 5)] == [1.0, 3.0, 5.0]


def test_a_half_closed_client_gets_its_answers(frontend: Frontend, client: Client, held: PeerReplica) -> None:
    client.send(predict_request("held", [1.0]) + predict_request("held", [2.0]))
    client.half_close()
    wait_until(lambda: frontend.outstanding("held") == 2, "both are under way")
    held.answer_all()

    assert [client.reply().json["output"] for _ in range(2)] == [1.0, 2.0]
    client.expect_end()


# ---- what is no prediction -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/health/ready", 200),
        ("GET", "/clipper/health/ready", 200),
        ("GET", "/metrics", 200),
        ("HEAD", "/health", 200),
        ("POST", "/nobody/predict", 404),
        ("POST", "//a/predict", 404),
        ("POST", "/a/predict/more", 404),
        ("GET", "/", 404),
        ("OPTIONS", "*", 404),
        ("GET", "/a/predict", 405),
        ("HEAD", "/a/predict", 405),
        ("PUT", "/a/predict", 405),
        ("POST", "/health", 405),
        ("POST", "*", 400),
        ("GET", "/_clipper/report", 404),
        ("GET", "/_clipper/mirror", 404),
        ("POST", "/_clipper/probe/m/1", 404),
    ],
)
def test_every_other_request_is_answered_in_json_and_closes_the_connection(
    client: Client, method: str, target: str, status: int
) -> None:
    reply = client.ask(method, target, b"{}" if method in {"POST", "PUT"} else None)

    assert reply.status == status
    assert reply.header("Connection") == "close"
    if status >= 400 and method != "HEAD":
        assert set(reply.json) == {"error", "cause"}
    if method == "HEAD":
        assert reply.body == b""
    if status == 405 and "predict" in target:
        assert reply.header("Allow") == "POST"
        assert method == "HEAD" or reply.json["cause"] == f"{target} does not take {method}; it takes POST"
    if target == "/":
        assert reply.json["cause"] == "/ is no path of a query frontend; GET /openapi.json lists them"
    client.expect_end()


def test_an_unknown_app_is_named(client: Client) -> None:
    reply = client.predict("nobody", [1.0])

    assert reply.status == 404
    assert "application 'nobody' is not registered" in reply.json["cause"]


def test_a_hand_over_waits_until_nothing_is_owed(frontend: Frontend, client: Client, held: PeerReplica) -> None:
    client.send(predict_request("held", [1.0]) + http_request("GET", "/health") + predict_request("a", [2.0]))
    wait_until(lambda: frontend.outstanding("held") == 1, "the first is under way")
    assert not client.has_data()
    held.answer_all()

    assert client.reply().json["output"] == 1.0
    health = client.reply("GET")
    assert health.json["status"] == "ok"
    assert health.header("Connection") == "close"
    client.expect_end()


def test_a_large_reply_of_aiohttp_arrives_whole(client: Client) -> None:
    reply = client.ask("GET", "/metrics", None, ["Accept: text/plain;version=0.0.4"])

    assert reply.body.endswith(b"\n")
    assert b"clipper_queries_total" in reply.body
    client.expect_end()


@pytest.mark.parametrize(
    "target",
    [
        "/a/predict",
        "/a/predict/",
        "/clipper/a/predict",
        "/clipper/a/predict/",
        "/%61/predict",
        "/a/predict?version=9&input=none",
        "/%61/predict/?x",
    ],
)
def test_an_app_answers_at_each_of_its_paths(client: Client, target: str) -> None:
    for _ in range(3):
        reply = client.ask("POST", target, GOOD)

        assert (reply.status, reply.json["output"]) == (200, 3.0)
        assert reply.header("Connection") is None


@pytest.mark.parametrize("body", [GOOD, b'{"input_batch":[[1.0],[2.0]]}', b"{"])
def test_aiohttp_s_end_predicts_too(frontend: Frontend, body: bytes) -> None:
    """A URL in absolute form is handed over, and must be answered like any other."""
    with frontend.client() as one, frontend.client() as two:
        plain = one.ask("POST", "/a/predict", body, ["X-Request-Id: mine"])
        handed_over = two.ask("POST", "http://elsewhere:80/a/predict", body, ["X-Request-Id: mine"])
        two.expect_end()

    assert handed_over.status == plain.status
    assert strip_ids(handed_over.json) == strip_ids(plain.json)
    for name in ("X-Request-Id", "X-Clipper-Model", "X-Clipper-Replica"):
        assert handed_over.header(name) == plain.header(name)


def strip_ids(value: object) -> object:
    match value:
        case dict():
            return {key: strip_ids(part) for key, part in value.items() if key != "query_id"}
        case list():
            return [strip_ids(part) for part in value]
    return value


# ---- limits of size --------------------------------------------------------------------------------------------------


def in_chunks(size: int, chunk: int = 1 << 16) -> bytes:
    whole = b"%x\r\n%b\r\n" % (chunk, b" " * chunk)
    rest = size % chunk
    last = b"%x\r\n%b\r\n" % (rest, b" " * rest) if rest else b""
    return (
        http_request("POST", "/a/predict", None, ["Transfer-Encoding: chunked"])
        + size // chunk * whole
        + last
        + b"0\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (lambda: http_request("POST", "/a/predict?" + "x" * (8192 - 10), GOOD), 431),
        (lambda: predict_request("a", [1.0], [f"X-{number}: 1" for number in range(63)]), 431),
        (lambda: predict_request("a", [1.0], [f"X-{number}: {'x' * 1024}" for number in range(32)]), 431),
        (lambda: b"POST /a/predict HTTP/1.1\r\nX: " + b"x" * 1_000_000, 431),
        (lambda: in_chunks(10)[:-2] + b"X-Trailer: 1\r\n" * 100_000, 431),
        (lambda: http_request("POST", "/a/predict", b" " * (BODY_LIMIT + 1)), 413),
        (lambda: in_chunks(BODY_LIMIT + 1), 413),
        (lambda: in_chunks(4 * BODY_LIMIT), 413),
    ],
    ids=["request line", "headers", "bytes of headers", "one header", "trailers", "length", "chunked", "chunked and on"],
)
def test_one_more_than_a_limit_is_refused_then_closed(client: Client, make: Callable[[], bytes], status: int) -> None:
    client.send(make())  # all of it: the reply must be readable for a client that sends first and reads then

    reply = client.reply()
    assert reply.status == status
    assert reply.header("Connection") == "close"
    assert set(reply.json) == {"error", "cause"}
    client.half_close()
    client.expect_end()


@pytest.mark.parametrize(
    "make",
    [
        lambda: http_request("POST", "/a/predict?" + "x" * (8192 - 11), GOOD),
        lambda: predict_request("a", [1.0], [f"X-{number}: 1" for number in range(62)]),
        lambda: predict_request("a", [1.0], [f"X-{number}: {'x' * 1024}" for number in range(31)]),
        lambda: http_request("POST", "/a/predict", GOOD + b" " * (BODY_LIMIT - len(GOOD))),
        lambda: in_chunks(BODY_LIMIT),
    ],
    ids=["request line", "headers", "bytes of headers", "length", "chunked"],
)
def test_a_request_at_its_limit_is_read_and_the_connection_goes_on(client: Client, make: Callable[[], bytes]) -> None:
    client.send(make())

    assert client.reply().status in {200, 400}
    assert client.predict("a", [1.0, 2.0]).json["output"] == 3.0


@pytest.mark.parametrize(
    "request_line",
    ["/nobody/" + "x" * (8192 - 8), "/nobody/" + "x" * 8000],
)
def test_what_is_within_the_limits_is_within_aiohttp_s(client: Client, request_line: str) -> None:
    reply = client.ask("POST", request_line, GOOD, [f"X-{n}: 1" for n in range(60)] + ["X: " + "x" * 20_000])

    assert reply.status == 404


def test_an_ordinary_client_reads_the_413(frontend: Frontend) -> None:
    """It sends all of its body before it looks: a connection closed at once would be an error to it."""
    connection = http.client.HTTPConnection(*frontend.http, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", "/a/predict", b" " * (3 * BODY_LIMIT))

        assert connection.getresponse().status == 413


def test_a_refusal_waits_for_the_answers_before_it(frontend: Frontend, client: Client, held: PeerReplica) -> None:
    client.send(predict_request("held", [1.0]) + b"garbage\r\n\r\n")
    wait_until(lambda: frontend.outstanding("held") == 1, "the first is under way")
    held.answer_all()

    assert client.reply().json["output"] == 1.0
    assert client.reply().status == 400


# ---- what is not understood ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # a TLS client
        (b"hello\r\n\r\n", 400),
        (b"\0" * 1000, 400),
        (b"POST /a/predict HTTP/1.2\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"POST /a/predict HTTP/1.1\nHost: a\n\n", 400),
        (b"POST /a/predict HTTP/1.1\r\nX : a\r\n\r\n", 400),
        (b"POST /a/predict HTTP/1.1\r\nX: a\r\n b\r\n\r\n", 400),
        (b"POST /a/predict HTTP/1.1\r\nX: a\0b\r\n\r\n", 400),
        (b"POST /a\0/predict HTTP/1.1\r\n\r\n", 400),
        (predict_request("a", [1.0], ["Content-Length: 15"]), 400),
        (predict_request("a", [1.0], ["Content-Length: 16"]), 400),
        (predict_request("a", [1.0], ["Transfer-Encoding: chunked"]), 400),
        (predict_request("a", [1.0], ["Transfer-Encoding: gzip"]), 400),
        (http_request("POST", "/a/predict", None, ["Content-Length: -1"]), 400),
        (http_request("POST", "/a/predict", None, ["Content-Length: +1"]), 400),
        (http_request("POST", "/a/predict", None, ["Content-Length: 1, 1"]), 400),
        (http_request("POST", "/a/predict", None, ["Content-Length: "]), 400),
        (http_request("POST", "/a/predict", None, ["Content-Length: 99999999999999999999999"]), 400),
        (http_request("POST", "/a/predict", None, ["Content-Length: 9223372036854775807"]), 413),
        (http_request("POST", "/a/predict", None, ["Transfer-Encoding: chunked"]) + b"ffffffffffffffffff\r\n", 400),
        (http_request("POST", "/a/predict", None, ["Transfer-Encoding: chunked"]) + b"-1\r\n", 400),
        (predict_request("a", [1.0], ["Upgrade: h2c", "Connection: upgrade"]), 400),
        (http_request("GET", "/health", None, ["Upgrade: websocket", "Connection: upgrade"]), 400),
        (b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere\r\n\r\n", 400),
        (b"CONNECT /a/predict HTTP/1.1\r\nHost: elsewhere\r\n\r\n", 400),
        (predict_request("a", [1.0], ["Content-Encoding: gzip"]), 415),
        (predict_request("a", [1.0], ["Expect: everything"]), 417),
    ],
)
def test_what_breaks_the_rules_is_refused_with_a_reason_then_closed(
    frontend: Frontend, client: Client, data: bytes, status: int
) -> None:
    before = frontend.metric("clipper_http_errors_total")
    client.send(data)

    reply = client.reply()
    assert reply.status == status
    assert reply.header("Connection") == "close"
    assert reply.json["error"] == "HTTP error"
    client.half_close()
    client.expect_end()
    assert frontend.metric("clipper_http_errors_total") == before + 1


# ---- connections -----------------------------------------------------------------------------------------------------


def test_url_and_body_may_come_in_many_packets(client: Client) -> None:
    data = http_request("POST", "/a/predict", GOOD)
    for place in range(0, len(data), 7):
        client.send(data[place : place + 7])

    assert client.reply().json["output"] == 3.0


def test_expect_100_is_answered_before_the_body(client: Client) -> None:
    data = http_request("POST", "/a/predict", GOOD, ["Expect: 100-continue"])
    for _ in range(2):
        client.send(data[: -len(GOOD)])
        assert client.interim() == 100
        client.send(GOOD)

        assert client.reply().json["output"] == 3.0


def test_expecting_100_for_what_is_too_large_gets_413_at_once(client: Client) -> None:
    client.send(http_request("POST", "/a/predict", None, ["Expect: 100-continue", f"Content-Length: {BODY_LIMIT + 1}"]))

    assert client.interim() == 413


def test_expect_100_waits_for_the_answers_before_it(frontend: Frontend, client: Client, held: PeerReplica) -> None:
    data = http_request("POST", "/a/predict", GOOD, ["Expect: 100-continue"])
    client.send(predict_request("held", [1.0]) + data[: -len(GOOD)])
    wait_until(lambda: frontend.outstanding("held") == 1, "the first is under way")
    assert not client.has_data()
    held.answer_all()

    assert client.reply().json["output"] == 1.0
    client.send(GOOD)
    assert client.reply().json["output"] == 3.0


@pytest.mark.parametrize(
    "data",
    [
        http_request("POST", "/a/predict", GOOD, ["Connection: close"]),
        http_request("POST", "/a/predict", GOOD, ["Connection: Keep-Alive, Close"]),
        http_request("POST", "/a/predict", GOOD, version="1.0"),
        http_request("POST", "/a/predict", GOOD, ["Connection: keep-alive"], version="1.0"),
        http_request("POST", "/a/predict", GOOD, ["Expect: 100-continue"], version="1.0"),
    ],
    ids=["close", "close in a list", "HTTP/1.0", "HTTP/1.0 kept alive", "HTTP/1.0 expecting 100"],
)
def test_a_connection_that_is_to_be_closed_is_closed_after_the_answer(client: Client, data: bytes) -> None:
    client.send(data)

    reply = client.reply()
    assert reply.json["output"] == 3.0
    assert reply.header("Connection") == "close"
    client.expect_end()


def test_an_application_that_is_not_linked_is_answered_in_order_too(client: Client) -> None:
    client.send(predict_request("unlinked", [1.0]) * 1000)

    assert all(client.reply().json["default"] for _ in range(1000))


def test_many_connections_come_and_go(frontend: Frontend) -> None:
    for _ in range(3):
        with clients(frontend, 200) as connected:
            for each in connected:
                each.send(predict_request("a", [1.0]))
            for each in connected[::2]:
                assert each.reply().status == 200
            for each in connected[1::2]:
                each.vanish()

    assert frontend.predict("a", [1.0]).status == 200


def test_half_sent_requests_do_not_stop_others(frontend: Frontend) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(200):
            half = stack.enter_context(socket.create_connection(frontend.http))
            half.sendall(b"POST /a/pre" if number % 2 else http_request("POST", "/a/predict", GOOD)[:-5])

        with frontend.client() as client:
            assert all(client.predict("a", [1.0]).status == 200 for _ in range(200))


# ---- request ids -----------------------------------------------------------------------------------------------------


def test_every_reply_has_an_id_of_its_own(frontend: Frontend) -> None:
    ids: list[str | None] = []
    with frontend.client() as client:
        ids += [client.predict("a", [1.0]).header("X-Request-Id") for _ in range(20)]
        ids += [client.ask("POST", "/a/predict", b"{").header("X-Request-Id") for _ in range(20)]
    for target in ("/health", "/nobody"):
        with frontend.client() as client:
            ids.append(client.ask("GET", target).header("X-Request-Id"))

    assert None not in ids
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("target", ["/a/predict", "http://host/a/predict", "/nobody/predict", "/health"])
def test_a_caller_s_id_comes_back(client: Client, target: str) -> None:
    reply = client.ask("POST", target, GOOD, ["X-Request-Id: 7b3a-4f"])

    assert reply.header("X-Request-Id") == "7b3a-4f"


@pytest.mark.parametrize("target", ["/a/predict", "http://host/a/predict", "/nobody/predict"])
@pytest.mark.parametrize("value", ["two words", "a\tb", "\xe9t\xe9", "x" * 129, ""])
def test_an_id_that_could_break_something_is_replaced(client: Client, target: str, value: str) -> None:
    reply = client.ask("POST", target, GOOD, [f"X-Request-Id: {value}"])

    assert reply.header("X-Request-Id") not in {None, "", value}
    assert reply.status in {200, 404}


def test_an_error_of_the_client_leaves_no_event_in_the_log(frontend: Frontend, client: Client) -> None:
    client.ask("POST", "*", json.dumps({}).encode())

    assert "ERROR" not in frontend.log
