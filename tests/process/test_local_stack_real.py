"""Local mode with the real frontend, admin and runtime: start, end, data that are kept, and cost.

What happens when its parts are killed or stand still is in test_kills_under_load.py.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict

import pytest

from clipper_nomad.local_stack.manager import LocalContainerManager
from clipper_nomad.local_stack.parts import Programs
from tests.process.bundles import pack_model
from tests.process.local_stack_rig import Home, home_of_its_own
from tests.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def home() -> Iterator[Home]:
    with home_of_its_own(programs=Programs()) as one:
        yield one


def deploy_sum(home: Home, manager: LocalContainerManager, *, replicas: int = 1) -> None:
    """Deploy a model that adds up its input, under an app of its name."""
    folder = home.path.parent / "bundle"
    pack_model(folder, "echo_sum", sample=[1.0, 2.0])
    image = manager.publish_bundle("sum", "1", folder)
    version = {"model_name": "sum", "model_version": "1"}
    registered = {**version, "input_type": "doubles", "container_name": image, "labels": [], "batch_size": -1}
    staged = json.loads(call_admin(manager, "/admin/v1/versions", {**registered, "staged": True}))
    manager.deploy_model("sum", "1", "doubles", image, replicas, uid=staged["uid"])
    wait_until(lambda: manager.status().versions[0].ready == replicas, "the replicas are ready", within_s=20)
    call_admin(manager, "/admin/v1/versions/activate", version)
    app = {"name": "sum", "input_type": "doubles", "default_output": "-1", "latency_slo_micros": 10_000_000}
    call_admin(manager, "/admin/v1/apps", app)
    call_admin(manager, "/admin/add_model_links", {"app_name": "sum", "model_names": ["sum"]})


def call_admin(manager: LocalContainerManager, path: str, body: Mapping[str, object]) -> str:
    status, text = post(manager.get_admin_addr(), path, body, token=manager.get_admin_token())
    assert status == 200, text
    return text


def predict(manager: LocalContainerManager, numbers: list[float]) -> object:
    """Return what the app answers, or None if no model did."""
    try:
        status, text = post(manager.get_query_addr(), "/clipper/sum/predict", {"input": numbers})
    except OSError:
        return None
    answer = json.loads(text)
    return None if status != 200 or answer["default"] else answer["output"]


def post(address: str, path: str, body: Mapping[str, object], *, token: str = "") -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=15)
    try:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        connection.request("POST", path, json.dumps(body), headers)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def test_two_replicas_behind_two_frontends_end_with_their_owner(home: Home) -> None:
    manager = home.manager(frontends=2)
    owner = home.owner(frontends=2)
    owner.up()
    manager.connect()
    deploy_sum(home, manager, replicas=2)
    assert {predict(manager, [float(number), 1.0]) for number in range(50)} == {number + 1.0 for number in range(50)}
    manager.detach()

    owner.kill()

    home.assert_nothing_left()


def test_a_kept_stack_comes_back_with_its_app_and_its_model(home: Home) -> None:
    manager = home.manager(keep=True)
    manager.start_clipper()
    deploy_sum(home, manager)
    manager.stop_all()

    manager.start_clipper()

    wait_until(lambda: predict(manager, [2.0, 3.0]) == 5.0, "the model answers", within_s=20)


def test_a_stack_with_one_replica_is_six_processes(home: Home) -> None:
    """How soon it is up, and what it costs when idle, is measured in benchmarks/."""
    manager = home.manager()
    manager.start_clipper()
    deploy_sum(home, manager)
    predict(manager, [1.0, 2.0])

    assert len(home.processes()) == 6


def test_programs_are_the_packages_own_by_default() -> None:
    assert asdict(Programs())["frontend"][-1] == "clipper_nomad_frontend"
