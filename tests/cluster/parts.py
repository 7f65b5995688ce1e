"""The images that cluster tests run: built once, on a base image that is here already."""

from __future__ import annotations

import io
import os

import docker
import pytest
from docker.errors import DockerException, ImageNotFound

from clipper_nomad.images.contexts import packed
from clipper_nomad.images.image_set import ImageSet, default_base, this_python

BASE = os.environ.get("CLIPPER_TEST_BASE_IMAGE", default_base(this_python()))
BUILD_NETWORK = os.environ.get("CLIPPER_TEST_BUILD_NETWORK", "host")
REDIS = os.environ.get("CLIPPER_TEST_REDIS_IMAGE", "redis:7-alpine")
REGISTRY = os.environ.get("CLIPPER_TEST_REGISTRY", "")  # so that two checkouts can use one Docker daemon at a time
OWN_REDIS = "clipper-nomad-test-redis:1"
REDIS_RECIPE = """\
ARG BASE
FROM ${BASE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/*
ENTRYPOINT ["redis-server"]
"""


def docker_client() -> docker.DockerClient:
    """Return a client of the daemon, with the base image there; else the tests are skipped, and say why."""
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as exc:
        pytest.skip(f"no Docker daemon answers: {exc}")
    try:
        client.images.get(BASE)
    except ImageNotFound:
        pytest.skip(f"there is no image {BASE} here to build on; CLIPPER_TEST_BASE_IMAGE names another")
    return client


def redis_image(client: docker.DockerClient) -> str:
    """Return the name of an image with Redis: the usual one if it is here, else one that is built on the base."""
    for name in (REDIS, OWN_REDIS):
        try:
            client.images.get(name)
        except ImageNotFound:
            continue
        return name
    context = io.BytesIO(packed({"Dockerfile": REDIS_RECIPE.encode()}))
    client.images.build(
        fileobj=context, custom_context=True, tag=OWN_REDIS, buildargs={"BASE": BASE}, network_mode=BUILD_NETWORK
    )
    return OWN_REDIS


def local_images() -> ImageSet:
    """Return the images of the parts, built and kept on this Docker daemon."""
    images = ImageSet(base=BASE, network=BUILD_NETWORK, registry=REGISTRY)
    images.build_parts()
    if REGISTRY:
        images.push_parts()
    return images
