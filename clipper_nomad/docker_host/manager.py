"""DockerContainerManager: a cluster as containers on one Docker host, found by their labels. No process of ours stays.

It knows what is to be done in which order; how each thing is done is in the modules beside it (see the package's docstring).
Docker keeps the containers running, also after the host's restart.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker

from clipper_nomad.cell_block import show
from clipper_nomad.channel_keys import new_secret_key, public_key_of
from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.container_manager import (
    CLIPPER_MODEL_CONTAINER_LABEL,
    CLIPPER_QUERY_FRONTEND_CONTAINER_LABEL,
    ClusterAdapter,
    Failure,
    check_cache_size,
    check_frontends,
    packages_of,
)
from clipper_nomad.docker_host import limits, replicas
from clipper_nomad.docker_host.containers import ExtraSettings
from clipper_nomad.docker_host.engine import DockerEngine
from clipper_nomad.docker_host.launching import Launcher
from clipper_nomad.docker_host.names import DockerNames, version_label
from clipper_nomad.docker_host.parts import Parts, StoreAddress
from clipper_nomad.docker_host.replicas import REPLICA_ENV, Version
from clipper_nomad.docker_host.running import ClusterContainers, Running
from clipper_nomad.docker_host.starting import Wanted, start_parts
from clipper_nomad.docker_host.verdicts import Seen, failure_of
from clipper_nomad.docker_host.version_records import VersionRecords
from clipper_nomad.errors import ClipperException, InvalidSpec, UnconnectedException
from clipper_nomad.images.image_set import ImageSet
from clipper_nomad.images.parts import Part
from clipper_nomad.images.references import parse
from clipper_nomad.toolkit import toolkit_version

STOP_MARGIN_S = 15  # between the end of a drain and SIGKILL
STOP_STORE_S = 30
_AT_ONCE = 16
_NO_BRIDGES = frozenset({"host", "none", "bridge"})  # of Docker: containers do not find each other by name there


class DockerContainerManager:
    """Runs a cluster on the Docker host that DOCKER_HOST names, or on this machine's.

    cluster_name … extra_container_kwargs are Clipper's. `docker_ip_address`: how the host is reached from here; ports are
    published on its loopback address while that is localhost, else on all. Ports are wishes: one that is taken gives way,
    and the attributes have the real ones, as they have the real network, after `start_clipper` or `connect`.
    `clipper_rpc_port`: for containers of Clipper's RPC version 3, unless `legacy_rpc` is False; our own replicas speak to
    the frontends on `docker_network` alone. `redis_ip`, `redis_port`, `redis_password`: a Redis of yours, as the containers
    reach it; the cluster's own is published nowhere, so `redis_port` is not used then. `extra_container_kwargs`: arguments
    of the Docker library for every container. `prometheus_port`, `fluentd_port`: nothing is started for them.

    `registry`: where images are pushed to and pulled from; without it CLIPPER_REGISTRY, and without that they stay on the
    host. `redis_volume`: a named volume for the store's data, which otherwise go with the cluster. `encrypted`: the model
    channel. `base_image`, `build_network`: of builds. `images`: replaces what builds.
    """

    def __init__(  # noqa: PLR0913  # Clipper's signature, and what its users missed in it
        self,
        cluster_name: str = "default-cluster",
        docker_ip_address: str = "localhost",
        use_centralized_log: bool = False,  # noqa: FBT001, FBT002  # Clipper's signature
        fluentd_port: int = 24224,
        clipper_query_port: int = 1337,
        clipper_management_port: int = 1338,
        clipper_rpc_port: int = 7000,
        redis_ip: str | None = None,
        redis_port: int = 6379,
        prometheus_port: int = 9090,
        docker_network: str = "clipper_network",
        extra_container_kwargs: Mapping[str, Any] | None = None,  # Any: the Docker library's own types
        *,
        registry: str | None = None,
        base_image: str = "",
        build_network: str | None = None,
        redis_image: str = "redis:7-alpine",
        redis_volume: str | None = None,
        redis_password: str | None = None,
        encrypted: bool = True,
        legacy_rpc: bool = True,
        images: ImageSet | None = None,
    ) -> None:
        if use_centralized_log:
            raise ClipperException(
                "use_centralized_log is True; no fluentd is started here.",
                hint="get_logs writes each container's log into a file; or give Docker a log driver: "
                'extra_container_kwargs={"log_config": docker.types.LogConfig(type="fluentd", …)}.',
            )
        if docker_network in _NO_BRIDGES:
            raise ClipperException(
                f"docker_network is {docker_network!r}; expected the name of a network of the user's: on Docker's own ones "
                "containers do not find each other by name.",
                hint="Leave it out: clipper_network is made when it is not there.",
            )
        self.names = DockerNames(cluster_name, toolkit_version())
        self.cluster_name = cluster_name
        # Any: as the interface has it, LoggerAdapter being generic over its logger
        self.logger: logging.Logger | logging.LoggerAdapter[Any] = ClusterAdapter(
            logging.getLogger("clipper_nomad.docker_host"), {"cluster_name": cluster_name}
        )
        self.centralize_log = False  # Clipper's attribute
        self.public_hostname = docker_ip_address
        self.clipper_query_port = clipper_query_port
        self.clipper_management_port = clipper_management_port
        self.clipper_rpc_port = clipper_rpc_port
        self.docker_network = docker_network
        self.logger.debug("nothing is started for fluentd_port=%s, prometheus_port=%s", fluentd_port, prometheus_port)
        self._extra = ExtraSettings(extra_container_kwargs or {})
        self._external = None if redis_ip is None else StoreAddress(host=redis_ip, port=redis_port)
        self._redis_image = redis_image
        self._redis_volume = redis_volume
        self._redis_password = redis_password
        self._encrypted = encrypted
        self._has_legacy = legacy_rpc
        registry = os.environ.get("CLIPPER_REGISTRY", "") if registry is None else registry
        self._images = images or ImageSet(registry=registry, base=base_image, network=build_network, progress=_tell)
        self._engine = DockerEngine()
        self._containers = ClusterContainers(self._engine, cluster_name)
        self._known: Running | None = None

    @property
    def cluster_identifier(self) -> str:
        """What image names of this cluster start with."""
        return self.cluster_name

    @property
    def docker_client(self) -> docker.DockerClient:
        """The Docker library's client. Raises: DockerHostError: no Docker answers."""
        return self._engine.client

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
        """Start store, admin and query frontends, and connect to them when all are healthy.

        `cache_size`: bytes of each frontend's prediction cache; 0 and None: none.
        Raises: ClipperException: the cluster is there already, or such a cache cannot be. ImageError: an image is not.
        DockerHostError: a part did not become healthy; nothing of the cluster is left.
        """
        ignored = {
            "frontend_exporter_image": frontend_exporter_image,
            "qf_http": (qf_http_thread_pool_size, qf_http_timeout_request, qf_http_timeout_content),
        }
        self.logger.debug("Docker has no use for these settings of start_clipper: %s", ignored)
        check_frontends("num_frontend_replicas", num_frontend_replicas)
        check_cache_size(cache_size)
        if self._containers.is_there():
            raise ClipperException(
                f"Cluster {self.cluster_name} cannot be started because it already exists.",
                hint="Connect to it with connect(), or end it with stop_all().",
            )
        wanted = Wanted(
            admin_image=mgmt_frontend_image or str(self._images.find(Part.ADMIN)),
            frontend_image=query_frontend_image or str(self._images.find(Part.FRONTEND)),
            store_image=self._redis_image if self._external is None else "",
            store_volume=self._redis_volume,
            frontends=num_frontend_replicas,
            admin_port=self.clipper_management_port,
            query_port=self.clipper_query_port,
            rpc_port=self.clipper_rpc_port,
        )
        for image in wanted.images:
            self._engine.fetch_image(image)
        self._engine.make_network(self.docker_network)
        try:
            start_parts(self._engine, self._launcher(), self._new_parts(cache_size or 0), wanted)
            self.connect()
        except BaseException as exc:
            with _noting(exc):
                self.stop_all(graceful=False)
            raise

    def connect(self) -> None:
        """Find a cluster that runs. Raises: ClipperException: there is none. DockerHostError: no Docker answers."""
        self._known = self._containers.running()
        if self._known is None:
            raise ClipperException(
                f"This Docker host runs no cluster {self.cluster_name!r}.",
                hint="Start it with start_clipper(). DOCKER_HOST says which host is looked at.",
            )
        self.docker_network = self._known.network
        self.clipper_query_port = self._known.query_ports[0]
        self.clipper_management_port = self._known.admin_port
        self.clipper_rpc_port = self._known.rpc_port or self.clipper_rpc_port
        self.logger.info("cluster %s at %s", self.cluster_name, self.get_query_addr())

    def stop_all(self, graceful: bool = True) -> None:  # noqa: FBT001, FBT002  # Clipper's signature
        """Stop and remove every container of this cluster, and its network unless somebody else is on it.

        Images and named volumes stay. Usable without a connection; nothing to do if nothing is there.
        """
        found = self._containers.all()
        models = [each for each in found if CLIPPER_MODEL_CONTAINER_LABEL in each.labels]
        frontends = [each for each in found if CLIPPER_QUERY_FRONTEND_CONTAINER_LABEL in each.labels]
        others = [each for each in found if each not in (*models, *frontends)]
        drain_s = replicas.DRAIN_S + STOP_MARGIN_S
        self._remove(frontends, within_s=drain_s if graceful else 0)  # first: what is in flight still has its replicas
        self._remove(models, within_s=drain_s if graceful else 0)
        self._remove(others, within_s=STOP_STORE_S if graceful else 0)
        for network in {self.docker_network, *(each.network for each in found)}:
            self._engine.drop_network(network)
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
        """Build a model's image on the Docker host, push it where a registry is named, and return what to deploy.

        Raises: ImageError. BundleError: the packages are none.
        """
        packages = packages_of(f"Model {name}:{version}", pkgs_to_install)
        image = self._images.publish_model(
            self.cluster_name, name, version, bundle, base=base_image, registry=container_registry, packages=packages
        )
        return str(image)

    def withdraw_bundle(self, image: str) -> None:
        """Take an image's name away from the Docker host; a registry keeps it."""
        self._images.forget(parse(image))

    def make_channel_key(self, name: str, version: str) -> str:
        """Make a key pair for the version, unless it has one, and return its public key; "" without encryption."""
        if not self._connected.server_key:
            return ""
        record = self._records.find(name, version) or Version(name=name, version=version, uid="", input_type="", image="")
        if not record.curve_secret:
            record = replace(record, curve_secret=new_secret_key())
            self._records.keep(record)
        return public_key_of(record.curve_secret)

    def check_job_options(self, name: str, version: str, options: JobOptions) -> None:
        """Refuse what a container cannot be given, or needs and is not there. Raises: InvalidSpec."""
        limits.check(name, version, options, ours=REPLICA_ENV)
        for volume in options.volumes:
            if not self._engine.has_volume(volume.source):
                problem = (
                    f"volumes: {volume.source!r}; expected a volume of the Docker host: `docker volume create` makes one"
                )
                raise InvalidSpec(f"Containers of model {name}:{version}", (problem,))

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
        within_s: float = 600.0,
    ) -> None:
        """Start replicas of a version. They are not ready when this returns, and have its `options` however it is scaled.

        Raises: ClipperException: the image is none of ours. ImageError: it cannot be had. DockerHostError: a container
        cannot be started; nothing of the version is left.
        """
        self.logger.debug("a start on Docker takes no part of %s s", within_s)
        options = options or JobOptions()
        self.check_job_options(name, version, options)
        if idle := ", ".join(each for each in options.given if each in limits.PLACING):
            self.logger.warning("one Docker host is one place to run: %s have no effect here", idle)
        self._engine.fetch_image(image)
        if self._engine.part_of(image) != Part.RUNTIME:
            raise ClipperException(
                f"{image} has no model runtime of this toolkit in it; expected an image that build_model made.",
                hint="A container of Clipper's serves beside it: register_model() without an image, then start it on the "
                f"network {self.docker_network} with CLIPPER_IP={self.names.frontends}; or elsewhere, at get_rpc_addr().",
            )
        before = self._records.find(name, version)
        record = Version(
            name=name,
            version=version,
            uid=uid,
            input_type=input_type,
            image=image,
            options=options,
            curve_secret=before.curve_secret if before is not None else "",
        )
        self._records.keep(record)
        self._remove(self._containers.replicas(name, version), within_s=0)  # of a deploy that was killed
        try:
            self._start_replicas(record, num_replicas)
        except BaseException as exc:
            with _noting(exc):
                self._remove(self._containers.replicas(name, version), within_s=0)
            raise

    def model_failure(self, name: str, version: str) -> Failure | None:
        """Return why the version's replicas cannot become ready, or None while they may still."""
        for seen in self._containers.replicas(name, version):
            if seen.has_failed:
                return failure_of(seen, log=self._engine.log(seen.id))
        return None

    def get_num_replicas(self, name: str, version: str) -> int:
        """Return how many replicas of a version are wanted and not failed."""
        return sum(not seen.has_failed for seen in self._containers.replicas(name, version))

    def set_num_replicas(self, name: str, version: str, input_type: str, image: str, num_replicas: int) -> None:
        """Start or drain replicas until there are `num_replicas`; failed ones are tried anew.

        Raises: ClipperException: the version was never deployed here.
        """
        self.logger.debug("scaling %s:%s of type %s (%s) to %s", name, version, input_type, image, num_replicas)
        record = self._records.find(name, version)
        if record is None or not record.image:
            raise ClipperException(
                f"Model '{name}' version '{version}' was never deployed on this Docker host, so it cannot be scaled.",
                hint="Deploy it (again).",
            )
        found = self._containers.replicas(name, version)
        failed = [seen for seen in found if seen.has_failed]
        serving = [seen for seen in found if not seen.has_failed]
        self._remove(failed, within_s=0)
        self._start_replicas(record, num_replicas - len(serving))
        self._remove(serving[num_replicas:], within_s=replicas.DRAIN_S + STOP_MARGIN_S)

    def stop_models(self, models: Mapping[str, Sequence[str]], *, wait: bool = True) -> None:
        """Drain, stop and remove all replicas of the versions, given as name → versions. Without `wait`, kill them."""
        labels = {version_label(name, version) for name, versions in models.items() for version in versions}
        found = [each for each in self._containers.models() if each.labels.get(CLIPPER_MODEL_CONTAINER_LABEL) in labels]
        self._remove(found, within_s=replicas.DRAIN_S + STOP_MARGIN_S if wait else 0)

    def stop_all_model_containers(self) -> None:
        """Drain, stop and remove all replicas of all models."""
        self._remove(self._containers.models(), within_s=replicas.DRAIN_S + STOP_MARGIN_S)

    def forget_models(self, models: Mapping[str, Sequence[str]]) -> None:
        """Delete the keys of these versions, and what more replicas of them would be started with."""
        self._records.forget((name, version) for name, versions in models.items() for version in versions)

    # ---- looking ---------------------------------------------------------------------------------------------------

    def get_logs(self, logging_dir: str) -> list[str]:
        """Write the log of each container of this cluster into a file of `logging_dir`; return their paths."""
        folder = Path(logging_dir)
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for seen in self._containers.all():
            path = folder / f"image_{seen.image_id[:19]}:container_{seen.id[:12]}.log"  # Clipper's; sha256: and 12 digits
            path.write_text(self._engine.log(seen.id))
            written.append(str(path))
        return written

    def get_admin_addr(self) -> str:
        """Return where the admin service listens."""
        return f"{self.public_hostname}:{self._connected.admin_port}"

    def get_query_addr(self) -> str:
        """Return where the first query frontend listens; `get_query_addrs` has all."""
        return self.get_query_addrs()[0]

    def get_query_addrs(self) -> list[str]:
        """Return where each query frontend listens. Each answers for every model."""
        return [f"{self.public_hostname}:{port}" for port in self._connected.query_ports]

    def get_metric_addr(self) -> str:
        """Return where Prometheus finds metrics: the first query frontend's own address, at /metrics."""
        return self.get_query_addr()

    def get_rpc_addr(self) -> str:
        """Return where model containers of Clipper's RPC version 3 dial from outside the network.

        Raises: ClipperException: the cluster was started without it.
        """
        port = self._connected.rpc_port
        if port is None:
            raise ClipperException(
                f"The cluster {self.cluster_name!r} was started without RPC version 3.",
                hint="Stop it, and start it with DockerContainerManager(legacy_rpc=True).",
            )
        return f"{self.public_hostname}:{port}"

    def get_admin_token(self) -> str:
        """Return the token that every call of the admin service carries."""
        return self._connected.token

    def public_url(self) -> str:
        """Return "": the query frontends listen themselves."""
        return ""

    def predict_url(self, app_name: str) -> str:
        """Return the URL to post an app's queries to, at the first query frontend."""
        return f"http://{self.get_query_addr()}/clipper/{app_name}/predict"

    # ---- within ----------------------------------------------------------------------------------------------------

    @property
    def _connected(self) -> Running:
        if self._known is None:
            raise UnconnectedException
        return self._known

    @property
    def _records(self) -> VersionRecords:
        return VersionRecords(self._engine, self._connected.admin)

    def _launcher(self) -> Launcher:
        return Launcher(self._engine, network=self.docker_network, reached_at=self.public_hostname, extra=self._extra)

    def _new_parts(self, cache_bytes: int) -> Parts:
        own_password = secrets.token_urlsafe(32) if self._external is None else ""
        secret = new_secret_key() if self._encrypted else ""
        return Parts(
            names=self.names,
            token=secrets.token_urlsafe(32),
            store_password=self._redis_password or own_password,
            curve_secret=secret,
            curve_public=public_key_of(secret) if secret else "",
            external=self._external,
            has_legacy=self._has_legacy,
            cache_bytes=cache_bytes,
        )

    def _start_replicas(self, record: Version, count: int) -> None:
        launcher = self._launcher()
        for _ in range(count):
            launcher.launch(
                lambda number, _: record.replica(number, names=self.names, server_key=self._connected.server_key)
            )

    def _remove(self, containers: Sequence[Seen], *, within_s: int) -> None:
        """Stop and remove containers, all at once. `within_s` 0: kill them."""
        if not containers:
            return

        def end(seen: Seen) -> None:
            if within_s:
                self._engine.stop(seen.id, within_s=within_s)
            else:
                self._engine.remove(seen.id)

        with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(containers))) as pool:
            for done in [pool.submit(end, each) for each in containers]:
                done.result()


@contextmanager
def _noting(exc: BaseException) -> Iterator[None]:
    """Let what is cleared away for `exc` not hide it."""
    try:
        yield
    except ClipperException as left:
        exc.add_note(f"What was started could not be removed: {left}")


def _tell(image: str, line: str) -> None:
    """Show below a notebook's cell what a builder or a registry says of an image."""
    show(f"image {image.partition('@')[0].rpartition('/')[2].rpartition(':')[0]}", " ".join(line.split())[:80])
