"""Who gets what answer when, from POST /<app>/predict of a real frontend: the table of docs/behaviour.md, "Answers", row by
row, and what the replies say besides. What a body may be is in test_predict_bodies.py.
"""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from clipper_nomad.protocol.wire import ErrorKind, OutputError
from clipper_nomad.state.records import Record, SloPolicy
from tests.process.frontends import TOKEN, Frontend, a_version, an_app
from tests.process.http_clients import Client, Reply, http_request, predict_request
from tests.process.peer_replicas import PeerReplica
from tests.waiting import wait_until

pytestmark = pytest.mark.process

POLICIES: tuple[SloPolicy, ...] = ("late", "default", "error")
SLO_S = 0.15
TIMEOUT_S = 0.6
NO_MODEL = "No connected models found for query"
MISSED = "Failed to retrieve a prediction response within the specified latency SLO"


@pytest.fixture(scope="module")
def frontend() -> Iterator[Frontend]:
    """For each policy an app that is unlinked, one without a replica, and two whose replica is told when to answer."""
    records: list[Record] = [
        *(an_app(f"unlinked-{policy}", model=None, policy=policy) for policy in POLICIES),
        *(an_app(f"empty-{p}", model="empty", policy=p, slo_s=SLO_S, timeout_s=TIMEOUT_S) for p in POLICIES),
        *(an_app(f"slow-{p}", model="slow", policy=p, slo_s=SLO_S, timeout_s=TIMEOUT_S) for p in POLICIES),
        *(an_app(f"patient-{p}", model="slow", policy=p) for p in POLICIES),
        a_version("empty"),
        a_version("slow"),
    ]
    with Frontend(*records) as running:
        yield running


@pytest.fixture
def slow(frontend: Frontend) -> Iterator[PeerReplica]:
    wait_until(lambda: not frontend.outstanding("slow"), "nothing of another test is left")
    with PeerReplica(frontend.rpc, model="slow", name="slow-0", holds=True) as replica:
        yield replica


@pytest.fixture
def client(frontend: Frontend) -> Iterator[Client]:
    with frontend.client() as connected:
        yield connected


def ask(frontend: Frontend, app: str, body: bytes | str) -> Reply:
    with frontend.client() as client:
        return client.ask("POST", f"/{app}/predict", body if isinstance(body, bytes) else body.encode())


# ---- who gets what when ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_a_version_that_is_not_registered_is_400_under_every_policy(frontend: Frontend, policy: SloPolicy) -> None:
    assert frontend.predict(f"empty-{policy}", [1.0], version="9").status == 400


def test_a_version_of_an_app_that_is_not_linked_gets_the_default(frontend: Frontend) -> None:
    assert frontend.predict("unlinked-late", [1.0], version="9").json["default_explanation"] == NO_MODEL


def test_a_registered_version_without_a_replica_waits_like_any_other(frontend: Frontend) -> None:
    reply = frontend.predict("empty-default", [1.0], version="1")

    assert (reply.status, reply.json["default_explanation"]) == (200, NO_MODEL)


def timed(frontend: Frontend, app: str) -> tuple[Reply, float]:
    with frontend.client() as client:
        started = time.monotonic()
        reply = client.predict(app, [1.0])
        return reply, time.monotonic() - started


def assert_default(reply: Reply, explanation: str) -> None:
    assert reply.status == 200
    assert list(reply.json) == ["query_id", "output", "default", "default_explanation"]
    assert reply.json["output"] == -1.0
    assert reply.json["default"] is True
    assert reply.json["default_explanation"] == explanation


@pytest.mark.parametrize("policy", ["late", "default"])
def test_an_app_that_is_not_linked_answers_its_default_at_once(frontend: Frontend, policy: SloPolicy) -> None:
    reply, seconds = timed(frontend, f"unlinked-{policy}")

    assert_default(reply, NO_MODEL)
    assert seconds < 5


def test_an_app_that_is_not_linked_answers_503_if_its_policy_is_error(frontend: Frontend) -> None:
    reply, _ = timed(frontend, "unlinked-error")

    assert reply.status == 503
    assert "unlinked-error" in reply.json["cause"]


def test_without_a_replica_policy_late_waits_till_the_timeout(frontend: Frontend) -> None:
    reply, seconds = timed(frontend, "empty-late")

    assert_default(reply, NO_MODEL)
    assert seconds >= TIMEOUT_S


def test_without_a_replica_policy_default_answers_at_the_slo(frontend: Frontend) -> None:
    reply, seconds = timed(frontend, "empty-default")

    assert_default(reply, NO_MODEL)
    assert SLO_S <= seconds < TIMEOUT_S


def test_without_a_replica_policy_error_answers_503_at_the_slo(frontend: Frontend) -> None:
    reply, seconds = timed(frontend, "empty-error")

    assert reply.status == 503
    assert reply.header("Retry-After") == "1"
    assert "empty:1" in reply.json["cause"]
    assert seconds >= SLO_S


@pytest.mark.parametrize("policy", POLICIES)
def test_a_replica_that_comes_in_time_answers_what_waited_for_it(frontend: Frontend, policy: SloPolicy) -> None:
    with frontend.client() as client:
        client.send(predict_request(f"patient-{policy}", [1.0, 2.0]))
        wait_until(lambda: frontend.outstanding("slow") == 1, "the query waits")
        with PeerReplica(frontend.rpc, model="slow"):
            reply = client.reply()

    assert reply.json["output"] == 3.0


def test_past_its_slo_policy_late_gives_the_answer_and_says_so(
    frontend: Frontend, client: Client, slow: PeerReplica
) -> None:
    client.send(predict_request("slow-late", [1.0]))
    slow.wait_for_batches()
    with frontend.client() as other:
        assert other.predict("slow-default", [1.0]).json["default"]  # sent later: now the SLO has passed for both
    slow.answer()

    reply = client.reply()
    assert reply.status == 200
    assert list(reply.json) == ["query_id", "output", "default", "late"]
    assert (reply.json["output"], reply.json["default"], reply.json["late"]) == (1.0, False, True)
    assert reply.header("X-Clipper-SLO") == "missed"
    assert reply.header("X-Clipper-Replica") == "slow-0"


def test_past_its_slo_policy_default_answers_the_default_then(frontend: Frontend, slow: PeerReplica) -> None:
    reply, seconds = timed(frontend, "slow-default")

    assert_default(reply, MISSED)
    assert reply.header("X-Clipper-SLO") == "missed"
    assert seconds >= SLO_S


def test_past_its_slo_policy_error_answers_504_then(frontend: Frontend, slow: PeerReplica) -> None:
    reply, seconds = timed(frontend, "slow-error")

    assert reply.status == 504
    assert reply.header("X-Clipper-SLO") == "missed"
    assert str(int(SLO_S * 1_000_000)) in reply.json["cause"]
    assert seconds >= SLO_S


def test_past_its_timeout_policy_late_answers_504_and_names_the_setting(frontend: Frontend, slow: PeerReplica) -> None:
    reply, seconds = timed(frontend, "slow-late")

    assert reply.status == 504
    assert f"timeout_micros={int(TIMEOUT_S * 1_000_000)}" in reply.json["cause"]
    assert "slow-late" in reply.json["cause"]
    assert seconds >= TIMEOUT_S


def test_an_output_after_the_answer_reaches_nobody(frontend: Frontend, client: Client, slow: PeerReplica) -> None:
    assert client.predict("slow-default", [1.0]).json["default"]
    slow.answer_all()

    assert client.predict("patient-late", [5.0]).json["output"] == 5.0
    assert not client.has_data()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", ErrorKind)
def test_an_input_the_model_fails_on_is_500_under_every_policy(
    client: Client, slow: PeerReplica, policy: SloPolicy, kind: ErrorKind
) -> None:
    client.send(predict_request(f"patient-{policy}", [1.0]))
    slow.wait_for_batches()
    slow.fail(OutputError(0, kind, "ValueError: no such thing", "tb-17"))

    reply = client.reply()
    assert reply.status == 500
    for word in ("slow:1", "slow-0", "tb-17", "ValueError: no such thing"):
        assert word in reply.json["cause"]


def test_a_batch_that_fails_in_part_is_200_with_each_failure_in_its_place(client: Client, slow: PeerReplica) -> None:
    warm(client, slow)
    client.send(http_request("POST", "/patient-late/predict", b'{"input_batch": [[1.0], [2.0], [3.0]]}'))
    while len(slow.sent) < 4 + 3 and not client.has_data():
        slow.wait_for_batches()
        batch = slow.waiting[0]
        inputs = slow.inputs_of(batch)[:, 0].tolist()
        bad = [OutputError(index, ErrorKind.RAISED, "bad", "tb") for index, value in enumerate(inputs) if value == 2.0]
        if bad:
            slow.fail(*bad)
        else:
            slow.answer()
        if sum(each.header.count for each in slow.sent) == WARM + 3 and not slow.waiting:
            break

    reply = client.reply()
    assert reply.status == 200
    first, second, third = reply.json["batch_predictions"]
    assert "error" not in first
    assert "error" not in third
    assert list(second) == ["query_id", "error", "cause", "status"]
    assert (second["status"], second["error"]) == (500, "Model error")


WARM = 4


def warm(client: Client, slow: PeerReplica) -> None:
    """Let the frontend learn that this model may get batches."""
    slow.answer_all()
    for _ in range(WARM):
        assert client.predict("patient-late", [0.0]).status == 200
    slow.holds = True


def test_a_batch_that_fails_as_a_whole_has_the_common_status(frontend: Frontend) -> None:
    reply = ask(frontend, "slow-late", '{"input_batch": [[1.0], [2.0]], "version": "9"}')

    assert reply.status == 400
    assert list(reply.json) == ["error", "cause", "batch_predictions"]
    assert [part["status"] for part in reply.json["batch_predictions"]] == [400, 400]


def test_a_batch_of_one_that_fails_gets_the_bare_error(frontend: Frontend) -> None:
    reply = ask(frontend, "slow-late", '{"input_batch": [[1.0]], "version": "9"}')

    assert (reply.status, list(reply.json)) == (400, ["error", "cause"])


def test_a_batch_past_its_slo_says_so_in_its_header(frontend: Frontend, slow: PeerReplica) -> None:
    reply = ask(frontend, "slow-default", '{"input_batch": [[1.0], [2.0]]}')

    assert reply.status == 200
    assert [part["default_explanation"] for part in reply.json["batch_predictions"]] == [MISSED, MISSED]
    assert reply.header("X-Clipper-SLO") == "missed"


# ---- overload --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> Iterator[Frontend]:
    """A frontend whose queues have little room; for each test a model of its own."""
    models = ("queries", "bytes", "wait")
    apps = (an_app(model, model=model, timeout_s=10.0) for model in models)
    with Frontend(
        *apps, *(a_version(model, batch_size=1) for model in models), MAX_QUEUED_QUERIES=10, MAX_QUEUED_BYTES=1000
    ) as running:
        yield running


def test_a_full_queue_refuses_with_429_and_takes_again_when_there_is_room(small: Frontend) -> None:
    with (
        PeerReplica(small.rpc, model="queries", holds=True) as replica,
        small.client() as client,
        small.client() as other,
    ):
        client.send(predict_request("queries", [1.0]))
        replica.wait_for_batches()
        client.send(predict_request("queries", [1.0]) * 60)
        wait_until(lambda: small.outstanding("queries") == 11, "one is worked on and ten wait")
        before = small.metric("clipper_refused_queries_total")
        refused = [other.predict("queries", [2.0]) for _ in range(20)]

        assert [reply.status for reply in refused] == [429] * 20
        assert all(int(reply.header("Retry-After") or "0") >= 1 for reply in refused)
        assert "'queries:1'" in refused[0].json["cause"]
        assert small.outstanding("queries") == 11
        assert small.metric("clipper_refused_queries_total") == before + 20
        replica.answer_all()
        statuses = [client.reply().status for _ in range(61)]
        assert statuses == [200] * 11 + [429] * 50
        assert other.predict("queries", [1.0]).status == 200


def test_bytes_of_inputs_bound_a_queue_too(small: Frontend) -> None:
    before = small.metric("clipper_refused_queries_total")
    with PeerReplica(small.rpc, model="bytes", holds=True) as replica, small.client() as client:
        client.send(predict_request("bytes", [1.0]))
        replica.wait_for_batches()
        client.send(predict_request("bytes", [1.0] * 100) * 4)
        wait_until(lambda: small.metric("clipper_refused_queries_total") == before + 2, "two had no room")
        replica.answer_all()

        assert [client.reply().status for _ in range(5)] == [200, 200, 200, 429, 429]


def test_a_wait_beyond_the_timeout_is_refused_with_the_time_to_come_again(small: Frontend) -> None:
    before = small.metric("clipper_refused_queries_total")
    with PeerReplica(small.rpc, model="wait", holds=True) as replica, small.client() as client:
        for _ in range(4):
            client.send(predict_request("wait", [1.0]))
            replica.wait_for_batches()
            batch = replica.waiting.pop()
            replica.send(replica.result(batch, [1.0], exec_micros=3_000_000))  # so it says: three seconds each
            assert client.reply().status == 200
        client.send(predict_request("wait", [1.0]) * 10)
        wait_until(lambda: small.metric("clipper_refused_queries_total") > before, "the last have too long to wait")
        replica.answer_all()
        replies = [client.reply() for _ in range(10)]

    refused = [reply for reply in replies if reply.status == 429]
    assert [reply.status for reply in replies[:4]] == [200] * 4
    assert len(refused) >= 4
    assert all(10 <= int(reply.header("Retry-After") or "0") <= 15 for reply in refused)
    assert "timeout" in refused[0].json["cause"]


# ---- headers ---------------------------------------------------------------------------------------------------------


def test_a_prediction_says_who_made_it_and_when(client: Client, slow: PeerReplica) -> None:
    slow.answer_all()
    reply = client.predict("patient-late", [1.0])

    assert reply.header("Content-Type") == "application/json"
    assert reply.header("X-Clipper-Model") == "slow:1"
    assert reply.header("X-Clipper-Replica") == "slow-0"
    assert reply.header("X-Clipper-SLO") is None
    date = email.utils.parsedate_to_datetime(reply.header("Date") or "")
    assert abs(date.timestamp() - time.time()) < 5


@pytest.mark.parametrize("value", [np.float32(0.1), np.float16(0.1), True, False, None, 2**63 - 1, -(2**63), 1e16, 5e-324])
def test_outputs_keep_their_width(client: Client, slow: PeerReplica, value: object) -> None:
    client.send(predict_request("patient-late", [1.0]))
    slow.wait_for_batches()
    slow.answer(outputs=["null"] if value is None else [value])

    text = client.reply().body
    expected = str(value) if isinstance(value, np.floating) else json.dumps(value)
    assert json.loads(text)["output"] == json.loads(expected)


@pytest.mark.parametrize(
    ("value", "output"), [(float("nan"), "NaN"), (float("inf"), "Infinity"), (float("-inf"), "-Infinity")]
)
def test_numbers_that_json_has_not_are_strings(client: Client, slow: PeerReplica, value: float, output: str) -> None:
    client.send(predict_request("patient-late", [1.0]))
    slow.wait_for_batches()
    slow.answer(outputs=[value])

    assert client.reply().json["output"] == output


def test_the_log_names_what_went_wrong_and_no_input() -> None:
    with Frontend(an_app(model=None), ACCESS_LOG="slow") as frontend, frontend.client() as client:
        client.ask("POST", "/a/predict", b'{"input": [12345.5]}', ["X-Request-Id: single"])
        client.ask("POST", "/a/predict", b'{"input_batch": [[1.0], [2.0]]}', ["X-Request-Id: several"])
        client.close()
        frontend.terminate()
        assert frontend.exit_code() == 0

        lines = [json.loads(line) for line in frontend.log.splitlines() if line.startswith("{")]
        assert [line["request_id"] for line in lines] == ["single", "several", "several"]
        assert {line["cause"] for line in lines} == {NO_MODEL}
        assert "12345" not in frontend.log


def test_a_deploys_probe_comes_by_the_public_way_too_for_whoever_has_the_token() -> None:
    with Frontend(a_version()) as frontend, PeerReplica(frontend.rpc):
        wait_until(lambda: frontend.report()["versions"][0]["ready"], "a replica is ready")
        replies = []
        for headers in ([f"Authorization: Bearer {TOKEN}"], ["Authorization: Bearer another"], []):
            with frontend.client() as client:
                replies.append(client.ask("POST", "/_clipper/probe/m/1", b'{"input": [1.5, 2]}', headers))

    assert [reply.status for reply in replies] == [200, 404, 404]
    assert replies[0].json["output"] == 3.5


def test_the_log_names_a_deploys_probe_and_its_version_instead_of_an_app() -> None:
    with Frontend(a_version(), ACCESS_LOG="slow") as frontend, ThreadPoolExecutor(1) as background:
        with PeerReplica(frontend.rpc, holds=True) as peer:
            asked = background.submit(frontend.ask, "POST", "/_clipper/probe/m/1", b'{"input": [1.0]}')
            peer.wait_for_batches()
            peer.fail(OutputError(0, ErrorKind.RAISED, "ValueError: no such thing", "tb-17"))
            assert asked.result(10).status == 500
        frontend.terminate()
        assert frontend.exit_code() == 0

        (line,) = [json.loads(line) for line in frontend.log.splitlines() if line.startswith("{")]
        assert (line["app"], line["model"]) == ("probe of m:1", "m:1")
        assert "_probe" not in frontend.log
