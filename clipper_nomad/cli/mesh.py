"""Who reaches whom: the links between query frontends and replicas, and among the frontends. Pure; overview.py asks.

A link is wanted from each replica to each frontend, to at most MOST_LINKS of them, and from each frontend to each other. A
container of RPC version 3 has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clipper_nomad.connection.readiness import linked_replicas
from clipper_nomad.protocol.links import wanted_links

Json = Mapping[str, Any]  # a frontend's report


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedReplicas:
    """So many replicas of one version shall run."""

    model: str
    version: str
    uid: str
    count: int
    is_legacy: bool = False

    def links(self, frontends: int) -> int:
        """To how many of so many frontends each of them has a link."""
        return wanted_links(frontends, is_legacy=self.is_legacy)


def mesh_document(frontends: Sequence[str], wanted: Sequence[WantedReplicas], reports: Sequence[Json]) -> dict[str, Any]:
    """Return the links that stand and those that are wanted, and who lacks which. `frontends`: those that shall run."""
    others = len(frontends) - 1
    peers = {(report["frontend"], peer) for report in reports for peer in _linked_peers(report) if peer in frontends}
    answering = {report["frontend"] for report in reports}
    return {
        "links": sum(_links(one, reports, len(frontends)) for one in wanted) + len(peers),
        "wanted": sum(one.count * one.links(len(frontends)) for one in wanted) + len(frontends) * others,
        "silent": [name for name in frontends if name not in answering],
        "lacks": [lack for report in reports for one in wanted if (lack := _lack(one, report, len(frontends)))],
        "unlinked_peers": [
            {"frontend": name, "peer": peer}
            for name in frontends
            for peer in frontends
            if peer != name and {name, peer} <= answering and (name, peer) not in peers
        ],
    }


def _links(wanted: WantedReplicas, reports: Sequence[Json], frontends: int) -> int:
    most = wanted.links(frontends)
    found = linked_replicas(wanted.uid, reports)
    return min(wanted.count * most, sum(min(count, most) for count in found.values()))


def _linked_peers(report: Json) -> Iterable[str]:
    return (peer["frontend"] for peer in report.get("peers", ()) if peer["linked"])


def _lack(wanted: WantedReplicas, report: Json, frontends: int) -> dict[str, Any] | None:
    """Return what one frontend lacks of a version. With more frontends than links nobody has all, and one will do."""
    own: Json = next((row for row in report["versions"] if row["uid"] == wanted.uid), {"ready": 0})
    enough = wanted.count if frontends <= wanted.links(frontends) else min(1, wanted.count)
    if own["ready"] >= enough:
        return None
    return {
        "frontend": report["frontend"],
        "model": wanted.model,
        "version": wanted.version,
        "replicas_ready": own["ready"],
        "replicas_wanted": wanted.count,
        "via_peers": own.get("via_peers", 0),
    }
