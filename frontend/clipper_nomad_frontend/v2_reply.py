"""The answers of the queries of one V2 request → its reply: one tensor, or one error. Pure.

Status, defaults and lateness are those of answers.py; V2 has no place for the error of one input of several, so one that
failed fails the request. Source: docs/behaviour.md, "V2".
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from clipper_nomad_frontend.answers import MISSED_SLO_HEADER, Answer, headers_of
from clipper_nomad_frontend.v2_request import OUTPUT, V2Request
from clipper_nomad_frontend.v2_tensors import tensor_of

JSON_SIZE_HEADER = "Inference-Header-Content-Length"
JSON, BINARY = "application/json", "application/octet-stream"
_encode = msgspec.json.Encoder().encode
_COMPUTED_BY = ("X-Clipper-Model", "X-Clipper-Replica")


class _Prediction(msgspec.Struct):
    output: msgspec.Raw
    default: bool
    late: bool = False
    default_explanation: str = ""


class _Error(msgspec.Struct):
    error: str
    cause: str


_decode_prediction = msgspec.json.Decoder(_Prediction).decode
_decode_error = msgspec.json.Decoder(_Error).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class V2Reply:
    """A reply, ready to be sent."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


def v2_error(status: int, text: str, headers: dict[str, str] | None = None) -> V2Reply:
    """Return an error in V2's form."""
    return V2Reply(status=status, body=_encode({"error": text}), headers=headers or {})


def v2_reply(app: str, request: V2Request, request_id: str, parts: list[Answer]) -> V2Reply:
    """Return the reply to `request`, from the answers of its inputs in their order."""
    failed = [(index, answer) for index, answer in enumerate(parts) if answer.status != 200]
    if failed:
        return _failed(failed, len(parts))
    predictions = [_decode_prediction(answer.body) for answer in parts]
    headers = _headers(parts)
    tensor = tensor_of([bytes(each.output) for each in predictions])
    tensor_parameters: dict[str, int | str] = {"content_type": "json"} if tensor.is_json else {}
    output: dict[str, object] = {"name": OUTPUT, "datatype": tensor.datatype, "shape": tensor.shape}
    binary = b""
    if request.is_binary:
        binary = tensor.as_bytes()
        tensor_parameters["binary_data_size"] = len(binary)
    else:
        output["data"] = msgspec.Raw(tensor.as_json())
    if tensor_parameters:
        output["parameters"] = tensor_parameters
    _, _, version = headers.get("X-Clipper-Model", "").rpartition(":")
    parameters = _parameters(predictions)
    reply: dict[str, object] = {
        "model_name": app,
        **({"model_version": version} if version else {}),
        "id": request.id or request_id,
        **({"parameters": parameters} if parameters else {}),
        "outputs": [output],
    }
    body = _encode(reply)
    if not request.is_binary:
        return V2Reply(status=200, body=body, headers=headers)
    headers[JSON_SIZE_HEADER] = str(len(body))
    return V2Reply(status=200, body=body + binary, content_type=BINARY, headers=headers)


def _failed(failed: list[tuple[int, Answer]], count: int) -> V2Reply:
    """Return the error with the highest status; it says which input, unless all failed alike."""
    index, answer = max(failed, key=lambda each: each[1].status)
    said = _decode_error(answer.body)
    is_common = len(failed) == count and all(other.body == answer.body for _, other in failed)
    where = "" if is_common else f"input {index} of {count}: "
    return v2_error(answer.status, f"{where}{said.error}: {said.cause}", headers_of(answer))


def _headers(parts: list[Answer]) -> dict[str, str]:
    """Return what the headers of all answers have in common, and that an SLO was missed, if one was."""
    all_headers = [headers_of(answer) for answer in parts]
    first = all_headers[0]
    shared = {
        name: first[name]
        for name in _COMPUTED_BY
        if name in first and all(headers.get(name) == first[name] for headers in all_headers)
    }
    missed = any(MISSED_SLO_HEADER in answer.headers for answer in parts)
    return shared | ({"X-Clipper-SLO": "missed"} if missed else {})


def _parameters(predictions: list[_Prediction]) -> dict[str, bool | str]:
    """Return what a client must know of the outputs: that some are no predictions, or late. Nothing, if there is nothing."""
    parameters: dict[str, bool | str] = {}
    defaults = [index for index, each in enumerate(predictions) if each.default]
    if defaults:
        parameters["default"] = True
        if len(defaults) < len(predictions):
            parameters["default_rows"] = ",".join(map(str, defaults))
        parameters["default_explanation"] = predictions[defaults[0]].default_explanation
    if any(each.late for each in predictions):
        parameters["late"] = True
    return parameters
