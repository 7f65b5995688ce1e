"""Whether a version can serve: what frontends' reports have and lack, and what probes say. Pure.

deployment.py acts on it for a new version, replica_calls.py for one that is scaled.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clipper_nomad.admin.client import Frontends, Probe
from clipper_nomad.protocol.links import wanted_links

# A frontend that has just heard of the version, that is full, or that died may do better next time.
PASSING_TROUBLES = frozenset({"no_replica", "unknown_version", "unreachable", "busy"})
_IMPORT_ERROR = re.compile(r"\b(?:ImportError|ModuleNotFoundError): ")  # of no input's making


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Every frontend had an answer. `output`: JSON; None with a `warning` if a made-up input was refused."""

    output: Any = None
    exec_micros: int = 0
    warning: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Not every frontend had an answer, and none said that there will be none."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The version gives no answer that could be served."""

    cause: str
    hint: str | None = None


def missing(frontends: Frontends, uid: str, wanted: int) -> str | None:
    """Return what keeps the version from serving everywhere, in words; None: nothing.

    Every frontend must have a link to all of its replicas; with more frontends than a replica has links, as one of RPC
    version 3 has one, to one of them, or to a frontend that has.
    """
    if not frontends.live:
        return "no query frontend runs"
    if len(frontends.reports) < frontends.live:
        return f"{len(frontends.reports)} of {frontends.live} query frontends answer"
    has_all_links = _has_all_links(uid, frontends.live, frontends.reports)
    for report in frontends.reports:
        if report.get("draining"):
            continue  # it takes no new queries
        own: Mapping[str, Any] = next((version for version in report["versions"] if version["uid"] == uid), {})
        ready = own.get("ready", 0)
        if has_all_links and ready < wanted:
            return f"query frontend {report['frontend']} has {ready} of {wanted} replicas ready"
        if not ready and not own.get("via_peers"):
            return f"query frontend {report['frontend']} reaches no replica, nor a frontend that does"
    names = {
        replica["replica"]
        for report in frontends.reports
        for replica in report.get("replicas", ())
        if replica["uid"] == uid and replica["state"] == "ready"
    }
    if not has_all_links and len(names) < wanted:
        return f"{len(names)} of {wanted} replicas are ready"
    return None


def ready_replicas(uid: str, frontends: int, reports: Iterable[Mapping[str, Any]]) -> int:
    """Return how many replicas of a version are ready for every frontend that shall have a link to them."""
    reports = tuple(reports)
    if _has_all_links(uid, frontends, reports):
        return min((row["ready"] for report in reports for row in report["versions"] if row["uid"] == uid), default=0)
    return len(linked_replicas(uid, reports))


def _has_all_links(uid: str, frontends: int, reports: Iterable[Mapping[str, Any]]) -> bool:
    """Whether each replica of the version has a link to each of so many frontends."""
    rows = (row for report in reports for row in report["versions"] if row["uid"] == uid)
    return wanted_links(frontends, is_legacy=any(row.get("legacy") for row in rows)) == frontends


def linked_replicas(uid: str, reports: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Each ready replica's name, and how many frontends have a link to it."""
    return Counter(
        name
        for report in reports
        for name in {row["replica"] for row in report["replicas"] if row["uid"] == uid and row["state"] == "ready"}
    )


def judge(probes: Sequence[Probe], *, is_made_up: bool) -> Answered | Again | Broken:
    """Return what the probes of all live frontends say together.

    A model may refuse an input that was made up (`raised`), but not for want of a package; nothing else
    passes for an answer.
    """
    if not probes:
        return Again(reason="no query frontend runs")
    final = [probe for probe in probes if probe.kind not in PASSING_TROUBLES]
    for probe in final:
        if probe.kind and not (probe.kind == "raised" and is_made_up and not _IMPORT_ERROR.search(probe.cause)):
            return _broken(probe, is_made_up=is_made_up)
    passing = next((probe for probe in probes if probe.kind in PASSING_TROUBLES), None)
    if passing is not None:
        return Again(reason=f"query frontend {passing.frontend}: {passing.cause}")
    raised = next((probe for probe in final if probe.kind), None)
    if raised is not None:
        return Answered(warning=f"loaded, not tested: give sample= (a made-up input was refused: {raised.cause})")
    return Answered(output=probes[0].output, exec_micros=probes[0].exec_micros)


def _broken(probe: Probe, *, is_made_up: bool) -> Broken:
    hint = "Give one input that the function takes as sample=." if is_made_up else None
    if probe.kind == "refused":
        hint = "Give one input of the right type as sample=."
    if _IMPORT_ERROR.search(probe.cause):
        hint = "Name the package in pkgs_to_install=, or an image that has it as base_image=."
    return Broken(cause=f"a prediction failed ({probe.kind}): {probe.cause}", hint=hint)
