"""Which bundles a real stack keeps: none of a deploy that failed, and after a start only those that something runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import clipper_nomad
from clipper_nomad import ClipperConnection
from clipper_nomad.deployers.packing import packed
from clipper_nomad.errors import AdminRefused, ClipperException, DeployFailed
from clipper_nomad.local_stack.parts import Programs
from clipper_nomad.protocol.datatypes import InputType
from tests.models import raises, wrong_count
from tests.process.local_stack_rig import Home, home_of_its_own
from tests.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def home() -> Iterator[Home]:
    with home_of_its_own(programs=Programs()) as one:
        yield one


@pytest.fixture
def clipper(home: Home) -> ClipperConnection:
    return clipper_nomad.local(home=home.path, port=0)


def add_up(inputs: np.ndarray) -> list[float]:
    return [float(row.sum()) for row in inputs]


def ten(inputs: np.ndarray) -> list[int]:
    return [10] * len(inputs)


def bundles(home: Home) -> set[str]:
    """The references of all bundles on disk, finished or not."""
    return {f"bundle:{path.name}" for path in folder(home).iterdir()}


def folder(home: Home) -> Path:
    return home.path / "data" / "default-cluster" / "bundles"


def image_of(clipper: ClipperConnection, name: str, version: int) -> str:
    model = clipper.get_model_info(name, version)
    assert model is not None
    return str(model["container_name"])


def is_answered(clipper: ClipperConnection, name: str, expected: float) -> bool:
    try:
        return bool(clipper.predict(name, [1.0]).output == expected)
    except ClipperException:
        return False


# --- a deploy that failed ---


def test_a_failed_deploy_leaves_no_bundle(home: Home, clipper: ClipperConnection) -> None:
    clipper.deploy(ten, "m", sample=[1.0])

    with pytest.raises(DeployFailed):
        clipper.deploy(wrong_count.predict, "m", sample=[1.0], trial=False)
    with pytest.raises(AdminRefused, match="already exists"):
        clipper.deploy(add_up, "m", sample=[1.0], version=1)

    assert bundles(home) == {image_of(clipper, "m", 1)}


def test_a_failed_deploy_of_a_function_that_serves_already_leaves_its_bundle(home: Home, clipper: ClipperConnection) -> None:
    clipper.deploy(ten, "m", sample=[1.0])
    with pytest.raises(AdminRefused, match="already exists"):
        clipper.deploy(ten, "m", sample=[1.0], version=1)
    with pytest.raises(AdminRefused, match="batch size"):
        clipper.deploy(ten, "m", sample=[1.0], batch_size=0)

    clipper.set_num_replicas("m", 2)

    assert bundles(home) == {image_of(clipper, "m", 1)}
    wait_until(lambda: len(clipper.get_all_model_replicas()) == 2, "the bundle can be loaded again", within_s=20)


def test_a_bundle_that_the_user_built_stays_when_its_deploy_fails(home: Home, clipper: ClipperConnection) -> None:
    with packed(raises.predict, kind=InputType.DOUBLES, sample=None) as built:
        image = clipper.build_model("m", 1, str(built), "default")

    with pytest.raises(DeployFailed):
        clipper.deploy_model("m", 1, "doubles", image, sample=[-1.0])

    assert bundles(home) == {image}


def test_a_bundle_that_was_changed_is_not_run_and_the_failure_says_so(home: Home, clipper: ClipperConnection) -> None:
    clipper.deploy(ten, "m", sample=[1.0])
    (folder(home) / image_of(clipper, "m", 1).removeprefix("bundle:") / "func.pkl").write_text("changed")

    with pytest.raises(ClipperException, match=r"1 of 2 replicas of m:1 are ready: .* has a bundle that is damaged"):
        clipper.set_num_replicas("m", 2)


# --- a stack that is started again ---


@pytest.mark.slow
def test_a_kept_stack_starts_with_the_bundles_of_registered_versions_alone(home: Home) -> None:
    kept = clipper_nomad.local(home=home.path, port=0, keep=True)
    kept.deploy(ten, "m", sample=[1.0])
    kept.deploy(add_up, "m", sample=[1.0])
    kept.deploy(lambda inputs: [3] * len(inputs), "n", sample=[1.0])
    kept.deploy(lambda inputs: [4] * len(inputs), "o", sample=[1.0])
    kept.set_num_replicas("n", 0)  # registered, and may be scaled up again
    images = [image_of(kept, "m", 2), image_of(kept, "n", 1)]
    kept.stop_inactive_model_versions(["m"])
    kept.stop_models(["o"])
    with packed(raises.predict, kind=InputType.DOUBLES, sample=None) as built:
        kept.build_model("p", 1, str(built), "default")  # of a deploy that was killed, for one
    assert len(bundles(home)) == 5
    kept.stop_all()

    again = clipper_nomad.local(home=home.path, port=0, keep=True)

    assert bundles(home) == set(images)
    wait_until(lambda: is_answered(again, "m", 1.0), "the model answers", within_s=20)
    again.set_num_replicas("n", 1)
    wait_until(lambda: is_answered(again, "n", 3), "what was scaled up again answers", within_s=20)
