"""Compares requests and answers of a real admin service with its OpenAPI document."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import requests
from openapi_schema_validator import OAS31Validator

from clipper_nomad.admin.openapi import BYTES, document

Json = Any  # a document, a body


@cache
def admin_document() -> Json:
    """The document, as the service has it."""
    return document("of the tests")


def check_answer(answer: requests.Response) -> None:
    """Fail unless the document foresees this answer; a request that was granted must be one that it describes."""
    path = answer.request.path_url.partition("?")[0]
    operation = _described(path).get(str(answer.request.method).lower())
    if operation is None:
        assert answer.status_code in (401, 404, 405), f"{answer.request.method} {path} is in no document"
        return
    foreseen = operation["responses"].get(str(answer.status_code)) or operation["responses"]["default"]
    kind = answer.headers["Content-Type"].partition(";")[0]
    assert kind in foreseen["content"], f"{path} answered {answer.status_code} as {kind}"
    if kind == BYTES:
        return
    value = answer.json() if kind == "application/json" else answer.text
    problems = problems_of(value, foreseen["content"][kind]["schema"])
    assert not problems, f"{path} answered {answer.status_code} {answer.text}: {problems}"
    takes = operation.get("requestBody", {}).get("content", {})
    if answer.ok and takes and BYTES not in takes:
        taken = problems_of(json.loads(answer.request.body or b""), takes["application/json"]["schema"])
        assert not taken, f"{path} took {answer.request.body!r}: {taken}"


def _described(path: str) -> Json:
    """Return what the document has for a path, also below one with a parameter."""
    paths = admin_document()["paths"]
    return paths.get(path) or paths.get(f"{path.rpartition('/')[0]}/{{digest}}", {})


def problems_of(value: Json, schema: Json) -> list[str]:
    """Return what of `value` does not fit `schema`, which may refer to the document's components."""
    whole = {**schema, "components": admin_document()["components"]}
    return [problem.message for problem in OAS31Validator(whole).iter_errors(value)]
