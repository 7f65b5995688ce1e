"""Compares the answers of a real query frontend with its OpenAPI document."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from openapi_schema_validator import OAS31Validator

from clipper_nomad_frontend.openapi import JSON, document
from tests.process.http_clients import Reply

Json = Any  # a document, a body


@cache
def query_document() -> Json:
    """The document of a frontend without apps."""
    return document(None, "of the tests")


def problems_of(value: Json, schema: Json) -> list[str]:
    """Return what of `value` does not fit `schema`, which may refer to the document's components."""
    whole = {**schema, "components": query_document()["components"]}
    return [problem.message for problem in OAS31Validator(whole).iter_errors(value)]


def described(path: str) -> tuple[str, Json]:
    """Return the path of the document that a request's path is one of, and its operations."""
    path = path.partition("?")[0].removeprefix("/clipper").removesuffix("/") or "/"
    for template, operations in query_document()["paths"].items():
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path):
            return template, operations
    return "", {}


def check(method: str, path: str, reply: Reply, body: bytes | None = None) -> None:
    """Fail unless the document foresees this reply; a request that was granted must be one that it describes."""
    template, operations = described(path)
    operation = operations.get(method.lower())
    if operation is None:
        assert reply.status in (404, 405), f"{method} {path} is in no document and answered {reply.status}"
        return
    foreseen = operation["responses"].get(str(reply.status)) or operation["responses"]["default"]
    kind = (reply.header("Content-Type") or "").partition(";")[0]
    assert kind in foreseen["content"], f"{method} {template} answered {reply.status} as {kind}"
    if kind == JSON:
        problems = problems_of(reply.json, foreseen["content"][kind]["schema"])
        assert not problems, f"{template} answered {reply.status} {reply.body!r}: {problems}"
    takes = operation.get("requestBody", {}).get("content", {})
    if reply.status == 200 and takes and body is not None and reply.header("Inference-Header-Content-Length") is None:
        taken = problems_of(json.loads(body), takes[JSON]["schema"])
        assert not taken, f"{template} took {body!r}: {taken}"
