"""Why Docker could not pull an image, from the words of the daemon in a `Driver Failure` event. Pure. See task_failures.py.

The daemon and the registries say it in text only; the texts are those of Docker 20.10 to 28 and the distribution registry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PULL = re.compile(r"Failed to pull `(?P<image>[^`]+)`: (?P<said>.*)", re.DOTALL)
_HOST = re.compile(r"https?://(?P<host>[^/\"]+)/")
_CREDENTIALS = "Log in on the clients' side: give the registry's user and password; pull rights are enough."


@dataclass(frozen=True, slots=True, kw_only=True)
class PullFailure:
    """`lasting`: no second try will help."""

    cause: str
    hint: str
    lasting: bool


def pull_failure(text: str) -> PullFailure | None:
    """Return what a driver's error says about a pull; None if it is about something else."""
    found = _PULL.search(text)
    if found is None:
        return None
    image, said = found["image"], " ".join(found["said"].removeprefix("Error response from daemon: ").split())
    for words, reason, hint, lasting in _REASONS:
        if any(word in said for word in words):
            told = reason.format(registry=_registry(image, said), what="digest" if "@" in image else "tag")
            return PullFailure(cause=f"image {image} cannot be pulled: {told}", hint=hint, lasting=lasting)
    return PullFailure(cause=f"image {image} cannot be pulled: {said}", hint="Try `docker pull` on a client.", lasting=False)


def _registry(image: str, said: str) -> str:
    """The host that did not answer: a mirror's or token server's where the text names one, else the image's."""
    if named := _HOST.search(said):
        return named["host"]
    first, slash, _ = image.partition("/")
    return first if slash and (set(first) & {".", ":"} or first == "localhost") else "docker.io"


# What the text holds, the reason, what to do, and whether it lasts. First match wins.
_REASONS: tuple[tuple[tuple[str, ...], str, str, bool], ...] = (
    (
        ("no such host", "server misbehaving", "Temporary failure in name resolution"),
        "the client cannot resolve the name of the registry {registry}",
        "Correct the registry's name, or the client's DNS.",
        False,
    ),
    (
        ("connection refused", "no route to host", "network is unreachable"),
        "the registry {registry} refuses the connection",
        "See that the registry runs and that the clients, not only this machine, reach that address.",
        False,
    ),
    (
        ("i/o timeout", "Client.Timeout", "context deadline exceeded", "TLS handshake timeout"),
        "the registry {registry} does not answer",
        "See that the clients reach the registry: firewall, proxy, address.",
        False,
    ),
    (
        ("x509:", "certificate"),
        "the certificate of the registry {registry} is not trusted",
        "Put the registry's CA into /etc/docker/certs.d on each client.",
        True,
    ),
    (
        ("server gave HTTP response to HTTPS client",),
        "the registry {registry} speaks plain HTTP, which Docker only takes from loopback",
        "Give the registry a certificate, or name it under insecure-registries on each client.",
        True,
    ),
    (("no basic auth credentials",), "the registry wants credentials and got none", _CREDENTIALS, True),
    (
        ("pull access denied", "insufficient_scope", "denied:"),
        "there is no such repository, or the credentials do not allow to pull from it",
        "Correct the image's name, or the rights of the registry's user.",
        True,
    ),
    (("unauthorized", "incorrect username or password"), "the registry refused the credentials", _CREDENTIALS, True),
    (
        ("manifest unknown", "name unknown", "not found"),
        "the registry {registry} has no such image: it does not know this {what}",
        "Push the image (docker push, or for those of clipper-nomad: clipper-nomad images push), or correct its reference.",
        True,
    ),
    (
        ("no matching manifest for",),
        "the image is not made for the client's processor",
        "Build it for the clients' platform, or constrain the job to clients of the image's.",
        True,
    ),
    (("no space left on device",), "the client's disk is full", "Free disk on the client: `docker system df`.", False),
)
