"""The OpenAPI document of the admin service: Clipper's calls and ours, served at /admin/v1/openapi.json. Pure.

Each row names a call, what it takes and what it answers; tests compare the rows with the routes that are there, and every
answer of a real service with its schema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from clipper_nomad.admin.openapi_schemas import ANSWERS, DIGEST_TEXT, REQUESTS, SIZE, TEXT, Schema, listed, ref
from clipper_nomad.protocol.bundle_store import FETCH_PATH, STORE_PATH
from clipper_nomad.state.feedback import MOST_KEPT

Json = dict[str, Any]

PLAIN = "text/plain"
JSON = "application/json"
BYTES = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call: `takes` names a schema of REQUESTS, or is BYTES; `answers` is a schema, BYTES, or None for plain text.

    `is_clippers`: its errors are texts.
    """

    path: str
    summary: str
    method: str = "post"
    takes: str | None = None
    answers: Schema | str | None = None
    is_clippers: bool = False
    is_open: bool = False  # no token is wanted
    may_conflict: bool = False  # 409
    asks: tuple[tuple[str, Schema], ...] = ()  # parameters of the query string that may be left out
    needs: tuple[tuple[str, Schema], ...] = ()  # those that may not


def _clipper(name: str, takes: str, summary: str, answers: Schema | None = None) -> Call:
    return Call(path=f"/admin/{name}", summary=summary, takes=takes, answers=answers, is_clippers=True)


def _ours(path: str, summary: str, answers: str, *, takes: str | None = None, may_conflict: bool = False) -> Call:
    method = "get" if path in _READ_BY_GET else "post"
    return Call(
        path=f"/admin/v1/{path}",
        summary=summary,
        method=method,
        takes=takes,
        answers=ref(answers),
        may_conflict=may_conflict,
    )


def _one_or_nothing(name: str) -> Schema:
    return {"anyOf": [ref(name), ref("Nothing")]}


def _names_or(name: str) -> Schema:
    return {"anyOf": [listed(TEXT), listed(ref(name))]}


_READ_BY_GET = frozenset({"health", "catalog", "frontends"})
_ONE_BUNDLE = f"{STORE_PATH}/{{digest}}"
_IN_PATH = {"digest": DIGEST_TEXT}

CALLS: tuple[Call, ...] = (
    Call(path="/admin/ping", summary="Answer PONG", method="get", is_open=True, is_clippers=True),
    _clipper("add_app", "AddApp", "Register an application"),
    _clipper("delete_app", "AppName", "Delete an application, and its links with it"),
    _clipper("add_model", "AddModel", "Register a model version, which becomes current"),
    _clipper("delete_versioned_model", "WhichVersion", "Delete a model version"),
    _clipper("set_model_version", "WhichVersion", "Make a registered version current"),
    _clipper("add_model_links", "Link", "Link one model to an application"),
    _clipper("delete_model_links", "Link", "End links of an application"),
    _clipper("get_all_applications", "Verbose", "List the applications", _names_or("App")),
    _clipper("get_application", "AppName", "Show an application; {} if there is none", _one_or_nothing("App")),
    _clipper("get_linked_models", "AppOfLinks", "List the models that an application is linked to", listed(TEXT)),
    _clipper("get_all_models", "Verbose", "List the model versions", _names_or("Version")),
    _clipper("get_model", "WhichVersion", "Show a model version; {} if there is none", _one_or_nothing("Version")),
    _clipper("get_all_containers", "Verbose", "List the replicas that are connected", _names_or("Replica")),
    _clipper("get_container", "WhichReplica", "Show a replica; {} if there is none", _one_or_nothing("Replica")),
    _clipper("get_state", "UserOfApp", "Show what an application answers without a model: its default output"),
    Call(path="/health", summary="Whether the store was reached", method="get", answers=ref("Health"), is_open=True),
    _ours("health", "The state of store, catalog and query frontends", "Health"),
    _ours("catalog", "The whole catalog, staged versions too", "Catalog"),
    _ours("frontends", "What each query frontend says of itself", "Frontends"),
    Call(
        path="/admin/v1/feedback",
        summary="The newest feedback on predictions first, of one application or of all",
        method="get",
        answers=ref("AllFeedback"),
        asks=(("app", TEXT), ("most", {"type": "integer", "minimum": 1, "maximum": MOST_KEPT})),
    ),
    _ours("apps", "Register an application, with policy and timeout", "Result", takes="AddOurApp"),
    _ours("versions", "Register a model version, staged or current", "Registered", takes="AddVersion"),
    _ours("versions/activate", "Make a version current", "Result", takes="WhichRegistration", may_conflict=True),
    _ours("versions/delete", "Delete a version, staged or not", "Result", takes="DeleteVersion", may_conflict=True),
    Call(path=STORE_PATH, summary="What bundles are taken and run with", method="get", answers=ref("BundleSettings")),
    Call(path=_ONE_BUNDLE, summary="How much of a bundle is here", method="get", answers=ref("BundleState")),
    Call(
        path=_ONE_BUNDLE,
        summary="Append the next piece of a bundle",
        method="put",
        takes=BYTES,
        answers=ref("BundleState"),
        needs=(("offset", SIZE), ("size", SIZE)),
        may_conflict=True,
    ),
    Call(
        path=_ONE_BUNDLE,
        summary="Remove a bundle that no version runs from",
        method="delete",
        answers=ref("Nothing"),
        may_conflict=True,
    ),
    Call(
        path=f"{FETCH_PATH}/{{digest}}",
        summary="A bundle's archive, for a replica; the token is the bundle's own",
        method="get",
        answers=BYTES,
    ),
    _ours("probe", "Send one input through every query frontend", "Probes", takes="Probe", may_conflict=True),
    _ours("store/accept", "Let every query frontend serve what the store holds", "Accepted"),
    _ours("store/restore", "Write the newest served catalog back into the store", "Restored", may_conflict=True),
)
DOCUMENT_PATH = "/admin/v1/openapi.json"


def document(toolkit: str) -> Json:
    """Return the OpenAPI 3.1 document. `toolkit`: this release."""
    paths: Json = {}
    for call in CALLS:
        paths.setdefault(call.path, {})[call.method] = _operation(call)
    paths[DOCUMENT_PATH] = {"get": _operation(Call(path=DOCUMENT_PATH, summary="This document", answers={"type": "object"}))}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "clipper-nomad admin",
            "version": toolkit,
            "summary": "Clipper's management REST API below /admin/, and ours below /admin/v1/",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": {**REQUESTS, **ANSWERS},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(call: Call) -> Json:
    operation: Json = {"operationId": f"{call.method} {call.path}", "summary": call.summary}
    if call.is_open:
        operation["security"] = []
    if parameters := _parameters(call):
        operation["parameters"] = parameters
    if call.takes is not None:
        body = {BYTES: {}} if call.takes == BYTES else {JSON: {"schema": ref(call.takes)}}
        operation["requestBody"] = {"required": True, "content": body}
    operation["responses"] = {"200": {"description": "done", "content": _content(call.answers)}} | _errors(call)
    return operation


def _parameters(call: Call) -> list[Json]:
    in_path = [(name, _IN_PATH[name]) for name in re.findall(r"{(\w+)}", call.path)]
    found: list[Json] = [{"name": name, "in": "path", "required": True, "schema": schema} for name, schema in in_path]
    found += [{"name": name, "in": "query", "required": True, "schema": schema} for name, schema in call.needs]
    found += [{"name": name, "in": "query", "schema": schema} for name, schema in call.asks]
    return found


def _content(answers: Schema | str | None) -> Json:
    if answers is None:
        return {PLAIN: {"schema": TEXT}}
    return {BYTES: {}} if isinstance(answers, str) else {JSON: {"schema": answers}}


def _errors(call: Call) -> Json:
    """Return what may be answered instead: every error is JSON, but a 400 of Clipper's calls is a text."""
    error = {JSON: {"schema": ref("Error")}}
    refused = {PLAIN: {"schema": TEXT}} if call.is_clippers else error
    found: Json = {"503": {"description": "the store is away, or in conflict with what is served", "content": error}}
    if not call.is_open:
        found["401"] = {"description": "no token", "content": error}
    if call.takes is not None or call.asks or "{" in call.path:
        found["400"] = {"description": "refused, and why", "content": refused}
    if call.takes not in (None, BYTES):
        found["415"] = {"description": "the body is not declared as JSON", "content": error}
    if call.may_conflict:
        found["409"] = {"description": "it is not what was meant any more", "content": error}
    found["default"] = {"description": "any other error", "content": error}
    return found
