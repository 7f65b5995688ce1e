"""What a frontend answers for a model that it has no replica of is as good as what the other one answers itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from clipper_nomad.protocol.wire import ErrorKind, OutputError
from tests.models.tagged import answer
from tests.process.bundles import pack_model
from tests.process.frontends import a_version, an_app
from tests.process.http_clients import Reply, predict_request
from tests.process.meshes import UID, Load, mesh
from tests.process.peer_replicas import Outputs, PeerReplica
from tests.process.replicas import Replica

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


# ---- a relayed answer is as good as a direct one ---------------------------------------------------------------------


def test_a_frontend_without_a_replica_answers_every_query_right(tmp_path: Path) -> None:
    pack_model(tmp_path / "bundle", "tagged")
    with (
        mesh(2) as (direct, other),
        Replica(
            tmp_path,
            tmp_path / "bundle",
            frontends=[direct.rpc],
            MODEL_NAME="m",
            MODEL_VERSION="1",
            MODEL_UID=UID,
            REPLICA_ID="r 0",
        ),
    ):
        reply = other.predict("a", [7.0])
        with Load(other) as load:
            load.wait_for(500)

        assert reply.json["output"] == answer(7, UID)
        assert reply.header("X-Clipper-Replica") == direct.predict("a", [7.0]).header("X-Clipper-Replica") == "r%200"
        assert set(load.statuses) == {200}
        assert other.metric("clipper_relayed_queries_total") >= 500
        assert direct.metric("clipper_relayed_queries_total") == 0


def same(one: Reply, other: Reply) -> None:
    """Compare two replies apart from what names a query."""
    bodies = []
    for reply in (one, other):
        body = reply.json
        body.pop("query_id", None)
        bodies.append(body)
    assert bodies[0] == bodies[1]
    assert one.status == other.status
    for name in ("X-Clipper-Model", "X-Clipper-Replica", "X-Clipper-SLO", "Retry-After"):
        assert one.header(name) == other.header(name)


INPUTS: dict[str, object] = {
    "doubles": [1.5, 2.0],
    "floats": [0.1],
    "integers": [1, -2],
    "strings": "h\u00e9 \U0001f600",
    "bytes": "aGk=",
}


def test_inputs_of_every_type_reach_the_model_over_a_relay() -> None:
    records = [
        record for kind in INPUTS for record in (an_app(kind, model=kind, input_type=kind), a_version(kind, input_type=kind))
    ]
    with mesh(2, *records) as (direct, other):
        for kind, value in INPUTS.items():
            with PeerReplica(direct.rpc, model=kind, kind=kind) as replica:
                same(direct.predict(kind, value), other.predict(kind, value))

                one, relayed = replica.sent
                assert one.data == relayed.data
                assert (one.input_type, one.item_length) == (relayed.input_type, relayed.item_length)


OUTPUTS: dict[str, Callable[[], Outputs]] = {
    "a float": lambda: [0.1],
    "an integer": lambda: [2**53 + 1],
    "a large integer": lambda: [2**200],
    "a bool": lambda: [True],
    "not a number": lambda: [float("nan")],
    "a text": lambda: ["spam"],
    "a text that is a number": lambda: ["1"],
    "a text of JSON": lambda: ['{"a": [1, "default\\":false"]}'],
    "a text of quotes": lambda: ['","default":false} "output":'],
    "a text in quotes": lambda: ['"1"'],
    "an empty text": lambda: [""],
    "a text beyond ASCII": lambda: ["h\u00e9 \U0001f600\u2028\x00"],
    "a list": lambda: [[1, "a", None, [2.5]]],
    "an object": lambda: [{"a": [True, {"b": 1.0}]}],
}


def test_outputs_of_every_kind_come_out_of_a_relay_as_of_the_direct_frontend() -> None:
    current: list[Callable[[], Outputs]] = []
    with mesh(2) as (direct, other), PeerReplica(direct.rpc, predict=lambda _: current[-1]()):
        for output in OUTPUTS.values():
            current.append(output)

            same(direct.predict("a", [1.0]), other.predict("a", [1.0]))


ERRORS = {
    "raised": OutputError(0, ErrorKind.RAISED, "ValueError: h\u00e9 \u2603", "t1"),
    "raised for the batch": OutputError(None, ErrorKind.RAISED, "ValueError: no", "t2"),
    "a wrong count": OutputError(None, ErrorKind.WRONG_COUNT, "7 outputs for 1 inputs", ""),
    "a wrong type": OutputError(0, ErrorKind.WRONG_TYPE, "a date is no output", ""),
}


def test_what_fails_at_the_model_fails_over_a_relay_in_the_same_words() -> None:
    with mesh(2) as (direct, other), PeerReplica(direct.rpc, holds=True, name="r 1") as replica:
        for error in ERRORS.values():
            replies = []
            for frontend in (direct, other):
                with frontend.client() as client:
                    client.send(predict_request("a", [1.0]))
                    replica.wait_for_batches()
                    replica.fail(error)
                    replies.append(client.reply())

            same(*replies)
            assert replies[0].status == 500
            assert "r%201" in replies[1].json["cause"]


def test_what_is_wrong_with_a_query_is_said_by_the_frontend_that_was_asked() -> None:
    asked: list[tuple[object, dict[str, object]]] = [("text", {}), ([], {}), ([1.0], {"version": "9"}), (None, {})]
    with mesh(2) as (direct, other), PeerReplica(direct.rpc):
        for value, more in asked:
            same(direct.predict("a", value, **more), other.predict("a", value, **more))


# ---- the app's terms hold over a relay -------------------------------------------------------------------------------


def slowly(inputs: NDArray[Any]) -> Outputs:
    time.sleep(float(inputs[0][0]))
    return [1.0] * len(inputs)


def test_an_answer_past_the_slo_is_marked_late() -> None:
    with (
        mesh(2, an_app(slo_s=0.2, timeout_s=10), a_version()) as (direct, other),
        PeerReplica(direct.rpc, predict=slowly),
    ):
        late, prompt = other.predict("a", [0.4]), other.predict("a", [0.0])

        assert (late.status, late.json["late"], late.header("X-Clipper-SLO")) == (200, True, "missed")
        assert "late" not in prompt.json


def test_past_the_timeout_the_client_hears_which_and_the_app_is_its_own() -> None:
    with (
        mesh(2, an_app(slo_s=0.2, timeout_s=1.0), a_version()) as (direct, other),
        PeerReplica(direct.rpc, holds=True) as replica,
    ):
        began = time.monotonic()
        reply = other.predict("a", [1.0])
        took_s = time.monotonic() - began
        replica.answer_all()

        assert (reply.status, reply.json["error"]) == (504, "Timeout")
        assert "application 'a'" in reply.json["cause"]
        assert 1.0 <= took_s < 2.0
        assert other.predict("a", [2.0]).json["output"] == 2.0


def test_an_app_that_wants_its_default_gets_it_at_the_slo() -> None:
    with (
        mesh(2, an_app(slo_s=0.3, policy="default", default="7.0"), a_version()) as (direct, other),
        PeerReplica(direct.rpc, holds=True),
    ):
        began = time.monotonic()
        reply = other.predict("a", [1.0])
        took_s = time.monotonic() - began

        assert (reply.status, reply.json["default"], reply.json["output"]) == (200, True, 7.0)
        assert 0.3 <= took_s < 1.3
