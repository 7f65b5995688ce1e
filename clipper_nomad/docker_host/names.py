"""What the containers of one cluster on a Docker host are called, by people, by labels and by each other. Pure.

Names and labels are Clipper's, so that what looks for them goes on finding them. Containers call each other by aliases on
their network, which stay the same when a container is started anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from clipper_nomad.container_manager import (
    CLIPPER_DOCKER_LABEL,
    CLIPPER_MGMT_FRONTEND_CONTAINER_LABEL,
    CLIPPER_MODEL_CONTAINER_LABEL,
    CLIPPER_NAME_LABEL,
    CLIPPER_QUERY_FRONTEND_CONTAINER_LABEL,
)
from clipper_nomad.errors import InvalidName
from clipper_nomad.protocol.names import deployed_problem

TOOLKIT_LABEL = "ai.clipper-nomad.toolkit"  # a container without it is Clipper's own, and is never touched
KEY_LABEL = "ai.clipper-nomad.frontends-key"  # their public key, which replicas are told; no secret
NETWORK_LABEL = "ai.clipper-nomad.network"  # a network that was made here
MOST_NUMBERS = 100_001  # Clipper's: 0 to 100,000


class Kind(StrEnum):
    """What a container is: the beginning of its name, which is Clipper's."""

    STORE = "redis"
    ADMIN = "mgmt_frontend"
    FRONTEND = "query_frontend"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class DockerNames:
    """Every name of one cluster. Raises: InvalidName: the cluster's name cannot be part of them."""

    cluster: str
    toolkit: str

    def __post_init__(self) -> None:
        problem = deployed_problem("cluster name", self.cluster)
        if problem:
            raise InvalidName(problem)

    @property
    def store(self) -> str:
        """What the store is called on the network."""
        return f"clipper-{self.cluster}-redis"

    @property
    def frontends(self) -> str:
        """What all query frontends together are called on the network."""
        return f"clipper-{self.cluster}-query-frontend"

    @property
    def ours(self) -> dict[str, str]:
        """The labels by which the containers of this cluster are found."""
        return {CLIPPER_DOCKER_LABEL: self.cluster, TOOLKIT_LABEL: self.toolkit}

    def part_labels(self, kind: Kind) -> dict[str, str]:
        """Return the labels of a container that is no model's."""
        of_kind = {
            Kind.ADMIN: {CLIPPER_MGMT_FRONTEND_CONTAINER_LABEL: ""},
            Kind.FRONTEND: {CLIPPER_QUERY_FRONTEND_CONTAINER_LABEL: ""},
        }
        return self.ours | {CLIPPER_NAME_LABEL: str(kind)} | of_kind.get(kind, {})

    def model_labels(self, name: str, version: str) -> dict[str, str]:
        """Return the labels of a replica."""
        model = {CLIPPER_MODEL_CONTAINER_LABEL: version_label(name, version)}
        return self.ours | {CLIPPER_NAME_LABEL: str(Kind.MODEL)} | model


def numbered(stem: str, number: int) -> str:
    """Return the name of a container."""
    return f"{stem}-{number}"


def version_label(name: str, version: str) -> str:
    """Return a version in one word. Neither half has an underscore, so it can be taken apart again."""
    return f"{name}_{version}"
