"""Clipper's endpoints: POST /admin/…, with its bodies, its plain-text answers and its error texts.

Each row below says how a body is read (in Clipper's order of fields) and which rule or view answers it.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from aiohttp import web

from clipper_nomad.admin import catalog_rules, version_rules, views
from clipper_nomad.admin.app import SERVICES, progress_headers, read_catalog, read_raw, write
from clipper_nomad.admin.bodies import BadBody, Body
from clipper_nomad.admin.catalog_rules import MAX_TEXT_BYTES, AddApp, Link, Refused, known_input_type
from clipper_nomad.admin.version_rules import AddVersion, WhichVersion
from clipper_nomad.state.commit import Commit
from clipper_nomad.state.records import SloPolicy, Snapshot

Rule = Callable[[Snapshot], Commit]
Json = Any  # what json_response takes
View = Callable[[Snapshot], Json]
TextView = Callable[[Snapshot], str]
ReplicaView = Callable[[list[views.Json]], Json]
Answer = Callable[[web.Request, Body], Awaitable[web.Response]]


def routes(policy: SloPolicy) -> list[web.RouteDef]:
    """Return Clipper's routes. `policy`: of the apps that are registered through them, which cannot say one."""
    add_app: Callable[[Body], Rule] = partial(_add_app, policy=policy)
    writes = {"add_app": (add_app, _ADD_APP_SCHEMA), **_WRITES}
    answers = {name: (_write(read), schema) for name, (read, schema) in writes.items()}
    answers |= {name: (_read(read), schema) for name, (read, schema) in _READS.items()}
    answers |= {name: (_read_replicas(read), schema) for name, (read, schema) in _REPLICA_READS.items()}
    answers["get_state"] = (_read_text(_state), '{"app_name" := string, "uid" := int}')
    posts = [web.post(f"/admin/{name}", _endpoint(answer, schema)) for name, (answer, schema) in answers.items()]
    return [web.get("/admin/ping", _ping, allow_head=False), *posts]


async def _ping(_: web.Request) -> web.Response:
    return web.Response(text="PONG")


def _endpoint(answer: Answer, schema: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            return await answer(request, Body(await read_raw(request)))
        except BadBody as exc:
            return web.Response(status=400, text=f"Error parsing JSON: {exc}. Expected JSON schema: {schema}")
        except Refused as exc:
            return web.Response(status=exc.status, text=exc.text)

    return handle


def _write(read: Callable[[Body], Rule]) -> Answer:
    async def answer(request: web.Request, body: Body) -> web.Response:
        written = await write(request, read(body))
        return web.Response(text=written.committed.reply, headers=progress_headers(written.propagation))

    return answer


def _read(read: Callable[[Body], View]) -> Answer:
    async def answer(request: web.Request, body: Body) -> web.Response:
        view = read(body)
        catalog, headers = await read_catalog(request)
        return web.json_response(view(catalog), headers=headers)

    return answer


def _read_text(read: Callable[[Body], TextView]) -> Answer:
    async def answer(request: web.Request, body: Body) -> web.Response:
        view = read(body)
        catalog, headers = await read_catalog(request)
        return web.Response(text=view(catalog), headers=headers)

    return answer


def _read_replicas(read: Callable[[Body], ReplicaView]) -> Answer:
    async def answer(request: web.Request, body: Body) -> web.Response:
        view = read(body)
        catalog, headers = await read_catalog(request)
        roll = await request.app[SERVICES].catalog.roll_call()
        return web.json_response(view(views.replicas(catalog, roll.reports)), headers=headers)

    return answer


# --- how bodies are read ---


def _add_app(body: Body, *, policy: SloPolicy) -> Rule:
    name = body.text("name")
    kind = known_input_type(body.text("input_type"))
    default_output = body.text("default_output", max_bytes=MAX_TEXT_BYTES)
    slo_micros = body.integer("latency_slo_micros")
    request = AddApp(
        name=name, input_type=kind.word, default_output=default_output, slo_micros=slo_micros, slo_policy=policy
    )
    return partial(catalog_rules.add_app, request=request)


def _add_model(body: Body) -> Rule:
    name, version, labels = body.text("model_name"), body.text("model_version"), body.texts("labels")
    kind = known_input_type(body.text("input_type"))
    image = body.text("container_name", max_bytes=MAX_TEXT_BYTES)
    body.text("model_data_path", "")  # Clipper's client sends "DEPRECATED"; nothing is done with it
    request = AddVersion(
        name=name,
        version=version,
        uid=secrets.token_hex(16),
        labels=labels,
        input_type=kind.word,
        image=image,
        batch_size=body.integer("batch_size"),
        legacy=True,  # nothing of ours is started for it
    )
    return partial(version_rules.add_version, request=request)


def _link(body: Body) -> Link:
    return Link(app_name=body.text("app_name"), model_names=body.texts("model_names"))


def _which(body: Body) -> WhichVersion:
    return WhichVersion(name=body.text("model_name"), version=body.text("model_version"))


def _all_apps(body: Body) -> View:
    verbose = body.flag("verbose")
    return lambda catalog: [views.app_view(app) if verbose else name for name, app in sorted(catalog.apps.items())]


def _app(body: Body) -> View:
    name = body.text("name")
    return lambda catalog: views.app_view(catalog.apps[name]) if name in catalog.apps else {}


def _linked_models(body: Body) -> View:
    name = body.text("app_name")

    def view(catalog: Snapshot) -> Json:
        if name not in catalog.apps:
            raise Refused(f"No application with name '{name}' exists.")
        return list(catalog.apps[name].linked_models)

    return view


def _state(body: Body) -> TextView:
    name = body.text("app_name")
    body.integer("uid")  # Clipper's state of user 0 is that of every user

    def view(catalog: Snapshot) -> str:
        if name not in catalog.apps:
            raise Refused(f"No application with name '{name}' exists.")
        return catalog.apps[name].default_output

    return view


def _all_models(body: Body) -> View:
    verbose = body.flag("verbose")
    return lambda catalog: [
        views.model_view(catalog, version) if verbose else version.key for version in views.registered_versions(catalog)
    ]


def _model(body: Body) -> View:
    key = _which(body).key

    def view(catalog: Snapshot) -> Json:
        found = (version for version in views.registered_versions(catalog) if version.key == key)
        return next((views.model_view(catalog, version) for version in found), {})

    return view


def _all_replicas(body: Body) -> ReplicaView:
    verbose = body.flag("verbose")
    return lambda found: found if verbose else [f"{one['model_id']}:{one['model_replica_id']}" for one in found]


def _replica(body: Body) -> ReplicaView:
    wanted = (_which(body).key, body.integer("replica_id"))
    return lambda found: next((one for one in found if (one["model_id"], one["model_replica_id"]) == wanted), {})


_ADD_APP_SCHEMA = (
    '{"name" := string, "input_type" := "integers" | "bytes" | "floats" | "doubles" | "strings", '
    '"default_output" := string, "latency_slo_micros" := int}'
)
_ADD_MODEL_SCHEMA = (
    '{"model_name" := string, "model_version" := string, "labels" := [string], '
    '"input_type" := "integers" | "bytes" | "floats" | "doubles" | "strings", "container_name" := string, '
    '"model_data_path" := string, "batch_size" := int}'
)
_VERSION_SCHEMA = '{"model_name" := string, "model_version" := string}'
_LINK_SCHEMA = '{"app_name" := string, "model_names" := [string]}'
_VERBOSE_SCHEMA = '{"verbose" := bool}'

_WRITES: Mapping[str, tuple[Callable[[Body], Rule], str]] = {
    "delete_app": (
        lambda body: partial(catalog_rules.delete_app, name=body.text("name")),
        '{"name" := string}',
    ),
    "add_model": (
        _add_model,
        _ADD_MODEL_SCHEMA,
    ),
    "delete_versioned_model": (
        lambda body: partial(version_rules.delete_versioned_model, request=_which(body)),
        _VERSION_SCHEMA,
    ),
    "set_model_version": (
        lambda body: partial(version_rules.set_model_version, request=_which(body)),
        _VERSION_SCHEMA,
    ),
    "add_model_links": (lambda body: partial(catalog_rules.add_model_links, request=_link(body)), _LINK_SCHEMA),
    "delete_model_links": (lambda body: partial(catalog_rules.delete_model_links, request=_link(body)), _LINK_SCHEMA),
}

_READS: Mapping[str, tuple[Callable[[Body], View], str]] = {
    "get_all_applications": (_all_apps, _VERBOSE_SCHEMA),
    "get_application": (_app, '{"name" := string}'),
    "get_linked_models": (_linked_models, '{"app_name" := string}'),
    "get_all_models": (_all_models, _VERBOSE_SCHEMA),
    "get_model": (_model, _VERSION_SCHEMA),
}

_REPLICA_READS: Mapping[str, tuple[Callable[[Body], ReplicaView], str]] = {
    "get_all_containers": (_all_replicas, _VERBOSE_SCHEMA),
    "get_container": (_replica, '{"model_name" := string, "model_version" := string, "replica_id" := int}'),
}
