"""ClipperConnection as Clipper's users know it: what methods return, what they raise and in which words.

On each container manager. Deploying, scaling and stopping are in test_connection_deploys.py, what local mode alone has in
test_connection.py, parameters and defaults in test_clipper_signatures.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from clipper_nomad import ClipperConnection, ClipperException
from clipper_nomad.container_manager import CONTAINERLESS_MODEL_IMAGE
from clipper_nomad.deployers.packing import packed
from clipper_nomad.deployers.python import deploy_python_closure
from clipper_nomad.errors import AdminRefused, InvalidName, InvalidSpec
from clipper_nomad.protocol.datatypes import InputType
from tests.process.places import Place
from tests.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def clipper(place: Place) -> ClipperConnection:
    """A connection to a cluster without apps and models, on each container manager."""
    return place.empty().clipper


def add_up(inputs: np.ndarray) -> list[float]:
    return [float(row.sum()) for row in inputs]


# --- what is returned ---


def test_calls_that_change_something_return_none(clipper: ClipperConnection) -> None:
    changes: list[Callable[[], object]] = [
        lambda: clipper.register_application("a", "doubles", "-1.0", 100_000),
        lambda: clipper.register_model("m", 1, "doubles"),
        lambda: clipper.register_model("m", "2", "doubles", image=None, labels=None, batch_size=-1),
        lambda: clipper.link_model_to_app("a", "m"),
        lambda: clipper.set_model_version("m", 1),
        lambda: clipper.unlink_model_from_app("a", "m"),
        lambda: clipper.stop_versioned_models({"m": [2]}),
        lambda: clipper.stop_inactive_model_versions(["m"]),
        lambda: clipper.stop_models(["m", "unknown names are passed over"]),
        lambda: clipper.unregister_application("a"),
    ]

    assert [change() for change in changes] == [None] * len(changes)


def test_what_is_registered_comes_back_in_clipper_s_forms(clipper: ClipperConnection) -> None:
    clipper.register_application("a", "ints", "-1.0", 100_000)
    clipper.register_model("m", 1, "ints")
    clipper.register_model("m", 2, "ints", image="image:2", labels=["x"], batch_size=7)
    clipper.link_model_to_app("a", "m")

    app = {
        "name": "a",
        "input_type": "integers",
        "default_output": "-1.0",
        "latency_slo_micros": 100_000,
        "linked_models": ["m"],
    }
    second = {
        "model_name": "m",
        "model_version": "2",
        "input_type": "integers",
        "labels": ["x"],
        "container_name": "image:2",
        "model_data_path": "DEPRECATED",
        "is_current_version": True,
    }
    first = second | {
        "model_version": "1",
        "labels": [],
        "container_name": CONTAINERLESS_MODEL_IMAGE,
        "is_current_version": False,
    }
    assert (clipper.get_all_apps(), clipper.get_all_apps(verbose=True), clipper.get_app_info("a")) == (["a"], [app], app)
    assert clipper.get_all_models() == ["m:1", "m:2"]
    assert clipper.get_all_models(verbose=True) == [first, second]
    assert (clipper.get_model_info("m", 1), clipper.get_model_info("m", "2")) == (first, second)
    assert clipper.get_linked_models("a") == ["m"]
    assert clipper.get_current_model_version("m") == "2"
    assert (clipper.get_all_model_replicas(), clipper.get_all_model_replicas(verbose=True)) == ([], [])


def test_a_replica_is_shown_in_clipper_s_form(clipper: ClipperConnection) -> None:
    clipper.deploy(add_up, "m", sample=[1.0])

    replica = {
        "model_id": "m:1",
        "model_name": "m",
        "model_version": "1",
        "model_replica_id": 0,
        "input_type": "doubles",
    }
    assert clipper.get_all_model_replicas() == ["m:1:0"]
    assert clipper.get_all_model_replicas(verbose=True) == [replica]
    assert clipper.get_model_replica_info("m", 1, 0) == replica
    assert clipper.get_num_replicas("m", 1) == 1


def test_what_is_not_there_is_none_and_warned_of(
    clipper: ClipperConnection, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    assert clipper.get_app_info("a") is None
    assert clipper.get_model_info("m", 1) is None
    assert clipper.get_model_replica_info("m", 1, 0) is None

    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned == [
        f"[{place.cluster}] Application a is not registered",
        f"[{place.cluster}] Model m:1 is not registered",
        f"[{place.cluster}] Model m:1 has no replica 0",
    ]


def test_success_is_logged(clipper: ClipperConnection, place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        clipper.register_application("a", "doubles", "-1.0", 100_000)
        clipper.register_model("m", 1, "doubles")
        clipper.link_model_to_app("a", "m")
        clipper.unlink_model_from_app("a", "m")
        clipper.stop_models(["m"])
        clipper.unregister_application("a")

    events = (
        "Application a was successfully registered",
        "Successfully registered model m:1",
        "Model m is now linked to application a",
        "Model m is no longer linked to application a",
        "Model m:1 was unregistered",
        "Application a was successfully deleted",
    )
    wanted = [f"[{place.cluster}] {event}" for event in events]
    assert [message for message in caplog.messages if message in wanted] == wanted


# --- what is raised ---


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda c: c.register_application("a", "doubles", "", 1000), "application 'a' already exists"),
        (lambda c: c.register_application("b", "complex", "", 1000), "unknown input type 'complex'"),
        (lambda c: c.unregister_application("b"), "Application 'b' does not exist"),
        (lambda c: c.link_model_to_app("b", "m"), "No app with name 'b' exists."),
        (lambda c: c.link_model_to_app("a", "n"), "No model with name 'n' exists."),
        (lambda c: c.unlink_model_from_app("a", "m"), "Cannot remove nonexistent link between app a and model m"),
        (lambda c: c.register_model("m", 1, "doubles"), "model with name 'm' and version '1' already exists"),
        (
            lambda c: c.register_model("m", "1,2", "doubles"),
            "Invalid model version supplied: '1,2'. Contains one of: ',', ':'",
        ),
        (
            lambda c: c.register_model("m", 2, "doubles", batch_size=0),
            "The batch size must be positive or DEFAULT_BATCH_SIZE",
        ),
        (
            lambda c: c.register_model("m", 2, "doubles", labels="abc"),
            "Type mismatch! JSON key labels expected type Arraybut found type String",
        ),
        (lambda c: c.set_model_version("n", 1), "Cannot set version for nonexistent model 'n'"),
        (lambda c: c.set_model_version("m", 7), "Cannot set non-existent version '7' for model with name 'm'"),
        (lambda c: c.get_linked_models("b"), "No application with name 'b' exists."),
        (lambda c: c.stop_versioned_models({"m": [7]}), "model with name 'm' and version '7' does not exist"),
    ],
)
def test_a_refusal_has_its_status_and_the_body_in_its_text(
    clipper: ClipperConnection, call: Callable[[ClipperConnection], object], text: str
) -> None:
    clipper.register_application("a", "doubles", "", 1000)
    clipper.register_model("m", 1, "doubles")

    with pytest.raises(ClipperException) as caught:
        call(clipper)

    assert caught.value.msg.startswith(f"Received error status code: 400 and message: {text}")
    assert isinstance(caught.value, AdminRefused)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda c: c.get_current_model_version("n"), "No versions of model n registered with Clipper"),
        (lambda c: c.get_num_replicas("n"), "No versions of model n registered with Clipper"),
        (lambda c: c.set_num_replicas("n", 2, 1), "Cannot add container for non-registered model n:1"),
        (lambda c: c.set_num_replicas("m", 2), "containerless model"),
        (lambda c: c.set_model_version("m", 1, num_replicas=2), "containerless model"),
        (lambda c: c.deploy_model("My", 1, "doubles", "i"), "Invalid value: My: a model name must be a valid DNS-1123"),
        (
            lambda c: c.deploy_model("m", "1.0", "doubles", "i"),
            "Invalid value: 1.0: a model version must be a valid DNS-1123",
        ),
        (lambda c: c.build_model("m_1", 1, "/nowhere", "i"), "Invalid value: m_1: a model name must be a valid DNS-1123"),
    ],
)
def test_what_the_client_refuses_has_clipper_s_words(
    clipper: ClipperConnection, call: Callable[[ClipperConnection], object], text: str
) -> None:
    clipper.register_model("m", 1, "doubles")

    with pytest.raises(ClipperException) as caught:
        call(clipper)

    assert text in caught.value.msg


def test_a_name_that_is_no_text_is_refused(clipper: ClipperConnection) -> None:
    with pytest.raises(InvalidName, match="Invalid value: 7: a model name must be"):
        clipper.deploy_model(7, 1, "doubles", "image")  # type: ignore[arg-type]  # what is tested


def test_a_version_may_be_anything_that_is_a_name_as_text(clipper: ClipperConnection) -> None:
    deploy_python_closure(clipper, "m", 7, "doubles", add_up, sample=[1.0])

    assert clipper.get_model_info("m", 7) == clipper.get_model_info("m", "7")
    with pytest.raises(InvalidName):
        clipper.build_model("m", 1.5, "/nowhere", "default")


def test_a_version_is_not_made_current_for_a_number_of_replicas_that_cannot_be(clipper: ClipperConnection) -> None:
    clipper.register_model("m", 1, "doubles")
    clipper.register_model("m", 2, "doubles")

    with pytest.raises(InvalidSpec, match="num_replicas: -1; expected an integer from 0"):
        clipper.set_model_version("m", 1, num_replicas=-1)

    assert clipper.get_current_model_version("m") == "2"


def test_a_version_among_others_that_is_not_there_stops_none(clipper: ClipperConnection, place: Place) -> None:
    app = clipper.deploy(add_up, "m", sample=[1.0])
    before = place.replicas("m")

    with pytest.raises(AdminRefused, match="model with name 'm' and version '7' does not exist"):
        clipper.stop_versioned_models({"m": [1, 7]})

    assert (place.replicas("m"), clipper.get_all_models()) == (before, ["m:1"])
    assert app.predict([2.0]).output == 2.0


def test_one_text_is_one_name_and_not_its_parts(clipper: ClipperConnection) -> None:
    for name, version in (("m", 1), ("m", 2), ("m", 12), ("m-1", 1), ("m-1", 2)):
        clipper.register_model(name, version, "doubles")

    clipper.stop_versioned_models({"m": "12"})
    clipper.stop_inactive_model_versions("m-1")
    assert clipper.get_all_models() == ["m:1", "m:2", "m-1:2"]
    clipper.stop_models("m-1")
    assert clipper.get_all_models() == ["m:1", "m:2"]


# --- deploying is whole or not at all ---


@pytest.mark.parametrize("batch_size", [-1, 0])
def test_a_deploy_whose_registration_is_refused_starts_nothing(
    clipper: ClipperConnection, place: Place, batch_size: int
) -> None:
    deploy_python_closure(clipper, "there", 1, "doubles", add_up, sample=[1.0])
    info = clipper.get_model_info("there", 1)
    assert info is not None
    clipper.register_model("m", 1, "doubles")
    version = 1 if batch_size == -1 else 2

    with pytest.raises(AdminRefused, match="already exists" if version == 1 else "batch size"):
        clipper.deploy_model("m", version, "doubles", info["container_name"], batch_size=batch_size)

    assert place.replicas("m") == []
    assert clipper.get_all_models() == ["m:1", "there:1"]


def test_a_model_is_built_without_a_connection_and_deployed_with_one(clipper: ClipperConnection, place: Place) -> None:
    unconnected = ClipperConnection(place.another())
    with packed(add_up, kind=InputType.DOUBLES, sample=[1.0]) as bundle:
        image = unconnected.build_model("m", 1, str(bundle), "default")
        built = clipper.build_and_deploy_model("n", "1", "doubles", str(bundle), "default")
    deployed = clipper.deploy_model("m", 1, "doubles", image)

    assert not unconnected.connected
    assert (built.output, deployed.output) == (10.0, 10.0)  # of a made-up input
    assert clipper.get_all_models() == ["m:1", "n:1"]


def test_all_containers_are_stopped_and_all_models_unregistered(clipper: ClipperConnection, place: Place) -> None:
    clipper.deploy(add_up, "m", sample=[1.0])
    clipper.deploy(add_up, "m", sample=[1.0])
    clipper.register_model("bare", 1, "doubles")

    assert clipper.stop_all_model_containers() is None  # type: ignore[func-returns-value]  # as in Clipper

    assert (clipper.get_all_models(), clipper.get_all_model_replicas()) == ([], [])
    assert (place.replicas("m"), clipper.get_linked_models("m")) == ([], ["m"])


# --- looking at the whole ---


def test_logs_of_every_part_are_written_into_a_folder(clipper: ClipperConnection, tmp_path: Path) -> None:
    clipper.deploy(add_up, "m", sample=[1.0])

    files = [Path(file) for file in clipper.get_clipper_logs(str(tmp_path / "logs"))]

    assert {file.parent for file in files} == {tmp_path / "logs"}
    texts = [file.read_text() for file in files]
    for event in ("admin listens", "frontend is up", "replica is ready"):
        assert any(event in text for text in texts), event


def test_logs_go_into_clipper_logs_unless_told_otherwise(
    clipper: ClipperConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert {Path(file).parent for file in clipper.get_clipper_logs()} == {Path("clipper_logs")}


def leaves(metrics: dict[str, Any], category: str, name: str) -> dict[str, str]:
    """What stands under a name of Clipper's metrics, which must come once."""
    [found] = [each[name] for each in metrics[category] if name in each]
    return dict(found)


def test_inspect_instance_returns_the_metrics_as_clipper_s_dict(clipper: ClipperConnection) -> None:
    clipper.deploy(add_up, "inspected", sample=[1.0])
    clipper.register_application("unlinked", "doubles", "-1.0", 100_000)
    for number in (1.0, 2.0, 3.0):  # there is a cache
        clipper.predict("inspected", [number])
    clipper.predict("unlinked", [1.0])

    metrics = clipper.inspect_instance()

    assert set(metrics) == {"counters", "ratio_counters", "meters", "histograms"}
    assert leaves(metrics, "counters", "app:inspected:num_predictions") == {"count": "3"}
    assert int(leaves(metrics, "counters", "model:inspected:1:num_predictions")["count"]) >= 3
    assert leaves(metrics, "ratio_counters", "app:inspected:default_prediction_ratio") == {"ratio": "0.0"}
    assert leaves(metrics, "ratio_counters", "app:unlinked:default_prediction_ratio") == {"ratio": "1.0"}
    latency = leaves(metrics, "histograms", "app:inspected:prediction_latency")
    assert (latency["unit"], latency["size"]) == ("microseconds", "3")
    assert 0 < float(latency["min"]) <= float(latency["mean"]) * 1.01


def test_an_instance_that_is_gone_cannot_be_inspected(clipper: ClipperConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clipper.cm, "get_query_addr", lambda: "127.0.0.1:9")

    with pytest.raises(ClipperException, match=r"No query frontend answered at 127\.0\.0\.1:9"):
        clipper.inspect_instance()


def test_addresses_are_host_and_port_and_answer(clipper: ClipperConnection) -> None:
    metrics = requests.get(f"http://{clipper.get_metric_addr()}/metrics", headers={"Accept": "text/plain"}, timeout=10)
    ping = requests.get(f"http://{clipper.get_admin_addr()}/admin/ping", timeout=10)

    assert "clipper_queries_total" in metrics.text
    assert ping.text == "PONG"
    counters = requests.get(f"http://{clipper.get_query_addr()}/metrics", timeout=10).json()["counters"]
    assert [*map(list, counters)] == [["internal:aggregate_num_predictions"], ["internal:prediction_cache_lookups"]]


def test_delete_application_does_what_it_did_and_says_how_it_is_called_now(clipper: ClipperConnection) -> None:
    clipper.register_application("a", "doubles", "", 1000)

    with pytest.warns(DeprecationWarning, match="use unregister_application"):
        clipper.delete_application("a")

    assert clipper.get_all_apps() == []


def test_trying_a_function_connects_where_there_is_a_cluster(clipper: ClipperConnection, place: Place) -> None:
    other = ClipperConnection(place.another())

    assert other.test_predict_function({"input": [1.0, 2.0]}, add_up, "doubles") == [3.0]
    assert other.connected


def test_a_connection_may_be_used_by_several_threads(clipper: ClipperConnection) -> None:
    names = [f"a{number}" for number in range(8)]
    threads = [threading.Thread(target=clipper.register_application, args=(name, "doubles", "", 100_000)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    wait_until(lambda: clipper.get_all_apps() == names, "all are registered", within_s=10)
