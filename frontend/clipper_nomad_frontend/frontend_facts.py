"""What aiohttp's handlers ask of the process, and of each request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from clipper_nomad.state.feedback import Feedback
from clipper_nomad_frontend.catalog import Catalog
from clipper_nomad_frontend.clipper_metrics import Document
from clipper_nomad_frontend.http_rules import RequestIds, usable_request_id
from clipper_nomad_frontend.metrics import Exposition
from clipper_nomad_frontend.serving import Serving

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendFacts:
    """What the handlers ask of the process."""

    serving: Serving
    catalog: Catalog
    exposition: Exposition
    clipper_metrics: Callable[[], Document]
    keep_feedback: Callable[[Feedback], Awaitable[bool]]
    report: Callable[[], dict[str, Any]]
    is_draining: Callable[[], bool]
    token: str | None
    body_bytes: int
    toolkit: str
    is_local: bool = False
    request_ids: RequestIds = field(default_factory=RequestIds)

    @property
    def not_ready_because(self) -> str | None:
        """Why no new query should come here, or None. Never a matter of replicas or of the store."""
        if self.is_draining():
            return "this frontend is draining"
        return "no catalog was loaded yet" if self.catalog.served is None else None


FACTS = web.AppKey("facts", FrontendFacts)


def request_id_of(request: web.Request) -> bytes:
    """Return the caller's id if it has a usable one, else a new one."""
    given = (request.headers.get(name, "").encode(errors="surrogateescape") for name in ("X-Request-Id", "Idempotency-Key"))
    return next(filter(None, map(usable_request_id, given)), None) or request.app[FACTS].request_ids.next()
