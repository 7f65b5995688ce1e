"""ClipperConnection as Clipper's users know it: models deployed, their versions, replicas up and down; on each container
manager.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import requests

from clipper_nomad import ClipperConnection, ClipperException
from clipper_nomad.deployers.python import create_endpoint, deploy_python_closure
from clipper_nomad.errors import AdminRefused, PredictionFailed, UnconnectedException
from tests.models import exits, identity, raises
from tests.process.places import Place
from tests.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def clipper(place: Place) -> ClipperConnection:
    """A connection to a cluster without apps and models, on each container manager."""
    return place.empty().clipper


def add_up(inputs: np.ndarray) -> list[float]:
    return [float(row.sum()) for row in inputs]


def ten(inputs: np.ndarray) -> list[int]:
    return [10] * len(inputs)


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


def test_replicas_are_scaled(clipper: ClipperConnection, place: Place) -> None:
    app = clipper.deploy(add_up, "m", sample=[1.0])

    assert clipper.set_num_replicas("m", 2) is None  # type: ignore[func-returns-value]  # as in Clipper
    assert clipper.get_num_replicas("m", "1") == 2
    assert len(clipper.get_all_model_replicas()) == 2
    clipper.set_num_replicas("m", 0, "1")
    assert clipper.get_num_replicas("m") == 0
    wait_until(lambda: place.replicas("m") == [], "no replica runs", within_s=60)
    clipper.set_num_replicas("m", 1)

    assert app.predict([2.0]).output == 2.0
    assert len(place.replicas("m")) == 1


def test_scaling_what_is_not_there_or_has_no_container_is_refused(clipper: ClipperConnection) -> None:
    clipper.register_model("bare", 1, "doubles")

    with pytest.raises(ClipperException, match="Cannot add container for non-registered model bare:2"):
        clipper.set_num_replicas("bare", 2, 2)
    with pytest.raises(ClipperException, match="containerless model"):
        clipper.set_num_replicas("bare", 2)
    with pytest.raises(ClipperException, match="No versions of model nothing registered with Clipper"):
        clipper.get_num_replicas("nothing")


def test_stopped_versions_are_unregistered(clipper: ClipperConnection, place: Place) -> None:
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
    assert (place.replicas("m"), len(place.replicas("n"))) == ([], 1)


def test_a_text_names_one_model_and_none_whose_name_is_a_part_of_it(clipper: ClipperConnection) -> None:
    for name, version in [("sum", 1), ("sum", 2), ("sum2", 1), ("sum2", 2)]:
        clipper.register_model(name, version, "doubles")

    clipper.stop_inactive_model_versions("sum2")
    assert clipper.get_all_models() == ["sum:1", "sum:2", "sum2:2"]
    clipper.stop_models("sum2")
    assert clipper.get_all_models() == ["sum:1", "sum:2"]


def test_unlinking_and_unregistering_end_what_they_end(clipper: ClipperConnection) -> None:
    clipper.deploy(add_up, "m", sample=[1.0])

    clipper.unlink_model_from_app("m", "m")
    assert clipper.predict("m", [1.0]).default is True
    clipper.unregister_application("m")

    with pytest.raises(PredictionFailed, match="404") as caught:
        clipper.predict("m", [1.0])
    assert caught.value.status == 404


def test_a_version_that_is_there_is_not_deployed_again(clipper: ClipperConnection) -> None:
    app = clipper.deploy(ten, "m", sample=[1.0], version=1)

    with pytest.raises(AdminRefused, match="model with name 'm' and version '1' already exists"):
        clipper.deploy(add_up, "m", sample=[1.0], version=1)

    assert app.predict([1.0]).output == 10


# --- what cannot be deployed, and what is left of it: nothing ---


@pytest.mark.parametrize(
    ("function", "sample", "word"),
    [(raises.predict, [-1.0], "a number below 0"), (exits.predict, None, "exit")],
    ids=["raises", "exits"],
)
def test_a_model_that_cannot_serve_leaves_the_old_version_serving_and_says_why(
    clipper: ClipperConnection, place: Place, function: Callable[..., object], sample: object, word: str
) -> None:
    app = clipper.deploy(ten, "m", sample=[1.0])
    before = place.replicas("m")

    with pytest.raises(ClipperException) as caught:
        clipper.deploy(function, "m", sample=sample, input_type="doubles")

    assert word in str(caught.value)
    assert app.predict([1.0]).output == 10
    assert clipper.get_all_models() == ["m:1"]
    assert place.replicas("m") == before


def test_an_image_that_is_not_there_is_not_deployed(clipper: ClipperConnection, place: Place) -> None:
    with pytest.raises(ClipperException):
        clipper.deploy_model("m", 1, "doubles", "127.0.0.1:9/no-such-image:1", timeout_s=60)

    assert (clipper.get_all_models(), place.replicas("m")) == ([], [])


# --- more than one connection ---


def test_another_connection_finds_what_the_first_one_deployed(clipper: ClipperConnection, place: Place) -> None:
    clipper.deploy(add_up, "m", sample=[1.0])
    second = ClipperConnection(place.another())

    with pytest.raises(UnconnectedException):
        second.get_all_apps()
    second.connect()

    assert second.get_all_apps() == ["m"]
    assert second.predict("m", [2.0]).output == 2.0
    assert second.get_query_addr() == clipper.get_query_addr()
