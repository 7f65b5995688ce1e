"""What the deployer, the admin service and the model runtime agree on about bundles that are kept by admin. Pure.

A bundle travels as one tar archive (bundle_archive.py) and is known by its digest, the SHA-256 of its manifest, which holds
that of every file. It is sent in pieces, each at the offset where the one before ended; a replica gets it with a token that
opens this bundle and nothing else. Source: docs/decisions/0013-bundle-store.md
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass

STORE_PATH = "/admin/v1/bundles"  # with the admin token: what is here, pieces, removal
FETCH_PATH = "/bundles"  # with the bundle's own token: the archive
PIECE_BYTES = 8 * 1024 * 1024  # the most that one request brings

DIGEST_PATTERN = r"sha256-[0-9a-f]{64}"
DIGEST = re.compile(rf"{DIGEST_PATTERN}\Z")
_REFERENCE = re.compile(rf"bundle:(?P<digest>{DIGEST_PATTERN})/(?P<runtime>[^\s]+)\Z")
_PYTHON_TAG = re.compile(r"[:-]py(?P<python>3\.\d+)(?:-[0-9a-f]{12})?(?:@|\Z)")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleReference:
    """What the catalog has as the image of a version without one: a bundle, and the runtime image that it runs on."""

    digest: str
    runtime: str

    def __str__(self) -> str:
        return f"bundle:{self.digest}/{self.runtime}"


def parse_reference(image: str) -> BundleReference | None:
    """Return the bundle that `image` refers to, None if it is an image."""
    found = _REFERENCE.match(image)
    return None if found is None else BundleReference(digest=found["digest"], runtime=found["runtime"])


def python_of(runtime: str) -> str | None:
    """Return the minor version of Python that a runtime image's tag tells, as `…:0.1-py3.11`; None if it tells none."""
    found = _PYTHON_TAG.search(runtime)
    return None if found is None else found["python"]


def fetch_token(admin_token: str, digest: str) -> str:
    """Return the token that opens one bundle. It tells nothing of the admin token, and is kept nowhere by admin."""
    return hmac.new(admin_token.encode(), f"fetch {digest}".encode(), "sha256").hexdigest()
