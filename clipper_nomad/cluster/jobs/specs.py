"""What each job of a cluster is made from: frozen values, checked when made, so that what exists can be rendered.

    RedisJob  AdminJob  FrontendJob  ModelJob  FabioJob

Each error names the fields and says what was expected. render.py turns a spec into HCL; nothing here knows how.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from clipper_nomad.cluster.jobs.checks import Checker
from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.cluster.jobs.programs import Image, StoredBundle
from clipper_nomad.cluster.jobs.requirements import HostVolume, Network, Options, Placement, Resources
from clipper_nomad.cluster.names import DEFAULT_LEGACY_PORT, DEFAULT_TCP_PORT, ClusterNames
from clipper_nomad.protocol.datatypes import input_type

MAX_COUNT = 1000  # of instances: catches a slip of the finger; Nomad itself has no limit
RPC_MODES = ("auto", "direct", "proxy")  # CLIPPER_RPC_MODE of the model runtime
OPEN_FILES = 1_048_576  # Fabio ends when accepting a TCP connection fails, and each model channel takes two of them
FABIO_ADMIN_PORT = 9998  # Fabio's default, on loopback here

SLO_POLICY = "CLIPPER_DEFAULT_SLO_POLICY"  # of admin
SLO_POLICIES = ("late", "default", "error")

# What each job sets in its task's environment. An `env` of the user's that names one of them is refused.
ADMIN_ENV = frozenset(
    {
        "CLIPPER_CLUSTER", "CLIPPER_STORE_URL_FILE", "CLIPPER_STORE_URL", "CLIPPER_ADMIN_ADDRESS", "CLIPPER_TOKEN_FILE",
        "CLIPPER_BUNDLES", "CLIPPER_BUNDLE_MAX_BYTES", "CLIPPER_RUNTIME_IMAGE",
        "CLIPPER_BUNDLE_CACHE_VOLUME",
    }
)  # fmt: skip
FRONTEND_ENV = frozenset(
    {
        "CLIPPER_CLUSTER", "CLIPPER_FRONTEND_ID", "CLIPPER_HTTP_ADDRESS", "CLIPPER_RPC_ADDRESS",
        "CLIPPER_ADVERTISED_RPC_ADDRESS", "CLIPPER_INTERNAL_ADDRESS", "CLIPPER_ADVERTISED_INTERNAL_ADDRESS",
        "CLIPPER_STORE_URL_FILE", "CLIPPER_STORE_URL", "CLIPPER_MIRROR_PATH", "CLIPPER_TOKEN_FILE", "CLIPPER_PATH_PREFIX",
        "CLIPPER_DRAIN_S", "CLIPPER_CURVE_SECRET_FILE", "CLIPPER_CURVE_SERVER_KEYS_FILE",
        "CLIPPER_LEGACY_RPC_ADDRESS", "CLIPPER_CACHE_BYTES",
    }
)  # fmt: skip
MODEL_ENV = frozenset(
    {
        "CLIPPER_MODEL_NAME", "CLIPPER_MODEL_VERSION", "CLIPPER_MODEL_UID", "CLIPPER_INPUT_TYPE", "CLIPPER_IP",
        "CLIPPER_PORT", "CLIPPER_RPC_ADDRESSES", "CLIPPER_RPC_ADDRESSES_FILE", "CLIPPER_RPC_MODE", "CLIPPER_REPLICA_ID",
        "CLIPPER_METRICS_ADDRESS", "CLIPPER_READY_FILE", "CLIPPER_DRAIN_S", "CLIPPER_CURVE_SECRET_FILE",
        "CLIPPER_CURVE_SERVER_KEY", "CLIPPER_CURVE_SERVER_KEYS_FILE", "CLIPPER_MODEL_PATH", "CLIPPER_MODEL_DIGEST",
        "CLIPPER_BUNDLE_ADDRESS_FILE", "CLIPPER_BUNDLE_TOKEN_FILE", "CLIPPER_BUNDLE_CACHE",
    }
)  # fmt: skip
# What the jobs set in the docker driver's config themselves.
DOCKER_OPTIONS = frozenset({"image", "auth", "ports", "network_mode", "command", "args", "entrypoint", "dns_servers"})

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_CONSUL_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_UID = re.compile(r"[A-Za-z0-9_-]{0,128}")
_LINK = re.compile(r"https?://[^\s\"<>]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOfCluster:
    """The store of this cluster's own Redis job, wherever it runs. Its password is in each user's Variable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalStore:
    """A Redis that somebody else runs, at a name or address. `has_password`: it is in the Variables of those who use it."""

    host: str
    port: int = 6379
    has_password: bool = True

    def __post_init__(self) -> None:
        checker = Checker("An external store")
        checker.matching("host", self.host, _HOST, "a host name or an IPv4 address")
        checker.integer("port", self.port, least=1, most=65_535)
        checker.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryByAddress:
    """Replicas first dial `host`:`port`, whatever it leads to: a load balancer's address or name."""

    host: str
    port: int = DEFAULT_TCP_PORT

    def __post_init__(self) -> None:
        checker = Checker("The address of the frontends")
        checker.matching("host", self.host, _HOST, "a host name or an IPv4 address")
        checker.integer("port", self.port, least=1, most=65_535)
        checker.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryByService:
    """Replicas first dial what Consul knows as `service`, from a file that Nomad keeps up to date.

    `service` None: the frontends of the cluster themselves. `port` None: the port that the service is registered with;
    else this one, as of Fabio's TCP listener.
    """

    service: str | None = None
    port: int | None = None

    def __post_init__(self) -> None:
        checker = Checker("The service of the frontends")
        if self.service is not None:
            checker.matching("service", self.service, _CONSUL_NAME, "the name of a service in Consul")
        if self.port is not None:
            checker.integer("port", self.port, least=1, most=65_535)
        checker.check()


Store: TypeAlias = StoreOfCluster | ExternalStore
Entry: TypeAlias = EntryByAddress | EntryByService


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStorage:
    """Data on a host volume, which outlives the job. `volume`: its name on the Nomad clients."""

    volume: str

    def __post_init__(self) -> None:
        HostVolume(source=self.volume, path="/data")


@dataclass(frozen=True, slots=True, kw_only=True)
class EphemeralStorage:
    """Data in the allocation: moved along with it as far as Nomad can, lost with the node or with `down`."""

    size_mb: int = 1024

    def __post_init__(self) -> None:
        checker = Checker("Ephemeral storage")
        checker.integer("size_mb", self.size_mb, least=10)
        checker.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleKeeping:
    """How a cluster keeps and runs models that are no images.

    `runtime`: the image that runs them; None: only images are run, unless a deployer names one. `storage`: of admin; a
    volume must be writable by its image's user. `cache_volume`: a host volume of all clients.
    """

    runtime: Image | None = None
    storage: HostStorage | EphemeralStorage = field(default_factory=EphemeralStorage)
    cache_volume: str | None = None
    max_mb: int = 2048

    def __post_init__(self) -> None:
        checker = Checker("The keeping of bundles")
        checker.integer("max_mb", self.max_mb, least=1)
        if self.cache_volume is not None:
            HostVolume(source=self.cache_volume, path="/cache")
        checker.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What all jobs have. `toolkit`: our version; `link`: where people find the dashboard; `driver_options`: docker's.

    `asked`: the options that the rest of it came from, to be noted in the meta; a part's only.
    """

    cluster: ClusterNames
    toolkit: str
    placement: Placement = field(default_factory=Placement)
    network: Network = field(default_factory=Network)
    resources: Resources = field(default_factory=Resources)
    env: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[HostVolume, ...] = ()
    driver_options: Options = field(default_factory=dict)
    link: str | None = None
    asked: JobOptions = field(default_factory=JobOptions)

    @property
    def job_id(self) -> str:
        """The id of the job, and the name of its task. Raises: InvalidName: a model's names cannot be part of it."""
        return self._id()

    def _id(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisJob(JobSpec):
    """The store: one Redis, append-only file written through on every change, a password always."""

    image: Image
    storage: HostStorage | EphemeralStorage

    def __post_init__(self) -> None:
        checker = _common_checks(self, env=(), options=())
        checker.instance("image", self.image, Image)
        checker.instance("storage", self.storage, HostStorage, EphemeralStorage)
        checker.check()

    def _id(self) -> str:
        return self.cluster.redis_job


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminJob(JobSpec):
    """The admin service. `has_route`: Fabio leads to it at the cluster's admin path."""

    image: Image
    store: Store = field(default_factory=StoreOfCluster)
    has_route: bool = True
    bundles: BundleKeeping = field(default_factory=BundleKeeping)

    def __post_init__(self) -> None:
        checker = _common_checks(self, env=ADMIN_ENV, options=())
        checker.instance("image", self.image, Image)
        checker.instance("store", self.store, StoreOfCluster, ExternalStore)
        policy = self.env.get(SLO_POLICY, SLO_POLICIES[0])
        if policy not in SLO_POLICIES:
            checker.refuse(f"env.{SLO_POLICY}", f"{policy!r}; expected one of {', '.join(SLO_POLICIES)}")
        checker.check()

    def _id(self) -> str:
        return self.cluster.admin_job


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendJob(JobSpec):
    """The query frontends. `tcp_port`: Fabio's TCP listener for the model channel; None: no Fabio, no routes.

    `drain_s`: how long one goes on answering after SIGTERM. `has_curve`: the model channel is encrypted.
    `key_round`: how often the key of the frontends was changed. `has_legacy_rpc`: containers of Clipper's RPC version 3 are
    served too, through Fabio's listener `legacy_port`. `cache_bytes`: of each one's prediction cache; 0: none.
    """

    image: Image
    count: int = 1
    tcp_port: int | None = DEFAULT_TCP_PORT
    store: Store = field(default_factory=StoreOfCluster)
    has_curve: bool = True
    key_round: int = 0
    has_legacy_rpc: bool = False
    legacy_port: int = DEFAULT_LEGACY_PORT
    mirror_mb: int = 300
    drain_s: int = 15
    cache_bytes: int = 0

    def __post_init__(self) -> None:
        checker = _common_checks(self, env=FRONTEND_ENV, options=())
        checker.instance("image", self.image, Image)
        checker.instance("store", self.store, StoreOfCluster, ExternalStore)
        checker.integer("count", self.count, least=1, most=MAX_COUNT)
        if self.tcp_port is not None:
            checker.integer("tcp_port", self.tcp_port, least=1, most=65_535)
        checker.integer("legacy_port", self.legacy_port, least=1, most=65_535)
        if self.has_legacy_rpc and self.legacy_port == self.tcp_port:
            checker.refuse("legacy_port", f"{self.legacy_port}; the model channel has it, and both cannot share a port")
        checker.integer("mirror_mb", self.mirror_mb, least=10)
        if checker.integer("cache_bytes", self.cache_bytes, least=0):
            memory_mb = self.resources.memory_mb
            if self.cache_bytes > memory_mb * 1024**2 // 2:
                checker.refuse(
                    "cache_bytes", f"{self.cache_bytes}; expected at most half of memory_mb, which is {memory_mb}"
                )
        checker.integer("drain_s", self.drain_s, least=1, most=600)
        checker.check()

    def _id(self) -> str:
        return self.cluster.frontend_job


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelJob(JobSpec):
    """One model version. `entry`: where replicas meet their first frontends. Raises: InvalidName, InvalidSpec.

    `has_curve`: the model channel is encrypted. `is_legacy`: the image is Clipper's own, its containers speak RPC version 3,
    and `entry` is where that is served.
    """

    model: str
    version: str
    uid: str
    input_type: str
    program: Image | StoredBundle
    replicas: int = 1
    max_replicas: int = MAX_COUNT
    entry: Entry = field(default_factory=EntryByService)
    rpc_mode: str = "auto"
    has_curve: bool = False
    is_legacy: bool = False
    drain_s: int = 30

    def __post_init__(self) -> None:
        checker = _common_checks(self, env=MODEL_ENV, options=())
        checker.matching("uid", self.uid, _UID, "letters, digits, '-' and '_'")
        try:
            input_type(self.input_type)
        except (ValueError, AttributeError):
            checker.refuse("input_type", f"{self.input_type!r}; expected bytes, integers, floats, doubles or strings")
        checker.instance("program", self.program, Image, StoredBundle)
        checker.instance("entry", self.entry, EntryByAddress, EntryByService)
        if checker.integer("max_replicas", self.max_replicas, least=1, most=MAX_COUNT):
            checker.integer("replicas", self.replicas, least=0, most=self.max_replicas)
        if self.rpc_mode not in RPC_MODES:
            checker.refuse("rpc_mode", f"{self.rpc_mode!r}; expected one of {', '.join(RPC_MODES)}")
        if self.is_legacy and not isinstance(self.program, Image):
            checker.refuse("rpc_version", "3; a bundle is run by our runtime, which speaks version 4 here")
        if self.is_legacy and self.has_curve:
            checker.refuse("has_curve", "True; RPC version 3 knows no encryption")
        checker.integer("drain_s", self.drain_s, least=1, most=600)
        checker.check()

    def _id(self) -> str:
        return self.cluster.model_job(self.model, self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class FabioJob(JobSpec):
    """Fabio on every client, for a Nomad that has none. `tcp_ports`: one for each cluster whose models come through it.

    `admin_port`: of its own pages, on loopback. `open_files`: its limit of them, at most that of Docker's own.
    `has_consul_token`: Consul wants a token; it is in the job's Variable.
    """

    image: Image
    http_port: int = 9999
    admin_port: int = FABIO_ADMIN_PORT
    open_files: int = OPEN_FILES
    tcp_ports: tuple[int, ...] = (DEFAULT_TCP_PORT,)
    consul_address: str = "127.0.0.1:8500"
    has_consul_token: bool = False

    def __post_init__(self) -> None:
        checker = _common_checks(self, env=(), options={"ulimit"})
        checker.instance("image", self.image, Image)
        checker.integer("http_port", self.http_port, least=1, most=65_535)
        checker.integer("open_files", self.open_files, least=64)
        checker.integer("admin_port", self.admin_port, least=1, most=65_535)
        if checker.instances("tcp_ports", self.tcp_ports, int):
            for index, port in enumerate(self.tcp_ports):
                checker.integer(f"tcp_ports[{index}]", port, least=1, most=65_535)
            listeners = (self.http_port, *self.tcp_ports, self.admin_port)
            if len(set(listeners)) != len(listeners):
                checker.refuse("tcp_ports", f"{listeners} holds a port twice; {self.admin_port} is Fabio's own")
        host, _, port_text = self.consul_address.rpartition(":")
        if not (_HOST.fullmatch(host) and port_text.isascii() and port_text.isdigit() and int(port_text) < 65_536):
            checker.refuse("consul_address", f"{self.consul_address!r}; expected host:port of a Consul agent")
        if self.network.mode != "host":
            checker.refuse("network.mode", f"{self.network.mode!r}; expected host: Fabio's ports are those of the machine")
        checker.check()

    def _id(self) -> str:
        return self.cluster.fabio_job


def _common_checks(spec: JobSpec, *, env: Iterable[str], options: Iterable[str]) -> Checker:
    """Return a checker with the problems of what all jobs have. Raises: InvalidName: the job can have no id."""
    checker = Checker(f"Job '{spec.job_id}'")
    checker.text("toolkit", spec.toolkit)
    checker.instance("placement", spec.placement, Placement)
    checker.instance("network", spec.network, Network)
    checker.instance("resources", spec.resources, Resources)
    checker.environment("env", spec.env, ours=env)
    checker.driver_options("driver_options", spec.driver_options, ours=DOCKER_OPTIONS | frozenset(options))
    checker.instances("volumes", spec.volumes, HostVolume)
    if spec.link is not None and checker.text("link", spec.link):
        checker.matching("link", spec.link, _LINK, "an address that begins with http:// or https://")
    return checker
