"""The HTTP application of the admin service: its routes, and what all handlers share."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from clipper_nomad.admin.access import request_id
from clipper_nomad.admin.bodies import BadBody
from clipper_nomad.admin.bundle_store import BundleStore
from clipper_nomad.admin.catalog import CatalogService, Written
from clipper_nomad.admin.config import BundleSettings
from clipper_nomad.admin.frontends import FrontendCalls
from clipper_nomad.admin.version_rules import let_go
from clipper_nomad.state.commit import Commit
from clipper_nomad.state.gathering import Propagation
from clipper_nomad.state.records import SloPolicy, Snapshot

MAX_BODY_BYTES = 16 * 1024 * 1024
BODY_WITHIN_S = 30.0
MOST_DIGITS = 18  # of a number in a query string: no size or count has more, and Python reads no more than 4300


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers work with."""

    catalog: CatalogService
    frontends: FrontendCalls
    cluster: str
    toolkit: str
    default_slo_policy: SloPolicy


@dataclass(frozen=True, slots=True)
class Bundles:
    """What is told of bundles, and where they are kept, None: nowhere."""

    settings: BundleSettings
    store: BundleStore | None


SERVICES = web.AppKey("services", Services)
BUNDLES = web.AppKey("bundles", Bundles)


async def read_raw(request: web.Request) -> bytes:
    """Return the body. Raises: HTTPRequestTimeout: it did not come; BadBody; HTTPRequestEntityTooLarge."""
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body did not come within {BODY_WITHIN_S:.0f} s") from None
    except web.RequestPayloadError:
        raise BadBody("the body is not encoded as its headers say") from None


def query_number(request: web.Request, name: str) -> int | None:
    """Return a number of the query string, None if that is no number of at most 18 digits."""
    text = request.query.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None


async def write(request: web.Request, rule: Callable[[Snapshot], Commit]) -> Written:
    """Write what `rule` decides. A call that is repeated with its X-Request-Id gets the answer of the first.

    A bundle goes with the last version that ran from it.
    """
    key = request_id(request)
    if key is not None:
        text = f"{key}\n{request.path}\n".encode() + await request.read()  # read before: aiohttp keeps it
        key = hashlib.sha256(text).hexdigest()
    unused: frozenset[str] = frozenset()

    def watched(catalog: Snapshot) -> Commit:
        nonlocal unused
        commit = rule(catalog)
        unused = let_go(catalog, commit)
        return commit

    written = await request.app[SERVICES].catalog.write(watched, request_key=key)
    store = request.app[BUNDLES].store
    if store is not None:
        for digest in unused:
            await asyncio.to_thread(store.drop, digest)
    return written


def progress_headers(propagation: Propagation) -> dict[str, str]:
    """Return the header that names frontends behind, if there are any."""
    return {"X-Clipper-Behind": ",".join(propagation.behind)} if propagation.behind else {}


async def read_catalog(request: web.Request) -> tuple[Snapshot, dict[str, str]]:
    """Return the catalog, and the header that says so if it may be out of date."""
    seen = await request.app[SERVICES].catalog.read()
    return seen.snapshot, {"X-Clipper-Stale": f"{seen.stale_s:.3f}"} if seen.stale_s else {}
