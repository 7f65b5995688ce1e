"""What the body of POST /<app>/predict may be, type by type, and what it is told when it may not. One real frontend."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from clipper_nomad.state.records import Model, Record
from tests.process.frontends import Frontend, a_version, an_app
from tests.process.http_clients import Client, Reply
from tests.process.peer_replicas import PeerReplica

pytestmark = pytest.mark.process

TYPES = ("doubles", "floats", "integers", "strings", "bytes")


@pytest.fixture(scope="module")
def frontend() -> Iterator[Frontend]:
    """An app for each input type, and one whose model has versions 1, 2 (current), and 3 (without a replica)."""
    records: list[Record] = [
        *(an_app(kind, model=kind, input_type=kind) for kind in TYPES),
        *(a_version(kind, input_type=kind) for kind in TYPES),
        an_app("versions", model="versions"),
        *(a_version("versions", version) for version in "123"),
        Model(name="versions", current_version="2"),
    ]
    with ExitStack() as stack:
        running = stack.enter_context(Frontend(*records))
        for kind in TYPES:
            stack.enter_context(PeerReplica(running.rpc, model=kind, kind=kind))
        for version in "12":
            stack.enter_context(PeerReplica(running.rpc, model="versions", version=version))
        yield running


@pytest.fixture
def client(frontend: Frontend) -> Iterator[Client]:
    with frontend.client() as connected:
        yield connected


def ask(frontend: Frontend, app: str, body: str) -> Reply:
    with frontend.client() as client:
        return client.ask("POST", f"/{app}/predict", body.encode())


# ---- bodies that are taken -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("app", "value", "output"),
    [
        ("doubles", "[1.5, 2.5]", 4.0),
        ("doubles", "[1, 2.5]", 3.5),  # Clipper refuses a bare 1
        ("doubles", "[1, 2]", 3.0),
        ("doubles", "[]", 0.0),
        ("doubles", "[1e300, -0.0, 5e-324]", 1e300),
        ("doubles", "[123456789012345678901234567890]", 1.2345678901234568e29),
        ("doubles", str([0.25] * 100_000), 25_000.0),
        ("floats", "[1.5, 2]", 3.5),
        ("floats", "[3.4028234e38]", 3.4028234663852886e38),
        ("floats", str([0.25] * 1000), 250.0),
        ("integers", "[1, -2, 3]", 2.0),
        ("integers", "[2147483647]", 2147483647.0),
        ("integers", "[-2147483648]", -2147483648.0),
        ("integers", str([1] * 1000), 1000.0),
        ("strings", '"text"', "text"),
        ("strings", '""', ""),
        ("strings", '"h\\u00e9 \u4e16 \U0001f600 \\ud83d\\ude00"', "hé 世 😀 😀"),
        ("strings", '"\\u0000"', "\0"),
        ("strings", '"7"', 7),  # Clipper's rule: an output that is JSON becomes what it says
        ("strings", '"NaN"', "NaN"),
        ("strings", '"{\\"a\\": [1, null]}"', {"a": [1, None]}),
        ("bytes", '"aGVsbG8="', 5),
        ("bytes", '""', 0),
        ("bytes", '"aGVsbG8"', 5),  # as Clipper, which reads up to the padding
        ("bytes", f'"{base64.b64encode(bytes(range(256))).decode()}"', 256),
    ],
)
def test_an_input_of_each_type_reaches_the_model(client: Client, app: str, value: str, output: object) -> None:
    reply = client.ask("POST", f"/{app}/predict", f'{{"input": {value}}}'.encode())

    assert reply.status == 200, reply.body
    assert list(reply.json) == ["query_id", "output", "default"]
    assert reply.json["output"] == output
    assert reply.json["default"] is False


@pytest.mark.parametrize(
    ("app", "batch", "outputs"),
    [
        ("doubles", "[[1.0], [1.0, 2.0], [], [4]]", [1.0, 3.0, 0.0, 4.0]),
        ("floats", "[[1.5], [2.5]]", [1.5, 2.5]),
        ("integers", "[[1], [2], [3, 4]]", [1.0, 2.0, 7.0]),
        ("strings", '["a", "b", "a"]', ["a", "b", "a"]),
        ("bytes", '["aGVsbG8=", "", "aGk="]', [5, 0, 2]),
        ("doubles", str([[float(number)] for number in range(3000)]), [float(number) for number in range(3000)]),
    ],
)
def test_a_batch_is_answered_in_the_order_of_its_inputs(client: Client, app: str, batch: str, outputs: list[Any]) -> None:
    reply = client.ask("POST", f"/{app}/predict", f'{{"input_batch": {batch}}}'.encode())

    assert reply.status == 200
    assert list(reply.json) == ["batch_predictions"]
    parts = reply.json["batch_predictions"]
    assert [part["output"] for part in parts] == outputs
    assert len({part["query_id"] for part in parts}) == len(outputs)


def test_a_batch_of_one_gets_the_bare_object(frontend: Frontend) -> None:
    reply = ask(frontend, "doubles", '{"input_batch": [[1.0, 2.0]]}')

    assert list(reply.json) == ["query_id", "output", "default"]


def test_an_empty_batch_gets_an_empty_list(frontend: Frontend) -> None:
    reply = ask(frontend, "doubles", '{"input_batch": []}')

    assert (reply.status, reply.body) == (200, b'{"batch_predictions":[]}')


@pytest.mark.parametrize(
    "body",
    [
        '{"input": [1.0], "input_batch": [[2.0], [3.0]]}',
        '{"input_batch": [[2.0], [3.0]], "input": [1.0]}',
        '{"input": [1.0], "input_batch": null}',
        '{"input_batch": "none", "input": [1.0], "version": "1"}',
        '{"uid": 0, "input": [1.0], "anything": {"else": [1, 2]}}',
        '{"input": [2.0], "input": [1.0]}',
        ' \r\n\t{ "input" : [ 1.0 ] } \n',
        '{"\\u0069nput": [1.0]}',
        '{"version": "1", "input": [1.0]}',
    ],
)
def test_input_wins_and_other_keys_do_not_matter(frontend: Frontend, body: str) -> None:
    assert ask(frontend, "doubles", body).json["output"] == 1.0


def test_a_million_other_keys_do_not_matter(frontend: Frontend) -> None:
    keys = ",".join(f'"k{number}":1' for number in range(1_000_000))

    assert ask(frontend, "doubles", f'{{{keys},"input":[1.0]}}').json["output"] == 1.0


def test_query_ids_count_up(client: Client) -> None:
    first, second = (client.predict("doubles", [1.0]).json["query_id"] for _ in range(2))

    assert second == first + 1


# ---- bodies that are not ---------------------------------------------------------------------------------------------

SCHEMA = 'Expected JSON schema: \n  {\n   "input" := [double] | [int] | [string] | [byte] | [float],\n  }\n'


@pytest.mark.parametrize(
    ("app", "body", "what"),
    [
        ("doubles", "", "JSON parse error"),
        ("doubles", "{", "JSON parse error"),
        ("doubles", '{"input": [1.0]', "JSON parse error"),
        ("doubles", '{"input": [1.0]} trailing', "JSON parse error"),
        ("doubles", '{"input": [1.0,]}', "JSON parse error"),
        ("doubles", "{'input': [1.0]}", "JSON parse error"),
        ("doubles", '{"input": [0x10]}', "JSON parse error"),
        ("doubles", '\ufeff{"input": [1.0]}', "JSON parse error"),
        ("doubles", "{}", "JSON object does not have required keys input or input_batch"),
        ("doubles", '{"inputs": [1.0]}', "JSON object does not have required keys input or input_batch"),
        ("doubles", '{"input": 1.0}', "JSON key input expected type Arraybut found type Number"),
        ("doubles", '{"input": null}', "JSON key input expected type Arraybut found type Null"),
        ("doubles", '{"input": "1.0"}', "JSON key input expected type Arraybut found type String"),
        ("doubles", '{"input": {"0": 1.0}}', "JSON key input expected type Arraybut found type Object"),
        ("doubles", '{"input": [[1.0]]}', "Array input of type Array is not of type double"),
        ("doubles", '{"input": null, "input_batch": [[1.0]]}', "JSON key input expected type Arraybut found type Null"),
        ("doubles", '{"input": ["1.0"], "input_batch": null}', "Array input of type String is not of type double"),
        ("doubles", '{"input": ["1.0"]}', "Array input of type String is not of type double"),
        ("doubles", '{"input": [null]}', "Array input of type Null is not of type double"),
        ("doubles", '{"input": [true]}', "Array input of type True is not of type double"),
        ("doubles", '{"input": [NaN]}', "JSON parse error"),
        ("doubles", '{"input": [Infinity]}', "JSON parse error"),
        ("doubles", '{"input": [-Infinity]}', "JSON parse error"),
        ("doubles", '{"input": [1e400]}', "out of range"),
        ("doubles", '{"input_batch": [1.0]}', "Array input of type Number is not of type array"),
        ("doubles", '{"input_batch": {}}', "JSON key input_batch expected type Arraybut found type Object"),
        ("doubles", '{"input_batch": [[1.0], ["a"]]}', "Array input of type String is not of type double"),
        ("doubles", '{"input": [1.0], "version": 1}', "JSON key version expected type Stringbut found type Number"),
        ("doubles", '{"input": [1.0], "version": null}', "JSON key version expected type Stringbut found type Null"),
        ("floats", '{"input": [1e39]}', "a number is too large for a float of 32 bits"),
        ("floats", '{"input": [' + "1.0," * 600 + "1e39]}", "too large for a float of 32 bits"),
        ("integers", '{"input": [1.5]}', "Array input of type Number is not of type int"),
        ("integers", '{"input": [1.0]}', "Array input of type Number is not of type int"),
        ("integers", '{"input": [2147483648]}', "2147483647"),
        ("integers", '{"input": [-2147483649]}', "-2147483648"),
        ("strings", '{"input": ["a"]}', "Type mismatch! JSON key input expected type Stringbut found type Array"),
        ("strings", '{"input": 1}', "Type mismatch! JSON key input expected type Stringbut found type Number"),
        ("strings", '{"input_batch": ["a", 1]}', "Array input of type Number is not of type string"),
        ("strings", '{"input": "\\ud800"}', "JSON parse error"),
        ("strings", '{"input": "a\0b"}', "JSON parse error"),
        ("bytes", '{"input": [1]}', "PredictionData of type Array is not of type base64-encoded string"),
        ("bytes", '{"input": "$$$$"}', "is not of type base64-encoded string"),
        ("bytes", '{"input": "aGVsb"}', "is not of type base64-encoded string"),
        ("bytes", '{"input": "aGk=aGk="}', "is not of type base64-encoded string"),
        ("bytes", '{"input_batch": [1]}', "PredictionData of type Number is not of type base64-encoded string"),
        ("bytes", '{"input": "aGVs\\nbG8="}', "is not of type base64-encoded string"),
        ("bytes", '{"input": "h\u00e9"}', "is not of type base64-encoded string"),
    ],
)
def test_what_is_no_predict_request_is_400_with_the_reason(client: Client, app: str, body: str, what: str) -> None:
    reply = client.ask("POST", f"/{app}/predict", body.encode())

    assert reply.status == 400
    assert list(reply.json) == ["error", "cause"]
    assert reply.json["error"] == "Json error"
    assert reply.json["cause"].startswith("Error parsing JSON: ")
    assert what in reply.json["cause"]
    assert reply.json["cause"].endswith(SCHEMA)
    assert client.ask("POST", "/doubles/predict", b'{"input":[1.0]}').status == 200  # the connection goes on


@pytest.mark.parametrize("app", TYPES)
@pytest.mark.parametrize("body", ["[]", "null", '"input"', "17", "true"])
def test_a_body_that_is_no_object_is_400_with_that_alone(frontend: Frontend, app: str, body: str) -> None:
    reply = ask(frontend, app, body)

    assert (reply.status, reply.json) == (400, {"error": "Json error", "cause": "JSON schema invalid"})


@pytest.mark.parametrize(
    "body",
    [
        b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"other": ' + b"[" * 100_000 + b"]" * 100_000 + b', "input": [1.0]}',
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"input": "\xff\xfe"}',
        b"\xff\xfe{\0}\0",
        b'{"input_batch": [' + b"[]," * 70_000 + b"[]]}",
        b'{"input": [' + b"1," * 4_000_000 + b"null]}",
        b'{"input": "' + b"x" * 8_000_000 + b'"}',
        b"{" + b",".join(b'"k%d":1' % number for number in range(1_000_000)) + b"}",
    ],
    ids=["deep", "deep elsewhere", "deep objects", "no UTF-8", "UTF-16", "70,001 inputs", "8 MB", "text", "keys"],
)
def test_hostile_bodies_are_400_soon(client: Client, body: bytes) -> None:
    started = time.monotonic()
    reply = client.ask("POST", "/doubles/predict", body)

    assert reply.status == 400
    assert reply.json["error"] == "Json error"
    assert time.monotonic() - started < 5


# ---- versions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "model"), [({}, "versions:2"), ({"version": "1"}, "versions:1"), ({"version": "2"}, "versions:2")]
)
def test_a_query_goes_to_the_version_asked_for_or_to_the_current_one(
    frontend: Frontend, more: dict[str, str], model: str
) -> None:
    assert frontend.predict("versions", [1.0], **more).header("X-Clipper-Model") == model


@pytest.mark.parametrize("version", ["9", "", "1\n", "1:1", "x" * 1000])
def test_a_version_that_is_not_registered_is_400(frontend: Frontend, version: str) -> None:
    reply = frontend.predict("versions", [1.0], version=version)

    assert reply.status == 400
    assert reply.json == {
        "error": "Query processing error",
        "cause": f"Requested version: {version} does not exist for model: versions",
    }
