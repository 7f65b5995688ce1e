"""What is in the image of each part: packages of ours, as files, and the distributions that they import. Pure.

The files come from the package that is installed here, so that a cluster runs what its user has. The versions asked for
are those of the package's own metadata: `requirements` is given them. Source: pyproject.toml
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Content:
    module: str  # run by `python -m`
    packages: tuple[str, ...]  # of ours, dotted: the package with all below it
    modules: tuple[str, ...]  # of ours, dotted: one file each
    distributions: tuple[str, ...]


class Part(enum.StrEnum):
    """An image that is built from the toolkit. The value is a part of its name."""

    ADMIN = "admin"
    FRONTEND = "frontend"
    RUNTIME = "runtime"

    @property
    def module(self) -> str:
        """What `python -m` runs."""
        return _CONTENTS[self].module

    @property
    def packages(self) -> tuple[str, ...]:
        """Our packages in it, with all below them."""
        return _CONTENTS[self].packages

    @property
    def modules(self) -> tuple[str, ...]:
        """Our single modules in it."""
        return _CONTENTS[self].modules

    @property
    def distributions(self) -> tuple[str, ...]:
        """What it needs of others."""
        return _CONTENTS[self].distributions


_CONTENTS = {
    Part.ADMIN: _Content(
        module="clipper_nomad.admin",
        packages=("clipper_nomad.admin", "clipper_nomad.state", "clipper_nomad.protocol"),
        modules=("clipper_nomad", "clipper_nomad.errors", "clipper_nomad.http_sessions", "clipper_nomad.toolkit"),
        distributions=("aiohttp", "redis", "numpy", "requests"),
    ),
    Part.FRONTEND: _Content(
        module="clipper_nomad_frontend",
        packages=("clipper_nomad_frontend", "clipper_nomad.state", "clipper_nomad.protocol"),
        modules=("clipper_nomad", "clipper_nomad.errors", "clipper_nomad.toolkit"),
        distributions=("aiohttp", "httptools", "msgspec", "numpy", "prometheus-client", "pyzmq", "redis", "uvloop"),
    ),
    # as few as can be: they stand beside a user's model
    Part.RUNTIME: _Content(
        module="clipper_nomad_runtime",
        packages=("clipper_nomad_runtime", "clipper_nomad.protocol"),
        modules=("clipper_nomad.errors", "clipper_nomad.metrics", "clipper_nomad.toolkit"),  # predict functions import two
        distributions=("cloudpickle", "numpy", "prometheus-client", "pyzmq"),
    ),
}

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def requirements(part: Part, declared: Iterable[str]) -> list[str]:
    """Return what pip is to install for a part, out of what our distribution declares.

    `declared`: as importlib.metadata.requires gives it. Raises: KeyError: something is not declared there.
    """
    by_name = {}
    for line in declared:
        requirement, _, marker = line.partition(";")
        found = _NAME.match(requirement)
        if found is not None and "extra" not in marker:
            by_name[normalized(found.group())] = requirement.strip()
    return [by_name[normalized(name)] for name in part.distributions]


def normalized(name: str) -> str:
    """Return a distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
