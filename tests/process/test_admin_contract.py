"""Clipper's management REST, row by row: every call, every answer, every refusal and the order in which they are looked for.

A real admin service on a real store. Each case begins with an empty catalog, makes the calls of `before`, which must be
granted, and compares one more answer to the letter. Every answer is compared with the OpenAPI document too (admins.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from clipper_nomad.admin.config import parse_address, read_settings
from clipper_nomad.admin.openapi import DOCUMENT_PATH
from clipper_nomad.admin.server import Server
from tests.process.admins import AdminServer
from tests.process.openapi_checks import admin_document, problems_of
from tests.process.stores import BINARIES, StoreServer, binary

pytestmark = pytest.mark.process

Json = Any  # of bodies and answers

APP = {"name": "a", "input_type": "doubles", "default_output": "-1.0", "latency_slo_micros": 100_000}
MODEL = {
    "model_name": "m",
    "model_version": "1",
    "labels": ["x", "y"],
    "input_type": "doubles",
    "container_name": "image:1",
    "model_data_path": "DEPRECATED",
    "batch_size": -1,
}
M1 = {"model_name": "m", "model_version": "1"}
M2 = {"model_name": "m", "model_version": "2"}
LINK = {"app_name": "a", "model_names": ["m"]}

ADD_APP = ("add_app", APP)
ADD_M1 = ("add_model", MODEL)
ADD_M2 = ("add_model", {**MODEL, **M2})
ADD_INTS = ("add_model", {**MODEL, "model_name": "i", "input_type": "ints"})
ADD_LINK = ("add_model_links", LINK)

SHOWN_APP = {**APP, "linked_models": []}
SHOWN_MODEL = {key: value for key, value in MODEL.items() if key != "batch_size"} | {"is_current_version": True}
CONFLICT = (
    "Model with name 'm' is already linked to app 'a' using input type 'doubles'. "
    "The input type you provided for a new version of the model, 'integers', is not compatible."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row: `says` is the answer's text, or its JSON."""

    call: str
    body: Json
    says: Json
    status: int = 200
    before: tuple[tuple[str, Json], ...] = ()


def granted(call: str, body: Json, says: Json, *before: tuple[str, Json]) -> Case:
    return Case(call=call, body=body, says=says, before=before)


def refused(call: str, body: Json, says: str, *before: tuple[str, Json]) -> Case:
    return Case(call=call, body=body, says=says, status=400, before=before)


CASES = [
    granted(*ADD_APP, "Successfully added application with name 'a'"),
    refused(*ADD_APP, "application 'a' already exists", ADD_APP),
    # that it exists is said before what is wrong with the new one
    refused("add_app", {**APP, "latency_slo_micros": 0}, "application 'a' already exists", ADD_APP),
    granted("delete_app", {"name": "a"}, "Successfully deleted application with name 'a'", ADD_APP),
    refused("delete_app", {"name": "a"}, "Application 'a' does not exist"),
    granted("get_linked_models", {"app_name": "a"}, [], ADD_APP, ADD_M1, ADD_LINK, ("delete_app", {"name": "a"}), ADD_APP),
    granted(*ADD_M1, "Successfully added model with name 'm' and input type 'doubles'"),
    granted(*ADD_INTS, "Successfully added model with name 'i' and input type 'integers'"),
    granted(
        *ADD_M1, "Successfully added model with name 'm' and input type 'doubles'", ADD_M1, ("delete_versioned_model", M1)
    ),
    refused(*ADD_M1, "model with name 'm' and version '1' already exists", ADD_M1),
    *(
        refused(
            "add_model", {**MODEL, "batch_size": size}, "The batch size must be positive or DEFAULT_BATCH_SIZE, which is -1"
        )
        for size in (0, -2)
    ),
    # the batch size is looked at before the names, and these before what exists
    refused(
        "add_model",
        {**MODEL, "batch_size": 0, "model_name": "a,b"},
        "The batch size must be positive or DEFAULT_BATCH_SIZE, which is -1",
    ),
    refused(
        "add_model",
        {**MODEL, "labels": ["a:b"]},
        "Invalid label supplied: 'a:b'. Contains one of: ',', ':', '/', white space, a control character",
        ADD_M1,
    ),
    refused("add_model", {**MODEL, **M2, "input_type": "integers"}, CONFLICT, ADD_APP, ADD_M1, ADD_LINK),
    # that it exists is said before that it has another type
    refused(
        "add_model",
        {**MODEL, "input_type": "integers"},
        "model with name 'm' and version '1' already exists",
        *(ADD_APP, ADD_M1, ADD_LINK),
    ),
    granted("delete_versioned_model", M1, "Successfully deleted model with name 'm' and version '1'", ADD_M1),
    refused("delete_versioned_model", M1, "model with name 'm' and version '1' does not exist"),
    refused(
        "delete_versioned_model",
        M1,
        "model with name 'm' and version '1' does not exist",
        *(ADD_M1, ("delete_versioned_model", M1)),
    ),
    granted("set_model_version", M1, "Successfully set model with name 'm' to version '1'", ADD_M1, ADD_M2),
    refused("set_model_version", M1, "Cannot set version for nonexistent model 'm'"),
    refused("set_model_version", M2, "Cannot set non-existent version '2' for model with name 'm'", ADD_M1),
    refused(
        "set_model_version",
        M1,
        CONFLICT,
        *(("add_model", {**MODEL, "input_type": "ints"}), ADD_M2, ADD_APP, ADD_LINK),
    ),
    granted(*ADD_LINK, "Successfully linked model with name 'm' to application 'a'", ADD_APP, ADD_M1),
    refused(*ADD_LINK, "No app with name 'a' exists."),
    refused(*ADD_LINK, "No model with name 'm' exists.", ADD_APP),
    refused(
        "add_model_links",
        {"app_name": "a", "model_names": ["i"]},
        "Model with name 'i' has incompatible input_type 'integers'. Requested app to link to has input_type 'doubles'.",
        *(ADD_APP, ADD_INTS),
    ),
    refused(
        "add_model_links",
        {"app_name": "a", "model_names": []},
        "Please provide the name of the model that you want to link to the application.",
        ADD_APP,
    ),
    refused(
        "add_model_links",
        {"app_name": "a", "model_names": ["m", "m"]},
        "Applications must be linked with at most one model. Attempted to add links to 2 models.",
        *(ADD_APP, ADD_M1),
    ),
    # each model is looked at before they are counted
    refused(
        "add_model_links",
        {"app_name": "a", "model_names": ["m", "n"]},
        "No model with name 'n' exists.",
        *(ADD_APP, ADD_M1),
    ),
    # and their types, before they are counted; they are counted before links that are there are looked at
    refused(
        "add_model_links",
        {"app_name": "a", "model_names": ["m", "i"]},
        "Model with name 'i' has incompatible input_type 'integers'. Requested app to link to has input_type 'doubles'.",
        *(ADD_APP, ADD_M1, ADD_INTS),
    ),
    refused(
        "add_model_links",
        {"app_name": "a", "model_names": ["m", "n"]},
        "Applications must be linked with at most one model. Attempted to add links to 2 models.",
        *(ADD_APP, ADD_M1, ADD_LINK, ("add_model", {**MODEL, "model_name": "n"})),
    ),
    refused(*ADD_LINK, "The model with name 'm' is already linked to 'a'", ADD_APP, ADD_M1, ADD_LINK),
    refused(
        "add_model_links",
        {"app_name": "a", "model_names": ["n"]},
        "A model with name m is already linked to 'a'.",
        *(ADD_APP, ADD_M1, ADD_LINK, ("add_model", {**MODEL, "model_name": "n"})),
    ),
    granted("delete_model_links", LINK, "Success!", ADD_APP, ADD_M1, ADD_LINK),
    refused("delete_model_links", LINK, "No app with name a exists."),
    refused("delete_model_links", LINK, "Cannot remove nonexistent link between app a and model m", ADD_APP),
    granted("get_all_applications", {"verbose": False}, []),
    granted("get_all_applications", {"verbose": False}, ["a"], ADD_APP),
    granted("get_all_applications", {"verbose": True}, [SHOWN_APP], ADD_APP),
    granted("get_application", {"name": "a"}, {**SHOWN_APP, "linked_models": ["m"]}, ADD_APP, ADD_M1, ADD_LINK),
    granted("get_application", {"name": "a"}, {}),
    granted("get_linked_models", {"app_name": "a"}, ["m"], ADD_APP, ADD_M1, ADD_LINK),
    refused("get_linked_models", {"app_name": "a"}, "No application with name 'a' exists."),
    granted("get_all_models", {"verbose": False}, ["m:1", "m:2"], ADD_M1, ADD_M2),
    granted(
        "get_all_models",
        {"verbose": True},
        [{**SHOWN_MODEL, "is_current_version": False}, {**SHOWN_MODEL, **M2}],
        *(ADD_M1, ADD_M2),
    ),
    granted("get_model", M1, SHOWN_MODEL, ADD_M1),
    granted("get_model", M1, {**SHOWN_MODEL, "labels": []}, ("add_model", {**MODEL, "labels": []})),
    granted("get_model", M2, {}, ADD_M1),
    granted("get_all_containers", {"verbose": True}, [], ADD_M1),
    granted("get_container", {**M1, "replica_id": 0}, {}, ADD_M1),
    granted("get_state", {"app_name": "a", "uid": 0}, "-1.0", ADD_APP),
    granted("get_state", {"app_name": "a", "uid": 7}, "-1.0", ADD_APP),
    refused("get_state", {"app_name": "a", "uid": 0}, "No application with name 'a' exists."),
]

INPUT_WORDS = {
    "bytes": ("bytes", "byte", "b"),
    "integers": ("integers", "ints", "integer", "int", "i"),
    "floats": ("floats", "float", "f"),
    "doubles": ("doubles", "double", "d"),
    "strings": ("strings", "string", "str", "strs", "s"),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminServer]:
    folder = tmp_path_factory.mktemp("admin")
    store = StoreServer(next(filter(None, map(binary, reversed(BINARIES)))), folder)
    store.start()
    server = AdminServer(store, folder)
    try:
        server.start()
        yield server
    finally:
        server.close()
        store.kill()


@pytest.fixture
def admin(running: AdminServer) -> AdminServer:
    """The service, with an empty catalog."""
    running.empty()
    return running


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.call}-{case.status}")
def test_a_call_answers_as_clipper_s_does(admin: AdminServer, case: Case) -> None:
    for call, body in case.before:
        assert admin.post(f"/admin/{call}", body).status_code == 200, call

    answer = admin.post(f"/admin/{case.call}", case.body)

    assert answer.status_code == case.status, answer.text
    assert (answer.text if isinstance(case.says, str) else answer.json()) == case.says


def test_every_call_of_clipper_s_is_granted_and_refused_in_some_case() -> None:
    calls = {path.removeprefix("/admin/") for path in admin_document()["paths"] if path.startswith("/admin/")}
    clippers = {call for call in calls if not call.startswith("v1/")} - {"ping"}

    assert {case.call for case in CASES if case.status == 200} == clippers
    cannot_be_refused = {call for call in clippers if call.startswith(("get_all", "get_app", "get_mod", "get_con"))}
    assert {case.call for case in CASES if case.status == 400} == clippers - cannot_be_refused


@pytest.mark.parametrize(("kind", "word"), [(kind, word) for kind, words in INPUT_WORDS.items() for word in words])
def test_every_word_for_an_input_type_is_known_and_comes_back_as_its_canonical_one(
    admin: AdminServer, kind: str, word: str
) -> None:
    admin.post("/admin/add_app", {**APP, "input_type": word})

    assert admin.post("/admin/get_application", {"name": "a"}).json()["input_type"] == kind


@pytest.mark.parametrize("word", ["", "Doubles", "complex", "double ", "bool"])
@pytest.mark.parametrize("add", [ADD_APP, ADD_M1], ids=["app", "model"])
def test_a_word_that_is_no_input_type_is_refused(admin: AdminServer, add: tuple[str, Json], word: str) -> None:
    call, body = add

    answer = admin.post(f"/admin/{call}", {**body, "input_type": word})

    assert (answer.status_code, answer.text.partition(";")[0]) == (400, f"unknown input type '{word}'")


def test_code_written_for_clipper_gets_the_policy_that_the_service_is_told(
    one_store_server: StoreServer, tmp_path: Path
) -> None:
    admin = AdminServer(one_store_server, tmp_path, DEFAULT_SLO_POLICY="default")
    try:
        admin.start()
        admin.post("/admin/add_app", APP)
        admin.post("/admin/v1/apps", {**APP, "name": "b"})
        admin.post("/admin/v1/apps", {**APP, "name": "c", "slo_policy": "error"})
        policies = {app["name"]: app["slo_policy"] for app in admin.client().catalog()["apps"]}
    finally:
        admin.close()

    assert policies == {"a": "default", "b": "default", "c": "error"}


def test_replies_are_declared_as_what_they_are(admin: AdminServer) -> None:
    granted_text, refused_text = admin.post("/admin/add_app", APP), admin.post("/admin/add_app", APP)
    shown = admin.post("/admin/get_application", {"name": "a"})

    assert granted_text.headers["Content-Type"] == refused_text.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert shown.headers["Content-Type"] == "application/json; charset=utf-8"


def test_the_openapi_document_is_one_and_is_the_one_that_answers_are_compared_with(admin: AdminServer) -> None:
    served = admin.get(DOCUMENT_PATH).json()

    validate(served)
    del served["info"]["version"]
    expected = json.loads(json.dumps(admin_document()))
    del expected["info"]["version"]
    assert served == expected


async def test_the_openapi_document_has_every_route_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    settings = read_settings({"CLIPPER_STORE_URL": "redis://127.0.0.1:1", "CLIPPER_TOKEN_FILE": str(tmp_path / "token")})
    assert parse_address("127.0.0.1:1338") == settings.address

    routes = {
        (route.method.lower(), route.resource.canonical)
        for route in Server(settings).app().router.routes()
        if route.resource
    }

    assert routes == {(method, path) for path, operations in admin_document()["paths"].items() for method in operations}


REQUIRED = [
    (path, method, field)
    for path, operations in admin_document()["paths"].items()
    for method, operation in operations.items()
    if "application/json" in operation.get("requestBody", {}).get("content", {})
    for field in admin_document()["components"]["schemas"][
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    ]["required"]
]
GOOD = {**APP, **MODEL, "app_name": "a", "model_names": ["m"], "verbose": True, "replica_id": 0, "uid": 0, "input": [1.0]}


@pytest.mark.parametrize(("path", "method", "field"), REQUIRED)
def test_a_field_that_the_document_requires_is_required(admin: AdminServer, path: str, method: str, field: str) -> None:
    assert method == "post"
    body = {key: value for key, value in GOOD.items() if key != field and (key != "uid" or path.endswith("get_state"))}

    answer = admin.post(path, body)

    assert answer.status_code == 400
    assert f"JSON object does not have required key: {field}" in answer.text


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        ("App", {**SHOWN_APP, "slo_micros": 1}),
        ("App", APP),
        ("App", {**SHOWN_APP, "input_type": "ints"}),
        ("Version", {**SHOWN_MODEL, "is_current_version": 1}),
        ("Error", {"error": "x"}),
        ("Catalog", {"store_id": "", "revision": 1, "apps": [{}], "models": [], "versions": []}),
    ],
)
def test_an_answer_that_is_not_as_documented_would_be_found(schema: str, wrong: Json) -> None:
    assert problems_of(wrong, {"$ref": f"#/components/schemas/{schema}"})
