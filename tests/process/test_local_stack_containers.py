"""Clipper's own model containers on a local stack: a Clipper user's calls, and a container that dials get_rpc_addr()."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from clipper_nomad.connection import ClipperConnection
from clipper_nomad.errors import ClipperException
from clipper_nomad.local_stack.manager import LocalContainerManager
from clipper_nomad.local_stack.parts import Programs
from tests.process.clipper_containers import KEEP_ALIVE, LegacyContainer, ServingContainer
from tests.process.local_stack_rig import Home, home_of_its_own, pid_of_part, wait_restarted
from tests.process.local_stack_sums import predict
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


@pytest.fixture
def home() -> Iterator[Home]:
    with home_of_its_own(programs=Programs()) as one:
        yield one


def connected(home: Home, *, frontends: int = 1) -> tuple[ClipperConnection, LocalContainerManager]:
    manager = home.manager(frontends=frontends)
    manager.start_clipper()
    clipper = ClipperConnection(manager)
    clipper.connect()
    return clipper, manager


def serve_sum(clipper: ClipperConnection) -> None:
    """Register what a container serves as `sum`, version 1, as Clipper's users do."""
    clipper.register_application("sum", "doubles", "-1", 10_000_000)
    clipper.register_model("sum", 1, "doubles", image="clipper/sum-container:0.4.1")
    clipper.link_model_to_app("sum", "sum")


def test_a_container_that_came_before_its_model_was_registered_serves_it(home: Home) -> None:
    clipper, manager = connected(home)
    address = manager.get_rpc_addr()
    assert address.startswith("127.0.0.1:")
    with LegacyContainer(address, model="sum") as container:
        container.beat()
        container.receive()
        container.introduce()
        wait_until(lambda: _waiting(clipper) == ["sum"], "the container waits")

        serve_sum(clipper)
        wait_until(lambda: _ready(clipper) == ["sum"], "the container serves")
        container.beat()
        assert container.receive() == KEEP_ALIVE


def test_frontends_without_a_container_relay_to_one_that_has_it(home: Home) -> None:
    clipper, manager = connected(home, frontends=3)
    serve_sum(clipper)
    with ServingContainer(manager.get_rpc_addr(), model="sum"):
        wait_until(lambda: _reachable(clipper) == 3, "every frontend reaches it", within_s=20)

        assert [predict(manager, [float(number), 1.0]) for number in range(30)] == [number + 1.0 for number in range(30)]


def test_a_container_comes_back_to_a_frontend_that_was_killed(home: Home) -> None:
    clipper, manager = connected(home)
    serve_sum(clipper)
    with ServingContainer(manager.get_rpc_addr(), model="sum", poll_s=0.5) as container:
        assert predict(manager, [1.0, 2.0]) == 3.0
        before = container.heard.count(KEEP_ALIVE)
        killed = pid_of_part(manager, "frontend-0")
        os.kill(killed, signal.SIGKILL)
        wait_restarted(manager, "frontend-0", after=killed)
        wait_until(lambda: container.heard.count(KEEP_ALIVE) > before and _ready(clipper), "it is back", within_s=20)

        assert predict(manager, [2.0, 2.0]) == 4.0


def test_a_model_registered_anew_is_not_served_by_who_served_the_old(home: Home) -> None:
    clipper, manager = connected(home)
    serve_sum(clipper)
    with ServingContainer(manager.get_rpc_addr(), model="sum", poll_s=0.2):
        clipper.stop_versioned_models({"sum": ["1"]})
        clipper.register_model("sum", 1, "doubles")
        wait_until(lambda: _waiting(clipper) == ["sum"], "it waits, and is not given work")
        with ServingContainer(manager.get_rpc_addr(), model="sum"):
            assert predict(manager, [2.0, 2.5]) == 4.5


def test_a_stack_without_it_has_no_port_and_says_what_to_set(home: Home) -> None:
    manager = home.manager(legacy_rpc=False)
    manager.start_clipper()

    with pytest.raises(ClipperException, match="without RPC version 3") as refused:
        manager.get_rpc_addr()
    assert "legacy_rpc=True" in str(refused.value.hint)


def _states(clipper: ClipperConnection, state: str) -> list[str]:
    return [row["model"] for report in clipper.frontends() for row in report["replicas"] if row["state"] == state]


def _waiting(clipper: ClipperConnection) -> list[str]:
    return _states(clipper, "waiting")


def _ready(clipper: ClipperConnection) -> list[str]:
    return _states(clipper, "ready")


def _reachable(clipper: ClipperConnection) -> int:
    return sum(
        version["ready"] + version["via_peers"] > 0 for report in clipper.frontends() for version in report["versions"]
    )
