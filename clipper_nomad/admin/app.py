"""The HTTP application of the admin service: its routes, and what all handlers share."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from clipper_nomad.admin.access import request_id
from clipper_nomad.admin.catalog import CatalogService, Written
from clipper_nomad.admin.frontends import FrontendCalls
from clipper_nomad.state.commit import Commit
from clipper_nomad.state.gathering import Propagation
from clipper_nomad.state.records import SloPolicy, Snapshot

MAX_BODY_BYTES = 16 * 1024 * 1024
BODY_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers work with."""

    catalog: CatalogService
    frontends: FrontendCalls
    cluster: str
    toolkit: str
    default_slo_policy: SloPolicy


SERVICES = web.AppKey("services", Services)


async def read_raw(request: web.Request) -> bytes:
    """Return the body. Raises: HTTPRequestTimeout: it did not come; HTTPRequestEntityTooLarge."""
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body did not come within {BODY_WITHIN_S:.0f} s") from None


async def write(request: web.Request, rule: Callable[[Snapshot], Commit]) -> Written:
    """Write what `rule` decides. A call that is repeated with its X-Request-Id gets the answer of the first."""
    key = request_id(request)
    if key is not None:
        text = f"{key}\n{request.path}\n".encode() + await request.read()  # read before: aiohttp keeps it
        key = hashlib.sha256(text).hexdigest()
    return await request.app[SERVICES].catalog.write(rule, request_key=key)


def progress_headers(propagation: Propagation) -> dict[str, str]:
    """Return the header that names frontends behind, if there are any."""
    return {"X-Clipper-Behind": ",".join(propagation.behind)} if propagation.behind else {}


async def read_catalog(request: web.Request) -> tuple[Snapshot, dict[str, str]]:
    """Return the catalog, and the header that says so if it may be out of date."""
    seen = await request.app[SERVICES].catalog.read()
    return seen.snapshot, {"X-Clipper-Stale": f"{seen.stale_s:.3f}"} if seen.stale_s else {}
