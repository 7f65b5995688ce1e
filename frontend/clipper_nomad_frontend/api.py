"""Every request that is not on the hot path, on aiohttp: health, metrics, errors in JSON; and, on the internal address
only, report, mirror and probe, which want the admin token.

The public app also answers predictions, through the same calls as http_predict.py, for a connection that was handed over.
"""

from __future__ import annotations

import asyncio
import hmac
import http
import json
import logging
import secrets
from collections.abc import Callable
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Middleware

from clipper_nomad.state.feedback import Feedback
from clipper_nomad.state.records import MICROS
from clipper_nomad_frontend import answers
from clipper_nomad_frontend.accept_header import prefers_json
from clipper_nomad_frontend.answers import Answer
from clipper_nomad_frontend.asking import FutureSink, ask
from clipper_nomad_frontend.dispatch import VersionDispatch
from clipper_nomad_frontend.docs_api import add_docs
from clipper_nomad_frontend.endpoints import Endpoint
from clipper_nomad_frontend.feedback_request import FeedbackRequest, read_feedback
from clipper_nomad_frontend.frontend_facts import FACTS, FrontendFacts, Handler, request_id_of
from clipper_nomad_frontend.http_rules import MAX_HEADER_BYTES, MAX_REQUEST_LINE, why_not_from
from clipper_nomad_frontend.predict_request import RequestError, RequestReader
from clipper_nomad_frontend.serving import Serving
from clipper_nomad_frontend.v2_api import add_v2, in_v2_s_form

log = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 60.0
PROBE_PATH = "/_clipper/probe/{model}/{version}"


def public_app(facts: FrontendFacts, path_prefix: str) -> web.Application:
    """Return the app for what http_predict.py hands over."""
    app = _app(facts, *([_no_strangers] if facts.is_local else []))
    for prefix in dict.fromkeys(("", path_prefix)):
        app.router.add_post(prefix + "/{app}/predict", _predict)
        app.router.add_post(prefix + "/{app}/predict/", _predict)
        # a deploy asks here once, by the way that clients' queries come; without the token there is no such page
        app.router.add_post(prefix + PROBE_PATH, _with_token(_probe, refusal=web.HTTPNotFound))
        app.router.add_post(prefix + "/{app}/update", _update)
        app.router.add_post(prefix + "/{app}/update/", _update)
        app.router.add_get(prefix + "/metrics", partial(_metrics, is_json_usual=True))
        add_v2(app, prefix)
        add_docs(app, prefix)
    if path_prefix:  # so that a URL answers alike through a load balancer that strips the prefix and past it
        _add_health(app, path_prefix)
    return app


def internal_app(facts: FrontendFacts) -> web.Application:
    """Return the app for the internal address."""
    app = _app(facts)
    app.router.add_get("/metrics", partial(_metrics, is_json_usual=False))
    app.router.add_get("/_clipper/report", _with_token(_report))
    app.router.add_get("/_clipper/mirror", _with_token(_mirror))
    app.router.add_post(PROBE_PATH, _with_token(_probe))
    return app


def _app(facts: FrontendFacts, *more: Middleware) -> web.Application:
    app = web.Application(
        middlewares=[_with_request_id, in_v2_s_form, _errors_in_json, *more], client_max_size=facts.body_bytes
    )
    app[FACTS] = facts
    _add_health(app, "")
    return app


def _add_health(app: web.Application, prefix: str) -> None:
    app.router.add_get(prefix + "/health", _health)
    app.router.add_get(prefix + "/health/ready", _ready)


@web.middleware
async def _with_request_id(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    response.headers.setdefault("X-Request-Id", request_id_of(request).decode())
    return response


@web.middleware
async def _errors_in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as exc:
        if exc.status < 400:  # redirects are no errors
            raise
        headers = {"Allow": exc.headers["Allow"]} if "Allow" in exc.headers else None
        body = {"error": exc.reason, "cause": _http_cause(request, exc)}
        return web.json_response(body, status=exc.status, headers=headers)
    except Exception:
        id_ = secrets.token_hex(6)
        log.exception("request failed", extra={"path": request.path, "error_id": id_})
        cause = f"an unexpected error; the log has it under {id_}"
        return web.json_response({"error": "Internal error", "cause": cause}, status=500)


def _http_cause(request: web.Request, exc: web.HTTPException) -> str:
    match exc:
        case web.HTTPNotFound():
            return f"{request.path} is no path of a query frontend; GET /openapi.json lists them"
        case web.HTTPMethodNotAllowed():
            return f"{request.path} does not take {request.method}; it takes {', '.join(sorted(exc.allowed_methods))}"
        case _:
            return f"{request.method} {request.path}: {exc.reason}"


@web.middleware
async def _no_strangers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """In local mode: answer no web page of anywhere else, whatever name it gave this machine."""
    headers = [(name.encode(errors="replace"), value.encode(errors="replace")) for name, value in request.headers.items()]
    cause = why_not_from(headers)
    if cause is not None:
        return web.json_response({"error": "Forbidden", "cause": cause}, status=403)
    return await handler(request)


def _with_token(handler: Handler, *, refusal: type[web.HTTPException] = web.HTTPUnauthorized) -> Handler:
    async def checked(request: web.Request) -> web.StreamResponse:
        token = request.app[FACTS].token
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token is None or not hmac.compare_digest(given.encode(errors="surrogateescape"), token.encode()):
            raise refusal
        return await handler(request)

    return checked


async def _health(request: web.Request) -> web.Response:
    facts = request.app[FACTS]
    status = "draining" if facts.is_draining() else "ok"
    served = facts.catalog.served
    return web.json_response(
        {"status": status, "revision": served.revision if served else None, "catalog_conflict": facts.catalog.conflict}
    )


async def _ready(request: web.Request) -> web.Response:
    """Ready: listening, and a catalog loaded. Never a matter of replicas or of the store."""
    cause = request.app[FACTS].not_ready_because
    if cause is not None:
        return web.json_response({"error": "Not ready", "cause": cause}, status=503)
    return web.json_response({"status": "ready"})


async def _metrics(request: web.Request, *, is_json_usual: bool) -> web.Response:
    """Answer Clipper's JSON or Prometheus' text; `is_json_usual`: what whoever does not say gets."""
    facts = request.app[FACTS]
    if prefers_json(",".join(request.headers.getall("Accept", ())), otherwise=is_json_usual):
        return web.json_response(facts.clipper_metrics(), headers={"Vary": "Accept"})
    text = facts.exposition.text()
    headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8", "Vary": "Accept"}
    return web.Response(body=text, headers=headers)


async def _report(request: web.Request) -> web.Response:
    return web.json_response(request.app[FACTS].report())


async def _mirror(request: web.Request) -> web.Response:
    mirror = request.app[FACTS].catalog.mirror_bytes()
    if mirror is None:
        raise web.HTTPNotFound
    return web.Response(body=mirror, content_type="application/json")


def _response(answer: Answer, request_id: bytes) -> web.Response:
    headers = answers.headers_of(answer)
    headers["X-Request-Id"] = request_id.decode()
    return web.Response(body=answer.body, status=answer.status, headers=headers, content_type="application/json")


async def _predict(request: web.Request) -> web.Response:
    facts = request.app[FACTS]
    serving = facts.serving
    name = request.match_info["app"]
    request_id = request_id_of(request)
    raw = await request.read()
    endpoint = serving.endpoints.get(name)  # after the last await: an app that is replaced meanwhile has a new one
    if endpoint is None:
        return _no_such_app(name)
    try:
        body = endpoint.reader.read(raw)
    except RequestError as exc:
        return _response(answers.bad_request(str(exc)), request_id)
    parts = await ask(serving, endpoint, body.inputs, body.version, request_id)
    return _response(answers.batch(parts) if body.is_batch else parts[0][1], request_id)


def _no_such_app(name: str) -> web.Response:
    cause = f"application '{name}' is not registered here; register it, or correct the URL"
    return web.json_response({"error": "Not Found", "cause": cause}, status=404)


async def _update(request: web.Request) -> web.Response:
    """Keep feedback where an operator finds it; Clipper's words, with 0 when the store does not have it."""
    facts = request.app[FACTS]
    name = request.match_info["app"]
    raw = await request.read()
    endpoint = facts.serving.endpoints.get(name)
    if endpoint is None:
        return _no_such_app(name)
    try:
        said = read_feedback(endpoint.app.kind, raw)
    except RequestError as exc:
        return web.Response(text=str(exc), status=400)
    is_kept = await facts.keep_feedback(_feedback(facts.serving, endpoint, said))
    endpoint.counters.feedback_kept += is_kept
    endpoint.counters.feedback_lost += not is_kept
    return web.Response(text=f"Feedback received? {int(is_kept)}")


def _feedback(serving: Serving, endpoint: Endpoint, said: FeedbackRequest) -> Feedback:
    """Return feedback as it is kept: with the version that answers the app's queries just now."""
    model, snapshot = endpoint.model, serving.snapshot
    current = snapshot.current_version(model) if snapshot is not None and model is not None else None
    return Feedback(
        app=endpoint.name,
        uid=said.uid,
        label=said.label,
        model="" if current is None else current.key,
        input=said.input,
        input_sha256=said.input_sha256,
        frontend=serving.frontend_id,
        query_id=next(serving.query_ids),
    )


_KIND_OF_STATUS = {400: "unknown_version", 422: "died", 429: "refused", 503: "no_replica", 504: "timeout"}


async def _probe(request: web.Request) -> web.Response:
    """Send one input the whole way to a replica of the version, and say how it went. Counted nowhere."""
    facts = request.app[FACTS]
    model, version = request.match_info["model"], request.match_info["version"]
    dispatch = next(
        (d for d in facts.serving.dispatches.values() if (d.record.name, d.record.version) == (model, version)), None
    )
    if dispatch is None:
        return _probe_error(404, f"model '{model}' version '{version}' is not in this frontend's catalog", "unknown_version")
    if not dispatch.replicas.ready:
        return _probe_error(503, f"no replica of model '{model}' version '{version}' is connected here", "no_replica")
    try:
        packed = RequestReader(dispatch.record.kind).read(await request.read()).inputs[0]
    except RequestError as exc:
        return _probe_error(400, str(exc), "refused")
    return await _probe_replica(facts, dispatch, packed)


async def _probe_replica(facts: FrontendFacts, dispatch: VersionDispatch, packed: tuple[bytes, int]) -> web.Response:
    sink = FutureSink()
    started = asyncio.get_running_loop().time()
    query = facts.serving.probe(dispatch, packed, int(PROBE_TIMEOUT_S * MICROS), sink)
    try:
        answer = await sink.answer
    finally:
        facts.serving.abandon(query)
    if answer.status != 200:  # HTTP's OK
        kind = "" if answer.kind in answers.FOR_PEERS else answer.kind
        kind = kind or _KIND_OF_STATUS.get(answer.status, "refused")
        key = dispatch.record.key
        cause = f"{key} gave no output within {PROBE_TIMEOUT_S:g} s" if kind == "timeout" else answer.cause
        return _probe_error(answer.status, cause, kind)
    reply = json.loads(answer.body)
    if reply["default"]:
        return _probe_error(503, reply["default_explanation"], "no_replica")
    headers = answers.headers_of(answer)
    micros = int((asyncio.get_running_loop().time() - started) * MICROS)
    return web.json_response({"output": reply["output"], "replica": headers.get("X-Clipper-Replica"), "exec_micros": micros})


def _probe_error(status: int, cause: str, kind: str) -> web.Response:
    return web.json_response({"error": "Probe failed", "cause": cause, "kind": kind}, status=status)


class _Connection(web.RequestHandler):
    """aiohttp's protocol, whose own errors are JSON like all others, and no event in the log."""

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002  # aiohttp's signature
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the reply to a request that aiohttp does not read."""
        if status >= 500:  # what a handler raises ends in _errors_in_json; this is neither that nor the client's fault
            log.error("request failed", exc_info=exc)
        reason = http.HTTPStatus(status).phrase
        body = {"error": reason, "cause": f"the request cannot be read: {message}"}
        response = web.json_response(body, status=status, headers={"Connection": "close"})
        response.force_close()
        return response


def fallback_protocol(runner: web.AppRunner) -> Callable[[], asyncio.Protocol]:
    """Return what makes an aiohttp protocol for a connection that is handed over."""
    server = runner.server
    assert server is not None  # noqa: S101  # the runner was set up
    return partial(
        _Connection,
        server,
        loop=asyncio.get_running_loop(),
        access_log=None,  # type: ignore[arg-type]  # what switches it off, also in AppRunner
        max_line_size=MAX_REQUEST_LINE,
        max_field_size=MAX_HEADER_BYTES,
    )
