"""From options and the environment to the container manager of a cluster on Nomad, and a connection to it.

An option goes before its variable; what neither says, a running cluster's own jobs do (settings.py), else the default.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from clipper_nomad.cli.command_line import command
from clipper_nomad.cli.job_options import changed_options
from clipper_nomad.cli.on_nomad.settings import Settings, read_settings
from clipper_nomad.cli.options import Building, Shape, Where, WrongUsage
from clipper_nomad.cluster.endpoints import nomad_endpoint
from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.cluster.jobs.requirements import Placement
from clipper_nomad.cluster.jobs.specs import OPEN_FILES
from clipper_nomad.cluster.jobs.task_files import CONSUL_TOKEN
from clipper_nomad.cluster.manager import NomadContainerManager
from clipper_nomad.cluster.names import ClusterNames, variable_path
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.own_fabio import OwnFabio
from clipper_nomad.cluster.rollout.events import RolloutEvent
from clipper_nomad.cluster.routes import ADMIN_PORT, HTTP_PORT, LEGACY_PORT, TCP_PORT, FabioLoadBalancer
from clipper_nomad.dev_cluster.place import VOLUMES
from clipper_nomad.dev_cluster.ports import Ports
from clipper_nomad.dev_cluster.running import is_at, running
from clipper_nomad.errors import ClipperException, NomadRefused, NomadUnreachable
from clipper_nomad.images.image_set import ImageSet

if TYPE_CHECKING:
    from clipper_nomad.connection import ClipperConnection

FABIO = "CLIPPER_FABIO"
FABIO_TCP = "CLIPPER_FABIO_TCP"
MIB = 1024**2
REGISTRY = "CLIPPER_REGISTRY"
REDIS_PASSWORD = "CLIPPER_REDIS_PASSWORD"  # noqa: S105  # a variable's name
Events = Callable[[RolloutEvent], None]
ImageLines = Callable[[str, str], None]  # (image's name, what is said of it)


def _quiet(_: RolloutEvent) -> None: ...


def _no_lines(_image: str, _line: str) -> None: ...


def new_manager(
    where: Where,
    shape: Shape,
    building: Building,
    *,
    rpc_mode: str = "auto",
    events: Events = _quiet,
    image_lines: ImageLines = _no_lines,
) -> NomadContainerManager:
    """Return the manager of a cluster as the options want it. Nothing is asked of anybody yet.

    Raises: WrongUsage, InvalidSetting, InvalidName, InvalidSpec.
    """
    datacenters = tuple(shape.datacenter or ("dc1",))
    changed_options({}, shape.settings or ())  # what cannot be is refused before anybody is asked
    manager = NomadContainerManager(
        where.nomad,
        None,
        None if shape.no_fabio else fabio_of(where, shape),
        where.cluster,
        redis_ip=shape.redis_host,
        redis_port=shape.redis_port or 6379,
        redis_password=os.environ.get(REDIS_PASSWORD) if shape.redis_host else None,
        redis_image=shape.redis_image or "redis:7-alpine",
        redis_volume=shape.redis_volume,
        runtime_image=building.runtime_image,
        bundle_volume=shape.bundle_volume,
        bundle_cache=shape.bundle_cache,
        bundle_limit_mb=shape.bundle_limit or 2048,
        namespace=where.namespace,
        consul_address=where.consul,
        encrypted=shape.encryption is not False,
        legacy_rpc=shape.legacy_rpc is True,
        rpc_mode=rpc_mode,
        placement=Placement(
            datacenters=datacenters, node_pool=shape.node_pool, namespace=where.namespace, region=shape.region
        ),
        images=image_set(building, progress=image_lines),
        fabio=_own_fabio(where, shape),
        progress=events,
    )
    if shape.cache is not None:
        manager.blueprint = replace(manager.blueprint, cache_bytes=round(shape.cache * MIB))
    if shape.settings:
        manager.want_parts(changed_options(_running_options(manager), shape.settings))
    return manager


def _own_fabio(where: Where, shape: Shape) -> OwnFabio | None:
    if shape.with_fabio is None:
        return None
    if shape.no_fabio:
        raise WrongUsage("--with-fabio and --no-fabio say opposite things.", hint="Leave out the one or the other.")
    nomad = NomadApi(nomad_endpoint(os.environ, address=where.nomad))
    try:
        variable = nomad.variable(variable_path(ClusterNames(where.cluster).fabio_job))
    except (NomadUnreachable, NomadRefused):
        variable = None  # whatever comes next will say so
    return OwnFabio(
        image=shape.with_fabio,
        consul_address=shape.fabio_consul or "127.0.0.1:8500",
        open_files=shape.fabio_open_files or OPEN_FILES,
        has_consul_token=variable is not None and CONSUL_TOKEN in variable.items,
    )


def _running_options(manager: NomadContainerManager) -> dict[str, JobOptions]:
    """Return what the parts run with; nothing where Nomad cannot be asked, which whatever comes next will say."""
    try:
        return manager.running_options()
    except (NomadUnreachable, NomadRefused):
        return {}


def as_it_runs(where: Where, shape: Shape, building: Building) -> tuple[Shape, Building]:
    """Return the options with what they leave out as the cluster runs with, if it runs: `up` again resets nothing.

    Raises: ClipperException: its store wants a password that is not given. NomadUnreachable.
    """
    manager = new_manager(where, Shape(no_fabio=True), Building(registry=""))
    settings = found_settings(manager)
    if settings is None:
        return with_dev_volumes(where, shape), building
    store = settings.store
    if store is not None and store.has_password and shape.redis_host is None and REDIS_PASSWORD not in os.environ:
        raise ClipperException(
            f"The cluster {where.cluster!r} runs with the Redis at {store.host}:{store.port}, which wants a password.",
            hint=f"Set {REDIS_PASSWORD}.",
        )
    return kept_as_it_runs(settings, where, shape, building)


def with_dev_volumes(where: Where, shape: Shape) -> Shape:
    """Let a new cluster on the development cluster keep its data there: Nomad's own would go at `dev down`."""
    if dev_ports(where) is None:
        return shape
    redis, bundles, cache = VOLUMES
    return replace(
        shape,
        redis_volume=shape.redis_volume or (None if shape.redis_host else redis),
        bundle_volume=shape.bundle_volume or bundles,
        bundle_cache=shape.bundle_cache or cache,
    )


def kept_as_it_runs(settings: Settings, where: Where, shape: Shape, building: Building) -> tuple[Shape, Building]:
    """Return the options, with what they leave out taken from the settings of the cluster that runs."""
    if building.registry is None and REGISTRY not in os.environ:
        building = replace(building, registry=settings.registry)
    wants_fabio = bool(shape.tcp_port or shape.http_port or where.fabio)
    store, own = settings.store, None if shape.no_fabio else settings.fabio
    kept = replace(
        shape,
        no_fabio=shape.no_fabio or (settings.tcp_port is None and not wants_fabio),
        tcp_port=shape.tcp_port or settings.tcp_port,
        http_port=shape.http_port or (own.http_port if own and not where.fabio else None),
        with_fabio=shape.with_fabio or (own.image if own else None),
        fabio_consul=shape.fabio_consul or (own.consul if own else None),
        fabio_admin_port=shape.fabio_admin_port or (own.admin_port if own else None),
        fabio_open_files=shape.fabio_open_files or (own.open_files if own else None),
        datacenter=shape.datacenter or list(settings.datacenters),
        node_pool=shape.node_pool or settings.node_pool,
        encryption=settings.encrypted if shape.encryption is None else shape.encryption,
        legacy_rpc=settings.legacy_rpc is not None if shape.legacy_rpc is None else shape.legacy_rpc,
        legacy_rpc_port=shape.legacy_rpc_port or (settings.legacy_rpc.port if settings.legacy_rpc else None),
        redis_image=shape.redis_image or settings.redis_image,
        redis_volume=shape.redis_volume or settings.redis_volume,
        redis_host=shape.redis_host or (store.host if store else None),
        redis_port=shape.redis_port or (store.port if store and shape.redis_host is None else None),
        bundle_volume=shape.bundle_volume or settings.bundle_volume,
        bundle_cache=shape.bundle_cache or settings.bundle_cache,
        bundle_limit=shape.bundle_limit or settings.bundle_limit_mb,
        cache=settings.cache_bytes / MIB if shape.cache is None else shape.cache,
    )
    return kept, building


def image_set(building: Building, *, progress: ImageLines = _no_lines) -> ImageSet:
    """Return what builds images, as the options and CLIPPER_REGISTRY want it."""
    return ImageSet(
        registry=registry_of(building),
        base=building.base_image or "",
        network=building.build_network,
        progress=progress,
    )


def registry_of(building: Building) -> str | None:
    """Return --registry, or CLIPPER_REGISTRY; "": images are this machine's; None: so are the parts', models have none."""
    return os.environ.get(REGISTRY) or None if building.registry is None else building.registry


def found_manager(
    where: Where,
    building: Building | None = None,
    *,
    rpc_mode: str = "auto",
    events: Events = _quiet,
    image_lines: ImageLines = _no_lines,
) -> NomadContainerManager:
    """Return the connected manager of a cluster that runs, as it was brought up. Raises: ClipperException: it does not."""
    building = building or Building()  # of models, whose registry need not be that of the parts
    shape, _ = kept_as_it_runs(running_settings(where), Where(), Shape(), building)
    manager = new_manager(where, shape, building, rpc_mode=rpc_mode, events=events, image_lines=image_lines)
    manager.connect()
    return manager


def connected(
    where: Where,
    building: Building | None = None,
    *,
    rpc_mode: str = "auto",
    events: Events = _quiet,
    image_lines: ImageLines = _no_lines,
) -> ClipperConnection:
    """Return a connection to a cluster that runs. Raises: ClipperException: it does not."""
    from clipper_nomad.connection import ClipperConnection

    connection = ClipperConnection(found_manager(where, building, rpc_mode=rpc_mode, events=events, image_lines=image_lines))
    connection.connect()
    return connection


def running_settings(where: Where) -> Settings:
    """Return what the cluster was brought up with. Raises: ClipperException: it does not run."""
    manager = new_manager(where, Shape(no_fabio=True), Building(registry=""))
    settings = found_settings(manager)
    if settings is None:
        raise not_on_nomad(where, manager.nomad)
    return settings


def found_settings(manager: NomadContainerManager) -> Settings | None:
    """Return what the cluster was brought up with, None if it does not run."""
    names = manager.names
    job = manager.nomad.job(names.frontend_job)
    if job is None or job.get("Stop") or names.frontend_job not in {each.id for each in manager.find_jobs().ours}:
        return None
    redis, admin, fabio = (manager.nomad.job(each) for each in (names.redis_job, names.admin_job, names.fabio_job))
    return read_settings(job, names, redis=redis, admin=admin, fabio=fabio)


def not_on_nomad(where: Where, nomad: NomadApi) -> ClipperException:
    """Return the error of a verb that needs a cluster that runs."""
    return ClipperException(
        f"Nomad at {nomad.endpoint.url} runs no cluster {where.cluster!r}"
        f" (namespace {nomad.endpoint.namespace or 'default'!r}).",
        hint=f"Start it: {command('up', where)}. One of this machine is meant with --local.",
    )


def fabio_of(where: Where, shape: Shape | None = None) -> FabioLoadBalancer:
    """Return Fabio's place: --fabio, CLIPPER_FABIO, or the host that Nomad is at; for replicas CLIPPER_FABIO_TCP, if they
    have another. Raises: WrongUsage: it cannot be read."""
    shape, ours = shape or Shape(), dev_ports(where)
    named, inside = where.fabio or os.environ.get(FABIO), os.environ.get(FABIO_TCP)
    if named:
        host, port = _host_and_port(named, "Write --fabio HOST or --fabio HOST:PORT, its HTTP port.")
    else:
        host, port = urlsplit(nomad_endpoint(os.environ, address=where.nomad).url).hostname or "", None
    tcp_host, tcp_port = _host_and_port(inside, f"Write {FABIO_TCP}=HOST or HOST:PORT.") if inside else (None, None)
    return FabioLoadBalancer(
        host,
        http_proxy_port=_once("HTTP", shape.http_port, port, ours.fabio_http if ours else HTTP_PORT),
        tcp_proxy_port=_once("TCP", shape.tcp_port, tcp_port, ours.fabio_tcp if ours else TCP_PORT),
        admin_port=shape.fabio_admin_port or (ours.fabio_admin if ours else ADMIN_PORT),
        legacy_rpc_port=shape.legacy_rpc_port or (ours.fabio_rpc3 if ours else LEGACY_PORT),
        tcp_address=tcp_host,
    )


def _host_and_port(text: str, hint: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if not host or parts.path:
        raise WrongUsage(f"Fabio's address is {text!r}.", hint=hint)
    return host, port


def _once(what: str, by_option: int | None, by_address: int | None, default: int) -> int:
    if by_option and by_address and by_option != by_address:
        raise WrongUsage(f"Fabio's {what} port was given twice, as {by_address} and {by_option}.", hint="Give it once.")
    return by_option or by_address or default


def dev_ports(where: Where) -> Ports | None:
    """Return the ports of the development cluster, if the Nomad that is meant is its."""
    state = running(os.environ)
    is_ours = state is not None and is_at(state, nomad_endpoint(os.environ, address=where.nomad).url)
    return state.settings.ports if state is not None and is_ours else None


def part_names(names: ClusterNames) -> dict[str, str]:
    """Return what a cluster's parts are called on the screen: job → "redis"."""
    return {
        names.redis_job: "redis",
        names.admin_job: "admin",
        names.frontend_job: "frontend",
        names.fabio_job: "fabio",
    }
