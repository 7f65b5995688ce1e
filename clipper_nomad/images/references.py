"""Names of images: registry/repository:tag@digest. Pure. Source: the grammar of the Docker distribution project."""

from __future__ import annotations

import re
from dataclasses import dataclass

from clipper_nomad.errors import InvalidName
from clipper_nomad.images.parts import Part

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?P<repository>(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?\Z"
)
_REGISTRY = re.compile(rf"{_HOST}(?:/{_COMPONENT})*\Z")


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's name, taken apart. `tag` and `digest` are "" where the text has none."""

    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Return the reference in `text`. Raises: InvalidName."""
    found = _REFERENCE.match(text)
    if found is None:
        raise InvalidName(
            f"{text!r} is no image's name; expected registry/repository:tag, lower case, such as "
            "registry.example/team/digits:1."
        )
    return Reference(found["repository"], found["tag"] or "", found["digest"] or "")


def check_registry(registry: str) -> str:
    """Return a registry's address, with a path where it has one, without a scheme. Raises: InvalidName."""
    if _REGISTRY.match(registry) is None:
        raise InvalidName(
            f"{registry!r} is no registry; expected host, host:port or host/path, without http://, such as "
            "registry.example:5000/team."
        )
    return registry


def part_image(part: Part, *, toolkit: str, python: str, registry: str = "") -> Reference:
    """Return the name of a part's image: its tag says for which toolkit and which Python."""
    name = f"clipper-nomad-{part.value}"
    repository = f"{check_registry(registry)}/{name}" if registry else name
    return Reference(repository, re.sub(r"[^A-Za-z0-9_.-]", "-", f"{toolkit}-py{python}"))


def model_image(cluster: str, name: str, version: str, *, registry: str = "") -> Reference:
    """Return the name of a model version's image: Clipper's, `<cluster>-<name>:<version>`."""
    repository = f"{cluster}-{name}".lower()
    return Reference(f"{check_registry(registry)}/{repository}" if registry else repository, version)
