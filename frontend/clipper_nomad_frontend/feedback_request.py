"""The body of POST /<app>/update → feedback: who says it, on which input, and what the label is. Pure.

Read as predict_request.py reads a prediction's, and told what is wrong in the same words.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec

from clipper_nomad.protocol.datatypes import InputType
from clipper_nomad_frontend.predict_request import (
    INPUTS,
    LARGEST_EXPLAINED,
    MALFORMED,
    NO_OBJECT,
    NotBase64,
    RequestError,
    explain_input,
    mismatch,
    packer,
)

SCHEMA = '{\n   "uid" := int, "input" := [double] | [int] | [string] | [byte] | [float], "label" := double,\n  }\n'
LARGEST_INPUT = 4096  # bytes of JSON; of a longer one the digest alone is kept

Item = TypeVar("Item")


class _Body(msgspec.Struct, Generic[Item], gc=False):
    uid: int
    input: Item
    label: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRequest:
    """What somebody (`uid`) says of an input: its `label`. `input`: JSON text, "" if it is too long to be kept."""

    uid: int
    label: float
    input: str
    input_sha256: str


def read_feedback(kind: InputType, body: bytes) -> FeedbackRequest:
    """Return the feedback in `body`, for an app of this input type. Raises: RequestError."""
    try:
        decoded = _decoder(kind).decode(body)
        packed, _ = packer(kind)(decoded.input)
    except (msgspec.ValidationError, OverflowError, struct.error) as exc:
        raise RequestError(_reason(body, kind, str(exc)), SCHEMA) from exc
    except MALFORMED as exc:
        raise RequestError(f"JSON parse error: {exc}", SCHEMA) from exc
    except NotBase64 as exc:
        raise RequestError(str(exc), SCHEMA) from exc
    text = msgspec.json.encode(decoded.input).decode() if len(packed) <= LARGEST_INPUT else ""
    return FeedbackRequest(
        uid=decoded.uid,
        label=decoded.label,
        input=text if len(text.encode()) <= LARGEST_INPUT else "",
        input_sha256=hashlib.sha256(packed).hexdigest(),
    )


@cache
def _decoder(kind: InputType) -> Any:  # noqa: ANN401  # parametrised generics have no common static type
    item: Any = INPUTS[kind]
    return msgspec.json.Decoder(_Body[item])


def _reason(body: bytes, kind: InputType, reason: str) -> str:
    if len(body) > LARGEST_EXPLAINED:
        return reason
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return f"JSON parse error: {reason}"
    if not isinstance(value, dict):
        return NO_OBJECT
    for key in ("uid", "input", "label"):
        if key not in value:
            return f"JSON object does not have required key: {key}"
    for key in ("uid", "label"):
        if isinstance(value[key], bool) or not isinstance(value[key], int | float):
            return mismatch(key, "Number", value[key])
    return explain_input(value["input"], kind) or reason
