"""Who holds which route of Fabio, by the tags of Consul's services. Pure.

Fabio gives no error when two services claim one route: it sends half of the queries to each. So a clash is refused before
anything is registered. `services` is what Consul's catalog gives: the name of each service and its tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from clipper_nomad.cluster.names import ClusterNames, rpc_tag
from clipper_nomad.errors import NotOurs

TAG_PREFIX = "urlprefix-"  # Fabio's registry.consul.tagprefix, unless somebody changed it


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteClaim:
    """One route and the service that claims it. `source`: `[host]/path` of HTTP, `:port` of a TCP listener."""

    source: str
    service: str

    @property
    def is_tcp(self) -> bool:
        """Whether it is a whole port."""
        return self.source.startswith(":")


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteClash:
    """A claim of ours and the claim of somebody else's that it cannot live with."""

    wanted: RouteClaim
    holder: RouteClaim

    def __str__(self) -> str:
        if self.wanted.source.rstrip("/") == self.holder.source.rstrip("/"):
            effect = "Fabio would send half of what comes there to each"
        else:
            effect = f"Fabio would send what comes to {self.holder.source} there and not to this cluster"
        held = f"'{self.holder.service}' holds {self.holder.source}"
        return f"{self.wanted.source} is needed by '{self.wanted.service}'; {held}: {effect}"


def read_claims(services: Mapping[str, Sequence[str]]) -> list[RouteClaim]:
    """Return all claims among the tags of Consul's services."""
    return [
        RouteClaim(source=source, service=service)
        for service, tags in services.items()
        for tag in tags
        if (source := _source(tag))
    ]


def _source(tag: str) -> str:
    """The route of a tag, as Fabio reads it: what stands before the first white space; nothing if it is no route's."""
    if not tag.strip().startswith(TAG_PREFIX):
        return ""
    source, *_ = [*tag.strip().removeprefix(TAG_PREFIX).split(maxsplit=1), ""]
    _, colon, port = source.rpartition(":")
    if colon and port.isdigit() and "/" not in source:
        return f":{port}"  # Fabio's TCP listeners know ports only, whatever host stands before
    return source.lower() if "/" not in source else source


def wanted_claims(names: ClusterNames, *, tcp_port: int, legacy_port: int | None = None) -> list[RouteClaim]:
    """Return the routes that the cluster needs. `legacy_port`: of Clipper's RPC version 3, if that is served."""
    tags = {
        names.query_service: [names.query_tag],
        names.admin_service: [names.admin_tag],
        names.rpc_service: [rpc_tag(tcp_port)],
        names.legacy_service: [] if legacy_port is None else [rpc_tag(legacy_port)],
    }
    return read_claims(tags)


def clashes(wanted: Iterable[RouteClaim], services: Mapping[str, Sequence[str]], *, ours: Iterable[str]) -> list[RouteClash]:
    """Return each claim of other services that a wanted one cannot live with. `ours`: names of this cluster's services.

    Two clash when they are the same (but for a closing slash: the longer one would take all of the other's), and when
    theirs is below ours: the longest prefix wins. A shorter one of theirs, as `/`, only has what is left over.
    """
    own = frozenset(ours)
    others = [claim for claim in read_claims(services) if claim.service not in own]
    return [RouteClash(wanted=mine, holder=theirs) for mine in wanted for theirs in others if _collide(mine, theirs)]


def _collide(mine: RouteClaim, theirs: RouteClaim) -> bool:
    if mine.is_tcp or theirs.is_tcp:
        return mine.source == theirs.source
    return f"{theirs.source.rstrip('/')}/".startswith(f"{mine.source.rstrip('/')}/")


def refuse_clashes(
    names: ClusterNames, services: Mapping[str, Sequence[str]], *, tcp_port: int, legacy_port: int | None = None
) -> None:
    """Refuse routes that somebody else holds. `services`: Consul's catalog. Raises: NotOurs: who holds which, what to do."""
    wanted = wanted_claims(names, tcp_port=tcp_port, legacy_port=legacy_port)
    found = clashes(wanted, services, ours=names.routed_services)
    if not found:
        return
    hints = []
    if any(each.wanted.service == names.rpc_service for each in found):
        hints.append(
            "Give this cluster a TCP port of its own: FabioLoadBalancer(…, tcp_proxy_port=7001), with ',:7001;proto=tcp' "
            "added to Fabio's -proxy.addr."
        )
    if any(each.wanted.service == names.legacy_service for each in found):
        hints.append(
            "Give this cluster a port of its own for RPC version 3: FabioLoadBalancer(…, legacy_rpc_port=7002), or "
            "--legacy-rpc-port 7002, with ',:7002;proto=tcp' added to Fabio's -proxy.addr."
        )
    if any(not each.wanted.is_tcp for each in found):
        hints.append("Give this cluster another name: each has routes of its own. Or take the other service's tag away.")
    lines = "\n".join(f"  {each}" for each in found)
    raise NotOurs(
        f"Routes that the cluster '{names.cluster}' needs on Fabio are held by others; nothing was changed:\n{lines}",
        hint="\n".join(hints),
    )
