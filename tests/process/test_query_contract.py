"""Clipper's query REST as its clients see it: default outputs, the form of replies, /metrics in both forms. A real frontend.

What a body may be is in test_predict_bodies.py, who gets what answer in test_predict_rest.py, /update in test_feedback.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.process.frontends import Frontend, a_version, an_app
from tests.process.http_clients import Client, http_request
from tests.process.peer_replicas import PeerReplica
from tests.waiting import wait_until

pytestmark = pytest.mark.process

NO_MODEL = "No connected models found for query"
DEFAULTS: dict[str, Any] = {
    "-1.0": -1.0,
    "1": 1,
    "true": True,
    "null": None,
    "[1, 2]": [1, 2],
    '{"a": "b"}': {"a": "b"},
    '"quoted"': "quoted",
    "": "",
    "None": "None",
    "NaN": "NaN",
    "DEFAULT": "DEFAULT",
    "-": "-",
    "spam \u00e4": "spam \u00e4",
}


@pytest.fixture(scope="module")
def frontend() -> Iterator[Frontend]:
    """An unlinked app for each default output, and one with a replica."""
    apps = [an_app(f"default-{number}", model=None, default=text) for number, text in enumerate(DEFAULTS)]
    with Frontend(*apps, an_app("sums", model="sums"), a_version("sums")) as running, PeerReplica(running.rpc, model="sums"):
        yield running


@pytest.fixture
def client(frontend: Frontend) -> Iterator[Client]:
    with frontend.client() as connected:
        yield connected


@pytest.mark.parametrize(("number", "text"), list(enumerate(DEFAULTS)))
def test_a_default_output_is_read_as_json_if_it_is_json(client: Client, number: int, text: str) -> None:
    reply = client.predict(f"default-{number}", [1.0])

    assert (reply.status, reply.json["output"], reply.json["default"]) == (200, DEFAULTS[text], True)
    assert list(reply.json) == ["query_id", "output", "default", "default_explanation"]
    assert reply.json["default_explanation"] == NO_MODEL


def test_replies_are_compact_json(client: Client) -> None:
    answered = client.predict("sums", [1.5, 2.0])
    batch = client.ask("POST", "/sums/predict", b'{"input_batch": [[1.0], [2.0]]}')

    first = answered.json["query_id"]
    assert answered.body == b'{"query_id":%d,"output":3.5,"default":false}' % first
    assert batch.body == (
        b'{"batch_predictions":[{"query_id":%d,"output":1.0,"default":false},{"query_id":%d,"output":2.0,"default":false}]}'
        % (first + 1, first + 2)
    )
    assert answered.header("Content-Type") == "application/json"


def test_a_version_of_an_app_without_a_model_gets_the_default_output(client: Client) -> None:
    reply = client.predict("default-0", [1.0], version="1")

    assert (reply.status, reply.json["default_explanation"]) == (200, NO_MODEL)


def test_an_app_may_be_asked_with_or_without_a_slash_at_the_end(client: Client) -> None:
    for path in ("/sums/predict", "/sums/predict/"):
        assert client.ask("POST", path, b'{"input":[1.0]}').json["output"] == 1.0


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ([], "application/json"),
        (["Accept: */*"], "application/json"),
        (["Accept: application/json"], "application/json"),
        (["Accept: text/plain"], "text/plain"),
        (["Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"], "text/plain"),
        (["Accept: application/json;q=0.1", "Accept: text/plain"], "text/plain"),
    ],
)
def test_metrics_come_in_the_form_that_is_asked_for(client: Client, accept: list[str], kind: str) -> None:
    reply = client.ask("GET", "/metrics", None, accept)

    assert (reply.status, (reply.header("Content-Type") or "").partition(";")[0]) == (200, kind)
    if kind == "text/plain":
        assert b"\nclipper_queries_total{" in reply.body
    else:
        assert list(reply.json) == ["counters", "ratio_counters", "meters", "histograms"]


def test_the_internal_address_is_prometheus_s_unless_json_is_asked_for(frontend: Frontend) -> None:
    assert frontend.ask("GET", "/metrics").body.startswith(b"# HELP")


def test_metrics_in_json_count_what_happened_in_texts(frontend: Frontend) -> None:
    def count() -> int:
        with frontend.client() as client:
            counters = client.ask("GET", "/metrics").json["counters"]
        [found] = [each["app:sums:num_predictions"] for each in counters if "app:sums:num_predictions" in each]
        assert list(found) == ["count"]
        return int(found["count"])

    before = count()
    for _ in range(5):
        frontend.predict("sums", [1.0])
    assert count() == before + 5

    def rate() -> float:
        with frontend.client() as client:
            meters = client.ask("GET", "/metrics").json["meters"]
        [found] = [each["app:sums:prediction_throughput"] for each in meters if "app:sums:prediction_throughput" in each]
        assert list(found) == ["unit", "rate", "rate_1min", "rate_5min", "rate_15min"]
        return float(found["rate_1min"])

    wait_until(lambda: rate() > 0, "the rate is noted")


def test_a_chunked_body_is_taken(client: Client) -> None:
    body = json.dumps({"input": [1.0, 2.0]}).encode()
    head = http_request("POST", "/sums/predict", None, ["Transfer-Encoding: chunked"])

    client.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    assert client.reply().json["output"] == 3.0
