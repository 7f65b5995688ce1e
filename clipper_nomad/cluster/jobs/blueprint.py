"""What a cluster is to be like, and the specs of its jobs that follow from it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from clipper_nomad.cluster.jobs.options import JobOptions, problems_of
from clipper_nomad.cluster.jobs.programs import Image, RegistryLogin, StoredBundle
from clipper_nomad.cluster.jobs.requirements import Network, Placement, Resources
from clipper_nomad.cluster.jobs.specs import (
    AdminJob,
    BundleKeeping,
    Entry,
    EntryByService,
    EphemeralStorage,
    FabioJob,
    FrontendJob,
    HostStorage,
    JobSpec,
    ModelJob,
    RedisJob,
    Store,
    StoreOfCluster,
)
from clipper_nomad.cluster.names import DEFAULT_LEGACY_PORT, ClusterNames, Kind
from clipper_nomad.errors import InvalidSpec
from clipper_nomad.toolkit import toolkit_version

PARTS = ("redis", "admin", "frontend", "fabio")  # that have options of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """The choices that all jobs of a cluster share.

    `tcp_port`: of Fabio, for the model channel; None: there is no Fabio, so no routes. `entry`: where replicas first dial.
    `legacy_rpc`: Clipper's RPC version 3 is served too, on Fabio's `legacy_port`.
    `resources`: of each replica; `options`: of each part, laid over what is here. `redis_image`, `redis_storage`: where the
    cluster has a store of its own. `cache_bytes`: of each frontend's prediction cache; None: nothing was said. `login`: for
    the images of its server, of which it must name one.
    """

    names: ClusterNames
    toolkit: str = field(default_factory=toolkit_version)
    placement: Placement = field(default_factory=Placement)
    network: Network = field(default_factory=Network)
    resources: Resources = field(default_factory=Resources)
    options: Mapping[str, JobOptions] = field(default_factory=dict)
    store: Store = field(default_factory=StoreOfCluster)
    redis_image: Image = field(default_factory=lambda: Image(reference="redis:7-alpine"))
    redis_storage: HostStorage | EphemeralStorage = field(default_factory=EphemeralStorage)
    tcp_port: int | None = None
    entry: Entry = field(default_factory=EntryByService)
    rpc_mode: str = "auto"
    encrypted: bool = True
    key_round: int = 0
    legacy_rpc: bool = False
    legacy_port: int = DEFAULT_LEGACY_PORT
    bundles: BundleKeeping = field(default_factory=BundleKeeping)
    cache_bytes: int | None = None
    login: RegistryLogin | None = None

    def image(self, reference: str) -> Image:
        """Return the image of this name, with the login if it is of the login's registry. Raises: InvalidSpec."""
        is_private = self.login is not None and reference.startswith(f"{self.login.server}/")
        return Image(reference=reference, login=self.login if is_private else None)

    def parts(self, *, admin: Image, frontend: Image, frontends: int = 1, runtime: Image | None = None) -> list[JobSpec]:
        """Return the jobs of the parts, the store first, if it is the cluster's own. `runtime`: of bundles.

        Raises: InvalidSpec.
        """
        redis = RedisJob(
            **self._part("redis"),
            image=self.redis_image,
            storage=self.redis_storage,
        )
        others = [
            AdminJob(
                **self._part("admin"),
                image=admin,
                store=self.store,
                has_route=self.tcp_port is not None,
                bundles=replace(self.bundles, runtime=runtime),
            ),
            FrontendJob(
                **self._part("frontend"),
                image=frontend,
                store=self.store,
                count=frontends,
                tcp_port=self.tcp_port,
                has_curve=self.encrypted,
                cache_bytes=self.cache_bytes or 0,
                key_round=self.key_round,
                has_legacy_rpc=self.legacy_rpc,
                legacy_port=self.legacy_port,
            ),
        ]
        return [redis, *others] if isinstance(self.store, StoreOfCluster) else others

    def fabio(
        self,
        image: Image,
        *,
        http_port: int,
        tcp_ports: tuple[int, ...],
        admin_port: int,
        **more: Any,  # more fields of FabioJob
    ) -> FabioJob:
        """Return the job of a Fabio of the cluster's own. Raises: InvalidSpec."""
        return FabioJob(
            **self._part("fabio"),
            image=image,
            http_port=http_port,
            tcp_ports=tcp_ports,
            admin_port=admin_port,
            **more,
        )

    def model(
        self,
        name: str,
        version: str,
        *,
        uid: str,
        input_type: str,
        program: Image | StoredBundle,
        replicas: int,
        options: JobOptions | None = None,
    ) -> ModelJob:
        """Return the job of a model version. Raises: InvalidSpec, InvalidName."""
        options = options or JobOptions()
        return ModelJob(
            **self._shared(options, self.resources),
            model=name,
            version=version,
            uid=uid,
            input_type=input_type,
            program=program,
            replicas=replicas,
            entry=self.entry,
            rpc_mode=self.rpc_mode,
            is_legacy=options.is_legacy,
            has_curve=self.encrypted and not options.is_legacy,
        )

    def check_model(self, name: str, version: str, options: JobOptions) -> None:
        """Refuse options that a model's job cannot have. Raises: InvalidSpec, InvalidName."""
        anything = Image(reference="any")
        self.model(name, version, uid="", input_type="doubles", program=anything, replicas=0, options=options)

    def _part(self, part: str) -> dict[str, Any]:
        options = self.options.get(part, JobOptions())
        return self._shared(options, Resources()) | {"asked": options}

    def _shared(self, options: JobOptions, resources: Resources) -> dict[str, Any]:  # Any: fields of JobSpec
        """What all jobs have, with `options` laid over it."""
        return {
            "cluster": self.names,
            "toolkit": self.toolkit,
            "placement": options.placement(self.placement),
            "network": options.network(self.network),
            "resources": options.resources(resources),
            "env": options.env,
            "volumes": options.volumes,
            "driver_options": options.driver_options,
        }


def checked_parts(parts: Mapping[str, JobOptions]) -> dict[str, JobOptions]:
    """Return options by part. Raises: InvalidSpec: with what is wrong with each."""
    named = {"frontend" if part == Kind.FRONTEND else part: options for part, options in parts.items()}
    problems = tuple(problems_of(named, PARTS))
    if problems:
        raise InvalidSpec("The options of the parts", problems)
    return named
