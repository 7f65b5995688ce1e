"""From options and the environment to the container manager of a cluster on Nomad, and a connection to it.

An option goes before its variable; what neither says, a running cluster's own job does (settings.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from clipper_nomad.cli.command_line import command
from clipper_nomad.cli.on_nomad.settings import Settings, read_settings
from clipper_nomad.cli.options import Building, Shape, Where, WrongUsage
from clipper_nomad.cluster.endpoints import nomad_endpoint
from clipper_nomad.cluster.jobs.requirements import Placement
from clipper_nomad.cluster.manager import NomadContainerManager
from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.rollout.events import RolloutEvent
from clipper_nomad.cluster.routes import HTTP_PORT, TCP_PORT, FabioLoadBalancer
from clipper_nomad.errors import ClipperException
from clipper_nomad.images.image_set import ImageSet

if TYPE_CHECKING:
    from clipper_nomad.connection import ClipperConnection

FABIO = "CLIPPER_FABIO"
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
    return NomadContainerManager(
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
        encrypted=not shape.no_encryption,
        rpc_mode=rpc_mode,
        placement=Placement(
            datacenters=datacenters, node_pool=shape.node_pool, namespace=where.namespace, region=shape.region
        ),
        images=image_set(building, progress=image_lines),
        progress=events,
    )


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
    settings = running_settings(where)
    building = building or Building()
    shape = Shape(
        no_fabio=settings.tcp_port is None,
        tcp_port=settings.tcp_port,
        datacenter=list(settings.datacenters),
        node_pool=settings.node_pool,
        no_encryption=not settings.encrypted,
    )
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
    job = manager.nomad.job(manager.names.frontend_job)
    if job is None or job.get("Stop") or manager.names.frontend_job not in {each.id for each in manager.find_jobs().ours}:
        raise not_on_nomad(where, manager.nomad)
    return read_settings(job, manager.names)


def not_on_nomad(where: Where, nomad: NomadApi) -> ClipperException:
    """Return the error of a verb that needs a cluster that runs."""
    return ClipperException(
        f"Nomad at {nomad.endpoint.url} runs no cluster {where.cluster!r}"
        f" (namespace {nomad.endpoint.namespace or 'default'!r}).",
        hint=f"Start it: {command('up', where)}. One of this machine is meant with --local.",
    )


def fabio_of(where: Where, shape: Shape | None = None) -> FabioLoadBalancer:
    """Return Fabio's place: --fabio, CLIPPER_FABIO, or the host that Nomad is at. Raises: WrongUsage: it cannot be read."""
    shape = shape or Shape()
    text = where.fabio or os.environ.get(FABIO) or urlsplit(nomad_endpoint(os.environ, address=where.nomad).url).netloc
    is_named = bool(where.fabio or os.environ.get(FABIO))
    parts = urlsplit(f"//{text}")
    try:
        host, port = parts.hostname, parts.port if is_named else None
    except ValueError:
        host, port = None, None
    if not host or parts.path:
        raise WrongUsage(f"Fabio's address is {text!r}.", hint="Write --fabio HOST or --fabio HOST:PORT, its HTTP port.")
    if port and shape.http_port and port != shape.http_port:
        raise WrongUsage(f"Fabio's HTTP port was given twice, as {port} and {shape.http_port}.", hint="Give it once.")
    return FabioLoadBalancer(
        host, http_proxy_port=shape.http_port or port or HTTP_PORT, tcp_proxy_port=shape.tcp_port or TCP_PORT
    )


def part_names(names: ClusterNames) -> dict[str, str]:
    """Return what a cluster's parts are called on the screen: job → "redis"."""
    return {
        names.redis_job: "redis",
        names.admin_job: "admin",
        names.frontend_job: "frontend",
        names.fabio_job: "fabio",
    }
