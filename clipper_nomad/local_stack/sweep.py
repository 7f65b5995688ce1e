"""Removes what a stack leaves on disk: sockets always, data unless they are kept. Called by the janitor, and at a start.

Only names that a stack makes are removed, and data only from a directory whose state.json says that it is a stack's and
not kept: a directory that someone else filled stays as it is.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Container

from clipper_nomad.local_stack.kept import read_state
from clipper_nomad.local_stack.place import BUNDLE, ENVIRONMENT, UNFINISHED_COPY, Place


def remove_sockets(place: Place) -> None:
    """Remove the runtime directory, and its parent if that was the last one in it."""
    shutil.rmtree(place.runtime, ignore_errors=True)
    with contextlib.suppress(OSError):
        place.runtime.parent.rmdir()


def remove_unused_bundles(place: Place, used: Container[str]) -> None:
    """Remove all bundles but those whose digests are in `used`, and copies that a killed process did not finish.

    Only while no stack runs: a deploy that is under way has a bundle that nothing refers to yet.
    """
    for folder in place.bundles.iterdir():
        is_unused = folder.name.startswith(BUNDLE) and folder.name not in used
        if is_unused or folder.name.startswith(UNFINISHED_COPY):
            shutil.rmtree(folder, ignore_errors=True)


def remove_unused_environments(place: Place, used: Container[str]) -> None:
    """Remove all environments of models but those that are named in `used`, also those that a killed process began."""
    for folder in place.environments.iterdir():
        if folder.name.startswith(ENVIRONMENT) and folder.name not in used:
            shutil.rmtree(folder, ignore_errors=True)


def remove_data(place: Place) -> bool:
    """Remove the data, unless they are to be kept, and return whether they were removed. The caller holds the lock.

    In an order that a kill cannot harm: state.json, which allows the removal, goes last, and then the lock.
    """
    state = read_state(place.state)
    if state is not None and state.keep:
        return False
    if state is not None:
        for directory in place.directories:
            shutil.rmtree(directory, ignore_errors=True)
        place.token.unlink(missing_ok=True)
        place.state.with_suffix(".new").unlink(missing_ok=True)
        place.state.unlink()
    for directory in place.directories:
        with contextlib.suppress(OSError):  # a start that came no further leaves them empty
            directory.rmdir()
    return True


def remove_empty(place: Place) -> None:
    """Remove the lock and then the data directory and its parent, as far as nothing else is in them."""
    place.lock.unlink(missing_ok=True)
    for directory in (place.data, place.data.parent):
        with contextlib.suppress(OSError):
            directory.rmdir()
