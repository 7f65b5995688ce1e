"""Bundles over HTTP: pieces come in with the admin token, archives go out to replicas with the bundle's own.

    GET    /admin/v1/bundles                              what this cluster runs bundles with, and takes
    GET    /admin/v1/bundles/{digest}                     how much of one is here
    PUT    /admin/v1/bundles/{digest}?offset=N&size=N     the next piece, at most PIECE_BYTES
    DELETE /admin/v1/bundles/{digest}                     away, unless a version runs from it
    GET    /bundles/{digest}                              the archive, also in ranges; access.py checks its token

bundle_store.py keeps them.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from aiohttp import web

from clipper_nomad.admin.access import error
from clipper_nomad.admin.app import BUNDLES, SERVICES, query_number, read_catalog, read_raw
from clipper_nomad.admin.bundle_store import BundleState, BundleStore, StoreRefused
from clipper_nomad.admin.catalog_rules import Refused
from clipper_nomad.admin.version_rules import digests_of
from clipper_nomad.protocol.bundle_store import DIGEST, FETCH_PATH, PIECE_BYTES, STORE_PATH

_ONE = f"{STORE_PATH}/{{digest}}"


def routes() -> list[web.RouteDef]:
    """Return the routes of bundles."""
    return [
        web.get(STORE_PATH, _settings, allow_head=False),
        web.get(_ONE, _state, allow_head=False),
        web.put(_ONE, _append),
        web.delete(_ONE, _drop),
        web.get(f"{FETCH_PATH}/{{digest}}", _fetch, allow_head=False),
    ]


async def _settings(request: web.Request) -> web.Response:
    bundles = request.app[BUNDLES]
    problem = "this admin service has no place for bundles (CLIPPER_BUNDLES)"
    if bundles.store is not None:
        problem = await asyncio.to_thread(bundles.store.problem)
    of_cluster = bundles.settings
    return web.json_response(
        {
            "problem": problem,
            "runtime_image": of_cluster.runtime_image,
            "cache_volume": of_cluster.cache_volume,
            "max_bytes": of_cluster.max_bytes,
            "piece_bytes": PIECE_BYTES,
        }
    )


async def _state(request: web.Request) -> web.Response:
    store, digest = _store(request), _digest(request)
    return _answer(await asyncio.to_thread(store.state, digest))


async def _append(request: web.Request) -> web.Response:
    store, digest = _store(request), _digest(request)
    offset, size = _number(request, "offset"), _number(request, "size")
    data = await read_raw(request)
    if len(data) > PIECE_BYTES:
        return error(413, "Too large", f"a piece has at most {PIECE_BYTES} bytes")
    if offset == 0:
        await _forget_left(request, store)
    try:
        state = await asyncio.to_thread(store.append, digest, data, offset=offset, size=size)
    except StoreRefused as exc:
        return error(exc.status, "Refused", str(exc))
    return _answer(state)


async def _forget_left(request: web.Request, store: BundleStore) -> None:
    """Make room, unless the catalog may lack versions that run."""
    catalog, doubts = await read_catalog(request)
    roll = await request.app[SERVICES].catalog.roll_call() if not doubts else None
    if roll is not None and not roll.in_conflict:
        await asyncio.to_thread(store.forget_left, digests_of(each.image for each in catalog.versions.values()))


async def _drop(request: web.Request) -> web.Response:
    store, digest = _store(request), _digest(request)
    catalog, doubts = await read_catalog(request)
    users = [f"{each.name}:{each.version}" for each in catalog.versions.values() if digest in digests_of([each.image])]
    if users or doubts:
        cause = f"{', '.join(users)} runs from it" if users else "the store is away, and a version may run from it"
        return error(409, "Refused", f"the bundle is kept: {cause}")
    await asyncio.to_thread(store.drop, digest)
    return web.json_response({})


async def _fetch(request: web.Request) -> web.StreamResponse:
    store, digest = _store(request), _digest(request)
    archive = await asyncio.to_thread(store.archive, digest)
    if archive is None:
        return error(404, "Not found", f"this admin service has no bundle {digest}: it was removed, or its disk was lost")
    return web.FileResponse(archive)


async def check_is_here(request: web.Request, image: str) -> None:
    """Refuse to register a version whose bundle is not kept here. Raises: Refused."""
    store = request.app[BUNDLES].store
    for digest in digests_of([image]):
        if store is None or await asyncio.to_thread(store.archive, digest) is None:
            raise Refused(f"the bundle {digest} is not kept here: it was never sent, or was removed. Deploy the model again")


def _store(request: web.Request) -> BundleStore:
    store = request.app[BUNDLES].store
    if store is None:
        raise web.HTTPNotImplemented(text="this admin service keeps no bundles: CLIPPER_BUNDLES is not set")
    return store


def _digest(request: web.Request) -> str:
    digest = request.match_info["digest"]
    if DIGEST.match(digest) is None:
        raise web.HTTPBadRequest(text=f"{digest!r} is no digest; expected sha256- and 64 hexadecimal digits")
    return digest


def _number(request: web.Request, name: str) -> int:
    number = query_number(request, name)
    if number is None:
        raise web.HTTPBadRequest(text=f"{name} is {request.query.get(name, '')!r}; expected a number of bytes")
    return number


def _answer(state: BundleState) -> web.Response:
    return web.json_response(asdict(state))
