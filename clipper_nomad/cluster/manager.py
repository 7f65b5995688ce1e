"""NomadContainerManager: a cluster as jobs on Nomad, found through Consul, reached through Fabio.

It knows what is to be done in which order; how each thing is done is in the modules beside it (see the package's docstring).
Nothing is changed before everything that is wanted was checked: names, whose the jobs are, whose the routes are, room.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from os import environ
from pathlib import Path
from typing import Any

from clipper_nomad.admin.client import AdminClient
from clipper_nomad.cluster.addresses import Addresses
from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.discovery import DNS
from clipper_nomad.cluster.endpoints import consul_endpoint, nomad_endpoint
from clipper_nomad.cluster.jobs.blueprint import Blueprint, checked_parts
from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.cluster.jobs.programs import Image, registry_login
from clipper_nomad.cluster.jobs.requirements import Network, Placement, Resources
from clipper_nomad.cluster.jobs.specs import (
    BundleKeeping,
    EphemeralStorage,
    ExternalStore,
    FabioJob,
    HostStorage,
    JobSpec,
    RedisJob,
    StoreOfCluster,
)
from clipper_nomad.cluster.key_rotation import KeyRotation, Rotated
from clipper_nomad.cluster.legacy_rpc import legacy_port_of, wanted_port
from clipper_nomad.cluster.log_files import write_logs
from clipper_nomad.cluster.meeting import Meeting
from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.own_fabio import OwnFabio, await_listeners, own_fabio_job
from clipper_nomad.cluster.ownership import (
    DEFAULT_NAMESPACE,
    JobStub,
    Survey,
    check_claim,
    model_stub,
    read_stub,
    refuse_ambiguous,
    survey,
)
from clipper_nomad.cluster.part_options import cache_of, options_of_parts, parts_to_be, wanted_cache
from clipper_nomad.cluster.publishing import LOST_WITH_NODE, Publishing
from clipper_nomad.cluster.registering import Registering
from clipper_nomad.cluster.rollout.events import RolloutEvent
from clipper_nomad.cluster.rollout.failures import Failures
from clipper_nomad.cluster.rollout.parsed_job import count_of
from clipper_nomad.cluster.routes import FabioLoadBalancer, LoadBalancer
from clipper_nomad.cluster.secret_keeper import ClusterSecrets, SecretKeeper
from clipper_nomad.cluster.telling import CellTelling
from clipper_nomad.cluster.way_in import check_way_in
from clipper_nomad.container_manager import ClusterAdapter, Failure, packages_of
from clipper_nomad.errors import ClipperException, InvalidSetting, UnconnectedException
from clipper_nomad.images.image_set import ImageSet
from clipper_nomad.images.parts import Part

UP_WITHIN_S = 600.0  # each job: Clipper's own limit; image pulls count
DEPLOY_WITHIN_S = 600.0
SCALE_WITHIN_S = 300.0


class NomadContainerManager:
    """Runs a cluster on Nomad.

    nomad_ip, dns, load_balancer, cluster_name, datacenters, redis_ip, redis_port, default_cpu (MHz) and default_memory (MiB)
    are Clipper's. `nomad_ip`: host, host:port or URL; without it NOMAD_ADDR. `dns`: how services are found from here, as
    ConsulDNS(); without it Consul's HTTP API is asked (`consul_address`, or CONSUL_HTTP_ADDR). `load_balancer`: as
    FabioLoadBalancer(); without one there are no routes, and replicas find frontends through Consul. `namespace`: Nomad's.

    `registry`: where images are pushed to and pulled from; "" keeps them on this machine's Docker, which must then be the
    only Nomad client's. Without one (None, and no CLIPPER_REGISTRY) no image of a model is built: its bundle goes to admin,
    with its packages, and `runtime_image` runs it, or the one that the cluster was brought up with. `bundle_volume`: a host
    volume for bundles, `bundle_cache` one of every client, `bundle_limit_mb`: the most that one may have. `registry_user`,
    `registry_password`: what Nomad's clients pull with, where they have no login of their own (CLIPPER_REGISTRY_USER,
    CLIPPER_REGISTRY_PASSWORD); models can read it. `base_image`, `build_network`: of builds. `redis_volume`: a host volume
    of the clients for the store's data; without one they are lost with their node. `encrypted`: the model channel.
    `images`: replaces what builds. `progress`: hears of rollouts, which otherwise are shown below a notebook's cell.
    NOMAD_* and CONSUL_* variables are honoured; TLS is verified.

    `parts`: what the parts get of Nomad, as {"redis": JobOptions(memory_mb=1024), "frontend": …, "admin": …}. Without it a
    cluster that runs keeps what it was brought up with; {} puts all back to the default. Of models: see `deploy_model`.
    `fabio`: start one of the cluster's own, on the ports that load_balancer has, where there is none.
    `legacy_rpc`: let containers of Clipper's RPC version 3 serve, at `get_rpc_addr()`; None: as it runs, else not.
    """

    def __init__(  # noqa: PLR0913  # Clipper's signature, and what its users missed in it
        self,
        nomad_ip: str | None = None,
        dns: DNS | None = None,
        load_balancer: LoadBalancer | None = None,
        cluster_name: str = "default-cluster",
        datacenters: Sequence[str] = ("dc1",),
        redis_ip: str | None = None,
        redis_port: int = 6379,
        namespace: str | None = None,
        create_namespace_if_not_exists: bool = False,  # noqa: FBT001, FBT002  # Clipper's signature
        default_cpu: int = 500,
        default_memory: int = 256,
        *,
        consul_address: str | None = None,
        registry: str | None = None,
        base_image: str = "",
        build_network: str | None = None,
        redis_image: str = "redis:7-alpine",
        registry_user: str | None = None,
        registry_password: str | None = None,
        redis_volume: str | None = None,
        redis_password: str | None = None,
        runtime_image: str | None = None,
        bundle_volume: str | None = None,
        bundle_cache: str | None = None,
        bundle_limit_mb: int = 2048,
        encrypted: bool = True,
        legacy_rpc: bool | None = None,
        rpc_mode: str = "auto",
        placement: Placement | None = None,
        network: Network | None = None,
        parts: Mapping[str, JobOptions] | None = None,
        fabio: OwnFabio | None = None,
        images: ImageSet | None = None,
        progress: Callable[[RolloutEvent], None] | None = None,
    ) -> None:
        if create_namespace_if_not_exists:
            raise ClipperException(
                "create_namespace_if_not_exists is True; Nomad namespaces are not created here.",
                hint="`nomad namespace apply NAME` creates one; give its name as namespace=.",
            )
        self.names = ClusterNames(cluster_name)
        self.cluster_name = cluster_name
        # Any: as the interface has it, LoggerAdapter being generic over its logger
        self.logger: logging.Logger | logging.LoggerAdapter[Any] = ClusterAdapter(
            logging.getLogger("clipper_nomad.cluster"), {"cluster_name": cluster_name}
        )
        datacenters = (datacenters,) if isinstance(datacenters, str) else tuple(datacenters)
        place = placement or Placement(datacenters=datacenters, namespace=namespace)
        endpoint = nomad_endpoint(environ, address=nomad_ip)
        self.nomad = NomadApi(
            replace(
                endpoint,
                namespace=namespace or place.namespace or endpoint.namespace,
                region=place.region or endpoint.region,
            )
        )
        self.consul = ConsulApi(consul_endpoint(environ, address=consul_address))
        if fabio is not None and not isinstance(load_balancer, FabioLoadBalancer):
            raise InvalidSetting("fabio= is given without load_balancer=FabioLoadBalancer(…), which says where it listens.")
        self.load_balancer = load_balancer
        self._legacy_rpc = legacy_rpc
        self._fabio = fabio
        self.addresses = Addresses(self.names, consul=self.consul, dns=dns, balancer=load_balancer)
        self._meeting = Meeting(self.names, nomad=self.nomad, addresses=self.addresses)
        self._parts = None if parts is None else checked_parts(parts)
        registry = environ.get("CLIPPER_REGISTRY") or None if registry is None else registry
        telling = CellTelling(self.names)
        images = images or ImageSet(registry=registry, base=base_image, network=build_network, progress=telling.image)
        user = registry_user or environ.get("CLIPPER_REGISTRY_USER")
        password = registry_password or environ.get("CLIPPER_REGISTRY_PASSWORD")
        login = registry_login(images.registry, user=user, password=password)
        self.secrets = SecretKeeper(self.nomad, self.names, registry_password=password if login else None)
        self._known: ClusterSecrets | None = None
        self._namespace = self.nomad.endpoint.namespace or DEFAULT_NAMESPACE
        self._redis_password = redis_password
        self.blueprint = Blueprint(
            names=self.names,
            placement=place,
            network=network or Network(),
            resources=Resources(cpu_mhz=default_cpu, memory_mb=default_memory),
            store=(
                StoreOfCluster()
                if redis_ip is None
                else ExternalStore(host=redis_ip, port=redis_port, has_password=redis_password is not None)
            ),
            redis_image=Image(reference=redis_image),
            redis_storage=EphemeralStorage() if redis_volume is None else HostStorage(volume=redis_volume),
            tcp_port=int(load_balancer.tcp().rpartition(":")[2]) if load_balancer is not None else None,
            rpc_mode=rpc_mode,
            encrypted=encrypted,
            legacy_rpc=legacy_rpc is True,
            legacy_port=wanted_port(load_balancer, is_on=legacy_rpc is True),
            bundles=BundleKeeping(
                storage=EphemeralStorage() if bundle_volume is None else HostStorage(volume=bundle_volume),
                cache_volume=bundle_cache,
                max_mb=bundle_limit_mb,
            ),
            login=login,
        )
        self._publishing = Publishing(
            self.names,
            images=images,
            image=self.blueprint.image,
            runtime_image=runtime_image or "",
            nomad=self.nomad,
            placement=place,
            secrets=self.secrets,
            admin=self.get_admin_addr,
            token=self.get_admin_token,
        )
        self._jobs = Registering(self.nomad, self.consul, cluster=cluster_name, progress=progress or telling.rollout)
        self.failures = Failures(self.nomad, self.consul)

    @property
    def cluster_identifier(self) -> str:
        """What image names and jobs of this cluster start with."""
        return self.cluster_name

    # ---- the whole cluster -----------------------------------------------------------------------------------------

    def start_clipper(
        self,
        query_frontend_image: str = "",
        mgmt_frontend_image: str = "",
        frontend_exporter_image: str = "",
        cache_size: int | None = None,
        qf_http_thread_pool_size: int = 1,
        qf_http_timeout_request: int = 5,
        qf_http_timeout_content: int = 300,
        num_frontend_replicas: int = 1,
    ) -> None:
        """Bring up redis, admin and query frontends, and connect to them. Done before, it changes nothing; a `cache_size` of
        None, or the usual one, leaves the prediction cache as it runs.

        Raises: NotOurs: jobs or routes that it needs are somebody else's. RolloutFailed: a part did not become healthy; what
        was there before is there again. FabioUnreachable. ImageError. NomadUnreachable, ConsulUnreachable.
        """
        ignored = (frontend_exporter_image, qf_http_thread_pool_size, qf_http_timeout_request, qf_http_timeout_content)
        self.logger.debug("the cluster has no exporter, and limits of its own: no use for %s", ignored)
        runs = cache_of(self.nomad.job(self.names.frontend_job))
        cache = wanted_cache(cache_size, planned=self.blueprint.cache_bytes, runs=runs)
        self.blueprint = replace(self.blueprint, cache_bytes=cache)
        specs = self.specs(
            admin_image=mgmt_frontend_image, frontend_image=query_frontend_image, frontends=num_frontend_replicas
        )
        self.check(specs)
        if isinstance(self.blueprint.bundles.storage, EphemeralStorage):
            self.logger.warning(LOST_WITH_NODE)
        if isinstance(specs[0], FabioJob):
            self._jobs.roll_out(specs[:1], deadline_s=UP_WITHIN_S)
            await_listeners(self.addresses.balancer, job=specs.pop(0).job_id, legacy_port=legacy_port_of(specs))
        self._known = self.secrets.ensure(store_password=self._redis_password)
        store = [spec for spec in specs if isinstance(spec, RedisJob) and self.nomad.job(spec.job_id) is not None]
        self._jobs.roll_out(store, deadline_s=UP_WITHIN_S)  # one that serves first: if it cannot be changed, the others stay
        self._jobs.roll_out([spec for spec in specs if spec not in store], deadline_s=UP_WITHIN_S)
        self.connect()

    def specs(self, *, admin_image: str = "", frontend_image: str = "", frontends: int = 1) -> list[JobSpec]:
        """Return what the parts are made from: Fabio, if it is the cluster's own, then the store, then the others.

        Raises: InvalidSpec, InvalidName, ImageError."""
        options, key_round = parts_to_be(self._parts, self.find_jobs)
        blueprint = replace(self.blueprint, options=options, key_round=key_round)
        if self._legacy_rpc is None and (running := self._meeting.running_legacy()) is not None:
            blueprint = replace(blueprint, legacy_rpc=True, legacy_port=running.port or blueprint.legacy_port)
        return own_fabio_job(self._fabio, self.load_balancer, blueprint) + blueprint.parts(
            admin=self._publishing.part(Part.ADMIN, admin_image),
            frontend=self._publishing.part(Part.FRONTEND, frontend_image),
            frontends=frontends,
            runtime=self._publishing.runtime(has_images=not (admin_image and frontend_image)),
        )

    def want_parts(self, parts: Mapping[str, JobOptions]) -> None:
        """Replace `parts`, the options by part. Raises: InvalidSpec."""
        self._parts = checked_parts(parts)

    def running_options(self) -> dict[str, JobOptions]:
        """Return what the running parts were brought up with. Raises: NomadUnreachable."""
        return options_of_parts(self._survey(self._stubs()).ours)

    def check(self, specs: Iterable[JobSpec]) -> None:
        """See that what these jobs need is there and free. Nothing is changed. Raises: as start_clipper."""
        specs, jobs = list(specs), self._stubs()
        found = self._survey(jobs)
        check_way_in(specs, found, self.names, addresses=self.addresses, consul=self.consul)
        refuse_ambiguous(found, self.names)
        for spec in specs:
            self._check_claim(spec, jobs)

    def connect(self) -> None:
        """Find a cluster that runs. Raises: ClipperException: there is none. NotOurs: its name is somebody else's."""
        found = self._survey(self._stubs())
        if self.names.admin_job not in {job.id for job in found.ours}:
            raise ClipperException(
                f"Nomad at {self.nomad.endpoint.url} runs no cluster {self.cluster_name!r}.",
                hint="Start it with start_clipper(). NOMAD_ADDR and NOMAD_NAMESPACE say where it is looked for.",
            )
        self._known = self.secrets.find()
        if self._known is None:
            raise ClipperException(
                f"The cluster {self.cluster_name!r} runs, and its secrets cannot be read.",
                hint=f"This token must be able to read the Nomad Variables nomad/jobs/{self.names.prefix}-*.",
            )

    def stop_all(self, graceful: bool = True) -> None:  # noqa: FBT001, FBT002  # Clipper's signature
        """Purge every job of this cluster and return when their tasks have ended; Variables and volumes stay.

        Usable without a connection. Jobs end as their kill_timeout lets them, whatever `graceful` says.
        Raises: RolloutFailed: tasks still run after a minute.
        """
        self.logger.debug("stop_all(graceful=%s)", graceful)
        ours = self._survey(self._stubs()).ours
        models = [job.id for job in ours if job.model is not None]
        parts = [self.names.frontend_job, self.names.admin_job, self.names.redis_job, self.names.fabio_job]
        self._jobs.remove(models)
        self._jobs.remove([job for job in parts if job in {each.id for each in ours}])
        self._known = None

    def rotate_key(self, said: Callable[[str], None] = lambda _: None) -> Rotated:
        """Give the query frontends a new key while they serve; return when nobody takes the old one. `said`: hears of steps.

        What was interrupted goes on. Raises: ClipperException: there is no key, or somebody was not told. RolloutFailed."""
        self.connect()
        admin = AdminClient(self.get_admin_addr, self.get_admin_token)
        rotation = KeyRotation(
            self.names,
            nomad=self.nomad,
            secrets=self.secrets,
            registering=self._jobs,
            find_jobs=self.find_jobs,
            reports=lambda: admin.frontends().reports,
            said=said,
        )
        return rotation.run(replace_within_s=UP_WITHIN_S)

    # ---- models ----------------------------------------------------------------------------------------------------

    def publish_bundle(
        self,
        name: str,
        version: str,
        bundle: Path,
        base_image: str = "default",
        container_registry: str | None = None,
        pkgs_to_install: Sequence[str] | None = None,
    ) -> str:
        """Build and push a model's image, or send its bundle to admin, and return what to deploy.

        Raises: ImageError. BundleError, AdminRefused, AdminUnreachable: of a bundle.
        """
        packages = packages_of(f"Model {name}:{version}", pkgs_to_install)
        return self._publishing.publish(
            name, version, bundle, base=base_image, registry=container_registry, packages=packages
        )

    def withdraw_bundle(self, image: str) -> None:
        """Take away what was published: an image's name here (its registry keeps it), or a bundle from admin's disk."""
        self._publishing.withdraw(image)

    def make_channel_key(self, name: str, version: str) -> str:
        """Make a key pair for the version, unless it has one, and return its public key; "" without encryption.
        Raises: NotOurs: the job whose Variable would have it is somebody else's."""
        wanted = model_stub(self.names, name, version, namespace=self._namespace)
        check_claim(wanted, self._stubs(), self.names, namespace=self._namespace)
        return self.secrets.ensure_of_model(wanted, has_key=self.blueprint.encrypted)

    def check_job_options(self, name: str, version: str, options: JobOptions) -> None:
        """Refuse options that a model's job cannot have, before anything is built. Raises: InvalidSpec."""
        if options.is_legacy:
            self._meeting.legacy()
        self.blueprint.check_model(name, version, options)

    def deploy_model(  # what a deploy is made of
        self,
        name: str,
        version: str,
        input_type: str,
        image: str,
        num_replicas: int = 1,
        *,
        uid: str = "",
        options: JobOptions | None = None,
        within_s: float = DEPLOY_WITHIN_S,
    ) -> None:
        """Start replicas of a version, and return when they are loaded and warm. `options`: what its job gets of Nomad.

        They stay as they are when it is scaled. Raises: InvalidSpec. NotOurs. FabioUnreachable: nobody listens where
        replicas dial. RolloutFailed: they did not become healthy `within_s`; nothing of them is left. NomadUnreachable.
        """
        spec = replace(self.blueprint, entry=self._meeting.entry(options or JobOptions())).model(
            name,
            version,
            uid=uid,
            input_type=input_type,
            program=self._publishing.program(image, self.names.model_job(name, version)),
            replicas=num_replicas,
            options=options,
        )
        self._check_claim(spec, self._stubs())
        self._jobs.roll_out([spec], deadline_s=within_s)

    def model_failure(self, name: str, version: str) -> Failure | None:
        """Return why the version's replicas cannot become ready, or None while they may still."""
        return self.failures.lately(self.names.model_job(name, version))

    def get_num_replicas(self, name: str, version: str) -> int:
        """Return how many replicas of a version are wanted."""
        job = self.nomad.job(self.names.model_job(name, version))
        return 0 if job is None or job.get("Stop") else count_of(job)

    def set_num_replicas(self, name: str, version: str, input_type: str, image: str, num_replicas: int) -> None:
        """Scale a version's job. Raises: ClipperException: there is none. NomadRefused: Nomad does not take the count."""
        self.logger.debug("scaling %s:%s of type %s (%s) to %s", name, version, input_type, image, num_replicas)
        job_id = self.names.model_job(name, version)
        if job_id not in {job.id for job in self._survey(self._stubs()).ours}:
            raise ClipperException(
                f"Model '{name}' version '{version}' has no job on Nomad, so it cannot be scaled.",
                hint="Deploy it (again).",
            )
        message = f"clipper-nomad: {num_replicas} replicas"
        self.nomad.scale(job_id, group=self.names.group, count=num_replicas, message=message, deadline_s=SCALE_WITHIN_S)

    def stop_models(self, models: Mapping[str, Sequence[str]], *, wait: bool = True) -> None:
        """Purge the jobs of the versions, given as name → versions, and return when their replicas have ended.

        Without `wait` at once: the replicas end meanwhile, and are forgotten by Nomad."""
        running = self._survey(self._stubs()).models
        wanted = [(name, version) for name, versions in models.items() for version in versions]
        jobs = [running[key].id for key in wanted if key in running]
        if wait:
            self._jobs.remove(jobs)
        else:
            for job_id in jobs:
                self.nomad.deregister(job_id, purge=True)

    def stop_all_model_containers(self) -> None:
        """Purge the jobs of all models, and return when their replicas have ended."""
        self._jobs.remove([job.id for job in self._survey(self._stubs()).models.values()])

    def forget_models(self, models: Mapping[str, Sequence[str]]) -> None:
        """Delete the keys of these versions."""
        for name, versions in models.items():
            for each in versions:
                self.secrets.forget_model_key(self.names.model_job(name, each))

    # ---- looking ---------------------------------------------------------------------------------------------------

    def find_jobs(self) -> Survey:
        """Return the jobs of this Nomad, sorted by whose they are."""
        return self._survey(self._stubs())

    def get_logs(self, logging_dir: str) -> list[str]:
        """Write stdout and stderr of each allocation of this cluster into files of `logging_dir`; return their paths."""
        return write_logs(self.nomad, [job.id for job in self._survey(self._stubs()).ours], Path(logging_dir))

    def get_admin_addr(self) -> str:
        """Return where admin is called: its own "host:port" if it can be reached from here, else Fabio's with a path."""
        return self.addresses.admin()

    def get_query_addr(self) -> str:
        """Return "host:port" of one query frontend, "" while none is healthy."""
        return self.addresses.query()

    def get_metric_addr(self) -> str:
        """Return "host:port" where Prometheus finds /metrics, of one query frontend; "" while none is healthy."""
        return self.get_query_addr()

    def get_rpc_addr(self) -> str:
        """Return "host:port" that containers of Clipper's RPC version 3 dial: Fabio's listener for them, or a frontend's.
        Raises: ClipperException: it is not served, or no frontend is healthy."""
        return self._meeting.legacy_address()

    def get_admin_token(self) -> str:
        """Return the token that every call of admin carries."""
        return self._connected.admin_token

    def public_url(self) -> str:
        """Return where clients' queries come in, before the app's name, if that is a load balancer; else ""."""
        return self.addresses.public_url()

    def predict_url(self, app_name: str) -> str:
        """Return the URL to post an app's queries to: through the load balancer, where there is one."""
        return self.addresses.predict_url(app_name)

    # ---- within ----------------------------------------------------------------------------------------------------

    @property
    def _connected(self) -> ClusterSecrets:
        if self._known is None:
            raise UnconnectedException
        return self._known

    def _stubs(self) -> list[JobStub]:
        return [read_stub(entry) for entry in self.nomad.jobs()]

    def _survey(self, jobs: Iterable[JobStub]) -> Survey:
        return survey(jobs, self.names, namespace=self._namespace)

    def _check_claim(self, spec: JobSpec, jobs: Iterable[JobStub]) -> None:
        meta = self._jobs.parsed(spec)[0].get("Meta") or {}
        wanted = JobStub(id=spec.job_id, namespace=self._namespace, meta=meta)
        check_claim(wanted, jobs, self.names, namespace=self._namespace)
