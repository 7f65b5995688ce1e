"""The OpenAPI document of a query frontend, served at /openapi.json: every call, and each app that is registered. Pure.

Each row names a call, what it takes and what it answers; tests compare the rows with the routes that are there, and the
answers of a real frontend with their schemas. Paths are relative to where the document was found: behind a load balancer
that strips a prefix they stay right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from clipper_nomad.protocol.datatypes import InputType
from clipper_nomad.state.records import App, ModelVersion, Snapshot
from clipper_nomad_frontend.openapi_schemas import INPUTS, OBJECT, SCHEMAS, TEXT, Schema, predict_request, ref
from clipper_nomad_frontend.v2_tensors import TAKEN, TEXTS

Json = dict[str, Any]

PLAIN, JSON, HTML, BINARY = "text/plain", "application/json", "text/html", "application/octet-stream"
APPLICATIONS = "x-applications"  # what of the catalog the page at /docs shows
USUAL_LENGTH = 3  # of an example's vector, where nobody gave a sample
_EXAMPLE_TEXT = "a text"
_EXAMPLE_BASE64 = "YSB0ZXh0"
_LONGEST_EXAMPLE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call. `takes` and `answers` are schemas; `also` are other media types of the answer. `is_v2`: its errors too."""

    path: str
    summary: str
    method: str = "get"
    takes: Schema | None = None
    answers: Schema | None = None
    also: tuple[str, ...] = ()
    is_v2: bool = False


def _v2(path: str, summary: str, answers: str) -> Call:
    return Call(path=f"/v2{path}", summary=summary, answers=ref(answers), is_v2=True)


def _infer(path: str, summary: str) -> Call:
    answers = ref("V2InferResponse")
    takes = ref("V2InferRequest")
    return Call(path=path, summary=summary, method="post", takes=takes, answers=answers, also=(BINARY,), is_v2=True)


CALLS: tuple[Call, ...] = (
    Call(
        path="/{app}/predict",
        summary="Ask an application for predictions",
        method="post",
        takes=ref("PredictRequest"),
        answers=ref("Answer"),
    ),
    Call(
        path="/{app}/update",
        summary="Say what is right for an input: feedback",
        method="post",
        takes=ref("UpdateRequest"),
        also=(PLAIN,),
    ),
    _v2("", "What this server is", "V2Server"),
    _v2("/health/live", "Whether it runs", "V2Live"),
    _v2("/health/ready", "Whether it takes queries", "V2Ready"),
    _v2("/models", "The applications", "V2Models"),
    _v2("/models/{model}", "What an application takes", "V2Model"),
    _v2("/models/{model}/versions/{version}", "The same, if the version is registered", "V2Model"),
    _v2("/models/{model}/ready", "Whether a replica of the current version is connected", "V2ModelReady"),
    _v2("/models/{model}/versions/{version}/ready", "Whether a replica of that version is", "V2ModelReady"),
    _infer("/v2/models/{model}/infer", "Ask an application for predictions, in tensors"),
    _infer("/v2/models/{model}/versions/{version}/infer", "Ask one version, in tensors"),
    Call(path="/health", summary="The state of this frontend", answers=ref("Health")),
    Call(path="/health/ready", summary="Whether it takes queries", answers=ref("Ready")),
    Call(path="/metrics", summary="Metrics: Clipper's, or Prometheus' text", answers=ref("ClipperMetrics"), also=(PLAIN,)),
    Call(path="/docs", summary="A page to try applications on", also=(HTML,)),
    Call(path="/{app}/docs", summary="The same page, at one application", also=(HTML,)),
    Call(path="/openapi.json", summary="This document", answers=OBJECT),
)


def document(snapshot: Snapshot | None, toolkit: str) -> Json:
    """Return the OpenAPI 3.1 document of what is served. `toolkit`: this release."""
    applications = [] if snapshot is None else [application(app, snapshot) for _, app in sorted(snapshot.apps.items())]
    paths: Json = {}
    for call in CALLS:
        paths.setdefault(call.path, {})[call.method] = _operation(call)
    for each in applications:
        paths |= _paths_of(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "clipper-nomad query frontend",
            "version": toolkit,
            "summary": "Predictions, by Clipper's REST API and by the Open Inference Protocol V2",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {"schemas": SCHEMAS},
        APPLICATIONS: applications,
    }


def application(app: App, snapshot: Snapshot) -> Json:
    """Return what a client may know of an app, as component Application. Of a deployer's sample only the length is told."""
    model = app.linked_models[0] if app.linked_models else None
    versions = [] if model is None else snapshot.versions_of(model)
    versions = [each for each in versions if not each.staged and each.kind is app.kind]
    current = None if model is None else snapshot.current_version(model)
    current = current if current in versions else None
    return {
        "name": app.name,
        "input_type": app.kind.word,
        "model": model,
        "version": None if current is None else current.version,
        "versions": [each.version for each in versions],
        "slo_micros": app.slo_micros,
        "slo_policy": app.slo_policy,
        "timeout_micros": app.effective_timeout_micros,
        "default_output": app.default_output,
        "example": _example(app.kind, current),
    }


def _example(kind: InputType, version: ModelVersion | None) -> str | list[float]:
    if kind is InputType.STRINGS:
        return _EXAMPLE_TEXT
    if kind is InputType.BYTES:
        return _EXAMPLE_BASE64
    length = _sample_length(version)
    return (
        [index + 1 for index in range(length)]
        if kind is InputType.INTEGERS
        else [(index % 9 + 1) / 10 for index in range(length)]
    )


def _sample_length(version: ModelVersion | None) -> int:
    try:
        sample = json.loads(version.sample) if version is not None and version.sample else None
    except ValueError:
        sample = None
    return min(len(sample), _LONGEST_EXAMPLE) if isinstance(sample, list) and sample else USUAL_LENGTH


def _paths_of(each: Json) -> Json:
    """Return the operations of one app: they are those of the templates, with its own types and an example."""
    name, example = each["name"], each["example"]
    kind = InputType[each["input_type"].upper()]
    predict = Call(
        path=f"/{name}/predict",
        summary=f"Ask '{name}' for predictions",
        method="post",
        takes={**predict_request(INPUTS[kind]), "examples": [{"input": example}]},
        answers=ref("Answer"),
    )
    infer = _infer(f"/v2/models/{name}/infer", f"Ask '{name}' for predictions, in tensors")
    tensor: Json = {"name": "input", "datatype": TAKEN[kind][0]}
    tensor |= {"shape": [1], "data": [example]} if TAKEN[kind][0] == TEXTS else {"shape": [1, len(example)], "data": example}
    in_tensors = _operation(infer)
    in_tensors["requestBody"]["content"][JSON]["example"] = {"inputs": [tensor]}
    return {
        predict.path: {"post": {**_operation(predict), "tags": [name]}},
        infer.path: {"post": {**in_tensors, "tags": [name]}},
    }


def _operation(call: Call) -> Json:
    operation: Json = {"operationId": f"{call.method} {call.path}", "summary": call.summary}
    in_path = re.findall(r"{(\w+)}", call.path)
    if in_path:
        operation["parameters"] = [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in in_path]
    if call.takes is not None:
        body: Json = {JSON: {"schema": call.takes}}
        operation["requestBody"] = {"required": True, "content": body | ({BINARY: {}} if BINARY in call.also else {})}
    content: Json = {} if call.answers is None else {JSON: {"schema": call.answers}}
    content |= {kind: {} if kind == BINARY else {"schema": TEXT} for kind in call.also}
    operation["responses"] = {"200": {"description": "done", "content": content}, **_errors(call)}
    return operation


def _errors(call: Call) -> Json:
    error = {JSON: {"schema": ref("V2Error" if call.is_v2 else "Error")}}
    found: Json = {"default": {"description": "any other error", "content": error}}
    for status, what in _statuses(call):
        found[str(status)] = {"description": what, "content": error}
    if call.path == "/{app}/update":
        found["400"] = {"description": "refused, and why", "content": {PLAIN: {"schema": TEXT}}}
    return found


def _statuses(call: Call) -> Iterable[tuple[int, str]]:
    if "{" in call.path:
        yield 404, "no such application or version"
    if call.path.endswith("ready"):
        yield 503, "not ready, and why"
    if call.path.endswith(("/predict", "/infer")):
        yield 400, "not of the application's input type, or no such version"
        yield 422, "the input ended the replicas that worked on it"
        yield 429, "too much waits; Retry-After says when to come again"
        yield 500, "the model raised, or returned what is no output"
        yield 503, "no replica"
        yield 504, "no output within the timeout, or the SLO"
