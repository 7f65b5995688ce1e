"""An image as Clipper's own are: it knows Clipper's variables and RPC version 3, and nothing of ours. Built in the tests."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker

from clipper_nomad.images.contexts import packed
from tests.process import clipper_containers

NAME = "clipper-nomad-test-rpc3:1"
# on the runtime's image for its pyzmq and numpy, so that a build needs no package index; nothing of ours is started in it
RECIPE = """\
ARG BASE
FROM ${BASE}
WORKDIR /container
COPY clipper_containers.py sum_container.py ./
ENTRYPOINT ["python", "sum_container.py"]
"""
PROGRAM = """\
import os, time
from clipper_containers import ServingContainer

names = ("CLIPPER_MODEL_NAME", "CLIPPER_MODEL_VERSION", "CLIPPER_INPUT_TYPE")
model, version, kind = (os.environ[name] for name in names)
address = f"{os.environ.get('CLIPPER_IP', '127.0.0.1')}:{os.environ.get('CLIPPER_PORT', '7000')}"
with ServingContainer(address, model=model, version=version, kind=kind) as container:
    print("serves at", address, flush=True)
    while container.error is None:
        time.sleep(0.5)
"""


@contextmanager
def legacy_image(daemon: docker.DockerClient, *, base: str) -> Iterator[str]:
    """Build it on `base`, which has pyzmq and numpy, and take its name away at the end."""
    files = {
        "Dockerfile": RECIPE.encode(),
        "clipper_containers.py": Path(clipper_containers.__file__).read_bytes(),
        "sum_container.py": PROGRAM.encode(),
    }
    context = io.BytesIO(packed(files))
    daemon.images.build(fileobj=context, custom_context=True, tag=NAME, buildargs={"BASE": base}, rm=True)
    try:
        yield NAME
    finally:
        daemon.images.remove(NAME, force=True)
