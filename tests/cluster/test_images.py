"""Images with a real Docker daemon and a real registry that wants a password."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import docker
import pytest

from benchmarks.ports import quiet_port
from clipper_nomad.errors import ImageError
from clipper_nomad.images.docker_images import DockerImages
from clipper_nomad.images.image_set import ImageSet, this_python
from clipper_nomad.images.parts import Part
from clipper_nomad.images.recipes import USER
from clipper_nomad.images.references import parse
from tests.cluster.parts import BASE, BUILD_NETWORK, forget_here
from tests.cluster.registry import Registry
from tests.process.bundles import pack

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture
def images(pushed_images: ImageSet) -> ImageSet:
    return pushed_images


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    pack(tmp_path / "bundle", lambda inputs: [float(row.sum()) for row in inputs], input_type="doubles")
    return tmp_path / "bundle"


def run(daemon: docker.DockerClient, image: str, *command: str, entrypoint: str) -> str:
    said: bytes = daemon.containers.run(image, list(command), entrypoint=entrypoint, remove=True, stderr=True)
    return said.decode()


@pytest.mark.parametrize("part", Part)
def test_a_part_s_image_is_small_runs_as_nobody_and_starts_its_part(
    daemon: docker.DockerClient, images: ImageSet, part: Part
) -> None:
    reference = images.find(part)
    assert reference.digest
    image = daemon.images.get(str(images.name(part)))
    base = daemon.images.get(BASE)

    started = daemon.containers.run(str(reference), detach=True, environment={"CLIPPER_RPC_MODE": "nonsense"})
    try:
        code = started.wait(timeout=60)["StatusCode"]
        said = started.logs().decode()
    finally:
        started.remove(force=True)

    assert (code, image.attrs["Config"]["User"]) == (2, USER)
    assert "the environment of this process is not right" in said
    assert image.attrs["Size"] - base.attrs["Size"] < 130e6


def test_a_part_s_image_holds_nothing_of_what_it_was_built_with(daemon: docker.DockerClient, images: ImageSet) -> None:
    name = str(images.name(Part.RUNTIME))

    found = run(daemon, name, "-c", "ls -d /build /root/.cache/pip 2>&1; env", entrypoint="/bin/sh")
    history = json.dumps(daemon.images.get(name).history())

    assert "cannot access '/build'" in found
    assert "pip.conf" not in found
    assert "pip.conf" not in history


def test_a_model_s_image_is_one_thin_layer_and_holds_the_bundle(
    daemon: docker.DockerClient, images: ImageSet, bundle: Path
) -> None:
    deployed = images.build_model("default-cluster", "m", "1", bundle)

    image = daemon.images.get(f"{deployed.repository}:{deployed.tag}")
    runtime = daemon.images.get(str(images.name(Part.RUNTIME)))
    assert deployed.digest
    assert len(image.attrs["RootFS"]["Layers"]) == len(runtime.attrs["RootFS"]["Layers"]) + 1
    assert image.attrs["Size"] - runtime.attrs["Size"] < 100_000
    assert "replica is ready" not in run(daemon, str(deployed), "-c", "ls /model", entrypoint="/bin/sh")


def test_packages_of_a_model_are_installed_beside_the_runtime_s_own(
    daemon: docker.DockerClient, images: ImageSet, bundle: Path
) -> None:
    deployed = images.build_model("default-cluster", "m", "2", bundle, packages=["six==1.16.0", "numpy"])

    said = run(
        daemon,
        str(deployed),
        "-c",
        "import six, numpy, clipper_nomad_runtime; print(six.__version__, numpy.__file__)",
        entrypoint="python3",
    )

    assert "1.16.0 /opt/venv/" in said  # numpy was there and fits, so it is not installed twice


def test_a_package_that_does_not_exist_fails_the_build_with_pip_s_own_words(images: ImageSet, bundle: Path) -> None:
    with pytest.raises(ImageError, match="No matching distribution found for clipper-nomad-has-no-such-package"):
        images.build_model("default-cluster", "m", "3", bundle, packages=["clipper-nomad-has-no-such-package"])


def test_a_base_of_another_python_is_refused_by_name(daemon: docker.DockerClient, registry: Registry) -> None:
    other = f"{sys.version_info.major}.{sys.version_info.minor + 1}"
    made = ImageSet(registry=registry.address, base=BASE, network=BUILD_NETWORK, python=other)

    with pytest.raises(ImageError, match=rf"the base image has Python {this_python()}; expected {other}"):
        made.build_parts([Part.RUNTIME])


def test_a_registry_that_wants_a_login_is_named_with_what_to_type(
    daemon: docker.DockerClient, images: ImageSet, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    stranger = ImageSet(registry=registry.address, base=BASE)

    with pytest.raises(ImageError, match=f"docker login {registry.address}"):
        stranger.push_parts([Part.ADMIN])


def test_a_registry_that_is_not_there_is_an_error(daemon: docker.DockerClient, images: ImageSet) -> None:
    nowhere = f"127.0.0.1:{quiet_port()}"
    daemon.api.tag(str(images.name(Part.ADMIN)), f"{nowhere}/x", tag="1")

    with pytest.raises(ImageError, match=f"See whether {nowhere} is the registry's address"):
        DockerImages(daemon).push(parse(f"{nowhere}/x:1"))


def test_without_a_registry_a_model_s_tag_holds_its_image_s_id(daemon: docker.DockerClient, bundle: Path) -> None:
    made = ImageSet(base=BASE, network=BUILD_NETWORK)
    made.build_parts([Part.RUNTIME])

    first = made.build_model("c", "m", "1", bundle)
    pack(bundle, lambda inputs: [0.0 for _ in inputs], input_type="doubles")
    second = made.build_model("c", "m", "1", bundle)

    assert first.tag.startswith("1-")
    assert first.tag != second.tag  # a tag that moved would change the first
    assert daemon.images.get(str(first)).id != daemon.images.get(str(second)).id


def test_without_a_registry_a_part_s_tag_holds_its_image_s_id_and_no_later_build_takes_it_away(
    daemon: docker.DockerClient,
) -> None:
    made, moving = ImageSet(base=BASE, network=BUILD_NETWORK), parse("clipper-nomad-test-moving:1")
    built = made.build_parts([Part.RUNTIME])[Part.RUNTIME]
    held = daemon.images.get(str(made.find(Part.RUNTIME)))
    images = DockerImages(daemon)
    try:
        daemon.api.tag(held.id, moving.repository, tag=moving.tag)
        first = images.fixed(moving)
        daemon.api.tag(BASE, moving.repository, tag=moving.tag, force=True)
        second = images.fixed(moving)

        assert str(made.find(Part.RUNTIME)) == f"{built}-{str(held.id).removeprefix('sha256:')[:12]}"
        assert daemon.images.get(str(first)).id == held.id
        assert daemon.images.get(str(second)).id == daemon.images.get(BASE).id
        assert images.fixed(parse("clipper-nomad-test-moving:never")) is None
    finally:
        forget_here(daemon, moving.repository)


def test_an_image_that_a_registry_does_not_have_is_said_to_be_missing_there(
    daemon: docker.DockerClient, registry: Registry
) -> None:
    """One whose repository it does not know, and one whose tag it does not know."""
    nowhere = parse(f"{registry.address}/nowhere/model:1")
    for reference in (nowhere, parse(f"{registry.address}/clipper-nomad-admin:never")):
        with pytest.raises(ImageError) as missing:
            DockerImages().resolved(reference)

        assert missing.value.is_missing
        assert missing.value.msg == f"The registry {registry.address} has no image {reference}."
        assert "clipper-nomad images push --registry" in (missing.value.hint or "")
    assert daemon.ping()
