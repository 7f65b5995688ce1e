"""NomadContainerManager: a cluster as jobs on Nomad, found through Consul, reached through Fabio.

It knows what is to be done in which order; how each thing is done is in the modules beside it (see the package's docstring).
Nothing is changed before everything that is wanted was checked: names, whose the jobs are, whose the routes are, room.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from os import environ
from pathlib import Path
from typing import Any

from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.discovery import DNS
from clipper_nomad.cluster.endpoints import consul_endpoint, nomad_endpoint
from clipper_nomad.cluster.jobs.blueprint import Blueprint
from clipper_nomad.cluster.jobs.programs import Image, registry_login
from clipper_nomad.cluster.jobs.render import render_job
from clipper_nomad.cluster.jobs.requirements import Network, Placement, Resources
from clipper_nomad.cluster.jobs.specs import (
    EntryByAddress,
    EntryByService,
    EphemeralStorage,
    ExternalStore,
    HostStorage,
    JobSpec,
    StoreOfCluster,
)
from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.ownership import JobStub, Survey, check_claim, model_stub, read_stub, refuse_ambiguous, survey
from clipper_nomad.cluster.rollout.events import RolloutEvent
from clipper_nomad.cluster.rollout.evidence import gather, view_of
from clipper_nomad.cluster.rollout.explain import explain
from clipper_nomad.cluster.rollout.parsed_job import Json, count_of
from clipper_nomad.cluster.rollout.rollout import RolledOut, Rollout
from clipper_nomad.cluster.route_claims import refuse_clashes
from clipper_nomad.cluster.routes import FabioLoadBalancer, LoadBalancer
from clipper_nomad.cluster.secret_keeper import ClusterSecrets, SecretKeeper
from clipper_nomad.container_manager import Failure
from clipper_nomad.errors import ClipperException, ServiceNotFound, UnconnectedException
from clipper_nomad.images.image_set import ImageSet
from clipper_nomad.images.parts import Part
from clipper_nomad.images.references import parse

DEFAULT_NAMESPACE = "default"
UP_WITHIN_S = 600.0  # each job: Clipper's own limit; image pulls count
DEPLOY_WITHIN_S = 600.0
SCALE_WITHIN_S = 300.0
REACH_WITHIN_S = 1.0  # an address of Consul's that a laptop cannot reach is not worth more
FAILURE_EVERY_S = 1.0  # how often Nomad is asked what became of replicas that somebody waits for
LOG_BYTES = 64 * 1024 * 1024
CONSUL_NAME = ".service.consul"


def nothing(_: RolloutEvent) -> None:
    """Say nothing."""


class NomadContainerManager:
    """Runs a cluster on Nomad.

    nomad_ip, dns, load_balancer, cluster_name, datacenters, redis_ip, redis_port, default_cpu (MHz) and default_memory (MiB)
    are Clipper's. `nomad_ip`: host, host:port or URL; without it NOMAD_ADDR. `dns`: how services are found from here, as
    ConsulDNS(); without it Consul's HTTP API is asked (`consul_address`, or CONSUL_HTTP_ADDR). `load_balancer`: as
    FabioLoadBalancer(); without one there are no routes, and replicas find frontends through Consul. `namespace`: Nomad's.

    `registry`: where images are pushed to and pulled from; without one they are this machine's, which must then be the only
    Nomad client. `registry_user`, `registry_password`: what its clients pull with, where they have no login of their own
    (CLIPPER_REGISTRY_USER, CLIPPER_REGISTRY_PASSWORD); models can read it. `base_image`, `build_network`: of builds.
    `redis_volume`: a host volume of the clients for the store's data; without one they are lost with their node.
    `encrypted`: the model channel. `images`, `progress`: replace what builds, and hear of rollouts. NOMAD_* and CONSUL_*
    variables are honoured; TLS is verified.
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
        encrypted: bool = True,
        rpc_mode: str = "auto",
        placement: Placement | None = None,
        network: Network | None = None,
        images: ImageSet | None = None,
        progress: Callable[[RolloutEvent], None] = nothing,
    ) -> None:
        if create_namespace_if_not_exists:
            raise ClipperException(
                "create_namespace_if_not_exists is True; Nomad namespaces are not created here.",
                hint="`nomad namespace apply NAME` creates one; give its name as namespace=.",
            )
        self.names = ClusterNames(cluster_name)
        self.cluster_name = cluster_name
        # Any: as the interface has it, LoggerAdapter being generic over its logger
        self.logger: logging.Logger | logging.LoggerAdapter[Any] = logging.getLogger("clipper_nomad.cluster")
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
        self.load_balancer = load_balancer
        self._dns = dns
        registry = environ.get("CLIPPER_REGISTRY", "") if registry is None else registry
        self._images = images or ImageSet(registry=registry, base=base_image, network=build_network)
        user = registry_user or environ.get("CLIPPER_REGISTRY_USER")
        password = registry_password or environ.get("CLIPPER_REGISTRY_PASSWORD")
        login = registry_login(self._images.registry, user=user, password=password)
        self._secrets = SecretKeeper(self.nomad, self.names, registry_password=password if login else None)
        self._known: ClusterSecrets | None = None
        self._namespace = self.nomad.endpoint.namespace or DEFAULT_NAMESPACE
        self._redis_password = redis_password
        self.blueprint = Blueprint(
            names=self.names,
            toolkit=toolkit_version(),
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
            entry=_entry(load_balancer),
            rpc_mode=rpc_mode,
            encrypted=encrypted,
            login=login,
        )
        self._rollout = Rollout(self.nomad, consul=self.consul, progress=progress)
        self._looked: dict[str, tuple[float, Failure | None]] = {}

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
        cache_size: int = 0,
        qf_http_thread_pool_size: int = 1,
        qf_http_timeout_request: int = 5,
        qf_http_timeout_content: int = 300,
        num_frontend_replicas: int = 1,
    ) -> None:
        """Bring up redis, admin and query frontends, and connect to them. Done before, it changes nothing.

        Raises: NotOurs: jobs or routes that it needs are somebody else's. RolloutFailed: a part did not become healthy; what
        was there before is there again. FabioUnreachable. ImageError. NomadUnreachable, ConsulUnreachable.
        """
        ignored = {
            "frontend_exporter_image": frontend_exporter_image,
            "cache_size": cache_size,
            "qf_http": (qf_http_thread_pool_size, qf_http_timeout_request, qf_http_timeout_content),
        }
        self.logger.debug("the cluster has no use for these settings of start_clipper: %s", ignored)
        specs = self.specs(
            admin_image=mgmt_frontend_image, frontend_image=query_frontend_image, frontends=num_frontend_replicas
        )
        self.check(specs)
        self._known = self._secrets.ensure(store_password=self._redis_password)
        first, *others = specs  # the store, whose absence would only make the others wait for it
        self._roll_out([first])
        self._roll_out(others)
        self.connect()

    def specs(self, *, admin_image: str = "", frontend_image: str = "", frontends: int = 1) -> list[JobSpec]:
        """Return what the parts are made from, the store first. Raises: InvalidSpec, InvalidName, ImageError."""
        return self.blueprint.parts(
            admin=self.blueprint.image(admin_image or str(self._images.find(Part.ADMIN))),
            frontend=self.blueprint.image(frontend_image or str(self._images.find(Part.FRONTEND))),
            frontends=frontends,
        )

    def check(self, specs: Iterable[JobSpec]) -> None:
        """See that what these jobs need is there and free. Nothing is changed. Raises: as start_clipper."""
        balancer = self.load_balancer
        if isinstance(balancer, FabioLoadBalancer):
            balancer.check_tcp()
            balancer.check_http()
            refuse_clashes(self.names, self.consul.services(), tcp_port=balancer.tcp_proxy_port)
        elif self._dns is None:
            self.consul.leader()  # all is found through it
        jobs = self._stubs()
        refuse_ambiguous(self._survey(jobs), self.names)
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
        self._known = self._secrets.find()
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
        self._remove(models)
        self._remove([job for job in parts if job in {each.id for each in ours}])
        self._known = None

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
        """Build a model's image, push it, and return its name by digest. Raises: ImageError."""
        self.names.model_job(name, version)  # a name that cannot be deployed is refused before anything is built
        if container_registry is not None:
            self._images = self._images.with_registry(container_registry)
        base = "" if base_image == "default" else base_image
        return str(
            self._images.build_model(
                self.cluster_name, name, version, bundle, packages=tuple(pkgs_to_install or ()), base=base
            )
        )

    def withdraw_bundle(self, image: str) -> None:
        """Take the image's name away from this machine; in a registry it stays, where only its digest finds it."""
        self._images.forget(parse(image))

    def make_channel_key(self, name: str, version: str) -> str:
        """Make a key pair for the version, unless it has one, and return its public key; "" without encryption.
        Raises: NotOurs: the job whose Variable would have it is somebody else's."""
        wanted = model_stub(self.names, name, version, namespace=self._namespace)
        check_claim(wanted, self._stubs(), self.names, namespace=self._namespace)
        return self._secrets.ensure_of_model(wanted.id, has_key=self.blueprint.encrypted)

    def deploy_model(
        self,
        name: str,
        version: str,
        input_type: str,
        image: str,
        num_replicas: int = 1,
        *,
        uid: str = "",
        within_s: float = DEPLOY_WITHIN_S,
    ) -> None:
        """Start replicas of a version, and return when they are loaded and warm.

        Raises: NotOurs. FabioUnreachable: nobody listens where replicas dial. RolloutFailed: they did not become healthy
        `within_s`; nothing of them is left. NomadUnreachable.
        """
        if isinstance(self.load_balancer, FabioLoadBalancer):
            self.load_balancer.check_tcp()
        spec = self.blueprint.model(
            name,
            version,
            uid=uid,
            input_type=input_type,
            image=self.blueprint.image(image),
            replicas=num_replicas,
            server_key=self._connected.curve_public,
        )
        self._check_claim(spec, self._stubs())
        self._roll_out([spec], deadline_s=within_s)

    def model_failure(self, name: str, version: str) -> Failure | None:
        """Return why the version's replicas cannot become ready, or None while they may still."""
        job_id = self.names.model_job(name, version)
        looked_at, failure = self._looked.get(job_id, (float("-inf"), None))
        now = time.monotonic()
        if now >= looked_at + FAILURE_EVERY_S:
            failure = self.job_failure(job_id)
            self._looked[job_id] = now, failure
        return failure

    def job_failure(self, job_id: str) -> Failure | None:
        """Return why a job is not healthy, None if nothing says so."""
        job = self.nomad.job(job_id)
        view = view_of(self.nomad, job_id)
        return None if job is None else explain(gather(job, view, nomad=self.nomad, consul=self.consul))

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

    def stop_models(self, models: Mapping[str, Sequence[str]]) -> None:
        """Purge the jobs of the versions, given as name → versions, and return when their replicas have ended."""
        running = self._survey(self._stubs()).models
        wanted = [(name, version) for name, versions in models.items() for version in versions]
        self._remove([running[key].id for key in wanted if key in running])

    def stop_all_model_containers(self) -> None:
        """Purge the jobs of all models, and return when their replicas have ended."""
        self._remove([job.id for job in self._survey(self._stubs()).models.values()])

    def forget_models(self, models: Mapping[str, Sequence[str]]) -> None:
        """Delete the keys of these versions."""
        for name, versions in models.items():
            for each in versions:
                self._secrets.forget_model_key(self.names.model_job(name, each))

    # ---- looking ---------------------------------------------------------------------------------------------------

    def find_jobs(self) -> Survey:
        """Return the jobs of this Nomad, sorted by whose they are."""
        return self._survey(self._stubs())

    def get_logs(self, logging_dir: str) -> list[str]:
        """Write stdout and stderr of each allocation of this cluster into files of `logging_dir`; return their paths."""
        target = Path(logging_dir)
        target.mkdir(parents=True, exist_ok=True)
        written = []
        for job in self._survey(self._stubs()).ours:
            for allocation in self.nomad.allocations(job.id):
                for stream in ("stdout", "stderr"):
                    text = self.nomad.log_tail(allocation["ID"], task=job.id, stream=stream, last_bytes=LOG_BYTES)
                    path = target / f"{job.id}.{allocation['ID'][:8]}.{stream}.log"
                    path.write_text(text)
                    written.append(str(path))
        return written

    def get_admin_addr(self) -> str:
        """Return where admin is called: its own "host:port" if it can be reached from here, else Fabio's with a path."""
        with suppress(ServiceNotFound):
            host, port = self._find(self.names.admin_service)
            if self.load_balancer is None or _answers(host, port):
                return f"{host}:{port}"
        if self.load_balancer is None:
            raise ClipperException(
                f"Consul knows no healthy admin service of the cluster {self.cluster_name!r}.",
                hint=f"`nomad job status {self.names.admin_job}` says how it is.",
            )
        return f"{self.load_balancer.http()}{self.names.admin_path}"

    def get_query_addr(self) -> str:
        """Return "host:port" of one query frontend, "" while none is healthy."""
        try:
            host, port = self._find(self.names.query_service)
        except ServiceNotFound:
            return ""
        return f"{host}:{port}"

    def get_admin_token(self) -> str:
        """Return the token that every call of admin carries."""
        return self._connected.admin_token

    def predict_url(self, app_name: str) -> str:
        """Return the URL to post an app's queries to: through the load balancer, where there is one."""
        place = self.get_query_addr() if self.load_balancer is None else self.load_balancer.http()
        return f"http://{place}{self.names.query_path}/{app_name}/predict"

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
        meta = self._parsed(spec)[0].get("Meta") or {}
        wanted = JobStub(id=spec.job_id, namespace=self._namespace, meta=meta)
        check_claim(wanted, jobs, self.names, namespace=self._namespace)

    def _parsed(self, spec: JobSpec) -> tuple[Json, str]:
        hcl = render_job(spec)
        return self.nomad.parse(hcl, whole=[spec.job_id, self.cluster_name]), hcl

    def _roll_out(self, specs: Sequence[JobSpec], *, deadline_s: float = UP_WITHIN_S) -> list[RolledOut]:
        """Roll out jobs at once; raise the first failure when all have ended."""

        def run(spec: JobSpec) -> RolledOut:
            job, hcl = self._parsed(spec)
            return self._rollout.run(job, deadline_s=deadline_s, source=hcl)

        return _at_once(run, specs)

    def _remove(self, job_ids: Sequence[str]) -> None:
        _at_once(self._rollout.remove, job_ids)

    def _find(self, service: str) -> tuple[str, int]:
        """Return host and port of a healthy instance. Raises: ServiceNotFound."""
        if self._dns is not None:
            return self._dns.resolveSRV(service)
        found = self.consul.instances(service).found
        if not found:
            raise ServiceNotFound(f"Consul knows no healthy instance of {service}.")
        return found[0].address, found[0].port


def _at_once(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:  # Any: as `work` has it
    """Return what `work` returns for each item, done at the same time; raise the first failure when all have ended."""
    if len(items) <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(max_workers=min(16, len(items))) as pool:
        return list(pool.map(work, items))


def _entry(balancer: LoadBalancer | None) -> EntryByAddress | EntryByService:
    """Return where replicas first dial."""
    if balancer is None:
        return EntryByService()
    host, _, port = balancer.tcp().rpartition(":")
    if host.endswith(CONSUL_NAME):  # Nomad looks it up for the container, which then needs no DNS of Consul's
        return EntryByService(service=host.removesuffix(CONSUL_NAME), port=int(port))
    return EntryByAddress(host=host.strip("[]"), port=int(port))


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=REACH_WITHIN_S):
            return True
    except OSError:
        return False


def toolkit_version() -> str:
    """Return the version of this package."""
    try:
        return version("clipper-nomad")
    except PackageNotFoundError:  # run from a folder, not installed
        return "unknown"
