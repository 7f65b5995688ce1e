"""One local stack for the tests of all frameworks, and what they say of a deployed model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import clipper_nomad
from clipper_nomad import ClipperConnection

WITHIN_S = 300.0  # a framework is imported three times for a deploy: here, in the trial, in the replica


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder: it needs what `make test-frameworks` installs, and a framework warns as it likes."""
    for item in items:
        if "frameworks" in item.path.parts:
            item.add_marker(pytest.mark.frameworks)
            item.add_marker(pytest.mark.process)
            item.add_marker(pytest.mark.timeout(2 * WITHIN_S))
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClipperConnection]:
    connection = clipper_nomad.local(home=tmp_path_factory.mktemp("stack"), port=0)
    try:
        yield connection
    finally:
        connection.stop_all()


@pytest.fixture
def clipper(stack: ClipperConnection) -> Iterator[ClipperConnection]:
    """A connection to a stack without apps and models; replicas of frameworks are large, so none is left."""
    yield stack
    stack.stop_all_model_containers()
    for name in stack.get_all_apps():
        stack.unregister_application(name)
