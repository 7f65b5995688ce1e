"""A cluster that runs on a Docker host, as its containers tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from clipper_nomad.container_manager import (
    CLIPPER_DOCKER_LABEL,
    CLIPPER_MGMT_FRONTEND_CONTAINER_LABEL,
    CLIPPER_MODEL_CONTAINER_LABEL,
    CLIPPER_QUERY_FRONTEND_CONTAINER_LABEL,
)
from clipper_nomad.docker_host import parts
from clipper_nomad.docker_host.engine import DockerEngine
from clipper_nomad.docker_host.names import KEY_LABEL, TOOLKIT_LABEL, version_label
from clipper_nomad.docker_host.verdicts import Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Where a cluster is reached. `admin`: its container; `rpc_port`: None without RPC version 3.

    `server_key`: the frontends' public one, "" without encryption."""

    network: str
    admin: str
    admin_port: int
    query_ports: tuple[int, ...]
    rpc_port: int | None
    server_key: str
    token: str = field(repr=False)


class ClusterContainers:
    """The containers of one cluster, whoever started them."""

    def __init__(self, engine: DockerEngine, cluster: str) -> None:
        self._engine = engine
        self._of_cluster = f"{CLIPPER_DOCKER_LABEL}={cluster}"

    def is_there(self) -> bool:
        """Whether a container of a cluster of this name is there, be it one of Clipper's own."""
        return bool(self._engine.find(self._of_cluster))

    def all(self) -> list[Seen]:
        """Return those of this toolkit, oldest first."""
        return self._engine.find(self._of_cluster, TOOLKIT_LABEL)

    def with_label(self, label: str) -> list[Seen]:
        """Return those of one kind."""
        return self._engine.find(self._of_cluster, TOOLKIT_LABEL, label)

    def models(self) -> list[Seen]:
        """Return all replicas."""
        return self.with_label(CLIPPER_MODEL_CONTAINER_LABEL)

    def replicas(self, name: str, version: str) -> list[Seen]:
        """Return the replicas of a version."""
        return self.with_label(f"{CLIPPER_MODEL_CONTAINER_LABEL}={version_label(name, version)}")

    def running(self) -> Running | None:
        """Return where the cluster is reached, None if there is none, or not all of it."""
        admins = self.with_label(CLIPPER_MGMT_FRONTEND_CONTAINER_LABEL)
        frontends = self.with_label(CLIPPER_QUERY_FRONTEND_CONTAINER_LABEL)
        token = self._engine.read(admins[0].id, parts.TOKEN_FILE) if admins else None
        if not frontends or token is None:
            return None
        rpc_ports = _ports(frontends, parts.RPC_LABEL)
        return Running(
            network=admins[0].network,
            admin=admins[0].id,
            admin_port=_ports(admins, parts.ADMIN_LABEL)[0],
            query_ports=_ports(frontends, parts.QUERY_LABEL),
            rpc_port=rpc_ports[0] if rpc_ports else None,
            server_key=admins[0].labels.get(KEY_LABEL, ""),
            token=token,
        )


def _ports(containers: Sequence[Seen], label: str) -> tuple[int, ...]:
    return tuple(int(each.labels[label]) for each in containers if label in each.labels)
