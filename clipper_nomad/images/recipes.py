"""The Dockerfiles, for builders with and without BuildKit. Pure.

What a build needs beside the image's content (pip's settings, which may hold a password, and certificates) stands in its
first stage only. Nothing of the user's stands in the text: bases come as build arguments, packages as a file.
"""

from __future__ import annotations

from clipper_nomad.images.parts import Part

USER = "10001:10001"  # a number: no base image has to know it
APP = "/opt/clipper-nomad"  # our files
VENV = "/opt/venv"
MODEL = "/model"  # the bundle
MODEL_PACKAGES = "/opt/model"  # what the user wants installed beside
READY_FILE = "/tmp/model_is_ready.check"  # noqa: S108  # the container's own; Clipper's name
LABEL = "ai.clipper-nomad.part"
PYTHON_LABEL = "ai.clipper-nomad.python"
NO_VENV = "the base image has no venv module (on Debian: python3-venv)"


def part_recipe(part: Part, python: str) -> str:
    """Return the Dockerfile of a part. `python`: the minor version that the base must have, such as "3.11"."""
    major, _, minor = python.partition(".")
    trim = "" if part is Part.RUNTIME else f" && {VENV}/bin/pip uninstall --quiet --yes pip setuptools"
    extra = f" CLIPPER_MODEL_PATH={MODEL} CLIPPER_READY_FILE={READY_FILE}" if part is Part.RUNTIME else ""
    return f"""\
ARG BASE
FROM ${{BASE}} AS build
USER 0
COPY build/ /build/
RUN python3 -c "import sys; v = sys.version_info[:2]; sys.exit(v != ({major}, {minor}) and \
'the base image has Python %d.%d; expected {python}, which the models are packed with' % v)"
RUN python3 -m venv {VENV} || {{ echo "{NO_VENV}" >&2; exit 1; }}
RUN PIP_CONFIG_FILE=/build/pip.conf {VENV}/bin/pip install --quiet --no-cache-dir --disable-pip-version-check \
-r /build/requirements.txt{trim}
COPY app/ {APP}/
RUN python3 -m compileall -q {APP}

FROM ${{BASE}}
COPY --from=build {VENV} {VENV}
COPY --from=build {APP} {APP}
ENV PATH={VENV}/bin:$PATH PYTHONPATH={APP} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp{extra}
LABEL {LABEL}={part.value} {PYTHON_LABEL}={python}
USER {USER}
WORKDIR /tmp
ENTRYPOINT ["python3", "-m", "{part.module}"]
"""


def model_recipe(python: str, *, has_packages: bool) -> str:
    """Return the Dockerfile of a model's image, one layer or two on the runtime's."""
    if not has_packages:
        return f"""\
ARG BASE
FROM ${{BASE}}
COPY bundle/ {MODEL}/
"""
    return f"""\
ARG BASE
FROM ${{BASE}} AS build
USER 0
COPY build/ /build/
RUN PIP_CONFIG_FILE=/build/pip.conf {VENV}/bin/pip install --quiet --no-cache-dir --disable-pip-version-check \
--prefix {MODEL_PACKAGES} -r /build/requirements.txt

FROM ${{BASE}}
COPY --from=build {MODEL_PACKAGES} {MODEL_PACKAGES}
COPY bundle/ {MODEL}/
ENV PYTHONPATH={APP}:{MODEL_PACKAGES}/lib/python{python}/site-packages PATH={MODEL_PACKAGES}/bin:{VENV}/bin:$PATH
"""
