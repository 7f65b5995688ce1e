"""The Open Inference Protocol V2 over HTTP, on aiohttp: health, metadata, inference. `{model}` is an app; its link decides
which model answers, `/versions/{version}` pins one. What comes in and goes out: v2_request.py, v2_reply.py.
"""

from __future__ import annotations

import json

from aiohttp import web

from clipper_nomad.state.records import ModelVersion
from clipper_nomad_frontend.asking import ask
from clipper_nomad_frontend.endpoints import Endpoint
from clipper_nomad_frontend.frontend_facts import FACTS, Handler, request_id_of
from clipper_nomad_frontend.http_rules import usable_request_id
from clipper_nomad_frontend.serving import Serving
from clipper_nomad_frontend.v2_reply import JSON_SIZE_HEADER, V2Reply, v2_error, v2_reply
from clipper_nomad_frontend.v2_request import INPUT, read_v2
from clipper_nomad_frontend.v2_tensors import TAKEN, TEXTS, TensorError

SERVER_NAME = "clipper-nomad"
EXTENSIONS = ["binary_tensor_data"]
PLATFORM = "clipper-nomad"  # of every model: what is behind its replicas is nobody's business here
_ONE_MODEL = "/v2/models/{model}"
_ONE_VERSION = _ONE_MODEL + "/versions/{version}"


def add_v2(app: web.Application, prefix: str) -> None:
    """Add V2's routes below `prefix`."""
    router = app.router
    for path in ("/v2", "/v2/"):
        router.add_get(prefix + path, _server_metadata)
    router.add_get(prefix + "/v2/health/live", _live)
    router.add_get(prefix + "/v2/health/ready", _ready)
    router.add_get(prefix + "/v2/models", _models)
    for model in (_ONE_MODEL, _ONE_VERSION):
        router.add_get(prefix + model, _model_metadata)
        router.add_get(prefix + model + "/ready", _model_ready)
        router.add_post(prefix + model + "/infer", _infer)


@web.middleware
async def in_v2_s_form(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Write what others refuse below /v2 as V2 has it: an error is one text."""
    response = await handler(request)
    is_v2_s = "v2" in request.path.split("/")[1:3]  # at the root, or below the prefix
    if response.status >= 400 and is_v2_s and isinstance(response, web.Response):
        said = json.loads(response.text or "{}")
        if "cause" in said:
            response.text = json.dumps({"error": f"{said['error']}: {said['cause']}"})
    return response


def _sent(reply: V2Reply) -> web.Response:
    return web.Response(body=reply.body, status=reply.status, headers=reply.headers, content_type=reply.content_type)


async def _live(request: web.Request) -> web.Response:  # noqa: ARG001  # aiohttp's signature
    return web.json_response({"live": True})


async def _ready(request: web.Request) -> web.Response:
    cause = request.app[FACTS].not_ready_because
    return web.json_response({"ready": True}) if cause is None else _sent(v2_error(503, f"Not ready: {cause}"))


async def _server_metadata(request: web.Request) -> web.Response:
    return web.json_response({"name": SERVER_NAME, "version": request.app[FACTS].toolkit, "extensions": EXTENSIONS})


async def _models(request: web.Request) -> web.Response:
    return web.json_response({"models": sorted(request.app[FACTS].serving.endpoints)})


def _endpoint(request: web.Request) -> Endpoint | None:
    return request.app[FACTS].serving.endpoints.get(request.match_info["model"])


def _no_such_app(request: web.Request) -> web.Response:
    name = request.match_info["model"]
    return _sent(
        v2_error(404, f"Not Found: application '{name}' is not registered here; GET /v2/models lists those that are")
    )


def versions_of(serving: Serving, endpoint: Endpoint) -> list[ModelVersion]:
    """Return the versions that can be asked for by name: registered, and of the app's input type."""
    if endpoint.model is None or serving.snapshot is None:
        return []
    found = serving.snapshot.versions_of(endpoint.model)
    return [each for each in found if not each.staged and each.kind is endpoint.app.kind]


def _wanted(request: web.Request, endpoint: Endpoint) -> ModelVersion | web.Response:
    """Return the version that would answer, or what to say if there is none."""
    serving = request.app[FACTS].serving
    versions = versions_of(serving, endpoint)
    wanted = request.match_info.get("version")
    if wanted is not None:
        found = next((each for each in versions if each.version == wanted), None)
        model = endpoint.model or "(none is linked)"
        return found or _sent(v2_error(404, f"Requested version: {wanted} does not exist for model: {model}"))
    current = serving.snapshot.current_version(endpoint.model) if serving.snapshot and endpoint.model else None
    if current in versions:
        return current
    cause = f"application '{endpoint.name}' is linked to no model that has a current version of its input type"
    return _sent(v2_error(503, f"Not ready: {cause}"))


async def _model_metadata(request: web.Request) -> web.Response:
    endpoint = _endpoint(request)
    if endpoint is None:
        return _no_such_app(request)
    if "version" in request.match_info and isinstance(answer := _wanted(request, endpoint), web.Response):
        return answer
    datatype = TAKEN[endpoint.app.kind][0]
    return web.json_response(
        {
            "name": endpoint.name,
            "versions": [each.version for each in versions_of(request.app[FACTS].serving, endpoint)],
            "platform": PLATFORM,
            "inputs": [{"name": INPUT, "datatype": datatype, "shape": [-1] if datatype == TEXTS else [-1, -1]}],
            "outputs": [],  # a function may return anything: each answer says datatype and shape of its one output
        }
    )


async def _model_ready(request: web.Request) -> web.Response:
    endpoint = _endpoint(request)
    if endpoint is None:
        return _no_such_app(request)
    version = _wanted(request, endpoint)
    if isinstance(version, web.Response):
        return version
    dispatch = request.app[FACTS].serving.dispatches.get(version.uid)
    if dispatch is None or not dispatch.has_replicas:
        return _sent(v2_error(503, f"Not ready: no replica of model '{version.key}' is connected"))
    return web.json_response({"name": endpoint.name, "ready": True})


async def _infer(request: web.Request) -> web.Response:
    raw = await request.read()
    endpoint = _endpoint(request)  # after the last await: an app that is replaced meanwhile has a new one
    if endpoint is None:
        return _no_such_app(request)
    try:
        body = read_v2(endpoint.app.kind, raw, request.headers.get(JSON_SIZE_HEADER))
    except TensorError as exc:
        return _sent(v2_error(400, str(exc)))
    request_id = request_id_of(request)
    if "X-Request-Id" not in request.headers:
        request_id = usable_request_id(body.id.encode()) or request_id
    serving = request.app[FACTS].serving
    parts = await ask(serving, endpoint, body.inputs, request.match_info.get("version"), request_id)
    response = _sent(v2_reply(endpoint.name, body, request_id.decode(), [answer for _, answer in parts]))
    response.headers["X-Request-Id"] = request_id.decode()
    return response
