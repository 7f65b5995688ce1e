"""ClipperConnection on a real local stack: deploy, predict, versions, replicas, and every refusal a user can meet."""

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
import requests
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
from tests.models import exits, identity, raises, wrong_count, wrong_types

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


def test_clipper_s_own_steps_do_the_same(clipper: ClipperConnection) -> None:
    clipper.register_application("app-1", "doubles", "-1.0", 10_000_000)
    unlinked = clipper.predict("app-1", [1.0, 2.0])

    deploy_python_closure(clipper, "adder", 1, "doubles", add_up, sample=[1.0, 2.0])
    clipper.link_model_to_app("app-1", "adder")
    linked = clipper.predict("app-1", [1.0, 2.0])

    assert (unlinked.output, unlinked.default) == (-1.0, True)
    assert unlinked.default_explanation == "No connected models found for query"
    assert (linked.output, linked.default) == (3.0, False)
    said = requests.post(clipper.predict_url("app-1"), json={"input": [0.5, 0.25]}, timeout=10).json()
    assert said["output"] == 0.75


def test_create_endpoint_registers_deploys_and_links(clipper: ClipperConnection) -> None:
    create_endpoint(clipper, "adder", "doubles", add_up)

    assert clipper.get_linked_models("adder") == ["adder"]
    app = clipper.get_app_info("adder")
    assert app is not None
    assert (app["default_output"], app["latency_slo_micros"]) == ("None", 3_000_000)
    assert clipper.predict("adder", np.ones(4)).output == 4.0


def test_a_new_version_takes_over_and_the_old_one_can_be_asked_for_and_set(clipper: ClipperConnection) -> None:
    app = clipper.deploy(add_up, "m", sample=[1.0])
    clipper.deploy(ten, "m", sample=[1.0])

    assert app.predict([3.0]).output == 10
    assert clipper.predict("m", [3.0], version=1).output == 3.0
    assert clipper.get_current_model_version("m") == "2"
    clipper.set_model_version("m", 1)
    assert app.predict([3.0]).output == 3.0


def test_text_and_bytes_are_inputs_too(clipper: ClipperConnection) -> None:
    clipper.deploy(identity.predict, "texts", sample="any text")
    clipper.deploy(lambda inputs: [len(one) for one in inputs], "sizes", sample=b"any bytes")

    assert clipper.predict("texts", "ä text").output == "ä text"
    assert clipper.predict("sizes", b"\x00\xff\x00").output == 3


# --- what is registered and what runs ---


def test_what_is_registered_and_runs_is_shown(clipper: ClipperConnection) -> None:
    clipper.deploy(add_up, "m", sample=[1.0], num_replicas=2, labels=["a", "b"])

    model = clipper.get_model_info("m", 1)
    assert model is not None
    assert (model["labels"], model["is_current_version"], model["input_type"]) == (["a", "b"], True, "doubles")
    assert clipper.get_all_models() == ["m:1"]
    assert sorted(clipper.get_all_model_replicas()) == ["m:1:0", "m:1:1"]
    replica = clipper.get_model_replica_info("m", 1, 1)
    assert replica is not None
    assert replica["model_replica_id"] == 1
    assert clipper.get_num_replicas("m") == 2
    assert clipper.get_model_info("m", 7) is None
    assert clipper.get_model_replica_info("m", 1, 7) is None
    assert clipper.get_app_info("nothing") is None
    [frontend] = clipper.frontends()
    assert [version["ready"] for version in frontend["versions"]] == [2]


def test_replicas_are_scaled(clipper: ClipperConnection) -> None:
    clipper.deploy(add_up, "m", sample=[1.0])

    clipper.set_num_replicas("m", 2)

    assert clipper.get_num_replicas("m", "1") == 2


def test_scaling_what_is_not_there_or_has_no_container_is_refused(clipper: ClipperConnection) -> None:
    clipper.register_model("bare", 1, "doubles")

    with pytest.raises(ClipperException, match="Cannot add container for non-registered model bare:2"):
        clipper.set_num_replicas("bare", 2, 2)
    with pytest.raises(ClipperException, match="containerless model"):
        clipper.set_num_replicas("bare", 2)
    with pytest.raises(ClipperException, match="No versions of model nothing registered with Clipper"):
        clipper.get_num_replicas("nothing")


def test_stopped_versions_are_unregistered(clipper: ClipperConnection) -> None:
    for _ in range(3):
        clipper.deploy(add_up, "m", sample=[1.0])
    clipper.deploy(add_up, "n", sample=[1.0])

    clipper.stop_versioned_models({"m": [1]})
    assert sorted(clipper.get_all_models()) == ["m:2", "m:3", "n:1"]
    clipper.stop_inactive_model_versions(["m", "no such model"])
    assert sorted(clipper.get_all_models()) == ["m:3", "n:1"]
    clipper.stop_models(["m"])
    assert clipper.get_all_models() == ["n:1"]
    assert clipper.predict("m", [1.0]).default is True


def test_unlinking_and_unregistering_end_what_they_end(clipper: ClipperConnection) -> None:
    clipper.deploy(add_up, "m", sample=[1.0])

    clipper.unlink_model_from_app("m", "m")
    assert clipper.predict("m", [1.0]).default is True
    clipper.unregister_application("m")

    with pytest.raises(PredictionFailed, match="404") as caught:
        clipper.predict("m", [1.0])
    assert caught.value.status == 404


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
    assert [part.name for part in manager(clipper).status().parts if part.name.startswith("m-2")] == []


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


def test_a_version_that_is_there_is_not_deployed_again(clipper: ClipperConnection) -> None:
    app = clipper.deploy(ten, "m", sample=[1.0], version=1)

    with pytest.raises(AdminRefused, match="model with name 'm' and version '1' already exists"):
        clipper.deploy(add_up, "m", sample=[1.0], version=1)

    assert app.predict([1.0]).output == 10


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


def test_another_connection_finds_what_the_first_one_deployed(
    clipper: ClipperConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    clipper.deploy(add_up, "m", sample=[1.0])
    second = ClipperConnection(manager(clipper))

    with pytest.raises(UnconnectedException):
        second.get_all_apps()
    second.connect()

    assert second.get_all_apps() == ["m"]
    assert second.predict("m", [2.0]).output == 2.0
    assert second.get_query_addr() == clipper.get_query_addr()


def test_a_proxy_of_the_environment_is_not_used(clipper: ClipperConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    fresh = ClipperConnection(manager(clipper))
    fresh.connect()

    assert fresh.get_all_apps() == []


UNCONNECTED: list[Callable[[ClipperConnection], object]] = [
    lambda c: c.register_application("a", "doubles", "", 1),
    lambda c: c.unregister_application("a"),
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


@pytest.mark.parametrize("call", UNCONNECTED, ids=range(len(UNCONNECTED)))
def test_before_there_is_a_connection_every_call_says_so(
    call: Callable[[ClipperConnection], object], tmp_path: Path
) -> None:
    clipper = ClipperConnection(LocalContainerManager(home=tmp_path))

    with pytest.raises(UnconnectedException, match=r"connect\(\) or start_clipper\(\)"):
        call(clipper)


def test_stop_all_works_without_a_connection_and_with_nothing_to_stop(tmp_path: Path) -> None:
    clipper = ClipperConnection(LocalContainerManager(home=tmp_path))

    clipper.stop_all()

    assert not clipper.connected


def test_a_predict_that_nobody_answers_says_so(clipper: ClipperConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clipper.cm, "predict_url", lambda app: f"http://127.0.0.1:9/{app}/predict")

    with pytest.raises(PredictionFailed, match="No query frontend answered") as caught:
        clipper.predict("m", [1.0])

    assert caught.value.status is None
