"""Which clipper-nomad this is. Every image has this file."""

from __future__ import annotations

import importlib.metadata

DISTRIBUTION = "clipper-nomad"


def toolkit_version(*, otherwise: str = "unknown") -> str:
    """Return the installed version. `otherwise`: where the files are not installed, as in an image."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return otherwise
