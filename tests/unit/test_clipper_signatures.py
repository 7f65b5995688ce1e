"""Whoever uses Clipper changes the import line and goes on: methods, their parameters and defaults, constants, names.

The table is what Clipper's documentation and source say. Our own parameters come after Clipper's, and by keyword only.
"""

from __future__ import annotations

import ast
import inspect
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import clipper_nomad
from clipper_nomad import (
    BundleError,
    ClipperConnection,
    ClipperException,
    DockerContainerManager,
    NomadContainerManager,
    UnconnectedException,
    container_manager,
)
from clipper_nomad.container_manager import ClusterAdapter, ContainerManager

METHODS = """
def start_clipper(query_frontend_image=None, mgmt_frontend_image=None, frontend_exporter_image=None, cache_size=33554432,
    qf_http_thread_pool_size=1, qf_http_timeout_request=5, qf_http_timeout_content=300, num_frontend_replicas=1): ...
def connect(): ...
def register_application(name, input_type, default_output, slo_micros): ...
def delete_application(name): ...
def unregister_application(name): ...
def link_model_to_app(app_name, model_name): ...
def unlink_model_from_app(app_name, model_name): ...
def build_and_deploy_model(name, version, input_type, model_data_path, base_image, labels=None, container_registry=None,
    num_replicas=1, batch_size=-1, pkgs_to_install=None): ...
def build_model(name, version, model_data_path, base_image, container_registry=None, pkgs_to_install=None): ...
def deploy_model(name, version, input_type, image, labels=None, num_replicas=1, batch_size=-1): ...
def register_model(name, version, input_type, image=None, labels=None, batch_size=-1): ...
def get_current_model_version(name): ...
def get_num_replicas(name, version=None): ...
def set_num_replicas(name, num_replicas, version=None): ...
def get_all_apps(verbose=False): ...
def get_app_info(name): ...
def get_linked_models(app_name): ...
def get_all_models(verbose=False): ...
def get_model_info(name, version): ...
def get_all_model_replicas(verbose=False): ...
def get_model_replica_info(name, version, replica_id): ...
def get_clipper_logs(logging_dir="clipper_logs/"): ...
def inspect_instance(): ...
def set_model_version(name, version, num_replicas=None): ...
def get_query_addr(): ...
def get_metric_addr(): ...
def stop_models(model_names): ...
def stop_versioned_models(model_versions_dict): ...
def stop_inactive_model_versions(model_names): ...
def stop_all_model_containers(): ...
def stop_all(graceful=True): ...
def test_predict_function(query, func, input_type): ...
"""
TABLE = {node.name: node.args for node in ast.parse(METHODS).body if isinstance(node, ast.FunctionDef)}

CONSTANTS = {
    "CLIPPER_INTERNAL_QUERY_PORT": 1337,
    "CLIPPER_INTERNAL_MANAGEMENT_PORT": 1338,
    "CLIPPER_INTERNAL_RPC_PORT": 7000,
    "CLIPPER_INTERNAL_METRIC_PORT": 1390,
    "CLIPPER_INTERNAL_REDIS_PORT": 6379,
    "CLIPPER_INTERNAL_FLUENTD_PORT": 24224,
    "CLIPPER_DOCKER_LABEL": "ai.clipper.container.label",
    "CLIPPER_NAME_LABEL": "ai.clipper.name",
    "CLIPPER_MODEL_CONTAINER_LABEL": "ai.clipper.model_container.label",
    "CLIPPER_QUERY_FRONTEND_CONTAINER_LABEL": "ai.clipper.query_frontend.label",
    "CLIPPER_MGMT_FRONTEND_CONTAINER_LABEL": "ai.clipper.management_frontend.label",
    "CLIPPER_DOCKER_PORT_LABELS": {
        "redis": "ai.clipper.redis.port",
        "query_rest": "ai.clipper.query_frontend.query.port",
        "query_rpc": "ai.clipper.query_frontend.rpc.port",
        "management": "ai.clipper.management.port",
        "metric": "ai.clipper.metric.port",
        "fluentd": "ai.clipper.fluentd.port",
    },
    "CLIPPER_METRIC_CONFIG_LABEL": "ai.clipper.metric.config",
    "CLIPPER_FLUENTD_CONFIG_LABEL": "ai.clipper.fluentd.config",
    "CONTAINERLESS_MODEL_IMAGE": "NO_CONTAINER",
}


@pytest.mark.parametrize("name", TABLE)
def test_a_method_takes_what_clipper_s_takes_in_its_order_and_with_its_defaults(name: str) -> None:
    parameters = list(inspect.signature(getattr(ClipperConnection, name)).parameters.values())[1:]
    wanted = TABLE[name]

    clippers = [each for each in parameters if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    ours = parameters[len(clippers) :]
    assert [each.name for each in clippers] == [each.arg for each in wanted.args]
    defaults = [each.default for each in clippers if each.default is not inspect.Parameter.empty]
    assert defaults == [ast.literal_eval(each) for each in wanted.defaults]
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in ours)
    assert all(each.default is not inspect.Parameter.empty for each in ours)


@pytest.mark.parametrize(("name", "value"), CONSTANTS.items())
def test_constants_of_container_manager_are_clipper_s(name: str, value: object) -> None:
    assert getattr(container_manager, name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLIPPER_TEMP_DIR", "/tmp/clipper"),  # noqa: S108  # Clipper's constant
        ("DEFAULT_LABEL", []),
        ("DEFAULT_PREDICTION_CACHE_SIZE_BYTES", 33_554_432),
    ],
)
def test_constants_of_the_package_are_clipper_s(name: str, value: object) -> None:
    assert getattr(clipper_nomad, name) == value


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("a", True),
        ("my-model-1", True),
        ("1", True),
        ("1.0", False),
        ("a_b", False),
        ("A", False),
        ("-a", False),
        ("a\n", False),
    ],
)
def test_the_rule_for_deployed_names_is_clipper_s(name: str, *, is_one: bool) -> None:
    assert bool(clipper_nomad.deployment_regex.match(name)) is is_one
    assert clipper_nomad.deployment_regex.pattern == clipper_nomad.deploy_regex_str


def test_the_registry_is_clipper_s_or_the_one_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLIPPER_REGISTRY", raising=False)
    assert clipper_nomad.__registry__ == "clipper"

    monkeypatch.setenv("CLIPPER_REGISTRY", "registry.example/team")
    assert clipper_nomad.__registry__ == "registry.example/team"


def test_names_that_notebooks_import_are_there() -> None:
    code = (
        "import clipper_nomad as cl\n"
        "print(cl.deployers, cl.ClipperConnection, cl.DockerContainerManager)\n"
        "from clipper_nomad import ClipperConnection, ClipperException, UnconnectedException\n"
        "from clipper_nomad import DockerContainerManager, NomadContainerManager, ConsulDNS, FabioLoadBalancer\n"
        "from clipper_nomad.container_manager import CLIPPER_INTERNAL_RPC_PORT, ClusterAdapter\n"
        "from clipper_nomad.deployers import python as python_deployer\n"
        "from clipper_nomad.deployers.python import create_endpoint, deploy_python_closure\n"
        "print(cl.__version__, cl.__registry__)\n"
        "from clipper_nomad import *\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment, timeout=50)


@pytest.mark.parametrize("manager", [DockerContainerManager, lambda: NomadContainerManager("127.0.0.1:9")])
@pytest.mark.parametrize("packages", ["six", ["six", None], ["six", " "]])
def test_packages_that_are_no_list_of_packages_are_refused_before_anything_is_built(
    manager: Callable[[], ContainerManager],
    packages: Any,  # noqa: ANN401  # what users do
    tmp_path: Path,
) -> None:
    """Else pip would install those that are called s, i and x. Of local mode test_environments.py tells."""
    with pytest.raises(BundleError, match=r"Model m:1: pkgs_to_install is .*; expected a list of packages"):
        manager().publish_bundle("m", "1", tmp_path, "default", None, packages)


def test_a_cluster_s_messages_begin_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    logger = ClusterAdapter(logging.getLogger("clipper_nomad.of_a_test"), {"cluster_name": "c1"})

    with caplog.at_level(logging.INFO):
        logger.info("%d replicas", 2)

    assert caplog.messages == ["[c1] 2 replicas"]


def test_exceptions_have_clipper_s_attributes() -> None:
    assert ClipperException("what", 1).msg == "what"
    unconnected = UnconnectedException()
    assert isinstance(unconnected, ClipperException)
    assert "connect()" in unconnected.message
    assert "start_clipper()" in unconnected.message
