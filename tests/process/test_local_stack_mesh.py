"""Local mode with several real query frontends on one port: all of them serve every model, and one may die at any time."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psutil
import pytest

from clipper_nomad.connection import ClipperConnection
from clipper_nomad.local_stack.manager import LocalContainerManager
from clipper_nomad.local_stack.parts import Programs
from tests.process.local_stack_rig import Home, home_of_its_own, pid_of_part, wait_restarted
from tests.process.local_stack_sums import deploy_sum
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

FRONTENDS = ("frontend-0", "frontend-1", "frontend-2")
PATH = "/clipper/sum/predict"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def shared_home() -> Iterator[Home]:
    with home_of_its_own(programs=Programs()) as one:
        yield one


@pytest.fixture(scope="module")
def manager(shared_home: Home) -> LocalContainerManager:
    """Three frontends and two replicas of a model that adds up."""
    manager = shared_home.manager(frontends=3)
    manager.start_clipper()
    deploy_sum(shared_home, manager, replicas=2)
    wait_covered(manager, replicas=2)
    return manager


def reports(manager: LocalContainerManager) -> Mapping[str, Mapping[str, Any]]:
    """What each frontend says of itself, by name."""
    connection = ClipperConnection(manager)
    connection.connect()
    return {report["frontend"]: report for report in connection.frontends()}


def is_covered(manager: LocalContainerManager, *, replicas: int) -> bool:
    """Whether every frontend has a link to every replica and to every other frontend."""
    found = reports(manager)
    return found.keys() == set(FRONTENDS) and all(
        [version["ready"] for version in report["versions"]] == [replicas]
        and sum(peer["linked"] for peer in report["peers"]) == len(FRONTENDS) - 1
        for report in found.values()
    )


def wait_covered(manager: LocalContainerManager, *, replicas: int) -> None:
    wait_until(lambda: is_covered(manager, replicas=replicas), "every frontend has all links", within_s=20)


def connect(manager: LocalContainerManager) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(manager.get_query_addr(), timeout=10)
    connection.connect()
    return connection


def ask(connection: http.client.HTTPConnection, number: float) -> bool:
    """Whether the sum of this number and one half comes back."""
    connection.request("POST", PATH, json.dumps({"input": [number, 0.5]}), JSON)
    reply = connection.getresponse()
    body = json.loads(reply.read())
    return reply.status == 200 and not body["default"] and body["output"] == number + 0.5


def open_connections(manager: LocalContainerManager, name: str) -> int:
    port = int(manager.get_query_addr().rpartition(":")[2])
    of_process = psutil.Process(pid_of_part(manager, name)).net_connections("tcp")
    return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port for one in of_process)


def test_every_frontend_answers_and_each_has_its_share_of_the_connections(manager: LocalContainerManager) -> None:
    connections = [connect(manager) for _ in range(48)]
    try:
        assert all(ask(connection, number) for number, connection in enumerate(connections))

        shares = [open_connections(manager, name) for name in FRONTENDS]
    finally:
        for connection in connections:
            connection.close()

    assert sum(shares) == 48
    assert min(shares) >= 8  # 16 each, as far as the system's scheduling lets them; by chance it may be 0
    assert all(report["apps"][0]["queries"] >= min(shares) for report in reports(manager).values())


def test_what_is_no_prediction_is_answered_on_a_shared_port_too(manager: LocalContainerManager) -> None:
    for _ in range(6):
        connection = connect(manager)
        connection.request("GET", "/nowhere")
        assert connection.getresponse().status == 404
        connection.close()


def test_a_frontend_that_is_killed_under_load_costs_what_it_held_and_comes_back(manager: LocalContainerManager) -> None:
    load = Load(manager, clients=12)
    load.run_for(1.0)
    killed = pid_of_part(manager, "frontend-1")

    os.kill(killed, signal.SIGKILL)
    killed_at = time.monotonic()
    wait_restarted(manager, "frontend-1", after=killed)
    wait_covered(manager, replicas=2)
    load.run_for(1.0)
    load.stop()

    assert load.answered > 500
    assert len(load.failed_at) <= load.answered / 100
    assert all(at <= killed_at + 2 for at in load.failed_at)
    assert load.wrong == 0


class Load:
    """Clients that ask one query after another, each on a connection of its own, and never ask one again."""

    def __init__(self, manager: LocalContainerManager, *, clients: int) -> None:
        self.answered = self.wrong = 0
        self.failed_at: list[float] = []
        self._manager = manager
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(client,), daemon=True) for client in range(clients)]
        for thread in self._threads:
            thread.start()

    def run_for(self, seconds: float) -> None:
        assert not self._stopped.wait(seconds)

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(15)

    def _ask(self, client: int) -> None:
        connection = connect(self._manager)
        number = client * 1e6
        while not self._stopped.wait(0.005):
            number += 1
            try:
                if ask(connection, number):
                    self.answered += 1
                else:
                    self.wrong += 1
            except (OSError, http.client.HTTPException):
                self.failed_at.append(time.monotonic())
                connection.close()
                connection = connect(self._manager)
        connection.close()


def test_while_a_frontend_is_stopped_the_others_take_the_connections(manager: LocalContainerManager) -> None:
    stopped = pid_of_part(manager, "frontend-2")
    os.kill(stopped, signal.SIGSTOP)
    try:
        connections = [connect(manager) for _ in range(12)]
        assert all(ask(connection, number) for number, connection in enumerate(connections))
        for connection in connections:
            connection.close()
    finally:
        os.kill(stopped, signal.SIGCONT)

    wait_covered(manager, replicas=2)


def test_a_replica_is_one_however_many_frontends_it_serves(manager: LocalContainerManager) -> None:
    clipper = ClipperConnection(manager)
    clipper.connect()

    assert clipper.get_num_replicas("sum") == 2
    assert sorted(clipper.get_all_model_replicas()) == ["sum:1:0", "sum:1:1"]


def test_clippers_way_to_name_the_number_deploys_through_each_of_them() -> None:
    with home_of_its_own(programs=Programs()) as home:
        clipper = ClipperConnection(home.manager())
        clipper.start_clipper(num_frontend_replicas=2)

        app = clipper.deploy(lambda inputs: [float(one.sum()) for one in inputs], "sums", sample=[1.0, 2.0])

        found = sorted(clipper.frontends(), key=lambda report: str(report["frontend"]))
        assert [report["frontend"] for report in found] == ["frontend-0", "frontend-1"]
        assert [report["versions"][0]["ready"] for report in found] == [1, 1]
        assert [report["replicas"][0]["answered"] for report in found] == [1, 1]  # its probe
        assert app.predict([1.0, 2.0]).output == 3.0
