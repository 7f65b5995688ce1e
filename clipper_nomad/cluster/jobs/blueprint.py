"""What a cluster is to be like, and the specs of its jobs that follow from it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from clipper_nomad.cluster.jobs.programs import Image, StoredBundle
from clipper_nomad.cluster.jobs.requirements import Network, Placement, Resources
from clipper_nomad.cluster.jobs.specs import (
    AdminJob,
    BundleKeeping,
    Entry,
    EntryByAddress,
    EntryByService,
    EphemeralStorage,
    FrontendJob,
    HostStorage,
    JobSpec,
    ModelJob,
    RedisJob,
    Store,
    StoreOfCluster,
)
from clipper_nomad.cluster.names import ClusterNames

CONSUL_NAME = ".service.consul"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """The choices that all jobs of a cluster share.

    `tcp_port`: of Fabio, for the model channel; None: there is no Fabio, so no routes. `entry`: where replicas first dial.
    `resources`: of each replica. `redis_image`, `redis_storage`: where the cluster has a store of its own.
    """

    names: ClusterNames
    toolkit: str
    placement: Placement = field(default_factory=Placement)
    network: Network = field(default_factory=Network)
    resources: Resources = field(default_factory=Resources)
    store: Store = field(default_factory=StoreOfCluster)
    redis_image: Image = field(default_factory=lambda: Image(reference="redis:7-alpine"))
    redis_storage: HostStorage | EphemeralStorage = field(default_factory=EphemeralStorage)
    tcp_port: int | None = None
    entry: Entry = field(default_factory=EntryByService)
    rpc_mode: str = "auto"
    encrypted: bool = True
    bundles: BundleKeeping = field(default_factory=BundleKeeping)

    def parts(self, *, admin: Image, frontend: Image, frontends: int = 1, runtime: Image | None = None) -> list[JobSpec]:
        """Return the jobs of the parts, the store first, if it is the cluster's own. `runtime`: of bundles.

        Raises: InvalidSpec.
        """
        redis = RedisJob(
            cluster=self.names,
            toolkit=self.toolkit,
            placement=self.placement,
            network=self.network,
            image=self.redis_image,
            storage=self.redis_storage,
        )
        others = [
            AdminJob(
                cluster=self.names,
                toolkit=self.toolkit,
                placement=self.placement,
                network=self.network,
                image=admin,
                store=self.store,
                has_route=self.tcp_port is not None,
                bundles=replace(self.bundles, runtime=runtime),
            ),
            FrontendJob(
                cluster=self.names,
                toolkit=self.toolkit,
                placement=self.placement,
                network=self.network,
                image=frontend,
                store=self.store,
                count=frontends,
                tcp_port=self.tcp_port,
                has_curve=self.encrypted,
            ),
        ]
        return [redis, *others] if isinstance(self.store, StoreOfCluster) else others

    def model(
        self,
        name: str,
        version: str,
        *,
        uid: str,
        input_type: str,
        program: Image | StoredBundle,
        replicas: int,
        server_key: str,
    ) -> ModelJob:
        """Return the job of a model version. `server_key`: the frontends' public key. Raises: InvalidSpec, InvalidName."""
        return ModelJob(
            cluster=self.names,
            toolkit=self.toolkit,
            placement=self.placement,
            network=self.network,
            resources=self.resources,
            model=name,
            version=version,
            uid=uid,
            input_type=input_type,
            program=program,
            replicas=replicas,
            entry=self.entry,
            rpc_mode=self.rpc_mode,
            curve_server_key=server_key if self.encrypted else None,
        )


def entry_by(address: str | None) -> EntryByAddress | EntryByService:
    """Return where replicas first dial. `address`: host:port of a load balancer's TCP listener, None without one."""
    if address is None:
        return EntryByService()
    host, _, port = address.rpartition(":")
    if host.endswith(CONSUL_NAME):  # Nomad looks it up for the container, which then needs no DNS of Consul's
        return EntryByService(service=host.removesuffix(CONSUL_NAME), port=int(port))
    return EntryByAddress(host=host.strip("[]"), port=int(port))
