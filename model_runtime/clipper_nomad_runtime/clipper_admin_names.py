"""`import clipper_admin.metrics` in a predict function that was written for Clipper: it gets `clipper_nomad.metrics`.

Clipper's own module would start a Redis server in the replica and send the metrics there, so it is never taken, also where
Clipper's package is installed. Its other names are that package's if it is there; else `clipper_admin` has the exceptions
that a function may catch, and no more.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

CLIPPER = "clipper_admin"
_METRICS = "clipper_nomad.metrics"
_ERRORS = "clipper_nomad.errors"
_EXCEPTIONS = ("ClipperException", "UnconnectedException")

# module → (where its names are, which)
_ALWAYS_OURS = {
    f"{CLIPPER}.metrics": (_METRICS, ("add_metric", "report_metric")),
    f"{CLIPPER}.metrics.client": (_METRICS, ("add_metric", "report_metric")),  # what a pickled reference names
}
_IF_NOT_INSTALLED = {
    CLIPPER: (_ERRORS, _EXCEPTIONS),
    f"{CLIPPER}.exceptions": (_ERRORS, _EXCEPTIONS),
}


class _Names(MetaPathFinder, Loader):
    """Finds the modules above, and makes them when they are imported."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return how to make one of these modules, None of any other."""
        is_ours = fullname in _ALWAYS_OURS or (
            fullname in _IF_NOT_INSTALLED and PathFinder.find_spec(fullname, path, target) is None
        )
        if not is_ours:
            return None
        is_package = any(name.startswith(f"{fullname}.") for name in (*_ALWAYS_OURS, *_IF_NOT_INSTALLED))
        return ModuleSpec(fullname, self, is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        """Give a module its names."""
        home, names = (_ALWAYS_OURS | _IF_NOT_INSTALLED)[module.__name__]
        for name in names:
            setattr(module, name, getattr(import_module(home), name))


def offer() -> None:
    """Let these modules be imported in this process. Nothing of them is loaded before that."""
    sys.meta_path.insert(0, _Names())
