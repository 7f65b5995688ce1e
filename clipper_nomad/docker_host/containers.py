"""What one container is made from. Pure; engine.py makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clipper_nomad.errors import ClipperException

SECRETS = "/etc/clipper-nomad"  # files of the container, written before it starts: nothing of them is in `docker inspect`
HEALTH_EVERY_S = 2  # as on Nomad: each look starts a process in the container
HEALTH_WITHIN_S = 2

# What is said of every container here, so not by who brings a cluster up.
_RESERVED = frozenset(
    {"image", "command", "name", "entrypoint", "ports", "healthcheck", "network_mode", "networking_config", "auto_remove"}
    | {"remove", "stdout", "stderr", "stream", "publish_all_ports"}
)
_FORCED = ("network", "detach")  # Clipper takes them, and has its own way


@dataclass(frozen=True, slots=True, kw_only=True)
class DataVolume:
    """Where data lies in the container. `source`: a named volume of the host, None for one that goes with the container."""

    path: str
    source: str | None = None
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """One container. `files`: path → text; `ports`: its own → the host's; `health`: a command that fails while it is not.

    `limits`: further arguments of the Docker library, of what it may use.
    """

    name: str
    image: str
    labels: Mapping[str, str]
    aliases: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    ports: Mapping[int, int] = field(default_factory=dict)
    health: tuple[str, ...] = ()
    volumes: tuple[DataVolume, ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)  # Any: the library's own types


@dataclass(frozen=True, slots=True)
class ExtraSettings:
    """What a user gives every container of a cluster, as arguments of the Docker library: Clipper's extra_container_kwargs.

    Raises: ClipperException: one of them is not the user's to say.
    """

    given: Mapping[str, Any]  # Any: the library's own types

    def __post_init__(self) -> None:
        taken = sorted(_RESERVED.intersection(self.given))
        if taken:
            raise ClipperException(
                f"extra_container_kwargs has {', '.join(taken)}, which each container here is given its own.",
                hint="Leave them out. labels, environment, mounts, log_config, restart_policy and limits may be said.",
            )

    def others(self, *but: str) -> dict[str, Any]:
        """Return the arguments that are passed on as they are."""
        return {name: value for name, value in self.given.items() if name not in {*but, *_FORCED}}

    @property
    def labels(self) -> dict[str, str]:
        """Labels for every container."""
        given: Mapping[str, str] | Sequence[str] = self.given.get("labels") or {}
        return dict(given) if isinstance(given, Mapping) else dict.fromkeys(given, "")

    @property
    def environment(self) -> dict[str, str]:
        """Variables for every container."""
        given: Mapping[str, str] | Sequence[str] = self.given.get("environment") or {}
        if isinstance(given, Mapping):
            return dict(given)
        return {name: value for name, _, value in (each.partition("=") for each in given)}


def http_health(port: int, path: str) -> tuple[str, ...]:
    """Return a command that fails unless GET `path` answers 200. Plain sockets: it runs every 2 s, and starts quickly so."""
    ask = (
        f'import socket; s = socket.create_connection(("127.0.0.1", {port}), {HEALTH_WITHIN_S}); '
        f's.sendall(b"GET {path} HTTP/1.0\\r\\n\\r\\n"); raise SystemExit(b" 200 " not in s.recv(64))'
    )
    return ("python3", "-S", "-c", ask)
