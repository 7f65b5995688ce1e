"""The page at /docs, one file for the browser: its style and its script stand in it, and nothing else may be loaded.

Its sources are in page/. The policy names the digests of just these two, so that no other script runs on the page.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Page(NamedTuple):
    """The page, and the content security policy that it is sent with."""

    html: str
    policy: str


@cache
def read_page() -> Page:
    """Return the page."""
    folder = files("clipper_nomad_frontend") / "page"
    style, script, html = ((folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "page.html"))
    html = html.replace("/*style*/", style).replace("/*script*/", script)
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Page(html, policy)


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
