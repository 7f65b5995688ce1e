"""ClipperConnection on a real local stack: deploy, predict, and every refusal a user can meet.

What holds on every container manager is in test_connection_contract.py and test_connection_deploys.py.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

import clipper_nomad
from clipper_nomad import ClipperConnection, DeployedApp, LocalContainerManager
from clipper_nomad.deployers.python import create_endpoint, deploy_python_closure
from clipper_nomad.errors import (
    AdminRefused,
    BundleError,
    ClipperException,
    DeployFailed,
    InvalidName,
    InvalidSpec,
    PredictionFailed,
    UnconnectedException,
)
from tests.models import exits, raises, wrong_count, wrong_types

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClipperConnection]:
    connection = clipper_nomad.local(home=tmp_path_factory.mktemp("stack"), port=0)
    try:
        yield connection
    finally:
        connection.stop_all()


@pytest.fixture
def clipper(stack: ClipperConnection) -> ClipperConnection:
    """A connection to a stack without apps and models."""
    stack.stop_all_model_containers()
    for name in stack.get_all_apps():
        stack.unregister_application(name)
    return stack


def add_up(inputs: np.ndarray) -> list[float]:
    return [float(row.sum()) for row in inputs]


def ten(inputs: np.ndarray) -> list[int]:
    return [10] * len(inputs)


# --- the way of the demo ---


def test_a_model_is_deployed_and_answers_as_in_the_notebook(clipper: ClipperConnection) -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(50, 10))
    model = LinearRegression().fit(features, features @ np.arange(10))

    app = clipper.deploy(model.predict, "diabetes", sample=features[:1])

    for row in features[:5]:
        prediction = app.predict(row)
        assert prediction.output == model.predict([row])[0]
        assert (prediction.default, prediction.late, prediction.model) == (False, False, "diabetes:1")
        assert prediction.replica == "diabetes-1-0"
        assert prediction.latency_ms > 0
    assert app.deployment.output == model.predict(features[:1])[0]
    shown = repr(app)
    assert shown.startswith("✔ diabetes:1 is live")
    assert app.predict_url in shown
    assert "input: doubles[10]" in shown


# --- what cannot be deployed, and what is left of it: nothing ---


class Loading:
    """A function that does something when it is loaded."""

    def __init__(self, does: Callable[..., object], *arguments: object) -> None:
        self._does = does
        self._arguments = arguments

    def __call__(self, inputs: np.ndarray) -> list[float]:
        return [1.0] * len(inputs)

    def __reduce__(self) -> tuple[object, ...]:
        return self._does, self._arguments


@pytest.mark.parametrize(
    ("function", "sample", "cause"),
    [
        (wrong_count.predict, [1.0], "must return one output for each input"),
        (wrong_count.predict, None, "wrong_count"),
        (wrong_types.predict, None, "wrong_type"),
        (raises.predict, [-1.0], "a number below 0"),
        (exits.predict, None, "exit code"),
        (Loading(int, "no number"), None, "invalid literal for int()"),
        (Loading(os._exit, 7), None, "exit code 7"),
        (Loading(os._exit, 3), None, "m-2-0 ended with exit code 3; it logged nothing"),
        (lambda _: os._exit(3), [1.0], "m-2-0 ended with exit code 3; the last line it logged"),
        (
            Loading(importlib.import_module, "no_such_module"),
            None,
            "lacks a package: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        (lambda _: importlib.import_module("no_such_module"), None, "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
    ids=[
        "wrong count",
        "wrong count, made-up",
        "wrong type",
        "raises",
        "exits",
        "raises on load",
        "exits on load",
        "exits on load with a code of ours",
        "exits in the first call with a code of ours",
        "import",
        "import in the first call, made-up",
    ],
)
def test_a_model_that_cannot_serve_leaves_the_old_version_serving_and_nothing_of_itself(
    clipper: ClipperConnection, function: Callable[..., object], sample: object, cause: str
) -> None:
    app = clipper.deploy(ten, "m", sample=[1.0])

    with pytest.raises(DeployFailed, match="Model 'm' version '2' was not deployed") as caught:
        clipper.deploy(function, "m", sample=sample, input_type="doubles", trial=False)

    assert cause in str(caught.value)
    assert app.predict([1.0]).output == 10
    assert clipper.get_all_models() == ["m:1"]
    assert [version["version"] for version in clipper._admin.catalog()["versions"]] == ["1"]  # noqa: SLF001  # staged too
    assert [part.name for part in manager(clipper).status().parts if part.name.startswith("model-m-2")] == []


def test_a_folder_that_is_no_bundle_is_refused_before_anything_is_registered(
    clipper: ClipperConnection, tmp_path: Path
) -> None:
    (tmp_path / "func.pkl").write_bytes(b"what Clipper's own deployers wrote")

    with pytest.raises(BundleError, match="is no bundle"):
        clipper.build_and_deploy_model("m", 1, "doubles", str(tmp_path), "default")
    with pytest.raises(ClipperException, match="no bundle's reference"):
        clipper.deploy_model("m", 1, "doubles", "registry.example/default-cluster-m:1")

    assert clipper.get_all_models() == []
    assert [part.name for part in manager(clipper).status().parts if part.kind == "replica"] == []


def test_an_app_that_was_registered_for_a_failed_deploy_goes_with_it(clipper: ClipperConnection) -> None:
    with pytest.raises(DeployFailed):
        clipper.deploy(wrong_count.predict, "m", sample=[1.0])
    with pytest.raises(DeployFailed):
        create_endpoint(clipper, "n", "doubles", wrong_count.predict, sample=[1.0], trial=False)

    assert (clipper.get_all_apps(), clipper.get_all_models()) == ([], [])


def test_a_function_that_refuses_a_made_up_input_is_deployed_with_a_warning(
    clipper: ClipperConnection, caplog: pytest.LogCaptureFixture
) -> None:
    def three_features_only(inputs: np.ndarray) -> list[float]:
        if inputs.shape[1] != 3:
            raise ValueError("three features, please")
        return [1.0] * len(inputs)

    app = clipper.deploy(three_features_only, "m", input_type="doubles")

    assert "give sample=" in (app.deployment.warning or "")
    assert any("loaded, not tested" in message for message in caplog.messages)
    assert app.predict([1.0, 2.0, 3.0]).output == 1.0


def test_an_app_of_another_type_or_model_is_not_touched(clipper: ClipperConnection) -> None:
    clipper.register_application("texts", "strings", "", 1_000_000)
    clipper.deploy(add_up, "m", sample=[1.0])
    clipper.register_application("other", "doubles", "", 1_000_000)
    clipper.link_model_to_app("other", "m")

    with pytest.raises(ClipperException, match="Application 'texts' takes strings and this function doubles"):
        clipper.deploy(add_up, "texts", sample=[1.0])
    with pytest.raises(ClipperException, match="Application 'other' is linked to model 'm'"):
        clipper.deploy(add_up, "other", sample=[1.0])
    assert clipper.get_all_models() == ["m:1"]


LOCK = threading.Lock()


@pytest.mark.parametrize(
    ("arguments", "error", "cause"),
    [
        ({"name": "My_Model"}, InvalidName, "a model name must be a valid DNS-1123"),
        ({"version": "1.0"}, InvalidName, "a model version must be a valid DNS-1123"),
        ({"name": "m" * 50}, InvalidName, "characters too long"),
        ({"sample": "text"}, ClipperException, "is no input of type doubles"),
        ({"input_type": "complex"}, ClipperException, "unknown input type 'complex'"),
        ({"input_type": None, "sample": None}, ClipperException, "What the function takes is not known"),
        ({"func": 7}, BundleError, "expected a function"),
        ({"func": lambda inputs: [LOCK for _ in inputs]}, BundleError, "the global 'LOCK'"),
        ({"pkgs_to_install": ["--pre"]}, BundleError, "'--pre' in pkgs_to_install is no package"),
        ({"pkgs_to_install": "six"}, BundleError, "pkgs_to_install is 'six'; expected a list of packages"),
        ({"labels": "abc"}, AdminRefused, "JSON key labels expected type Array"),
        ({"batch_size": 0}, AdminRefused, "The batch size must be positive"),
        ({"labels": ["a,b"]}, AdminRefused, "Contains one of"),
        ({"slo_micros": 0}, AdminRefused, "latency_slo_micros is 0"),
        ({"slo_policy": "never"}, AdminRefused, "slo_policy is 'never'"),
        ({"num_replicas": -1}, InvalidSpec, "num_replicas: -1; expected an integer from 0"),
    ],
)
def test_a_deploy_that_makes_no_sense_is_refused_and_changes_nothing(
    clipper: ClipperConnection, arguments: dict[str, Any], error: type[Exception], cause: str
) -> None:
    good: dict[str, Any] = {"func": add_up, "name": "m", "sample": [1.0], "input_type": "doubles"}

    with pytest.raises(error, match=cause):
        clipper.deploy(**(good | arguments))

    assert (clipper.get_all_apps(), clipper.get_all_models()) == ([], [])


# --- asking ---


@pytest.mark.parametrize(
    ("value", "error", "cause"),
    [
        (np.zeros((2, 3)), ClipperException, "that is a batch"),
        ([float("nan")], ClipperException, "NaN"),
        ("text", PredictionFailed, "400"),
        ([-1.0], PredictionFailed, "a number below 0"),
    ],
)
def test_a_query_that_cannot_be_answered_says_why(
    clipper: ClipperConnection, value: object, error: type[Exception], cause: str
) -> None:
    clipper.deploy(raises.predict, "m", sample=[1.0])

    with pytest.raises(error, match=cause):
        clipper.predict("m", value)


def test_a_version_that_is_not_there_cannot_be_asked_for(clipper: ClipperConnection) -> None:
    clipper.deploy(add_up, "m", sample=[1.0])

    with pytest.raises(PredictionFailed, match="Requested version: 7 does not exist for model: m"):
        clipper.predict("m", [1.0], version=7)


def test_threads_get_the_answers_to_their_own_questions(clipper: ClipperConnection) -> None:
    app = clipper.deploy(add_up, "m", sample=[1.0])
    wrong: list[tuple[float, object]] = []

    def ask(start: int) -> None:
        for number in range(start, start + 50):
            output = app.predict([float(number)]).output
            if output != number:
                wrong.append((number, output))

    threads = [threading.Thread(target=ask, args=(1000 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def ask_in_a_fork(app: DeployedApp, start: int, results: multiprocessing.Queue[bool]) -> None:
    results.put(all(app.predict([float(number)]).output == number for number in range(start, start + 50)))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # a fork with threads is what is tested
def test_forked_workers_get_the_answers_to_their_own_questions(clipper: ClipperConnection) -> None:
    app = clipper.deploy(add_up, "m", sample=[1.0])
    app.predict([1.0])  # its connection is open when the workers are forked
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    workers = [fork.Process(target=ask_in_a_fork, args=(app, 1000 * index, results)) for index in range(3)]

    for worker in workers:
        worker.start()

    assert [results.get(timeout=20) for _ in workers] == [True, True, True]
    for worker in workers:
        worker.join(10)


# --- connections ---


def manager(clipper: ClipperConnection) -> LocalContainerManager:
    assert isinstance(clipper.cm, LocalContainerManager)
    return clipper.cm


def test_a_proxy_of_the_environment_is_not_used(clipper: ClipperConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    fresh = ClipperConnection(manager(clipper))
    fresh.connect()

    assert fresh.get_all_apps() == []


UNCONNECTED: list[Callable[[ClipperConnection], object]] = [
    lambda c: c.register_application("a", "doubles", "", 1),
    lambda c: c.unregister_application("a"),
    lambda c: c.delete_application("a"),
    lambda c: c.feedback("a"),
    lambda c: c.link_model_to_app("a", "m"),
    lambda c: c.unlink_model_from_app("a", "m"),
    lambda c: c.get_all_apps(),
    lambda c: c.get_app_info("a"),
    lambda c: c.get_linked_models("a"),
    lambda c: c.register_model("m", 1, "doubles"),
    lambda c: c.get_all_models(),
    lambda c: c.get_model_info("m", 1),
    lambda c: c.get_current_model_version("m"),
    lambda c: c.get_all_model_replicas(),
    lambda c: c.get_model_replica_info("m", 1, 0),
    lambda c: c.set_model_version("m", 1),
    lambda c: c.get_num_replicas("m"),
    lambda c: c.get_num_replicas("m", 1),
    lambda c: c.set_num_replicas("m", 1),
    lambda c: c.set_num_replicas("m", 1, 1),
    lambda c: c.stop_models(["m"]),
    lambda c: c.stop_versioned_models({"m": [1]}),
    lambda c: c.stop_inactive_model_versions(["m"]),
    lambda c: c.stop_all_model_containers(),
    lambda c: c.deploy(add_up, "m", sample=[1.0]),
    lambda c: c.deploy_model("m", 1, "doubles", "bundle:x"),
    lambda c: c.build_and_deploy_model("m", 1, "doubles", "/nowhere", "default"),
    lambda c: deploy_python_closure(c, "m", 1, "doubles", add_up),
    lambda c: create_endpoint(c, "m", "doubles", add_up),
    lambda c: c.predict("a", [1.0]),
    lambda c: c.predict_url("a"),
    lambda c: c.get_query_addr(),
    lambda c: c.get_admin_addr(),
    lambda c: c.get_metric_addr(),
    lambda c: c.get_clipper_logs(),
    lambda c: c.inspect_instance(),
    lambda c: c.frontends(),
]


@pytest.mark.filterwarnings("ignore:delete_application:DeprecationWarning")
@pytest.mark.parametrize("call", UNCONNECTED, ids=range(len(UNCONNECTED)))
def test_before_there_is_a_connection_every_call_says_so(
    call: Callable[[ClipperConnection], object], tmp_path: Path
) -> None:
    clipper = ClipperConnection(LocalContainerManager(home=tmp_path))

    with pytest.raises(UnconnectedException, match=r"connect\(\) or start_clipper\(\)"):
        call(clipper)


def test_a_start_that_fails_is_logged_and_raised(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clipper = ClipperConnection(LocalContainerManager(home=tmp_path))

    with pytest.raises(ClipperException, match="cache_size is -1"):
        clipper.start_clipper(cache_size=-1)

    assert not clipper.connected
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned == [
        "[default-cluster] Error starting Clipper: cache_size is -1; expected a number of bytes, or 0 for no cache."
    ]


def test_code_written_for_clipper_gets_clipper_s_policy_where_the_stack_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPPER_DEFAULT_SLO_POLICY", "default")
    clipper = clipper_nomad.local(home=tmp_path, port=0)
    try:
        clipper.register_application("a", "doubles", "-1.0", 50_000)
        clipper.register_model("m", 1, "doubles")
        clipper.link_model_to_app("a", "m")
        prediction = clipper.predict("a", [1.0])
    finally:
        clipper.stop_all()

    assert (prediction.output, prediction.default) == (-1.0, True)
    assert prediction.latency_ms < 5000  # not the 10 s that policy `late` waits for a replica


def test_each_process_has_a_log_of_its_own_name(clipper: ClipperConnection, tmp_path: Path) -> None:
    clipper.deploy(add_up, "m", sample=[1.0])

    files = clipper.get_clipper_logs(str(tmp_path / "logs"))

    names = {Path(file).name for file in files}
    assert {"admin.log", "frontend-0.log", "model-m-1-0.log"} <= names
    assert all(Path(file).parent == tmp_path / "logs" and Path(file).is_file() for file in files)


def test_stop_all_works_without_a_connection_and_with_nothing_to_stop(tmp_path: Path) -> None:
    clipper = ClipperConnection(LocalContainerManager(home=tmp_path))

    clipper.stop_all()

    assert not clipper.connected


def test_a_predict_that_nobody_answers_says_so(clipper: ClipperConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clipper.cm, "predict_url", lambda app: f"http://127.0.0.1:9/{app}/predict")

    with pytest.raises(PredictionFailed, match="No query frontend answered") as caught:
        clipper.predict("m", [1.0])

    assert caught.value.status is None
