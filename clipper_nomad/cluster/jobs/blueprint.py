"""What a cluster is to be like, and the specs of its jobs that follow from it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from clipper_nomad.cluster.jobs.programs import Image, RegistryLogin
from clipper_nomad.cluster.jobs.requirements import Network, Placement, Resources
from clipper_nomad.cluster.jobs.specs import (
    AdminJob,
    Entry,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """The choices that all jobs of a cluster share.

    `tcp_port`: of Fabio, for the model channel; None: there is no Fabio, so no routes. `entry`: where replicas first dial.
    `resources`: of each replica. `redis_image`, `redis_storage`: where the cluster has a store of its own. `login`: for the
    images of its server, of which it must name one.
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
    login: RegistryLogin | None = None

    def image(self, reference: str) -> Image:
        """Return the image of this name, with the login if it is of the login's registry. Raises: InvalidSpec."""
        is_private = self.login is not None and reference.startswith(f"{self.login.server}/")
        return Image(reference=reference, login=self.login if is_private else None)

    def parts(self, *, admin: Image, frontend: Image, frontends: int = 1) -> list[JobSpec]:
        """Return the jobs of the parts, the store first, if it is the cluster's own. Raises: InvalidSpec."""
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
        self, name: str, version: str, *, uid: str, input_type: str, image: Image, replicas: int, server_key: str
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
            program=image,
            replicas=replicas,
            entry=self.entry,
            rpc_mode=self.rpc_mode,
            curve_server_key=server_key if self.encrypted else None,
        )
