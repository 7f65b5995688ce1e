"""Every call of a real admin service on a real store: what it answers, what it refuses, and in which words."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.process.admins import TOKEN, AdminServer
from tests.process.stores import BINARIES, StoreServer, binary

pytestmark = pytest.mark.process

Json = Any  # of bodies and answers

APP = {"name": "app", "input_type": "doubles", "default_output": "-1.0", "latency_slo_micros": 100_000}
MODEL = {
    "model_name": "m",
    "model_version": "1",
    "labels": [],
    "input_type": "doubles",
    "container_name": "image:1",
    "model_data_path": "DEPRECATED",
    "batch_size": -1,
}
VERSION = {"model_name": "m", "model_version": "1"}
LINK = {"app_name": "app", "model_names": ["m"]}
V1_VERSION = {"model_name": "m", "model_version": "1", "input_type": "doubles"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminServer]:
    folder = tmp_path_factory.mktemp("admin")
    program = next(filter(None, map(binary, reversed(BINARIES))))
    store = StoreServer(program, folder)
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


def done(admin: AdminServer, name: str, body: Json) -> str:
    answer = admin.post(f"/admin/{name}", body)
    assert answer.status_code == 200, answer.text
    return answer.text


def asked(admin: AdminServer, name: str, body: Json) -> Json:
    return json.loads(done(admin, name, body))


def refused(admin: AdminServer, name: str, body: Json) -> str:
    answer = admin.post(f"/admin/{name}", body)
    assert answer.status_code == 400, answer.text
    assert answer.headers["Content-Type"].startswith("text/plain")
    return answer.text


# --- apps ---


def test_an_app_is_added_shown_and_deleted(admin: AdminServer) -> None:
    assert done(admin, "add_app", APP) == "Successfully added application with name 'app'"
    assert asked(admin, "get_all_applications", {"verbose": False}) == ["app"]
    assert asked(admin, "get_all_applications", {"verbose": True}) == [{**APP, "linked_models": []}]
    assert asked(admin, "get_application", {"name": "app"}) == {**APP, "linked_models": []}
    assert done(admin, "delete_app", {"name": "app"}) == "Successfully deleted application with name 'app'"
    assert asked(admin, "get_application", {"name": "app"}) == {}
    assert refused(admin, "delete_app", {"name": "app"}) == "Application 'app' does not exist"


def test_an_app_s_own_settings_are_in_the_catalog(admin: AdminServer) -> None:
    body = {**APP, "slo_policy": "error", "timeout_micros": 7_000_000}

    assert admin.post("/admin/v1/apps", body).json() == {"result": "Successfully added application with name 'app'"}

    [app] = admin.client().catalog()["apps"]
    assert (app["slo_policy"], app["timeout_micros"]) == ("error", 7_000_000)


# --- models and links ---


def test_a_model_is_added_shown_and_deleted(admin: AdminServer) -> None:
    said = done(admin, "add_model", MODEL)

    shown = {**MODEL, "is_current_version": True}
    del shown["batch_size"]
    assert said == "Successfully added model with name 'm' and input type 'doubles'"
    assert asked(admin, "get_all_models", {"verbose": False}) == ["m:1"]
    assert asked(admin, "get_all_models", {"verbose": True}) == [shown]
    assert asked(admin, "get_model", VERSION) == shown
    assert done(admin, "delete_versioned_model", VERSION) == "Successfully deleted model with name 'm' and version '1'"
    assert asked(admin, "get_model", VERSION) == {}
    gone = "model with name 'm' and version '1' does not exist"
    assert refused(admin, "delete_versioned_model", VERSION) == gone


def test_the_version_added_last_is_current_until_another_is_set(admin: AdminServer) -> None:
    done(admin, "add_model", MODEL)
    done(admin, "add_model", {**MODEL, "model_version": "2"})

    said = done(admin, "set_model_version", VERSION)

    assert said == "Successfully set model with name 'm' to version '1'"
    current = {v["model_version"]: v["is_current_version"] for v in asked(admin, "get_all_models", {"verbose": True})}
    assert current == {"1": True, "2": False}


def test_a_model_is_linked_and_unlinked(admin: AdminServer) -> None:
    done(admin, "add_app", APP)
    done(admin, "add_model", MODEL)

    assert done(admin, "add_model_links", LINK) == "Successfully linked model with name 'm' to application 'app'"
    assert asked(admin, "get_linked_models", {"app_name": "app"}) == ["m"]
    assert refused(admin, "add_model_links", LINK) == "The model with name 'm' is already linked to 'app'"
    assert done(admin, "delete_model_links", LINK) == "Success!"
    assert asked(admin, "get_linked_models", {"app_name": "app"}) == []
    gone = "Cannot remove nonexistent link between app app and model m"
    assert refused(admin, "delete_model_links", LINK) == gone


def test_an_app_added_anew_has_no_links_of_before(admin: AdminServer) -> None:
    done(admin, "add_app", APP)
    done(admin, "add_model", MODEL)
    done(admin, "add_model_links", LINK)

    done(admin, "delete_app", {"name": "app"})
    done(admin, "add_app", APP)

    assert asked(admin, "get_linked_models", {"app_name": "app"}) == []


def test_a_staged_version_is_unseen_until_it_is_activated(admin: AdminServer) -> None:
    uid = admin.post("/admin/v1/versions", {**V1_VERSION, "staged": True}).json()["uid"]
    unseen = asked(admin, "get_all_models", {"verbose": False})

    activated = admin.post("/admin/v1/versions/activate", {**VERSION, "uid": uid})

    assert len(uid) == 32
    assert unseen == []
    assert activated.status_code == 200
    assert asked(admin, "get_model", VERSION)["is_current_version"] is True


def test_a_staged_version_is_discarded_and_a_live_one_is_not(admin: AdminServer) -> None:
    admin.post("/admin/v1/versions", {**V1_VERSION, "staged": True})
    discard = {**VERSION, "only_staged": True}

    discarded = admin.post("/admin/v1/versions/delete", discard)
    admin.post("/admin/v1/versions", V1_VERSION)
    kept = admin.post("/admin/v1/versions/delete", discard)

    assert discarded.status_code == 200
    assert (kept.status_code, kept.json()["error"]) == (409, "Refused")
    assert asked(admin, "get_all_models", {"verbose": False}) == ["m:1"]


def test_without_frontends_there_are_no_replicas(admin: AdminServer) -> None:
    done(admin, "add_model", MODEL)

    assert asked(admin, "get_all_containers", {"verbose": True}) == []
    assert asked(admin, "get_container", {**VERSION, "replica_id": 0}) == {}
    assert admin.get("/admin/v1/frontends").json() == {"live": 0, "frontends": []}
    probed = admin.post("/admin/v1/probe", {**VERSION, "input": [1.0]})
    assert probed.json() == {"live": 0, "probes": []}


def test_a_retried_call_gets_the_first_answer(admin: AdminServer) -> None:
    headers = {"X-Request-Id": "retry-of-one-call"}

    first = admin.post("/admin/v1/versions", V1_VERSION, headers=headers)
    again = admin.post("/admin/v1/versions", V1_VERSION, headers=headers)
    other = admin.post("/admin/v1/versions", {**V1_VERSION, "model_version": "2"}, headers=headers)

    assert first.json() == again.json()
    assert (again.status_code, again.headers["X-Request-Id"]) == (200, "retry-of-one-call")
    assert other.json() != first.json()


def test_health_tells_the_state_of_the_whole(admin: AdminServer) -> None:
    said = admin.get("/admin/v1/health").json()

    assert said["status"] == "ok"
    assert (said["durable"], said["frontends"], said["cluster"]) == (True, 0, "test")


# --- bad input: each field of each request ---

TEXT, NUMBER, LIST, BOOL = "Stringbut found type ", "Numberbut found type ", "Arraybut found type ", "bool but found type "
FIELDS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "add_app": (APP, {"name": TEXT, "input_type": TEXT, "default_output": TEXT, "latency_slo_micros": NUMBER}),
    "delete_app": ({"name": "app"}, {"name": TEXT}),
    "add_model": (
        MODEL,
        {
            "model_name": TEXT,
            "model_version": TEXT,
            "labels": LIST,
            "input_type": TEXT,
            "container_name": TEXT,
            "batch_size": NUMBER,
        },
    ),
    "delete_versioned_model": (VERSION, {"model_name": TEXT, "model_version": TEXT}),
    "set_model_version": (VERSION, {"model_name": TEXT, "model_version": TEXT}),
    "add_model_links": (LINK, {"app_name": TEXT, "model_names": LIST}),
    "delete_model_links": (LINK, {"app_name": TEXT, "model_names": LIST}),
    "get_all_applications": ({"verbose": True}, {"verbose": BOOL}),
    "get_application": ({"name": "app"}, {"name": TEXT}),
    "get_linked_models": ({"app_name": "app"}, {"app_name": TEXT}),
    "get_all_models": ({"verbose": True}, {"verbose": BOOL}),
    "get_model": (VERSION, {"model_name": TEXT, "model_version": TEXT}),
    "get_all_containers": ({"verbose": True}, {"verbose": BOOL}),
    "get_container": ({**VERSION, "replica_id": 0}, {"model_name": TEXT, "model_version": TEXT, "replica_id": NUMBER}),
    "get_state": ({"app_name": "app", "uid": 0}, {"app_name": TEXT, "uid": NUMBER}),
}
EVERY_FIELD = [(call, field, wanted) for call, (_, fields) in FIELDS.items() for field, wanted in fields.items()]


@pytest.mark.parametrize(("call", "field", "wanted"), EVERY_FIELD)
def test_a_field_of_the_wrong_type_is_named(admin: AdminServer, call: str, field: str, wanted: str) -> None:
    body = FIELDS[call][0]

    said = refused(admin, call, {**body, field: {"a": 1}})

    assert said.startswith(f"Error parsing JSON: Type mismatch! JSON key {field} expected type {wanted}Object. Expected")


@pytest.mark.parametrize(("call", "field", "wanted"), EVERY_FIELD)
def test_a_missing_field_is_named(admin: AdminServer, call: str, field: str, wanted: str) -> None:
    body = {key: value for key, value in FIELDS[call][0].items() if key != field}

    said = refused(admin, call, body)

    assert said.startswith(f"Error parsing JSON: JSON object does not have required key: {field}. Expected JSON schema: {{")


@pytest.mark.parametrize("call", FIELDS)
@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "JSON parse error: Expecting value (offset 0)"),
        (b'{"name": "app"', "JSON parse error: Expecting ',' delimiter (offset 14)"),
        (b"[1, 2]", "Can only get key-value pair from an object"),
        (b"\xff\xfe\xfa", "JSON parse error: 'utf"),
        (b'{"name": NaN}', "JSON parse error: NaN is no JSON"),
        (b"[" * 100_000, "JSON parse error: "),
        (b'{"name": ' + b"9" * 10_000 + b"}", "JSON parse error: Exceeds the limit"),
    ],
    ids=["empty", "cut off", "a list", "not UTF-8", "NaN", "nested", "long number"],
)
def test_a_body_that_is_no_json_object_is_refused(admin: AdminServer, call: str, body: bytes, cause: str) -> None:
    assert refused(admin, call, body).startswith(f"Error parsing JSON: {cause}")


@pytest.mark.parametrize(
    ("call", "change", "cause"),
    [
        ("add_app", {"input_type": "complex"}, "unknown input type 'complex'"),
        ("add_app", {"name": "a/b"}, "Invalid application name: 'a/b'"),
        ("add_app", {"name": ""}, "Invalid application name: ''"),
        ("add_app", {"name": "\ud800"}, "Error parsing JSON: JSON key name holds half of a surrogate pair"),
        ("add_app", {"default_output": "\udfff"}, "Error parsing JSON: JSON key default_output holds half"),
        ("add_app", {"default_output": "x" * 70_000}, "Error parsing JSON: JSON key default_output has 70000 bytes"),
        ("add_app", {"latency_slo_micros": 0}, "latency_slo_micros is 0; expected"),
        ("add_app", {"latency_slo_micros": 1.5}, "Error parsing JSON: JSON key latency_slo_micros must be an integer"),
        ("add_app", {"latency_slo_micros": 2**31}, "Error parsing JSON: JSON key latency_slo_micros must be an integer"),
        ("add_app", {"latency_slo_micros": True}, "Error parsing JSON: Type mismatch! JSON key latency_slo_micros"),
        *[("add_app", {"name": name}, f"Invalid application name: '{name}' is reserved") for name in ("v2", "metrics")],
        ("add_model", {"input_type": ""}, "unknown input type ''"),
        ("add_model", {"batch_size": 0}, "The batch size must be positive or DEFAULT_BATCH_SIZE, which is -1"),
        ("add_model", {"batch_size": -2}, "The batch size must be positive or DEFAULT_BATCH_SIZE, which is -1"),
        ("add_model", {"model_name": "a,b"}, "Invalid model name supplied: 'a,b'. Contains one of: ',', ':'"),
        ("add_model", {"model_version": "a:b"}, "Invalid model version supplied: 'a:b'. Contains one of: ',', ':'"),
        ("add_model", {"labels": ["ok", "a,b"]}, "Invalid label supplied: 'a,b'. Contains one of: ',', ':'"),
        ("add_model", {"labels": ["ok", 7]}, "Error parsing JSON: Array input of type Number is not of type string"),
        ("add_model", {"model_name": "x" * 200}, "Invalid model name supplied: it has 200 bytes"),
        ("add_model", {"model_data_path": 7}, "Error parsing JSON: Type mismatch! JSON key model_data_path"),
        ("set_model_version", {}, "Cannot set version for nonexistent model 'm'"),
        ("delete_versioned_model", {}, "model with name 'm' and version '1' does not exist"),
        ("add_model_links", {}, "No app with name 'app' exists."),
        ("delete_model_links", {}, "No app with name app exists."),
        ("get_linked_models", {}, "No application with name 'app' exists."),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_clipper_s_words(
    admin: AdminServer, call: str, change: dict[str, Any], cause: str
) -> None:
    assert refused(admin, call, {**FIELDS[call][0], **change}).startswith(cause)


@pytest.mark.parametrize(
    ("path", "body", "cause"),
    [
        ("apps", {}, "JSON object does not have required key: name"),
        ("apps", {**APP, "slo_policy": "never"}, "slo_policy is 'never'; expected one of late, default, error"),
        ("apps", {**APP, "slo_policy": 1}, "Type mismatch! JSON key slo_policy expected type Stringbut"),
        ("apps", {**APP, "timeout_micros": 99_999}, "timeout_micros is 99999; expected"),
        ("apps", {**APP, "timeout_micros": "1"}, "Type mismatch! JSON key timeout_micros expected type Numberbut"),
        ("apps", {**APP, "timeout_micros": 2**60}, "JSON key timeout_micros must be an integer"),
        ("versions", {}, "JSON object does not have required key: model_name"),
        ("versions", {**V1_VERSION, "input_type": "x"}, "unknown input type 'x'"),
        ("versions", {**V1_VERSION, "replicas": -1}, "replicas is -1; expected 0 to 10000"),
        ("versions", {**V1_VERSION, "replicas": "1"}, "Type mismatch! JSON key replicas expected type Numberbut"),
        ("versions", {**V1_VERSION, "retry": 1}, "Type mismatch! JSON key retry expected type bool but"),
        ("versions", {**V1_VERSION, "staged": "yes"}, "Type mismatch! JSON key staged expected type bool but"),
        ("versions", {**V1_VERSION, "sample": [1.0]}, "Type mismatch! JSON key sample expected type Stringbut"),
        ("versions", {**V1_VERSION, "labels": "a"}, "Type mismatch! JSON key labels expected type Arraybut"),
        ("versions", {**V1_VERSION, "labels": ["a"] * 1001}, "JSON key labels has 1001 elements; at most 1000"),
        ("versions", {**V1_VERSION, "container_name": 1}, "Type mismatch! JSON key container_name expected"),
        ("versions", {**V1_VERSION, "batch_size": 0}, "The batch size must be positive"),
        ("versions/activate", VERSION, "model with name 'm' and version '1' does not exist"),
        ("versions/activate", {**VERSION, "uid": 1}, "Type mismatch! JSON key uid expected type Stringbut"),
        ("versions/delete", VERSION, "model with name 'm' and version '1' does not exist"),
        ("versions/delete", {**VERSION, "only_staged": 1}, "Type mismatch! JSON key only_staged expected type bool"),
        ("probe", VERSION, "JSON object does not have required key: input"),
        ("probe", {**VERSION, "input": [1.0]}, "model with name 'm' and version '1' does not exist"),
        ("probe", {**VERSION, "input": [1.0], "timeout_s": 61}, "timeout_s is 61; expected 1 to 60 seconds"),
        ("probe", {**VERSION, "input": [1.0], "uid": 1}, "Type mismatch! JSON key uid expected type Stringbut"),
        ("probe", {**VERSION, "input": [1.0], "timeout_s": "1"}, "Type mismatch! JSON key timeout_s expected"),
    ],
)
def test_a_bad_request_to_our_own_calls_is_refused_in_json(
    admin: AdminServer, path: str, body: dict[str, Any], cause: str
) -> None:
    answer = admin.post(f"/admin/v1/{path}", body)

    assert answer.status_code == 400
    assert answer.json()["cause"].startswith(cause)


def test_of_a_version_that_was_registered_anew_the_old_one_is_not_probed(admin: AdminServer) -> None:
    uid = admin.post("/admin/v1/versions", {**V1_VERSION, "staged": True}).json()["uid"]
    admin.post("/admin/v1/versions", V1_VERSION)

    answer = admin.post("/admin/v1/probe", {**VERSION, "uid": uid, "input": [1.0]})

    assert (answer.status_code, answer.json()["error"]) == (409, "Refused")
    assert "registered anew" in answer.json()["cause"]


def test_a_version_is_in_the_catalog_with_all_that_was_said_of_it(admin: AdminServer) -> None:
    said = {
        **V1_VERSION,
        "container_name": "image:1",
        "labels": ["x"],
        "batch_size": 7,
        "replicas": 2,
        "retry": False,
        "sample": "[1.5]",
        "legacy": True,
        "staged": True,
    }
    uid = admin.post("/admin/v1/versions", said).json()["uid"]

    [version] = admin.get("/admin/v1/catalog").json()["versions"]

    renamed = {"model_name": "name", "model_version": "version", "container_name": "image"}
    assert version == {renamed.get(key, key): value for key, value in said.items()} | {"uid": uid, "public_key": ""}


def test_a_store_without_conflict_has_nothing_to_restore(admin: AdminServer) -> None:
    answer = admin.post("/admin/v1/store/restore")

    assert (answer.status_code, answer.json()["error"]) == (409, "Nothing to restore")


# --- HTTP, and who may call ---


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": ""}])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/admin/add_app"),
        ("POST", "/admin/get_all_models"),
        ("GET", "/admin/v1/catalog"),
        ("GET", "/admin/v1/health"),
        ("POST", "/admin/ping"),
        ("GET", "/nothing/here"),
    ],
)
def test_no_call_is_answered_without_the_token(admin: AdminServer, header: dict[str, str], method: str, path: str) -> None:
    status, said = raw(admin, method, path, headers={"Content-Type": "application/json", **header})

    assert (status, said["error"]) == (401, "Unauthorized")


@pytest.mark.parametrize(("path", "text"), [("/admin/ping", "PONG"), ("/health", '{"status": "ok"}')])
def test_ping_and_health_want_no_token(admin: AdminServer, path: str, text: str) -> None:
    connection = http.client.HTTPConnection(admin.address, timeout=10)
    try:
        connection.request("GET", path)
        assert connection.getresponse().read().decode() == text
    finally:
        connection.close()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:1338", "127.0.0.1.evil.example", "", "localhost@evil"])
def test_a_name_that_a_web_page_could_have_made_is_no_host_of_local_mode(admin: AdminServer, host: str) -> None:
    status, said = raw(admin, "GET", "/admin/ping", headers={"Host": host})

    assert (status, said["error"]) == (403, "Forbidden")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:7", "127.8.8.8", "[::1]", "[::1]:99"])
def test_loopback_names_are_hosts_of_local_mode(admin: AdminServer, host: str) -> None:
    authorized = {"Host": host, "Authorization": f"Bearer {TOKEN}"}

    assert raw(admin, "GET", "/admin/v1/frontends", headers=authorized)[0] == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_a_body_that_is_not_declared_as_json_is_refused(admin: AdminServer, kind: str) -> None:
    answer = admin.post("/admin/add_app", json.dumps(APP).encode(), headers={"Content-Type": kind})

    assert (answer.status_code, answer.json()["error"]) == (415, "Unsupported Media Type")


@pytest.mark.parametrize(
    ("method", "path", "status", "cause"),
    [
        ("POST", "/admin/no_such_call", 404, "/admin/no_such_call is no path of the admin service"),
        ("GET", "/", 404, "/ is no path of the admin service"),
        ("GET", "/admin/add_app", 405, "/admin/add_app does not take GET; it takes POST"),
        ("DELETE", "/admin/v1/catalog", 405, "/admin/v1/catalog does not take DELETE; it takes GET"),
        ("PUT", "/admin/add_app", 405, "/admin/add_app does not take PUT; it takes POST"),
    ],
)
def test_an_unknown_path_or_method_is_said_to_be_so(
    admin: AdminServer, method: str, path: str, status: int, cause: str
) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}

    for body in (b"", b"{}"):
        found, said = raw(admin, method, path, headers=headers, body=body)

        assert (found, said["cause"]) == (status, cause)


def test_a_body_that_is_not_as_its_encoding_says_is_refused(admin: AdminServer) -> None:
    not_gzip = {"Content-Encoding": "gzip"}
    clippers = admin.post("/admin/get_all_models", b'{"verbose": true}', headers=not_gzip)
    ours = admin.post("/admin/v1/versions", b"{}", headers=not_gzip)

    cause = "the body is not encoded as its headers say"
    assert (clippers.status_code, clippers.text.partition(". ")[0]) == (400, f"Error parsing JSON: {cause}")
    assert (ours.status_code, ours.json()) == (400, {"error": "Bad request", "cause": cause})


def test_a_huge_body_is_refused_before_it_is_read_whole(admin: AdminServer) -> None:
    connection = http.client.HTTPConnection(admin.address, timeout=20)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    try:
        connection.request("POST", "/admin/add_app", b" " * (16 * 1024 * 1024 + 1), headers)
        answer = connection.getresponse()
        said = json.loads(answer.read())
    finally:
        connection.close()

    assert (answer.status, said["cause"]) == (413, "the body is larger than 16777216 bytes")


def raw(
    admin: AdminServer, method: str, path: str, *, headers: dict[str, str], body: bytes = b""
) -> tuple[int, dict[str, str]]:
    """Send exactly these headers, and return status and JSON."""
    connection = http.client.HTTPConnection(admin.address, timeout=10)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
