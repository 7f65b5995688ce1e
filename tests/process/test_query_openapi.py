"""The OpenAPI document of a query frontend: every route and no other, the apps that are registered; and who may ask."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from openapi_spec_validator import validate

from clipper_nomad_frontend.openapi import APPLICATIONS
from tests.process.frontends import Frontend, a_version, an_app
from tests.process.http_clients import Reply
from tests.process.peer_replicas import PeerReplica
from tests.process.v2_checks import check, problems_of, query_document

pytestmark = pytest.mark.process

ONE = b'{"inputs":[{"name":"a","datatype":"FP64","shape":[1],"data":[1]}]}'


@pytest.fixture(scope="module")
def frontend() -> Iterator[Frontend]:
    """An app with a model that was deployed with a sample, and one of texts without any."""
    apps = an_app("a", slo_s=0.5), an_app("t", model=None, input_type="strings", policy="default")
    served = *apps, a_version(sample="[3.5, 4.5]"), a_version(version="2")
    with Frontend(*served, HTTP_LOCAL="true") as running, PeerReplica(running.rpc):
        yield running


def ask(
    frontend: Frontend, method: str, path: str, body: bytes | None = None, *, host: str = "127.0.0.1", **more: str
) -> Reply:
    """Ask with a Host header of our own; `more` are other headers."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in more.items())]
    with frontend.client() as client:
        client.send("\r\n".join([*lines, f"Content-Length: {len(body or b'')}", "", ""]).encode() + (body or b""))
        return client.reply(method)


def test_the_document_describes_the_apps_that_are_registered_now(frontend: Frontend) -> None:
    served = ask(frontend, "GET", "/openapi.json").json

    validate(served)
    assert served[APPLICATIONS] == [
        {
            "name": "a",
            "input_type": "doubles",
            "model": "m",
            "version": "1",
            "versions": ["1", "2"],
            "slo_micros": 500_000,
            "slo_policy": "late",
            "timeout_micros": 10_000_000,
            "default_output": "-1.0",
            "example": [0.1, 0.2],  # as long as the sample, and not the sample
        },
        {
            "name": "t",
            "input_type": "strings",
            "model": None,
            "version": None,
            "versions": [],
            "slo_micros": 10_000_000,
            "slo_policy": "default",
            "timeout_micros": 60_000_000,
            "default_output": "-1.0",
            "example": "a text",
        },
    ]
    assert all(not problems_of(each, {"$ref": "#/components/schemas/Application"}) for each in served[APPLICATIONS])
    assert "4.5" not in json.dumps(served)
    own = {"/a/predict", "/t/predict", "/v2/models/a/infer", "/v2/models/t/infer"}
    assert set(served["paths"]) == set(query_document()["paths"]) | own
    assert {key: value for key, value in served.items() if key not in ("paths", "info", APPLICATIONS)} == {
        key: value for key, value in query_document().items() if key not in ("paths", "info", APPLICATIONS)
    }


def test_an_app_s_examples_are_answered(frontend: Frontend) -> None:
    paths = ask(frontend, "GET", "/clipper/openapi.json").json["paths"]

    for path in ("/a/predict", "/v2/models/a/infer"):
        content = paths[path]["post"]["requestBody"]["content"]["application/json"]
        body = content.get("example") or content["schema"]["examples"][0]
        assert problems_of(body, content["schema"]) == []
        reply = ask(frontend, "POST", path, json.dumps(body).encode())
        check("POST", path, reply)
        assert reply.status == 200
        assert b"0.30000000000000004" in reply.body


async def test_the_document_has_every_route_and_no_other(frontend: Frontend) -> None:
    from clipper_nomad_frontend.api import PROBE_PATH, public_app  # noqa: PLC0415

    class Facts:
        body_bytes, is_local = 1024, False

    routes = {
        (route.method.lower(), route.resource.canonical.removeprefix("/clipper").removesuffix("/"))
        for route in public_app(Facts(), "/clipper").router.routes()  # type: ignore[arg-type]  # routes need no facts
        if route.resource and route.method != "HEAD"
    }

    documented = {(method, path) for path, operations in query_document()["paths"].items() for method in operations}
    assert routes - {("post", PROBE_PATH)} == documented  # the probe is for deploys; without the token it is not there


@pytest.mark.parametrize(
    ("body", "is_one"),
    [
        ({"input": [1.0]}, True),
        ({"input_batch": [[1.0], []], "version": "1"}, True),
        ({"input": [1.0], "input_batch": 7}, True),
        ({}, False),
        ({"version": "1"}, False),
        ({"input": None, "input_batch": [[1.0]]}, False),
        ({"input_batch": [1.0]}, False),
        ({"input": [1.0], "version": 1}, False),
        ([], False),
    ],
)
def test_the_document_tells_predict_requests_from_others(frontend: Frontend, body: object, *, is_one: bool) -> None:
    schema = ask(frontend, "GET", "/openapi.json").json["paths"]["/a/predict"]["post"]["requestBody"]["content"]

    assert (problems_of(body, schema["application/json"]["schema"]) == []) is is_one
    assert (ask(frontend, "POST", "/a/predict", json.dumps(body).encode()).status == 200) is is_one


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/a/predict", b'{"input": [1.0]}'),
        ("POST", "/a/predict", b'{"input_batch": [[1.0], [2.0]]}'),
        ("POST", "/a/predict", b'{"input": [1.0], "input_batch": null}'),
        ("POST", "/a/predict", b"{"),
        ("POST", "/nobody/predict", b"{}"),
        ("POST", "/a/update", b'{"uid": 1, "input": [1.0], "label": 1.0}'),
        ("POST", "/a/update", b"{}"),
        ("POST", "/t/predict", b'{"input": "a"}'),
        ("GET", "/health", None),
        ("GET", "/health/ready", None),
        ("GET", "/metrics", None),
        ("GET", "/docs", None),
        ("GET", "/a/docs", None),
        ("GET", "/nobody/docs", None),
        ("GET", "/openapi.json", None),
    ],
)
def test_answers_are_as_the_document_says(frontend: Frontend, method: str, path: str, body: bytes | None) -> None:
    for prefix in ("", "/clipper"):
        reply = ask(frontend, method, prefix + path, body)

        check(method, path, reply, body)
        assert reply.status != 403


def test_the_page_may_load_and_run_nothing_but_itself(frontend: Frontend) -> None:
    reply = ask(frontend, "GET", "/a/docs")

    policy = reply.header("Content-Security-Policy") or ""
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy
    assert b'data-app="a"' in reply.body
    assert not any(mark in reply.body for mark in (b"src=", b"@import", b"url(", b"/*style*/", b"/*script*/"))
    assert len(reply.body) < 32 * 1024


# ---- who may ask, where the frontend serves its own machine ----------------------------------------------------------

WAYS = [
    ("POST", "/a/predict", b'{"input": [1.0]}'),
    ("POST", "/v2/models/a/infer", ONE),
    ("POST", "/a/update", b'{"uid": 1, "input": [1.0], "label": 1.0}'),
    ("GET", "/openapi.json", None),
    ("GET", "/docs", None),
    ("GET", "/metrics", None),
]


@pytest.mark.parametrize(("method", "path", "body"), WAYS)
def test_a_local_frontend_answers_no_page_of_another_site(
    frontend: Frontend, method: str, path: str, body: bytes | None
) -> None:
    port = frontend.http[1]
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "10.0.0.1", ""):
        reply = ask(frontend, method, path, body, host=host)
        assert (reply.status, "Host" in reply.body.decode()) == (403, True), host
    for origin in ("http://evil.example", "null", f"https://localhost:{port}.evil.example", "http://127.0.0.1:1"):
        reply = ask(frontend, method, path, body, host=f"127.0.0.1:{port}", Origin=origin)
        assert (reply.status, "origin" in reply.body.decode()) == (403, True), origin
        assert reply.header("Access-Control-Allow-Origin") is None


@pytest.mark.parametrize(("method", "path", "body"), WAYS)
def test_a_local_frontend_answers_its_own_page_and_every_program(
    frontend: Frontend, method: str, path: str, body: bytes | None
) -> None:
    port = frontend.http[1]
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "127.3.2.1:80", "[::1]", f"[::1]:{port}"):
        assert ask(frontend, method, path, body, host=host).status == 200
        assert ask(frontend, method, path, body, host=host, Origin=f"http://{host}").status == 200


@pytest.mark.parametrize(("method", "path", "body"), WAYS)
def test_a_local_frontend_answers_a_program_that_names_no_host(
    frontend: Frontend, method: str, path: str, body: bytes | None
) -> None:
    """As HTTP/1.0 lets it, and the health checks of some load balancers do. A browser always names one."""
    with frontend.client() as client:
        client.send(f"{method} {path} HTTP/1.0\r\nContent-Length: {len(body or b'')}\r\n\r\n".encode() + (body or b""))

        assert client.reply(method).status == 200


def test_a_head_that_was_refused_is_refused_again(frontend: Frontend) -> None:
    """A head that was understood before is not parsed again: only one that may ask is remembered."""
    for _ in range(3):
        assert ask(frontend, "POST", "/a/predict", b'{"input": [1.0]}', host="evil.example").status == 403


def test_a_frontend_of_a_cluster_answers_under_any_name() -> None:
    with Frontend(an_app(), a_version()) as frontend, PeerReplica(frontend.rpc):
        for method, path, body in WAYS:
            reply = ask(frontend, method, path, body, host="models.example", Origin="https://models.example")
            assert reply.status == 200
