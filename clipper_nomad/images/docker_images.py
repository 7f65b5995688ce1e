"""Build, push, and ask a registry, through the Docker daemon. Every failure is an ImageError with the cause.

The daemon reports failures of a build or a push within a stream that itself succeeds, so success is only what says so: an
image id, a digest. Registry credentials are Docker's own (its config.json and credential helpers).
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from clipper_nomad.errors import ImageError
from clipper_nomad.images.recipes import LABEL, PYTHON_LABEL
from clipper_nomad.images.references import Reference

REACH_WITHIN_S = 10.0
BUILD_WITHIN_S = 1800  # of silence
_TAIL_LINES = 15

Said = Callable[[str], None]
Event = Mapping[str, Any]  # Any: JSON of the daemon


class DockerImages:
    """The images of one Docker daemon: of DOCKER_HOST, or the local one. Raises: ImageError: it does not answer."""

    def __init__(self, client: docker.DockerClient | None = None) -> None:
        with failures("reaching Docker", hint="Start Docker, or set DOCKER_HOST; `docker info` shows whether it answers."):
            self._client = client or docker.from_env(timeout=BUILD_WITHIN_S)
            self._client.ping()

    def build(
        self, context: bytes, reference: Reference, *, base: str, network: str | None = None, said: Said = lambda _: None
    ) -> str:
        """Build an image, tag it, and return its id (sha256:…). `said` is told each line of the builder.

        `network`: the builder's, "host" where containers reach the package index in no other way.
        Raises: ImageError: a step failed; the builder's last lines are in the message.
        """
        tail: deque[str] = deque(maxlen=_TAIL_LINES)
        with failures(f"building {reference}"):
            events = self._client.api.build(
                fileobj=io.BytesIO(context),
                custom_context=True,
                encoding=None,
                tag=str(reference),
                buildargs={"BASE": base},
                network_mode=network,
                rm=True,
                forcerm=True,
                decode=True,
            )
            built = ""
            for event in events:
                for line in str(event.get("stream", "")).splitlines():
                    if line.strip():
                        tail.append(line)
                        said(line)
                if "error" in event:
                    raise ImageError(_build_failure(reference, base, event, tail), hint=_build_hint(base, event))
                built = (event.get("aux") or {}).get("ID", built)
            return built or str(self._client.images.get(str(reference)).id)  # by its tag it may be another's already

    def push(self, reference: Reference, *, said: Said = lambda _: None) -> Reference:
        """Push an image and return its name by digest, which is what is to be deployed.

        Raises: ImageError: the registry refused it or cannot be reached; nothing says that it arrived.
        """
        digest = ""
        with failures(f"pushing {reference}"):
            events = self._client.api.push(reference.repository, tag=reference.tag, stream=True, decode=True)
            for event in _checked(events, reference):
                said(" ".join(str(event[key]) for key in ("id", "status", "progress") if event.get(key)))
                digest = (event.get("aux") or {}).get("Digest", digest)
        if not digest:
            raise ImageError(f"pushing {reference}: the registry did not say that it has the image.", hint="Try again.")
        return Reference(reference.repository, reference.tag, digest)

    def resolved(self, reference: Reference) -> Reference:
        """Return the name by digest of an image that a registry has. Raises: ImageError: it has none, or is out of reach."""
        if reference.digest:
            return reference
        with failures(f"asking the registry for {reference}", hint_of=lambda said: _push_hint(said, reference)):
            try:
                data = self._client.images.get_registry_data(str(reference))
            except APIError as exc:
                if isinstance(exc, NotFound) or _says_missing(str(exc.explanation or exc)):
                    raise missing_from_registry(reference) from exc
                raise
        return Reference(reference.repository, reference.tag, str(data.id))

    def tag(self, image_id: str, reference: Reference) -> None:
        """Give an image of this daemon another name."""
        with failures(f"naming {image_id} {reference}"):
            self._client.api.tag(image_id, reference.repository, tag=reference.tag, force=True)

    def fixed(self, reference: Reference, image_id: str = "") -> Reference | None:
        """Give an image of this daemon (None: it is not here) a second tag, with its id, that no other build can take away.

        `image_id`: of the image, where somebody else may have moved the tag meanwhile."""
        with failures(f"looking at {reference}"):
            try:
                image_id = str(self._client.images.get(image_id or str(reference)).id)
            except ImageNotFound:
                return None
        fixed = Reference(reference.repository, f"{reference.tag}-{image_id.removeprefix('sha256:')[:12]}")
        self.tag(image_id, fixed)
        return fixed

    def part_of(self, image: str) -> str | None:
        """Return which part of the toolkit an image of this daemon is, "" if none of them; None: it is not here."""
        with failures(f"looking at {image}"):
            try:
                labels = self._client.images.get(image).labels
            except ImageNotFound:
                return None
        return str(labels.get(LABEL, ""))

    def python_of(self, image: str) -> str | None:
        """Return which Python an image of the toolkit has, such as "3.11"; None: it is not here, or does not say."""
        with failures(f"looking at {image}"):
            try:
                return self._client.images.get(image).labels.get(PYTHON_LABEL)
            except ImageNotFound:
                return None

    def remove(self, reference: Reference) -> None:
        """Take a name away, and the image with its last one; nothing to do if it is gone."""
        with failures(f"removing {reference}"):
            try:
                self._client.images.remove(str(reference), noprune=False)
            except (ImageNotFound, NotFound):
                return


_MISSING = ("tag does not exist", "manifest unknown", "name unknown")


def _checked(events: Iterable[Event], reference: Reference) -> Iterator[Event]:
    for event in events:
        if "error" in event:
            raise ImageError(f"pushing {reference}: {event['error']}", hint=_push_hint(str(event["error"]), reference))
        yield event


def missing_from_registry(reference: Reference) -> ImageError:
    """Return what is said where a registry has no image of this name."""
    host, _, path = reference.repository.partition("/")
    registry = "/".join(filter(None, [host, path.rpartition("/")[0]]))
    error = ImageError(
        f"The registry {host} has no image {reference}.",
        hint=f"Build and push it: clipper-nomad images push --registry {registry}. If it is there under another name,"
        " correct the registry (--registry, CLIPPER_REGISTRY) or the reference.",
    )
    error.is_missing = True
    return error


def _says_missing(text: str) -> bool:
    return any(words in text.lower() for words in _MISSING)


def _build_hint(base: str, event: Event) -> str | None:
    if _says_missing(str(event["error"])):
        return f"Is there an image {base}? Name another to build on: --base-image (base_image=)."
    return None


def _push_hint(error: str, reference: Reference) -> str:
    registry = reference.repository.partition("/")[0]
    text = error.lower()
    if "no basic auth" in text or "unauthorized" in text or "denied" in text:
        return f"Log in to it: docker login {registry}"
    if "no such host" in text or "connection refused" in text or "timeout" in text:
        return f"See whether {registry} is the registry's address and can be reached from the Docker host."
    if "http response to https client" in text:
        return f"{registry} speaks plain HTTP: name it in insecure-registries of Docker's daemon.json, or give it TLS."
    if _says_missing(text):
        return "Build it first (clipper-nomad images build), and push it (clipper-nomad images push)."
    return "Docker's own log may say more."


def _build_failure(reference: Reference, base: str, event: Event, tail: Iterable[str]) -> str:
    said = "\n".join(f"  {line}" for line in tail)
    return f"building {reference} on {base} failed: {event['error']}\n{said}"


@contextmanager
def failures(what: str, *, hint: str | None = None, hint_of: Callable[[str], str] | None = None) -> Iterator[None]:
    """Turn every error of the client into ImageError, with what was being done. `hint_of`: from what was said."""
    try:
        yield
    except APIError as exc:  # its text holds the daemon's URL, its explanation what the daemon said
        said = str(exc.explanation or exc)
        error = ImageError(f"{what} failed: {said}", hint=hint_of(said) if hint_of else hint)
        error.is_missing = isinstance(exc, NotFound)
        raise error from exc
    except (DockerException, OSError) as exc:
        raise ImageError(f"{what} failed: {exc}", hint=hint) from exc
