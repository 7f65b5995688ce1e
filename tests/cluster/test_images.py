"""Images with a real Docker daemon and a real registry that wants a password."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import docker
import pytest
import requests

from benchmarks.ports import quiet_port
from clipper_nomad.errors import ImageError
from clipper_nomad.images.docker_images import DockerImages
from clipper_nomad.images.image_set import ImageSet, this_python
from clipper_nomad.images.parts import Part
from clipper_nomad.images.recipes import USER
from clipper_nomad.images.references import parse
from tests.cluster.parts import BASE, BUILD_NETWORK, docker_client
from tests.process.bundles import pack
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def client() -> docker.DockerClient:
    return docker_client()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry with the user "deploy" and a password, which Docker's own configuration knows."""
    htpasswd, server = shutil.which("htpasswd"), shutil.which("docker-registry")
    if htpasswd is None or server is None:
        pytest.skip("docker-registry and htpasswd are not both on PATH (Debian: docker-registry, apache2-utils)")
    folder = tmp_path_factory.mktemp("registry")
    address, password = f"127.0.0.1:{quiet_port()}", secrets.token_hex(8)
    made = subprocess.run(
        [htpasswd, "-Bbn", "deploy", password], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    (folder / "htpasswd").write_text(made)
    (folder / "config.yml").write_text(
        json.dumps(
            {
                "version": "0.1",
                "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
                "http": {"addr": address, "secret": password},
                "auth": {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}},
            }
        )
    )
    (folder / "docker").mkdir()
    login = base64.b64encode(f"deploy:{password}".encode()).decode()
    (folder / "docker/config.json").write_text(json.dumps({"auths": {address: {"auth": login}}}))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([server, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    before = os.environ.get("DOCKER_CONFIG")
    try:
        wait_until(lambda: is_listening(address), "the registry listens")
        os.environ["DOCKER_CONFIG"] = str(folder / "docker")
        yield address
    finally:
        if before is None:
            os.environ.pop("DOCKER_CONFIG", None)
        else:
            os.environ["DOCKER_CONFIG"] = before
        process.kill()
        process.wait(10)


def is_listening(address: str) -> bool:
    try:
        reply = requests.get(f"http://{address}/v2/", timeout=1)
    except requests.ConnectionError:
        return False
    return reply.status_code == HTTPStatus.UNAUTHORIZED


@pytest.fixture(scope="module")
def images(client: docker.DockerClient, registry: str) -> ImageSet:
    """The images of the parts, built and pushed."""
    made = ImageSet(registry=registry, base=BASE, network=BUILD_NETWORK)
    made.build_parts()
    made.push_parts()
    return made


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    pack(tmp_path / "bundle", lambda inputs: [float(row.sum()) for row in inputs], input_type="doubles")
    return tmp_path / "bundle"


def run(client: docker.DockerClient, image: str, *command: str, entrypoint: str) -> str:
    said: bytes = client.containers.run(image, list(command), entrypoint=entrypoint, remove=True, stderr=True)
    return said.decode()


@pytest.mark.parametrize("part", Part)
def test_a_part_s_image_is_small_runs_as_nobody_and_starts_its_part(
    client: docker.DockerClient, images: ImageSet, part: Part
) -> None:
    reference = images.find(part)
    assert reference.digest
    image = client.images.get(str(images.name(part)))
    base = client.images.get(BASE)

    started = client.containers.run(str(reference), detach=True, environment={"CLIPPER_RPC_MODE": "nonsense"})
    try:
        code = started.wait(timeout=60)["StatusCode"]
        said = started.logs().decode()
    finally:
        started.remove(force=True)

    assert (code, image.attrs["Config"]["User"]) == (2, USER)
    assert "the environment of this process is not right" in said
    assert image.attrs["Size"] - base.attrs["Size"] < 130e6


def test_a_part_s_image_holds_nothing_of_what_it_was_built_with(client: docker.DockerClient, images: ImageSet) -> None:
    name = str(images.name(Part.RUNTIME))

    found = run(client, name, "-c", "ls -d /build /root/.cache/pip 2>&1; env", entrypoint="/bin/sh")
    history = json.dumps(client.images.get(name).history())

    assert "cannot access '/build'" in found
    assert "pip.conf" not in found
    assert "pip.conf" not in history


def test_a_model_s_image_is_one_thin_layer_and_holds_the_bundle(
    client: docker.DockerClient, images: ImageSet, bundle: Path
) -> None:
    deployed = images.build_model("default-cluster", "m", "1", bundle)

    image = client.images.get(f"{deployed.repository}:{deployed.tag}")
    runtime = client.images.get(str(images.name(Part.RUNTIME)))
    assert deployed.digest
    assert len(image.attrs["RootFS"]["Layers"]) == len(runtime.attrs["RootFS"]["Layers"]) + 1
    assert image.attrs["Size"] - runtime.attrs["Size"] < 100_000
    assert "replica is ready" not in run(client, str(deployed), "-c", "ls /model", entrypoint="/bin/sh")


def test_packages_of_a_model_are_installed_beside_the_runtime_s_own(
    client: docker.DockerClient, images: ImageSet, bundle: Path
) -> None:
    deployed = images.build_model("default-cluster", "m", "2", bundle, packages=["six==1.16.0", "numpy"])

    said = run(
        client,
        str(deployed),
        "-c",
        "import six, numpy, clipper_nomad_runtime; print(six.__version__, numpy.__file__)",
        entrypoint="python3",
    )

    assert "1.16.0 /opt/venv/" in said  # numpy was there and fits, so it is not installed twice


def test_a_package_that_does_not_exist_fails_the_build_with_pip_s_own_words(images: ImageSet, bundle: Path) -> None:
    with pytest.raises(ImageError, match="No matching distribution found for clipper-nomad-has-no-such-package"):
        images.build_model("default-cluster", "m", "3", bundle, packages=["clipper-nomad-has-no-such-package"])


def test_a_base_of_another_python_is_refused_by_name(client: docker.DockerClient, registry: str) -> None:
    other = f"{sys.version_info.major}.{sys.version_info.minor + 1}"
    made = ImageSet(registry=registry, base=BASE, network=BUILD_NETWORK, python=other)

    with pytest.raises(ImageError, match=rf"the base image has Python {this_python()}; expected {other}"):
        made.build_parts([Part.RUNTIME])


def test_a_registry_that_wants_a_login_is_named_with_what_to_type(
    client: docker.DockerClient, images: ImageSet, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    stranger = ImageSet(registry=registry, base=BASE)

    with pytest.raises(ImageError, match=f"docker login {registry}"):
        stranger.push_parts([Part.ADMIN])


def test_a_registry_that_is_not_there_is_an_error(client: docker.DockerClient, images: ImageSet) -> None:
    nowhere = f"127.0.0.1:{quiet_port()}"
    client.api.tag(str(images.name(Part.ADMIN)), f"{nowhere}/x", tag="1")

    with pytest.raises(ImageError, match=f"See whether {nowhere} is the registry's address"):
        DockerImages(client).push(parse(f"{nowhere}/x:1"))


def test_without_a_registry_a_model_s_tag_holds_its_image_s_id(client: docker.DockerClient, bundle: Path) -> None:
    made = ImageSet(base=BASE, network=BUILD_NETWORK)
    made.build_parts([Part.RUNTIME])

    first = made.build_model("c", "m", "1", bundle)
    pack(bundle, lambda inputs: [0.0 for _ in inputs], input_type="doubles")
    second = made.build_model("c", "m", "1", bundle)

    assert first.tag.startswith("1-")
    assert first.tag != second.tag  # a tag that moved would change the first
    assert client.images.get(str(first)).id != client.images.get(str(second)).id
