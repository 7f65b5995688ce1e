"""Who may call the admin service, and errors in JSON: two middlewares.

Every call but ping and health carries the token; a replica that fetches its bundle one that opens this bundle only. In
local mode the Host header must be a loopback name, so that a web page cannot reach the service through a DNS name of its
own; a body must be declared as JSON, so that a page cannot post one without asking first.
Source: design.md section 8, decisions.md 19.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from clipper_nomad.admin.bodies import BadBody
from clipper_nomad.admin.catalog import InConflict, NothingToRestore
from clipper_nomad.admin.catalog_rules import Refused
from clipper_nomad.errors import StoreError
from clipper_nomad.protocol.bundle_store import FETCH_PATH, fetch_token

OPEN_PATHS = frozenset({"/admin/ping", "/health"})
LOOPBACK_HOST = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?\Z", re.IGNORECASE)
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}\Z")
STORE_RETRY_AFTER_S = 1
CONFLICT_RETRY_AFTER_S = 60  # only a person ends a conflict: whoever retries by itself gives up at once

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def error(status: int, kind: str, cause: str, headers: dict[str, str] | None = None) -> web.Response:
    """Return an error as JSON."""
    return web.json_response({"error": kind, "cause": cause}, status=status, headers=headers)


def request_id(request: web.Request) -> str | None:
    """Return the caller's X-Request-Id, if it gave one that can be one."""
    given = request.headers.get("X-Request-Id", "")
    return given if REQUEST_ID.match(given) else None


def guard(token: str, *, is_local: bool) -> Middleware:
    """Return the middleware that lets nobody in without the token."""
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if is_local and not LOOPBACK_HOST.match(request.headers.get("Host", "")):
            return error(403, "Forbidden", "the Host header must be a loopback name: localhost, 127.0.0.1 or [::1]")
        if not (request.method == "GET" and request.path in OPEN_PATHS):
            bundle = _bundle_of(request)
            of_what = "the cluster's admin token" if bundle is None else "this bundle's own token"
            wanted = expected if bundle is None else f"Bearer {fetch_token(token, bundle)}".encode()
            given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
            if not hmac.compare_digest(given, wanted):
                cause = f"this call wants the header 'Authorization: Bearer <token>' with {of_what}"
                return error(401, "Unauthorized", cause, {"WWW-Authenticate": "Bearer"})
        is_known = request.match_info.http_exception is None  # else the handler says 404 or 405
        kind = "application/octet-stream" if request.method == "PUT" else "application/json"  # pieces of bundles
        if is_known and request.can_read_body and request.content_type != kind:
            return error(415, "Unsupported Media Type", f"a body must have the header 'Content-Type: {kind}'")
        return await handler(request)

    return check


def _bundle_of(request: web.Request) -> str | None:
    """Return the digest of the bundle that is fetched, None if something else is asked."""
    is_fetch = request.method == "GET" and request.path.startswith(f"{FETCH_PATH}/")
    return request.path.removeprefix(f"{FETCH_PATH}/") if is_fetch else None


@web.middleware
async def errors_in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every exception into a JSON error; every answer carries the request's id."""
    id_ = request_id(request) or secrets.token_hex(8)
    try:
        response = await handler(request)
    except web.HTTPException as exc:
        if exc.status < 400:  # redirects are no errors
            raise
        headers = {"Allow": exc.headers["Allow"]} if "Allow" in exc.headers else None
        response = error(exc.status, exc.reason, _http_cause(request, exc), headers)
    except BadBody as exc:
        response = error(400, "Bad request", str(exc))
    except Refused as exc:
        response = error(exc.status, "Refused", exc.text)
    except NothingToRestore as exc:
        response = error(409, "Nothing to restore", str(exc))
    except InConflict as exc:
        response = error(503, "Catalog conflict", str(exc), {"Retry-After": str(CONFLICT_RETRY_AFTER_S)})
    except StoreError as exc:
        log.warning("store away", extra={"path": request.path, "cause": exc.msg})
        response = error(503, "Store away", str(exc), {"Retry-After": str(STORE_RETRY_AFTER_S)})
    except Exception:
        log.exception("request failed", extra={"path": request.path, "request_id": id_})
        response = error(500, "Internal error", f"an unexpected error; the log has it under request_id={id_}")
    response.headers["X-Request-Id"] = id_
    return response


def _http_cause(request: web.Request, exc: web.HTTPException) -> str:
    match exc:
        case web.HTTPNotFound():
            return f"{request.path} is no path of the admin service"
        case web.HTTPMethodNotAllowed():
            return f"{request.path} does not take {request.method}; it takes {', '.join(sorted(exc.allowed_methods))}"
        case web.HTTPRequestEntityTooLarge():
            return f"the body is larger than {request.client_max_size} bytes"
        case _:
            return exc.text or exc.reason
