"""The parts of a cluster as containers: store, admin, query frontends. Pure.

The model channel (7001) and the frontends' own port (1339) are for the network alone. On 7000 is Clipper's RPC version 3, as
in Clipper: a container of Clipper's on this network dials CLIPPER_IP on its default port.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from clipper_nomad.container_manager import (
    CLIPPER_DOCKER_PORT_LABELS,
    CLIPPER_INTERNAL_MANAGEMENT_PORT,
    CLIPPER_INTERNAL_QUERY_PORT,
    CLIPPER_INTERNAL_REDIS_PORT,
    CLIPPER_INTERNAL_RPC_PORT,
)
from clipper_nomad.docker_host.containers import SECRETS, ContainerSpec, DataVolume, http_health
from clipper_nomad.docker_host.names import KEY_LABEL, DockerNames, Kind, numbered
from clipper_nomad.store_settings import DURABLE

CHANNEL_PORT = 7001  # the model channel of our own replicas
INTERNAL_PORT = 1339  # where admin and other frontends ask a frontend
DRAIN_S = 15
QUERY_LABEL, RPC_LABEL = CLIPPER_DOCKER_PORT_LABELS["query_rest"], CLIPPER_DOCKER_PORT_LABELS["query_rpc"]
ADMIN_LABEL, METRIC_LABEL = CLIPPER_DOCKER_PORT_LABELS["management"], CLIPPER_DOCKER_PORT_LABELS["metric"]

TOKEN_FILE = f"{SECRETS}/token"
STORE_URL_FILE = f"{SECRETS}/store.url"
CURVE_FILE = f"{SECRETS}/curve-secret"
STORE_FILE = f"{SECRETS}/redis.conf"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAddress:
    """A Redis that somebody else runs, as its containers reach it."""

    host: str
    port: int = CLIPPER_INTERNAL_REDIS_PORT


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What all parts of a cluster share. `external`: None, where the cluster has a store of its own.

    `curve_secret`: of the frontends, "" without encryption; `curve_public`: its other half. `has_legacy`: RPC version 3.
    `cache_bytes`: of each frontend's prediction cache."""

    names: DockerNames
    token: str = field(repr=False)
    store_password: str = field(repr=False)
    curve_secret: str = field(repr=False)
    curve_public: str = ""
    external: StoreAddress | None = None
    has_legacy: bool = True
    cache_bytes: int = 0

    def store(self, number: int, *, image: str, volume: str | None) -> ContainerSpec:
        """Return the store. Its port is published nowhere: whoever writes to it could deploy."""
        lines = (f"port {CLIPPER_INTERNAL_REDIS_PORT}", "dir /data", *DURABLE, f"requirepass {self.store_password}")
        return ContainerSpec(
            name=numbered(Kind.STORE, number),
            image=image,
            labels=self.names.part_labels(Kind.STORE),
            aliases=(self.names.store,),
            command=(STORE_FILE,),
            files={STORE_FILE: "\n".join(lines) + "\n"},
            volumes=(DataVolume(path="/data", source=volume),),
            health=("redis-cli", "ping"),
        )

    def admin(self, number: int, *, image: str, port: int) -> ContainerSpec:
        """Return the admin service, at `port` of the host."""
        return ContainerSpec(
            name=numbered(Kind.ADMIN, number),
            image=image,
            labels=self.names.part_labels(Kind.ADMIN) | {ADMIN_LABEL: str(port), KEY_LABEL: self.curve_public},
            env={
                "CLIPPER_CLUSTER": self.names.cluster,
                "CLIPPER_ADMIN_ADDRESS": f"0.0.0.0:{CLIPPER_INTERNAL_MANAGEMENT_PORT}",
                "CLIPPER_STORE_URL_FILE": STORE_URL_FILE,
                "CLIPPER_TOKEN_FILE": TOKEN_FILE,
            },
            files={TOKEN_FILE: self.token, STORE_URL_FILE: self._store_url},
            ports={CLIPPER_INTERNAL_MANAGEMENT_PORT: port},
            health=http_health(CLIPPER_INTERNAL_MANAGEMENT_PORT, "/health"),
        )

    def frontend(self, number: int, *, image: str, query_port: int, rpc_port: int) -> ContainerSpec:
        """Return a query frontend, at these ports of the host. `rpc_port`: of RPC version 3, if that is served."""
        name = numbered(Kind.FRONTEND, number)
        labels = {QUERY_LABEL: str(query_port), METRIC_LABEL: str(query_port)}
        ports = {CLIPPER_INTERNAL_QUERY_PORT: query_port}
        files = {TOKEN_FILE: self.token, STORE_URL_FILE: self._store_url}
        env = {
            "CLIPPER_CLUSTER": self.names.cluster,
            "CLIPPER_FRONTEND_ID": name,
            "CLIPPER_HTTP_ADDRESS": f"0.0.0.0:{CLIPPER_INTERNAL_QUERY_PORT}",
            "CLIPPER_RPC_ADDRESS": f"tcp://0.0.0.0:{CHANNEL_PORT}",
            "CLIPPER_ADVERTISED_RPC_ADDRESS": f"tcp://{name}:{CHANNEL_PORT}",
            "CLIPPER_INTERNAL_ADDRESS": f"0.0.0.0:{INTERNAL_PORT}",
            "CLIPPER_ADVERTISED_INTERNAL_ADDRESS": f"{name}:{INTERNAL_PORT}",
            "CLIPPER_STORE_URL_FILE": STORE_URL_FILE,
            "CLIPPER_TOKEN_FILE": TOKEN_FILE,
            "CLIPPER_MIRROR_PATH": "/tmp/catalog.json",  # noqa: S108  # the container's own
            "CLIPPER_DRAIN_S": str(DRAIN_S),
        }
        if self.has_legacy:
            labels[RPC_LABEL] = str(rpc_port)
            ports[CLIPPER_INTERNAL_RPC_PORT] = rpc_port
            env["CLIPPER_LEGACY_RPC_ADDRESS"] = f"tcp://0.0.0.0:{CLIPPER_INTERNAL_RPC_PORT}"
        if self.cache_bytes:
            env["CLIPPER_CACHE_BYTES"] = str(self.cache_bytes)
        if self.curve_secret:
            files[CURVE_FILE] = self.curve_secret
            env["CLIPPER_CURVE_SECRET_FILE"] = CURVE_FILE
        return ContainerSpec(
            name=name,
            image=image,
            labels=self.names.part_labels(Kind.FRONTEND) | labels,
            aliases=(self.names.frontends,),
            env=env,
            files=files,
            ports=ports,
            health=http_health(CLIPPER_INTERNAL_QUERY_PORT, "/health/ready"),
        )

    @property
    def _store_url(self) -> str:
        login = f":{self.store_password}@" if self.store_password else ""
        if self.external is None:
            return f"redis://{login}{self.names.store}:{CLIPPER_INTERNAL_REDIS_PORT}/0"
        return f"redis://{login}{self.external.host}:{self.external.port}/0"
