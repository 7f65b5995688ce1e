"""Fixtures of the tests that start real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.places import PLACES, Place, opened
from tests.process.stores import BINARIES, StoreServer, binary


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A cluster on each container manager that is present; one for all tests of a file."""
    yield from opened(request.param, request, tmp_path_factory.mktemp("stack"))


@pytest.fixture(params=BINARIES)
def store_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreServer]:
    """A running store: once redis-server, once valkey-server."""
    program = binary(request.param)
    if program is None:
        pytest.skip(f"{request.param} is not installed")
    yield from _running(program, tmp_path)


@pytest.fixture
def one_store_server(tmp_path: Path) -> Iterator[StoreServer]:
    """A running store of whichever kind there is, for tests that are about something else."""
    program = next(filter(None, map(binary, reversed(BINARIES))), None)
    if program is None:
        pytest.skip("no store's program is installed")
    yield from _running(program, tmp_path)


def _running(program: str, folder: Path) -> Iterator[StoreServer]:
    server = StoreServer(program, folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
