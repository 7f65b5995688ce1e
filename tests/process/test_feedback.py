"""POST /<app>/update: feedback is read, matched with its app, and kept where an operator finds it. Real processes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from clipper_nomad.state import feedback
from clipper_nomad.state.layout import Keys, connect
from tests.process.admins import AdminServer, FrontendServer
from tests.process.frontends import Frontend, a_version, an_app
from tests.process.http_clients import Client, Reply
from tests.process.stores import BINARIES, StoreServer, binary

pytestmark = pytest.mark.process

TYPES = ("doubles", "floats", "integers", "strings", "bytes")
GOOD = {"doubles": [1.5, 2], "floats": [0.5], "integers": [7], "strings": "text", "bytes": "aGk="}
SCHEMA = '"uid" := int, "input" := [double] | [int] | [string] | [byte] | [float], "label" := double,'


class Rig:
    """A store, admin, and one query frontend, without replicas."""

    def __init__(self, folder: Path) -> None:
        self.store = StoreServer(next(filter(None, map(binary, reversed(BINARIES)))), folder)
        self.store.start()
        self.admin = AdminServer(self.store, folder)
        self.frontend = FrontendServer(self.store, folder, "f1")

    def start(self) -> None:
        self.admin.start()
        self.frontend.start(self.admin)

    def client(self) -> Client:
        report = self.frontend.report(self.admin)
        assert report is not None
        host, _, port = report["http"].rpartition(":")
        return Client((host, int(port)))

    def kept(self, query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.admin.get(f"/admin/v1/feedback{query}").json()["feedback"]
        return found

    def close(self) -> None:
        self.frontend.kill()
        self.admin.close()
        self.store.kill()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """An app for each input type; that of the doubles is linked to a model."""
    running = Rig(tmp_path_factory.mktemp("rig"))
    try:
        running.start()
        client = running.admin.client()
        for kind in TYPES:
            client.add_app(kind, input_type=kind, default_output="-1", slo_micros=100_000)
        for version in ("1", "2"):
            body = {"model_name": "m", "model_version": version, "input_type": "doubles"}
            running.admin.post("/admin/v1/versions", body).raise_for_status()
        client.call("add_model_links", app_name="doubles", model_names=["m"])
        yield running
    finally:
        running.close()


def tell(rig: Rig, app: str, body: object, path: str = "/{}/update") -> Reply:
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    with rig.client() as client:
        return client.ask("POST", path.format(app), raw)


def said(reply: Reply) -> tuple[int, str]:
    assert (reply.header("Content-Type") or "").startswith("text/plain")
    return reply.status, reply.body.decode()


@pytest.mark.parametrize("app", TYPES)
def test_feedback_on_an_input_of_each_type_is_kept(rig: Rig, app: str) -> None:
    assert said(tell(rig, app, {"uid": 0, "input": GOOD[app], "label": 1.0})) == (200, "Feedback received? 1")

    newest = rig.kept(f"?app={app}")[0]
    assert (newest["app"], newest["uid"], newest["label"]) == (app, 0, 1.0)
    assert json.loads(newest["input"]) == GOOD[app]
    assert newest["model"] == ("m:2" if app == "doubles" else "")
    assert newest["frontend"] == "f1"


def test_who_says_what_of_which_input_can_be_told_apart(rig: Rig) -> None:
    for uid, label in ((7, 0.25), (8, -1)):  # a label without a point is taken too
        tell(rig, "doubles", {"uid": uid, "input": [3.0, 4.0], "label": label})

    second, first = rig.kept("?app=doubles&most=2")
    assert [(each["uid"], each["label"]) for each in (first, second)] == [(7, 0.25), (8, -1.0)]
    assert first["query_id"] < second["query_id"]
    assert first["at_ms"] <= second["at_ms"]
    assert first["input_sha256"] == hashlib.sha256(struct.pack("<2d", 3.0, 4.0)).hexdigest()
    assert rig.admin.client().feedback("doubles", most=2) == [second, first]


def test_of_a_long_input_the_digest_is_kept(rig: Rig) -> None:
    long = [float(number) for number in range(10_000)]

    assert said(tell(rig, "doubles", {"uid": 0, "input": long, "label": 1.0})) == (200, "Feedback received? 1")

    newest = rig.kept()[0]
    assert (newest["input"], newest["input_sha256"]) == ("", hashlib.sha256(struct.pack("<10000d", *long)).hexdigest())


@pytest.mark.parametrize("path", ["/{}/update", "/{}/update/", "/clipper/{}/update", "/clipper/{}/update/"])
def test_an_app_takes_feedback_at_each_of_its_paths(rig: Rig, path: str) -> None:
    assert tell(rig, "doubles", {"uid": 0, "input": [1.0], "label": 1.0}, path).status == 200


@pytest.mark.parametrize(
    ("app", "body", "what"),
    [
        ("doubles", "", "JSON parse error"),
        ("doubles", '{"uid": 0', "JSON parse error"),
        ("doubles", {"input": [1.0], "label": 1.0}, "JSON object does not have required key: uid"),
        ("doubles", {"uid": 0, "label": 1.0}, "JSON object does not have required key: input"),
        ("doubles", {"uid": 0, "input": [1.0]}, "JSON object does not have required key: label"),
        ("doubles", {"uid": "0", "input": [1.0], "label": 1.0}, "JSON key uid expected type Numberbut found type String"),
        ("doubles", {"uid": True, "input": [1.0], "label": 1.0}, "JSON key uid expected type Numberbut found type True"),
        ("doubles", {"uid": 0, "input": [1.0], "label": "1"}, "JSON key label expected type Numberbut found type String"),
        ("doubles", {"uid": 0, "input": [1.0], "label": None}, "JSON key label expected type Numberbut found type Null"),
        ("doubles", {"uid": 0, "input": 1.0, "label": 1.0}, "JSON key input expected type Arraybut found type Number"),
        ("doubles", {"uid": 0, "input": ["1"], "label": 1.0}, "Array input of type String is not of type double"),
        ("integers", {"uid": 0, "input": [1.5], "label": 1.0}, "Array input of type Number is not of type int"),
        ("integers", {"uid": 0, "input": [2**31], "label": 1.0}, "2147483647"),
        ("floats", {"uid": 0, "input": [1e39], "label": 1.0}, "a number is too large for a float of 32 bits"),
        ("doubles", '{"uid": 0, "input": [1.0], "label": NaN}', "JSON parse error"),
        ("strings", '{"uid": 0, "input": "\\ud800", "label": 1}', "JSON parse error"),
        ("strings", {"uid": 0, "input": 7, "label": 1.0}, "JSON key input expected type Stringbut found type Number"),
        ("bytes", {"uid": 0, "input": "$", "label": 1.0}, "is not of type base64-encoded string"),
        ("doubles", {"uid": 1.5, "input": [1.0], "label": 1.0}, "Expected `int`, got `float` - at `$.uid`"),
    ],
)
def test_feedback_that_is_none_is_400_in_plain_text_and_not_kept(rig: Rig, app: str, body: object, what: str) -> None:
    before = rig.kept()

    status, text = said(tell(rig, app, body))

    assert status == 400
    assert text.startswith("Error parsing JSON: ")
    assert what in text
    assert SCHEMA in text
    assert rig.kept() == before


def test_a_body_that_is_no_object_is_said_to_be_so(rig: Rig) -> None:
    assert said(tell(rig, "doubles", [1.0])) == (400, "JSON schema invalid")


def test_feedback_for_an_app_that_is_not_there_is_404_and_get_is_405(rig: Rig) -> None:
    unknown = tell(rig, "nobody", {"uid": 0, "input": [1.0], "label": 1.0})
    with rig.client() as client:
        read = client.ask("GET", "/doubles/update")

    assert (unknown.status, unknown.json["error"]) == (404, "Not Found")
    assert (read.status, read.header("Allow")) == (405, "POST")


def test_feedback_takes_a_number_among_the_queries(rig: Rig) -> None:
    with rig.client() as client:
        before = client.predict("strings", "x").json["query_id"]
        client.ask("POST", "/strings/update", b'{"uid":0,"input":"x","label":1}')
    with rig.client() as client:
        assert client.predict("strings", "x").json["query_id"] == before + 2


def test_feedback_that_comes_at_once_is_all_kept(rig: Rig) -> None:
    def tell_one(number: int) -> str:
        return tell(rig, "integers", {"uid": number, "input": [number], "label": 1.0}).body.decode()

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(tell_one, range(100, 300)))

    assert answers == ["Feedback received? 1"] * 200
    assert {each["uid"] for each in rig.kept("?app=integers&most=200")} == set(range(100, 300))


@pytest.mark.parametrize("most", ["0", "-1", "x", "10001", "", "9" * 18, "9" * 5000, "1.0", "\u0663"])
def test_how_much_is_asked_for_must_be_a_number_in_range(rig: Rig, most: str) -> None:
    answer = rig.admin.get(f"/admin/v1/feedback?most={most}")

    assert (answer.status_code, answer.json()["cause"]) == (400, f"most is {most[:40]}; expected 1 to 10000 entries")


def test_while_the_store_is_away_feedback_is_said_not_to_be_kept(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    try:
        rig.start()
        rig.admin.client().add_app("a", input_type="doubles", default_output="", slo_micros=1000)
        body = {"uid": 0, "input": [1.0], "label": 1.0}
        with rig.client() as client, rig.client() as later, rig.client() as last:
            rig.store.kill()
            lost = client.ask("POST", "/a/update", json.dumps(body).encode())
            rig.store.start()
            kept = later.ask("POST", "/a/update", json.dumps(body).encode())
            metrics = last.ask("GET", "/metrics", None, ["Accept: text/plain"]).body.decode()

        assert (said(lost), said(kept)) == ((200, "Feedback received? 0"), (200, "Feedback received? 1"))
        assert 'clipper_feedback_total{app="a",kept="no"} 1.0' in metrics
        assert 'clipper_feedback_total{app="a",kept="yes"} 1.0' in metrics
        assert len(rig.kept()) == 1
    finally:
        rig.close()


def test_a_frontend_without_a_store_says_that_feedback_is_not_kept() -> None:
    with Frontend(an_app(), a_version()) as frontend, frontend.client() as client:
        reply = client.ask("POST", "/a/update", b'{"uid":0,"input":[1.0],"label":1.0}')

    assert said(reply) == (200, "Feedback received? 0")


async def test_the_newest_feedback_is_kept_and_no_more_than_that(
    one_store_server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "MOST_KEPT", 20)
    stream = feedback.FeedbackStream(one_store_server.url, "test")
    client = connect(one_store_server.url, retries=0)
    try:
        kept = await asyncio.gather(*(stream.keep(some_feedback(number)) for number in range(300)))
        found = await feedback.read_feedback(client, Keys("test"), app=None, most=1000)
    finally:
        await stream.close()
        await client.aclose()

    assert all(kept)
    assert [each["uid"] for each in found] == list(reversed(range(280, 300)))


async def test_feedback_beyond_what_may_wait_is_said_not_to_be_kept(
    one_store_server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "MOST_WAITING", 10)
    monkeypatch.setattr(feedback, "KEPT_WITHIN_S", 0.2)
    stream = feedback.FeedbackStream(one_store_server.url, "test")
    one_store_server.pause()
    try:
        kept = await asyncio.gather(*(stream.keep(some_feedback(number)) for number in range(30)))
    finally:
        one_store_server.resume()
        await stream.close()

    assert not any(kept)


def some_feedback(uid: int) -> feedback.Feedback:
    return feedback.Feedback(
        app="a", uid=uid, label=1.0, model="m:1", input="[1.0]", input_sha256="", frontend="f1", query_id=uid
    )
