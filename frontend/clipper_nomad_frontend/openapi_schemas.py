"""JSON Schemas of what a query frontend takes and answers: the components of its OpenAPI document. Pure.

Tests check every answer of a real frontend against them. Words: docs/behaviour.md, "Answers" and "V2".
"""

from __future__ import annotations

from typing import Any

from clipper_nomad.protocol.datatypes import InputType
from clipper_nomad_frontend.v2_tensors import NUMBERS, TEXTS

Schema = dict[str, Any]  # Any: a JSON Schema

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
BOOL: Schema = {"type": "boolean"}
ANYTHING: Schema = {}
OBJECT: Schema = {"type": "object"}
DATATYPE: Schema = {"type": "string", "enum": [*NUMBERS, "BOOL", TEXTS]}
PARAMETERS: Schema = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
DATA: Schema = {"type": "array", "description": "the elements, in one list or row by row"}

INPUTS: dict[InputType, Schema] = {
    InputType.DOUBLES: {"type": "array", "items": {"type": "number"}},
    InputType.FLOATS: {"type": "array", "items": {"type": "number"}},
    InputType.INTEGERS: {"type": "array", "items": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}},
    InputType.STRINGS: TEXT,
    InputType.BYTES: {"type": "string", "contentEncoding": "base64"},
}


def ref(name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def listed(item: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": item}


def nullable(schema: Schema) -> Schema:
    """Return a schema that null fits too: whoever sends it says nothing."""
    return {"anyOf": [schema, {"type": "null"}]}


def exactly(*optional: str, **properties: Schema) -> Schema:
    """Return the schema of an object of an answer: these keys and no other; all but the `optional` ones must be there."""
    return {**taking(*optional, **properties), "additionalProperties": False}


def taking(*optional: str, **properties: Schema) -> Schema:
    """Return the schema of a request's body: all of these but the `optional` ones are required, others are ignored."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


def predict_request(item: Schema) -> Schema:
    """Return what an app with such inputs takes. Beside `input`, `input_batch` does not count, whatever it is."""
    body = taking("input", "version", input=item, version=TEXT)
    return {**body, "anyOf": [{"required": ["input"]}, taking(input_batch=listed(item))]}


_PREDICTION = {"query_id": INTEGER, "output": ANYTHING, "default": BOOL, "default_explanation": TEXT, "late": BOOL}
_OPTIONAL = ("default_explanation", "late")

SCHEMAS: dict[str, Schema] = {
    "Input": {"anyOf": list(INPUTS.values())},
    "PredictRequest": predict_request(ref("Input")),
    "Prediction": exactly(*_OPTIONAL, **_PREDICTION),
    "FailedInput": exactly(query_id=INTEGER, error=TEXT, cause=TEXT, status=INTEGER),
    "Predictions": exactly(batch_predictions=listed({"anyOf": [ref("Prediction"), ref("FailedInput")]})),
    "Answer": {"anyOf": [ref("Prediction"), ref("Predictions")]},
    "Error": exactly("batch_predictions", error=TEXT, cause=TEXT, batch_predictions=listed(ref("FailedInput"))),
    "UpdateRequest": taking(uid=INTEGER, input=ref("Input"), label={"type": "number"}),
    "Health": exactly(
        status={"enum": ["ok", "draining"]},
        revision={"type": ["integer", "null"]},
        catalog_conflict={"type": ["string", "null"]},
    ),
    "Ready": exactly(status={"const": "ready"}),
    "ClipperMetrics": exactly(
        **{name: listed(OBJECT) for name in ("counters", "ratio_counters", "meters", "histograms")},
    ),
    "V2Error": exactly(error=TEXT),
    "V2Live": exactly(live={"const": True}),
    "V2Ready": exactly(ready={"const": True}),
    "V2Server": exactly(name=TEXT, version=TEXT, extensions=listed(TEXT)),
    "V2Models": exactly(models=listed(TEXT)),
    "V2Model": exactly(
        name=TEXT,
        versions=listed(TEXT),
        platform=TEXT,
        inputs=listed(ref("V2TensorForm")),
        outputs=listed(ref("V2TensorForm")),
    ),
    "V2ModelReady": exactly(name=TEXT, ready={"const": True}),
    "V2TensorForm": exactly(name=TEXT, datatype=DATATYPE, shape=listed(INTEGER)),
    "V2InferRequest": taking(
        "id",
        "parameters",
        "outputs",
        id=nullable(TEXT),
        parameters=nullable(OBJECT),
        inputs={**listed(ref("V2Input")), "minItems": 1, "maxItems": 1},
        outputs=nullable(listed(taking("parameters", name={"const": "output"}, parameters=nullable(OBJECT)))),
    ),
    "V2Input": taking(
        "parameters",
        "data",
        name=TEXT,
        shape={**listed({"type": "integer", "minimum": 0}), "minItems": 1, "maxItems": 2},
        datatype=DATATYPE,
        parameters=nullable(OBJECT),
        data=nullable(DATA),
    ),
    "V2InferResponse": exactly(
        "model_version",
        "parameters",
        model_name=TEXT,
        model_version=TEXT,
        id=TEXT,
        parameters=PARAMETERS,
        outputs=listed(ref("V2Output")),
    ),
    "V2Output": exactly(
        "parameters",
        "data",
        name={"const": "output"},
        datatype={"enum": ["BOOL", "INT64", "FP64", TEXTS]},
        shape=listed(INTEGER),
        parameters=PARAMETERS,
        data=DATA,
    ),
    "Application": exactly(
        name=TEXT,
        input_type={"enum": [kind.word for kind in InputType]},
        model={"type": ["string", "null"]},
        version={"type": ["string", "null"]},
        versions=listed(TEXT),
        slo_micros=INTEGER,
        slo_policy={"enum": ["late", "default", "error"]},
        timeout_micros=INTEGER,
        default_output=TEXT,
        example=ANYTHING,
    ),
}
