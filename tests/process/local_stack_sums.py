"""A model that adds up its input, deployed on a local stack and asked with nothing but HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping

from clipper_nomad.local_stack.manager import LocalContainerManager
from tests.process.bundles import pack_model
from tests.process.local_stack_rig import Home
from tests.waiting import wait_until


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


def models(manager: LocalContainerManager) -> object:
    """Return what admin knows, or None while it or its store is away."""
    try:
        status, text = post(
            manager.get_admin_addr(), "/admin/get_all_models", {"verbose": False}, token=manager.get_admin_token()
        )
    except OSError:
        return None
    return json.loads(text) if status == 200 else None


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
