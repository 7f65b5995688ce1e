"""Our endpoints: /admin/v1/…, JSON in and out, errors as {"error", "cause"}; and /health.

Beside what Clipper can say: policies and timeouts of apps, staged versions, probes, frontends, the store's state.
"""

from __future__ import annotations

import json
import secrets
from functools import partial

from aiohttp import web

from clipper_nomad.admin import catalog_rules, openapi, version_rules, views
from clipper_nomad.admin.access import error
from clipper_nomad.admin.app import SERVICES, progress_headers, query_number, read_catalog, read_raw, write
from clipper_nomad.admin.bodies import Body
from clipper_nomad.admin.bundle_api import check_is_here
from clipper_nomad.admin.catalog import NothingToRestore, Written
from clipper_nomad.admin.catalog_rules import MAX_TEXT_BYTES, AddApp, Refused
from clipper_nomad.admin.version_rules import LONGEST_PROBE_S, AddVersion, WhichVersion
from clipper_nomad.state.commit import Commit
from clipper_nomad.state.feedback import MOST_KEPT
from clipper_nomad.state.records import ADAPTIVE_BATCH_SIZE, NO_CONTAINER, Snapshot

PROBE_WITHIN_S = 15  # unless the caller says; far above any batch, below what proxies cut
USUAL_FEEDBACK = 100  # entries, unless the caller says


def routes() -> list[web.RouteDef]:
    """Return our routes."""
    return [
        web.get("/health", _health, allow_head=False),
        web.get(openapi.DOCUMENT_PATH, _document, allow_head=False),
        web.get("/admin/v1/health", _health_of_all, allow_head=False),
        web.get("/admin/v1/catalog", _catalog, allow_head=False),
        web.get("/admin/v1/frontends", _frontends, allow_head=False),
        web.get("/admin/v1/feedback", _feedback, allow_head=False),
        web.post("/admin/v1/apps", _add_app),
        web.post("/admin/v1/versions", _add_version),
        web.post("/admin/v1/versions/activate", _activate),
        web.post("/admin/v1/versions/delete", _delete_version),
        web.post("/admin/v1/probe", _probe),
        web.post("/admin/v1/store/accept", _accept_store),
        web.post("/admin/v1/store/restore", _restore_store),
    ]


async def _health(request: web.Request) -> web.Response:
    """Healthy once the store was reached; an outage after that is no reason to restart this process."""
    if not request.app[SERVICES].catalog.is_open:
        return error(503, "Starting", "the store was not reached yet")
    return web.json_response({"status": "ok"})


async def _document(request: web.Request) -> web.Response:
    return web.json_response(openapi.document(request.app[SERVICES].toolkit))


async def _health_of_all(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    catalog, headers = await read_catalog(request)
    known = {
        "toolkit": services.toolkit,
        "cluster": services.cluster,
        "store_id": catalog.store_id,
        "revision": catalog.revision,
    }
    if headers:
        return web.json_response({"status": "store away", **known}, headers=headers)
    roll = await services.catalog.roll_call()
    return web.json_response(
        {
            "status": "catalog conflict" if roll.in_conflict else "ok",
            **known,
            "durable": await services.catalog.is_durable(),
            "frontends": roll.live,
            "in_conflict": list(roll.in_conflict),
        }
    )


async def _catalog(request: web.Request) -> web.Response:
    catalog, headers = await read_catalog(request)
    return web.json_response(views.catalog_view(catalog), headers=headers)


async def _frontends(request: web.Request) -> web.Response:
    roll = await request.app[SERVICES].catalog.roll_call()
    return web.json_response({"live": roll.live, "frontends": list(roll.reports)})


async def _feedback(request: web.Request) -> web.Response:
    most = query_number(request, "most") if "most" in request.query else USUAL_FEEDBACK
    if most is None or not 1 <= most <= MOST_KEPT:
        raise Refused(f"most is {request.query['most'][:40]}; expected 1 to {MOST_KEPT} entries")
    found = await request.app[SERVICES].catalog.feedback(app=request.query.get("app"), most=most)
    return web.json_response({"feedback": found})


async def _add_app(request: web.Request) -> web.Response:
    body = await _body(request)
    app = AddApp(
        name=body.text("name"),
        input_type=body.text("input_type"),
        default_output=body.text("default_output", max_bytes=MAX_TEXT_BYTES),
        slo_micros=body.integer("latency_slo_micros"),
        slo_policy=body.text("slo_policy", request.app[SERVICES].default_slo_policy),
        timeout_micros=body.optional_integer("timeout_micros", most=catalog_rules.MAX_TIMEOUT_MICROS),
    )
    return _written(await write(request, partial(catalog_rules.add_app, request=app)))


async def _add_version(request: web.Request) -> web.Response:
    body = await _body(request)
    version = AddVersion(
        name=body.text("model_name"),
        version=body.text("model_version"),
        uid=secrets.token_hex(16),
        input_type=body.text("input_type"),
        image=body.text("container_name", NO_CONTAINER, max_bytes=MAX_TEXT_BYTES),
        labels=body.texts("labels", ()),
        batch_size=body.integer("batch_size", ADAPTIVE_BATCH_SIZE),
        replicas=body.integer("replicas", 1),
        retry=body.flag("retry", default=True),
        sample=body.optional_text("sample", max_bytes=MAX_TEXT_BYTES),
        public_key=body.text("public_key", ""),
        legacy=body.flag("legacy", default=False),
        staged=body.flag("staged", default=False),
    )

    await check_is_here(request, version.image)

    def rule(catalog: Snapshot) -> Commit:
        return version_rules.uid_reply(version_rules.add_version(catalog, version), version.uid)

    return _written(await write(request, rule), is_json=True)


async def _activate(request: web.Request) -> web.Response:
    which = _which(await _body(request))
    return _written(await write(request, partial(version_rules.activate, request=which)))


async def _delete_version(request: web.Request) -> web.Response:
    body = await _body(request)
    rule = partial(version_rules.delete_version, request=_which(body), only_staged=body.flag("only_staged", default=False))
    return _written(await write(request, rule))


async def _probe(request: web.Request) -> web.Response:
    """Ask every live frontend at once: a deploy is done when each of them got a prediction."""
    body = await _body(request)
    which = _which(body)
    asked = {"input": body.json("input")}
    within_s = body.integer("timeout_s", PROBE_WITHIN_S)
    if not 1 <= within_s <= LONGEST_PROBE_S:
        raise Refused(f"timeout_s is {within_s}; expected 1 to {LONGEST_PROBE_S} seconds")
    catalog, _ = await read_catalog(request)
    version_rules.find(catalog, which)
    services = request.app[SERVICES]
    roll = await services.catalog.roll_call()
    probes = await services.frontends.probe_all(roll.reports, which.name, which.version, asked, within_s)
    return web.json_response({"live": roll.live, "probes": probes})


async def _accept_store(request: web.Request) -> web.Response:
    propagation = await request.app[SERVICES].catalog.accept()
    return web.json_response(
        {"live": propagation.live, "behind": list(propagation.behind)}, headers=progress_headers(propagation)
    )


async def _restore_store(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    roll = await services.catalog.roll_call()
    in_conflict = [report for report in roll.reports if report.get("frontend") in roll.in_conflict]
    if not in_conflict:
        raise NothingToRestore("no query frontend serves a catalog that the store does not hold")
    newest = await services.frontends.newest_mirror(in_conflict)
    if newest is None:
        raise NothingToRestore(f"none of the mirrors of {', '.join(roll.in_conflict)} could be read")
    mirror, frontend = newest
    written = await services.catalog.restore(mirror)
    return web.json_response(
        {
            "store_id": written.committed.store_id,
            "revision": written.committed.revision,
            "mirror_of": frontend,
            "records": len(written.committed.fields),
        },
        headers=progress_headers(written.propagation),
    )


async def _body(request: web.Request) -> Body:
    return Body(await read_raw(request))


def _which(body: Body) -> WhichVersion:
    return WhichVersion(name=body.text("model_name"), version=body.text("model_version"), uid=body.optional_text("uid"))


def _written(written: Written, *, is_json: bool = False) -> web.Response:
    reply = written.committed.reply
    answer = json.loads(reply) if is_json else {"result": reply}
    return web.json_response(answer, headers=progress_headers(written.propagation))
