"""The OpenAPI document and the page on which a visitor tries the apps, on aiohttp."""

from __future__ import annotations

from html import escape

from aiohttp import web

from clipper_nomad_frontend.docs_page import read_page
from clipper_nomad_frontend.frontend_facts import FACTS
from clipper_nomad_frontend.openapi import document


def add_docs(app: web.Application, prefix: str) -> None:
    """Add the routes below `prefix`."""
    app.router.add_get(prefix + "/openapi.json", _document)
    for path in ("/docs", "/docs/", "/{app}/docs", "/{app}/docs/"):
        app.router.add_get(prefix + path, _page)


async def _document(request: web.Request) -> web.Response:
    facts = request.app[FACTS]
    return web.json_response(document(facts.serving.snapshot, facts.toolkit), headers={"Cache-Control": "no-cache"})


async def _page(request: web.Request) -> web.Response:
    name = request.match_info.get("app")
    if name is not None and name not in request.app[FACTS].serving.endpoints:
        cause = f"application '{name}' is not registered here; /docs lists those that are"
        return web.json_response({"error": "Not Found", "cause": cause}, status=404)
    page = read_page()
    headers = {
        "Content-Security-Policy": page.policy,
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    html = page.html.replace('data-app=""', f'data-app="{escape(name or "")}"', 1)
    return web.Response(text=html, content_type="text/html", headers=headers)
