"""What a running cluster was brought up with, as the job of its query frontends says it. Pure.

So that a later verb needs no option that `up` was given. What no job has (Fabio's host and HTTP port) is not here.
"""

from __future__ import annotations

from dataclasses import dataclass

from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.cluster.rollout.parsed_job import Json

PREFIX = "urlprefix-:"
ENCRYPTED = "CLIPPER_CURVE_SECRET_FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`tcp_port` None: no Fabio. `registry`: "" where images are the Docker host's own."""

    tcp_port: int | None
    registry: str
    datacenters: tuple[str, ...]
    node_pool: str | None
    encrypted: bool


def read_settings(job: Json, names: ClusterNames) -> Settings:
    """Return the settings that a frontends' job shows."""
    task = job["TaskGroups"][0]["Tasks"][0]
    tags = [tag for service in task.get("Services") or () if service["Name"] == names.rpc_service for tag in service["Tags"]]
    ports = [tag.removeprefix(PREFIX).split()[0] for tag in tags if tag.startswith(PREFIX)]
    return Settings(
        tcp_port=int(ports[0]) if ports else None,
        registry=str(task["Config"]["image"]).rpartition("/")[0],
        datacenters=tuple(job.get("Datacenters") or ()),
        node_pool=job.get("NodePool"),
        encrypted=ENCRYPTED in (task.get("Env") or {}),
    )
