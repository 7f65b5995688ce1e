"""The Open Inference Protocol V2 of a real query frontend: health, metadata, inference, and the table of answers.

Each reply is compared with the OpenAPI document. Clients that we did not write are in test_v2_clients.py.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clipper_nomad.protocol.wire import ErrorKind, OutputError
from clipper_nomad.state.records import Model, Record
from tests.process.frontends import Frontend, a_version, an_app
from tests.process.http_clients import Reply, http_request
from tests.process.peer_replicas import PeerReplica
from tests.process.v2_checks import check
from tests.waiting import wait_until

pytestmark = pytest.mark.process

TYPES = ("doubles", "floats", "integers", "strings", "bytes")
ONE = b'{"inputs":[{"name":"a","datatype":"FP64","shape":[1],"data":[1]}]}'
SIZE = "Inference-Header-Content-Length"


def rows(inputs: NDArray[Any]) -> list[list[float]]:
    return [[float(number) for number in row] for row in inputs]


@pytest.fixture(scope="module")
def frontend() -> Iterator[Frontend]:
    """An app for each input type; one whose model has versions 1, 2 (current), 3 (without a replica); one of lists."""
    records: list[Record] = [
        *(an_app(kind, model=kind, input_type=kind) for kind in TYPES),
        *(a_version(kind, input_type=kind) for kind in TYPES),
        an_app("versions", model="versions"),
        *(a_version("versions", version) for version in "123"),
        a_version("versions", "4", staged=True),
        a_version("versions", "5", input_type="strings"),
        Model(name="versions", current_version="2"),
        an_app("lists", model="lists"),
        a_version("lists"),
        an_app("loose", model=None),
        an_app("strict", model=None, policy="error"),
    ]
    with ExitStack() as stack:
        running = stack.enter_context(Frontend(*records))
        for kind in TYPES:
            stack.enter_context(PeerReplica(running.rpc, model=kind, kind=kind))
        for version in "12":
            stack.enter_context(PeerReplica(running.rpc, model="versions", version=version))
        stack.enter_context(PeerReplica(running.rpc, model="lists", predict=rows))
        yield running


def ask(frontend: Frontend, method: str, path: str, body: bytes | None = None, *headers: str) -> Reply:
    with frontend.client() as client:
        reply = client.ask(method, path, body, headers)
    check(method, path, reply, body)
    return reply


def infer(frontend: Frontend, app: str, datatype: str, shape: list[int], data: object, **more: Any) -> Reply:
    tensor = {"name": "any", "datatype": datatype, "shape": shape, "data": data}
    return ask(frontend, "POST", f"/v2/models/{app}/infer", json.dumps({"inputs": [tensor], **more}).encode())


def infer_request(app: str, body: bytes) -> bytes:
    return http_request("POST", f"/v2/models/{app}/infer", body)


# ---- health and metadata ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/clipper"])
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v2", {"name": "clipper-nomad", "extensions": ["binary_tensor_data"]}),
        ("/v2/", {"name": "clipper-nomad"}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        (
            "/v2/models",
            {"models": ["bytes", "doubles", "floats", "integers", "lists", "loose", "strict", "strings", "versions"]},
        ),
        (
            "/v2/models/versions",
            {"name": "versions", "versions": ["1", "2", "3"], "platform": "clipper-nomad", "outputs": []},
        ),
        ("/v2/models/versions/versions/3", {"name": "versions", "versions": ["1", "2", "3"]}),
        ("/v2/models/doubles", {"inputs": [{"name": "input", "datatype": "FP64", "shape": [-1, -1]}]}),
        ("/v2/models/floats", {"inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, -1]}]}),
        ("/v2/models/integers", {"inputs": [{"name": "input", "datatype": "INT32", "shape": [-1, -1]}]}),
        ("/v2/models/strings", {"inputs": [{"name": "input", "datatype": "BYTES", "shape": [-1]}]}),
        ("/v2/models/bytes", {"inputs": [{"name": "input", "datatype": "BYTES", "shape": [-1]}]}),
        ("/v2/models/loose", {"versions": []}),
        ("/v2/models/versions/ready", {"name": "versions", "ready": True}),
        ("/v2/models/versions/versions/1/ready", {"name": "versions", "ready": True}),
    ],
)
def test_health_and_metadata_are_there_below_the_prefix_too(
    frontend: Frontend, prefix: str, path: str, said: dict[str, object]
) -> None:
    reply = ask(frontend, "GET", prefix + path)

    assert reply.status == 200
    assert said.items() <= reply.json.items()
    assert reply.header("X-Request-Id")


@pytest.mark.parametrize(
    ("method", "path", "status", "because"),
    [
        ("GET", "/v2/models/nobody", 404, "'nobody' is not registered"),
        ("GET", "/v2/models/nobody/ready", 404, "'nobody' is not registered"),
        ("POST", "/v2/models/nobody/infer", 404, "'nobody' is not registered"),
        ("GET", "/v2/models/versions/versions/9", 404, "Requested version: 9 does not exist for model: versions"),
        ("GET", "/v2/models/versions/versions/4", 404, "Requested version: 4"),  # staged
        ("GET", "/v2/models/versions/versions/5/ready", 404, "Requested version: 5"),  # of another input type
        ("GET", "/v2/models/loose/versions/1", 404, "(none is linked)"),
        ("GET", "/v2/models/versions/versions/3/ready", 503, "no replica of model 'versions:3'"),
        ("GET", "/v2/models/loose/ready", 503, "linked to no model"),
        ("GET", "/v2/models/doubles/infer", 405, "Method Not Allowed: /v2/models/doubles/infer does not take GET"),
        ("GET", "/v2/nothing", 404, "Not Found"),
        ("GET", "/clipper/v2/models/doubles/nothing", 404, "Not Found"),
    ],
)
def test_what_is_not_there_is_an_error_in_v2_s_form(
    frontend: Frontend, method: str, path: str, status: int, because: str
) -> None:
    reply = ask(frontend, method, path, b"{}" if method == "POST" else None)

    assert reply.status == status
    assert list(reply.json) == ["error"]
    assert because in reply.json["error"]


# ---- inference -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("app", "datatype", "shape", "data", "output"),
    [
        ("doubles", "FP64", [2, 2], [1, 2.5, 3, 4], ("FP64", [2], [3.5, 7.0])),
        ("doubles", "FP64", [2, 2], [[1, 2.5], [3, 4]], ("FP64", [2], [3.5, 7.0])),
        ("doubles", "FP64", [3], [1, 2, 3], ("FP64", [1], [6.0])),
        ("doubles", "INT8", [1, 2], [-128, 127], ("FP64", [1], [-1.0])),
        ("floats", "FP32", [1, 2], [0.5, 0.25], ("FP64", [1], [0.75])),
        ("integers", "INT32", [2, 1], [-(2**31), 2**31 - 1], ("FP64", [2], [-2147483648.0, 2147483647.0])),
        ("strings", "BYTES", [2], ["a", "\u00e4 7"], ("BYTES", [2], ["a", "\u00e4 7"])),
        ("strings", "BYTES", [1, 1], [["7"]], ("INT64", [1], [7])),  # Clipper's rule: an output that is JSON becomes that
        ("bytes", "BYTES", [2], ["abc", ""], ("INT64", [2], [3, 0])),
        ("bytes", "UINT8", [1, 4], [1, 2, 3, 255], ("INT64", [1], [4])),
        ("lists", "FP64", [2, 2], [1, 2, 3, 4], ("FP64", [2, 2], [1.0, 2.0, 3.0, 4.0])),
    ],
)
def test_rows_become_queries_and_their_outputs_one_tensor(
    frontend: Frontend, app: str, datatype: str, shape: list[int], data: object, output: tuple[object, ...]
) -> None:
    reply = infer(frontend, app, datatype, shape, data, id="42")

    assert reply.status == 200
    datatype_out, shape_out, data_out = output
    assert reply.json == {
        "model_name": app,
        "model_version": "1",
        "id": "42",
        "outputs": [{"name": "output", "datatype": datatype_out, "shape": shape_out, "data": data_out}],
    }
    assert reply.header("X-Clipper-Model") == f"{app}:1"


def test_null_is_as_good_as_nothing(frontend: Frontend) -> None:
    tensor = {"name": "a", "datatype": "FP64", "shape": [1, 2], "data": [1, 2], "parameters": None}
    for outputs in (None, [{"name": "output", "parameters": None}]):
        body = {"id": None, "parameters": None, "inputs": [tensor], "outputs": outputs}

        reply = ask(frontend, "POST", "/v2/models/doubles/infer", json.dumps(body).encode())

        assert (reply.status, reply.json["outputs"][0]["data"]) == (200, [3.0])


def test_binary_tensors_go_in_and_out(frontend: Frontend) -> None:
    tensor = {"name": "a", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()

    reply = ask(
        frontend, "POST", "/v2/models/doubles/infer", head + struct.pack("<4f", 1, 2, 3, 4.5), f"{SIZE}: {len(head)}"
    )

    size = int(reply.header(SIZE) or 0)
    assert (reply.status, reply.header("Content-Type")) == (200, "application/octet-stream")
    assert json.loads(reply.body[:size])["outputs"][0]["parameters"] == {"binary_data_size": 16}
    assert struct.unpack("<2d", reply.body[size:]) == (3.0, 7.5)


def test_an_output_may_overrule_the_request_s_wish_for_binary(frontend: Frontend) -> None:
    wanted = [{"name": "output", "parameters": {"binary_data": False}}]
    reply = infer(frontend, "doubles", "FP64", [1], [1.5], outputs=wanted, parameters={"binary_data_output": True})

    assert (reply.header(SIZE), reply.json["outputs"][0]["data"]) == (None, [1.5])


def test_a_version_is_pinned_by_the_path(frontend: Frontend) -> None:
    current = ask(frontend, "POST", "/v2/models/versions/infer", ONE)
    pinned = ask(frontend, "POST", "/clipper/v2/models/versions/versions/1/infer", ONE)
    missing = ask(frontend, "POST", "/v2/models/versions/versions/9/infer", ONE)

    assert (current.json["model_version"], pinned.json["model_version"]) == ("2", "1")
    text = "Query processing error: Requested version: 9 does not exist for model: versions"
    assert (missing.status, missing.json) == (400, {"error": text})


@pytest.mark.parametrize(
    ("headers", "id_", "expected"),
    [
        ([], "mine", ("mine", "mine")),
        (["X-Request-Id: theirs"], "mine", ("theirs", "mine")),
        (["X-Request-Id: theirs"], None, ("theirs", "theirs")),
        ([], "with blank", (None, "with blank")),
    ],
)
def test_the_id_comes_back_and_is_the_request_s(
    frontend: Frontend, headers: list[str], id_: str | None, expected: tuple[str | None, str]
) -> None:
    body = {"inputs": [{"name": "a", "datatype": "FP64", "shape": [1], "data": [1]}], **({"id": id_} if id_ else {})}
    reply = ask(frontend, "POST", "/v2/models/doubles/infer", json.dumps(body).encode(), *headers)

    in_header, in_body = expected
    assert reply.json["id"] == in_body
    assert in_header in (None, reply.header("X-Request-Id"))


@pytest.mark.parametrize(
    ("app", "datatype", "data", "because"),
    [
        ("integers", "INT64", [2**40], "beyond 32 bits"),
        ("doubles", "BYTES", ["1"], "takes doubles: FP64"),
        ("doubles", "FP64", ["1"], "data of input 'any' is no FP64"),
        ("strings", "FP64", [1], "takes strings: BYTES"),
    ],
)
def test_a_tensor_that_is_not_of_the_app_s_type_is_refused(
    frontend: Frontend, app: str, datatype: str, data: object, because: str
) -> None:
    reply = infer(frontend, app, datatype, [1], data)

    assert reply.status == 400
    assert because in reply.json["error"]


# ---- who gets what when ----------------------------------------------------------------------------------------------


def test_an_app_without_a_model_answers_its_default_or_an_error(frontend: Frontend) -> None:
    default = infer(frontend, "loose", "FP64", [2, 1], [1, 2])
    error = infer(frontend, "strict", "FP64", [2, 1], [1, 2])

    assert (default.status, default.json["outputs"][0]["data"]) == (200, [-1.0, -1.0])
    no_model = "No connected models found for query"
    assert default.json["parameters"] == {"default": True, "default_explanation": no_model}
    assert "model_version" not in default.json
    assert (error.status, error.header("Retry-After")) == (503, "1")
    assert error.json["error"].startswith(f"No connected models: {no_model}: application 'strict'")


def test_past_the_slo_each_policy_answers_as_the_table_says() -> None:
    apps = [an_app(policy, policy=policy, slo_s=0.05, timeout_s=20) for policy in ("late", "default", "error")]
    with (
        Frontend(*apps, a_version()) as frontend,
        PeerReplica(frontend.rpc, holds=True) as replica,
        frontend.client() as late,
    ):
        late.send(infer_request("late", ONE))
        default = infer(frontend, "default", "FP64", [1], [1])
        error = infer(frontend, "error", "FP64", [1], [1])
        replica.answer_all()
        reply = late.reply()

    missed = "Failed to retrieve a prediction response within the specified latency SLO"
    assert (reply.status, reply.json["parameters"], reply.header("X-Clipper-SLO")) == (200, {"late": True}, "missed")
    assert (default.status, default.json["outputs"][0]["data"]) == (200, [-1.0])
    assert default.json["parameters"] == {"default": True, "default_explanation": missed}
    assert (error.status, error.json) == (504, {"error": f"SLO missed: {missed} of 50000 microseconds"})
    assert {each.header("X-Clipper-SLO") for each in (default, error)} == {"missed"}


def test_one_row_that_fails_fails_the_request_and_says_which() -> None:
    with (
        Frontend(an_app(), a_version(retry=False)) as frontend,
        PeerReplica(frontend.rpc, holds=True) as replica,
        frontend.client() as client,
    ):
        client.send(infer_request("a", b'{"inputs":[{"name":"a","datatype":"FP64","shape":[3,1],"data":[1,2,3]}]}'))
        seen = 0
        while seen < 3:
            replica.wait_for_batches()
            inputs = [row[0] for row in replica.inputs_of(replica.waiting[0])]
            seen += len(inputs)
            if 2.0 in inputs:
                replica.fail(OutputError(inputs.index(2.0), ErrorKind.RAISED, "ValueError: no", "t1"))
            else:
                replica.answer()
        reply = client.reply()

    assert reply.status == 500
    assert reply.json["error"].startswith("input 1 of 3: Model error: ValueError: no (model 'm:1', replica 'r-0'")


def test_a_client_that_goes_leaves_its_place() -> None:
    with Frontend(an_app(), a_version()) as own, PeerReplica(own.rpc, holds=True) as replica:
        with own.client() as client:
            client.send(infer_request("a", ONE))
            replica.wait_for_batches()
        replica.answer()
        wait_until(lambda: own.outstanding() == 0, "nothing is under way")

        replica.answer_all()
        assert infer(own, "a", "FP64", [1], [2]).json["outputs"][0]["data"] == [2.0]


def test_queries_of_v2_are_counted_as_all_others() -> None:
    with Frontend(an_app(), a_version()) as frontend, PeerReplica(frontend.rpc):
        infer(frontend, "a", "FP64", [3, 1], [1, 2, 3])

        assert frontend.metric("clipper_queries_total") == 3


def test_a_thousand_rows_come_back_in_their_order(frontend: Frontend) -> None:
    numbers = np.arange(1000, dtype=np.float64)
    reply = infer(frontend, "doubles", "FP64", [1000, 1], numbers.tolist())

    np.testing.assert_array_equal(reply.json["outputs"][0]["data"], numbers)
