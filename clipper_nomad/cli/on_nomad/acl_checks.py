"""What `doctor` asks about ACLs: what the tokens may do, what who has none may read, what Fabio sees. Nothing is changed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

from clipper_nomad.cli.command_line import command
from clipper_nomad.cli.on_nomad import acl_verdicts
from clipper_nomad.cli.on_nomad.verdicts import Verdict, failed
from clipper_nomad.cli.options import Where
from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.jobs.requirements import HostVolume
from clipper_nomad.cluster.jobs.specs import EntryByService
from clipper_nomad.cluster.manager import NomadContainerManager
from clipper_nomad.cluster.policies import NOMAD_TOOLKIT
from clipper_nomad.cluster.rights import Lack, Rights, lacks
from clipper_nomad.cluster.routes import FabioLoadBalancer, Route
from clipper_nomad.errors import ClipperException

ROUTED = "urlprefix-"  # what Fabio's tags begin with
ROUTED_WITHIN_S = 4.0  # Fabio follows Consul within two seconds
LOOK_EVERY_S = 0.5


def nomad_token(manager: NomadContainerManager, where: Where, volumes: list[HostVolume]) -> Iterator[Verdict]:
    """Judge the token that Nomad is asked with. `volumes`: those that the cluster's parts are to have."""
    nomad = manager.nomad
    try:
        token = nomad.token()
        found: list[Lack] = []
        namespace = nomad.endpoint.namespace or "default"
        if token.get("Type") != "management":
            rights = Rights(nomad.policies().values())
            found = list(lacks(rights, manager.names, namespace=namespace, volumes=volumes))
    except ClipperException as exc:
        yield failed("Nomad", exc)
        return
    printing = command(f"policy {NOMAD_TOOLKIT}", Where(cluster=where.cluster, namespace=where.namespace))
    yield from acl_verdicts.nomad_token_verdicts(
        token, found, policy_command=printing, policy_name=manager.names.prefix, now=datetime.now(UTC)
    )


def consul_tokens(manager: NomadContainerManager) -> Iterator[Verdict]:
    """Judge the token that Consul is asked with, and what who has none may read; nothing where Consul has no ACLs."""
    consul = manager.consul
    if consul.endpoint.token is None:
        return  # it showed all services without one
    try:
        token = consul.token()
        if token is None:
            return
        anything = str(uuid.uuid4())  # who may read a name that nobody has may read all
        hidden = [f"{kind}s" for kind in ("service", "node") if not consul.may_read(kind, anything)]
        yield from acl_verdicts.consul_token_verdicts(token, hidden, now=datetime.now(UTC))
        entry = manager.addresses.entry()
        read = {manager.names.redis_job: "service", anything: "node"}
        if isinstance(entry, EntryByService) and entry.service is not None:
            read[entry.service] = "service"
        nobody = consul.without_token()
        unread = [name if kind == "service" else "nodes" for name, kind in read.items() if not nobody.may_read(kind, name)]
        yield acl_verdicts.anonymous_verdict(unread)
    except ClipperException as exc:
        yield failed("Consul", exc, level="doubt")


def fabio_sees_services(balancer: FabioLoadBalancer, consul: ConsulApi, routes: tuple[Route, ...]) -> Iterator[Verdict]:
    """Judge whether Fabio, whose table is `routes`, has a route to each service that should have one."""
    deadline = time.monotonic() + ROUTED_WITHIN_S
    while True:
        try:
            missing = sorted(_passing_routed(consul) - {each.service for each in routes})
        except ClipperException:
            return  # told where Consul is judged
        if not missing or time.monotonic() > deadline:
            break
        time.sleep(LOOK_EVERY_S)
        routes = balancer.routes()
    verdict = acl_verdicts.unrouted_verdict(missing, routes=len(routes))
    if verdict is not None:
        yield verdict


def _passing_routed(consul: ConsulApi) -> set[str]:
    """Return the services of which an instance that passes its checks has a route's tag."""
    tagged = [name for name, tags in consul.services().items() if any(tag.startswith(ROUTED) for tag in tags)]
    return {
        name for name in tagged if any(tag.startswith(ROUTED) for each in consul.instances(name).found for tag in each.tags)
    }
