"""What a task runs: a container image, perhaps behind a registry's password, or a bundle in a generic image. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from clipper_nomad.cluster.jobs.checks import Checker
from clipper_nomad.errors import InvalidSetting
from clipper_nomad.protocol.bundle_store import DIGEST

_REFERENCE = re.compile(r"[a-z0-9][\w.\-:/]*(@sha256:[0-9a-f]{64})?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryLogin:
    """Who pulls the image. The password is item `registry_password` of the job's Variable.

    It ends up in the container's environment, where a model can read it: give it no more than the right to pull.
    """

    username: str
    server: str | None = None

    def __post_init__(self) -> None:
        checker = Checker("A registry login")
        checker.text("username", self.username)
        if self.server is not None:
            checker.text("server", self.server)
        checker.check()


def registry_login(registry: str, *, user: str | None, password: str | None) -> RegistryLogin | None:
    """Return who pulls from `registry` ("": there is none), None if nobody was named. Raises: InvalidSetting."""
    if bool(user) != bool(password):
        raise InvalidSetting(
            f"Images are to be pulled with a user and a password, and the {'password' if user else 'user'} is not given.",
            hint="Set both CLIPPER_REGISTRY_USER and CLIPPER_REGISTRY_PASSWORD; neither where Nomad's clients have a login.",
        )
    if not user or not registry:
        return None
    return RegistryLogin(username=user, server=registry.partition("/")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A container image, best by digest: `registry/name@sha256:…`, or `name:tag` that every client has."""

    reference: str
    login: RegistryLogin | None = None

    def __post_init__(self) -> None:
        checker = Checker("An image")
        checker.matching(
            "reference", self.reference, _REFERENCE, "registry/name@sha256:…, or name:tag of an image that every client has"
        )
        checker.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBundle:
    """A packed model that admin keeps; a replica fetches it when it starts, into a generic runtime image.

    Where admin is comes from Consul; the token that opens it is item `bundle_token` of the job's Variable. `cache_volume`: a
    host volume of the clients, writable by the image's user, in which fetched archives stay.
    """

    runtime: Image
    digest: str
    cache_volume: str | None = None

    def __post_init__(self) -> None:
        checker = Checker("A bundle")
        checker.instance("runtime", self.runtime, Image)
        checker.matching("digest", self.digest, DIGEST, "sha256- and 64 hexadecimal digits")
        checker.check()
