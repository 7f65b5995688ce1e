"""What the deployers of frameworks have in common: the import of one, and the errors of models that are not its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from clipper_nomad.errors import BundleError, ClipperException


def imported(module: str, *, install: str) -> Any:  # noqa: ANN401  # a framework, which may have no types
    """Return a framework. Raises: ClipperException: it is not installed here."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as exc:
        raise ClipperException(
            f"The deployer of {module} models needs {exc.name}, which is not installed in this Python.",
            hint=f"Install {install} with pip, in the version that the model was trained with.",
        ) from exc


def wrong_model(model: object, wanted: str) -> BundleError:
    """Return the error of a model that is none of the framework's."""
    kind = model if isinstance(model, type) else type(model)
    what = f"The class {kind.__qualname__}" if isinstance(model, type) else f"A {kind.__module__}.{kind.__qualname__}"
    return BundleError(
        f"{what} is not what this deployer takes: expected {wanted}.",
        hint="The order of arguments is (connection, name, version, input_type, function, model). "
        "Any other object goes with deployers.python, inside the function.",
    )


@contextmanager
def saving(framework: str) -> Iterator[None]:
    """Tell what a framework raises while it saves a model, in Clipper's words. Raises: BundleError."""
    try:
        yield
    except Exception as exc:  # a framework may raise anything
        raise BundleError(
            f"Error saving {framework} model: {type(exc).__name__}: {exc}",
            hint="What a model cannot be saved with belongs into the function; see that the framework itself saves it.",
        ) from exc


def features_of(asked: Callable[[], object]) -> int | None:
    """Return how many numbers an input of a model has, None: it does not say so."""
    try:
        count = asked()
    except Exception:  # noqa: BLE001  # a model without the attribute, or with one that raises; it is only asked
        return None
    return count if isinstance(count, int) and count > 0 else None
