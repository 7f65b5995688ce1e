"""What `doctor` asks: Nomad, Consul, Fabio, DNS, Docker and the registry. verdicts.py judges. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import urlsplit

from clipper_nomad.cli.on_nomad import acl_checks, verdicts
from clipper_nomad.cli.on_nomad.planning import running_frontends
from clipper_nomad.cli.on_nomad.reaching import as_it_runs, image_set, new_manager, registry_of
from clipper_nomad.cli.on_nomad.verdicts import Needs, Verdict
from clipper_nomad.cli.options import Building, Shape, Where
from clipper_nomad.cluster.consul_api import ITSELF
from clipper_nomad.cluster.discovery import ConsulDNS
from clipper_nomad.cluster.jobs.requirements import HostVolume
from clipper_nomad.cluster.jobs.specs import FrontendJob
from clipper_nomad.cluster.manager import NomadContainerManager
from clipper_nomad.cluster.own_fabio import refuse_second
from clipper_nomad.cluster.rollout.evidence import rooms
from clipper_nomad.cluster.route_claims import clashes, wanted_claims
from clipper_nomad.cluster.routes import CONSUL_NAME, FabioLoadBalancer
from clipper_nomad.errors import ClipperException, DiscoveryError, ImageError, NomadRefused, NomadUnreachable
from clipper_nomad.images.docker_images import DockerImages
from clipper_nomad.images.parts import Part

DNS_WITHIN_S = 2.0
PAGES_WITHIN_S = 1.0
_ACLS_ON = frozenset({401, 403})


def examine(where: Where, shape: Shape, building: Building, *, frontends: int) -> Iterator[Verdict]:
    """Yield a verdict for each thing that is looked at. Raises: InvalidSetting, WrongUsage: an address cannot be read."""
    with suppress(NomadUnreachable, NomadRefused):  # told below
        shape, building = as_it_runs(where, shape, building)
    manager = new_manager(where, shape, building)
    nomad_answers = True
    for verdict in _nomad(manager, where, shape):
        nomad_answers = nomad_answers and verdict.level != "problem"
        yield verdict
    nodes: list[dict[str, object]] = []
    if nomad_answers:
        try:
            nodes = manager.nomad.nodes()
            placement = manager.blueprint.placement
            yield verdicts.clients_verdict(nodes, placement.datacenters, placement.node_pool)
        except ClipperException as exc:
            yield verdicts.failed("Clients", exc, level="doubt")
        runs = running_frontends(manager) is not None
        yield verdicts.room_verdict(rooms(manager.nomad), needs_of(manager, frontends), runs=runs)
    yield from _consul(manager)
    named = manager.load_balancer
    yield _dns(named.address if isinstance(named, FabioLoadBalancer) and named.is_named_by_consul else "")
    balancer = manager.addresses.balancer()
    if isinstance(balancer, FabioLoadBalancer):
        legacy_port = _legacy_port(manager)
        looks = (
            _own_fabio(manager, balancer, legacy_port)
            if shape.with_fabio and nomad_answers
            else _fabio(manager, balancer, legacy_port)
        )
        yield from looks
    yield from _images(building, clients=sum(each.get("Status") == "ready" for each in nodes))


def needs_of(manager: NomadContainerManager, frontends: int) -> Needs:
    """Return what the parts ask for."""
    specs = manager.specs(admin_image="any", frontend_image="any", frontends=frontends)
    asked = [(each.resources, each.count if isinstance(each, FrontendJob) else 1) for each in specs]
    return Needs(
        cpu_mhz=sum((resources.cpu or 0) * count for resources, count in asked),
        memory_mib=sum(resources.memory_mb * count for resources, count in asked),
        largest_cpu_mhz=max(resources.cpu or 0 for resources, _ in asked),
        largest_memory_mib=max(resources.memory_mb for resources, _ in asked),
    )


def _nomad(manager: NomadContainerManager, where: Where, shape: Shape) -> Iterator[Verdict]:
    endpoint = manager.nomad.endpoint
    try:
        leader = manager.nomad.leader()
    except ClipperException as exc:
        yield verdicts.failed("Nomad", exc)
        return
    version, has_acls = "", True
    try:
        config = manager.nomad.agent().get("config") or {}
        version = str((config.get("Version") or {}).get("Version") or "")
        has_acls = bool((config.get("ACL") or {}).get("Enabled"))
    except NomadRefused as exc:  # with ACLs agent:read is a right of its own, and nothing else needs it
        if exc.status not in _ACLS_ON:
            yield verdicts.failed("Nomad", exc)
            return
    has_token = endpoint.token is not None
    yield verdicts.nomad_verdict(endpoint.url, version=version, leader=leader, has_token=has_token, needs_token=has_acls)
    if not has_acls:
        opened = verdicts.open_nomad_verdict(endpoint.url, host=urlsplit(endpoint.url).hostname or "")
        if opened is not None:
            yield opened
        return
    if has_token:
        yield from acl_checks.nomad_token(manager, where, volumes_of(manager, shape))


def volumes_of(manager: NomadContainerManager, shape: Shape) -> list[HostVolume]:
    """Return the host volumes that the parts are to have."""
    named = (shape.redis_volume, shape.bundle_volume, shape.bundle_cache)
    own = [HostVolume(source=each, path="/data") for each in named if each is not None]
    return own + [each for options in manager.blueprint.options.values() for each in options.volumes]


def _consul(manager: NomadContainerManager) -> Iterator[Verdict]:
    try:
        leader = manager.consul.leader()
        services = manager.consul.services()
    except ClipperException as exc:
        yield verdicts.failed("Consul", exc)
        return
    try:
        version = str((manager.consul.agent().get("Config") or {}).get("Version") or "")
    except ClipperException:  # with ACLs a right of its own, and nothing else needs it
        version = ""
    yield verdicts.consul_verdict(manager.consul.endpoint.url, version=version, leader=leader)
    yield from acl_checks.consul_tokens(manager)
    if isinstance(manager.load_balancer, FabioLoadBalancer):
        names = manager.names
        port = manager.load_balancer.tcp_proxy_port
        wanted = wanted_claims(names, tcp_port=port, legacy_port=_legacy_port(manager))
        yield verdicts.routes_verdict(clashes(wanted, services, ours=names.routed_services))


def _dns(fabio: str) -> Verdict:
    try:
        found = ConsulDNS(deadline_s=DNS_WITHIN_S).resolve_all(ITSELF)
    except DiscoveryError as exc:
        return verdicts.dns_verdict(is_forwarded=False, error=exc.msg, fabio=fabio)
    return verdicts.dns_verdict(is_forwarded=bool(found), fabio=fabio)


def _legacy_port(manager: NomadContainerManager) -> int | None:
    return manager.blueprint.legacy_port if manager.blueprint.legacy_rpc else None


def _own_fabio(manager: NomadContainerManager, balancer: FabioLoadBalancer, legacy_port: int | None) -> Iterator[Verdict]:
    """As `_fabio`, of one that `up` starts, or has started."""
    if manager.names.fabio_job in {job.id for job in manager.find_jobs().ours}:
        yield from _fabio(manager, balancer, legacy_port)
        return
    try:
        refuse_second(balancer, legacy_port)
        ports = f"{balancer.http_proxy_port}" + (f", {legacy_port}" if legacy_port else "")
        yield verdicts.well("Fabio", f"`up` starts it, with the ports {ports} and {balancer.tcp_proxy_port}")
    except ClipperException as exc:
        yield verdicts.failed("Fabio", exc)


def _fabio(manager: NomadContainerManager, balancer: FabioLoadBalancer, legacy_port: int | None) -> Iterator[Verdict]:
    if balancer.is_named_by_consul:  # it would have been replaced by an address
        yield verdicts.unknown_name_verdict(balancer.address)
        return
    try:
        balancer.check_http()
        yield verdicts.well("Fabio", f"HTTP proxy {balancer.http()} answers")
    except ClipperException as exc:
        yield verdicts.failed("Fabio", exc, fix="See that it runs there; --fabio HOST:PORT names another, --no-fabio none.")
    if balancer.tcp_address is not None:
        yield _inside(manager, balancer)
        legacy_port = None
    else:
        yield _listener(balancer.check_tcp, balancer.tcp(), balancer.tcp_proxy_port)
    if legacy_port is not None:
        where = balancer.listener(legacy_port)
        yield _listener(lambda: balancer.check_legacy(legacy_port), where, legacy_port, is_legacy=True)
    try:
        routes = balancer.routes(within_s=PAGES_WITHIN_S)
    except ClipperException:
        return  # closed, as it should be
    yield from acl_checks.fabio_sees_services(balancer, manager.consul, routes)
    exposed = verdicts.exposed_fabio_verdict(balancer.address, balancer.admin_port)
    if exposed is not None:
        yield exposed


def _inside(manager: NomadContainerManager, balancer: FabioLoadBalancer) -> Verdict:
    """Of an address that only replicas need reach: what Consul knows of it."""
    host = balancer.tcp_address or ""
    if not host.endswith(CONSUL_NAME):
        return verdicts.inside_fabio_verdict(balancer.tcp(), instances=None)
    try:
        found = manager.consul.instances(host.removesuffix(CONSUL_NAME)).found
    except ClipperException as exc:
        return verdicts.failed("Fabio", exc)
    return verdicts.inside_fabio_verdict(balancer.tcp(), instances=len(found))


def _listener(check: Callable[[], None], where: str, port: int, *, is_legacy: bool = False) -> Verdict:
    try:
        check()
    except ClipperException as exc:
        return verdicts.tcp_listener_verdict(where, port, exc, is_legacy=is_legacy)
    return verdicts.tcp_listener_verdict(where, port, None, is_legacy=is_legacy)


def _images(building: Building, *, clients: int) -> Iterator[Verdict]:
    registry = registry_of(building)
    try:
        DockerImages()
    except ClipperException as exc:
        yield verdicts.docker_verdict(exc, is_needed=registry is not None)
        return
    yield verdicts.docker_verdict(None)
    images, missing = image_set(building), {}
    for part in Part:
        try:
            images.find(part)
        except ImageError as exc:
            if not exc.is_missing:
                yield verdicts.registry_out_of_reach(registry or "", exc)
                return
            missing[str(part)] = exc.msg
    yield verdicts.registry_verdict(registry or "", missing, clients=clients)
