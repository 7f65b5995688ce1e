"""What `status` knows: gathered from the supervisor, the admin service and the system, and made into one document.

`document` is pure and is what --json prints; status.py shows the same values to people. It is stable: keys are only added.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipper_nomad.cli.finding import admin_of, predict_url
from clipper_nomad.cli.mesh import WantedReplicas, mesh_document
from clipper_nomad.connection.readiness import ready_replicas
from clipper_nomad.errors import AdminRefused, AdminUnreachable

if TYPE_CHECKING:
    from clipper_nomad.local_stack.control import StackStatus
    from clipper_nomad.local_stack.place import Place

_ADMIN_PATIENCE_S = 1.0  # status is asked when things are wrong: it must not wait for what is down
Json = Mapping[str, Any]  # admin's and the frontends' replies


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What the admin service says: the catalog, the frontends' reports, or why there is nothing."""

    catalog: Json
    reports: Sequence[Json]
    problem: str | None = None


def ask_admin(place: Place, stack: StackStatus) -> Served:
    """Return the catalog and the reports of the query frontends; `problem` instead of an exception."""
    try:
        client = admin_of(place, stack, patience_s=_ADMIN_PATIENCE_S)
        return Served(catalog=client.catalog(), reports=client.frontends().reports)
    except (AdminRefused, AdminUnreachable, OSError) as exc:
        why = exc.msg if isinstance(exc, AdminRefused | AdminUnreachable) else str(exc)
        return Served(catalog={"apps": [], "models": [], "versions": []}, reports=[], problem=why)


def memory_bytes(pid: int | None) -> int | None:
    """Return how much memory a process takes (resident), or None if that cannot be told here."""
    if pid is None or sys.platform != "linux":
        return None
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):  # it ended just now
        return None
    return None


def document(stack: StackStatus, served: Served, memory: Mapping[str, int | None]) -> dict[str, Any]:
    """Return everything as JSON. `memory`: part's name → bytes."""
    frontends = [part.name for part in stack.parts if part.kind == "frontend"]
    found: dict[str, Any] = {
        "cluster": stack.cluster,
        "state": stack.state,
        "toolkit": stack.toolkit,
        "age_s": round(stack.age_s, 1),
        "query_url": f"http://{stack.query_addr}",
        "admin_url": f"http://{stack.admin_addr}",
        "data": stack.data,
        "kept": stack.keep,
        "owners": list(stack.owners),
        "parts": [
            {
                "name": part.name,
                "kind": part.kind,
                "state": part.state,
                "pid": part.pid,
                "restarts": part.deaths,
                "memory_bytes": memory.get(part.name),
                "age_s": round(part.age_s, 1),
                "log": part.log,
                "last_error": part.last_error,
            }
            for part in stack.parts
        ],
        "apps": [_app(app, served, stack) for app in served.catalog["apps"]],
        "versions": [_version(version, served, stack) for version in served.catalog["versions"]],
        "catalog": {
            "revision": served.catalog.get("revision"),
            "store_id": served.catalog.get("store_id"),
            "problem": served.problem,
        },
        "frontends": [
            {
                "frontend": report["frontend"],
                "revision": report["revision"],
                "conflict": report.get("conflict_cause") if report["conflict"] else None,
                "draining": report["draining"],
            }
            for report in sorted(served.reports, key=lambda report: str(report["frontend"]))
        ],
        "mesh": mesh_document(frontends, _wanted(served, stack), served.reports),
    }
    found["warnings"] = list(_warnings(found))
    return found


def stopped_document(cluster: str, data: Path) -> dict[str, Any]:
    """Return the document of a cluster that does not run: the same keys, nothing in them."""
    empty = dict.fromkeys(("parts", "apps", "versions", "frontends", "owners", "warnings"), ())
    nothing = dict.fromkeys(("toolkit", "age_s", "query_url", "admin_url"))
    catalog = {"revision": None, "store_id": None, "problem": "the cluster does not run"}
    mesh = mesh_document((), (), ())
    kept = {"data": str(data) if data.is_dir() else None, "kept": data.is_dir(), "catalog": catalog, "mesh": mesh}
    return {"cluster": cluster, "state": "stopped", **nothing, **kept, **empty}


def _app(app: Json, served: Served, stack: StackStatus) -> dict[str, Any]:
    rows = [row for report in served.reports for row in report["apps"] if row["app"] == app["name"]]
    current = {model["name"]: model["current_version"] for model in served.catalog["models"]}
    return {
        "name": app["name"],
        "input_type": app["input_type"],
        "default_output": app["default_output"],
        "slo_micros": app["slo_micros"],
        "slo_policy": app["slo_policy"],
        "linked_models": list(app["linked_models"]),
        "serves": [f"{name}:{current[name]}" for name in app["linked_models"] if current.get(name)],
        "predict_url": predict_url(stack, app["name"]),
        **{count: sum(row[count] for row in rows) for count in ("queries", "late", "defaults", "errors")},
        # quantiles of several frontends cannot be added up: those of the slowest are shown
        **{quantile: _largest(row[quantile] for row in rows) for quantile in ("p50_ms", "p99_ms")},
    }


def _version(version: Json, served: Served, stack: StackStatus) -> dict[str, Any]:
    rows = [row for report in served.reports for row in report["versions"] if row["uid"] == version["uid"]]
    frontends = sum(part.kind == "frontend" for part in stack.parts)
    current = {model["name"]: model["current_version"] for model in served.catalog["models"]}
    return {
        "model": version["name"],
        "version": version["version"],
        "input_type": version["input_type"],
        "current": current.get(version["name"]) == version["version"],
        "staged": version["staged"],
        "legacy": bool(version.get("legacy")),
        "replicas_wanted": _replicas_wanted(version, stack),
        "replicas_ready": ready_replicas(version["uid"], frontends, served.reports),
        "queued": sum(row["queued"] for row in rows),
        "relayed": sum(row["relayed"] for row in rows),
        "last_error": next((row["last_error"] for row in rows if row["last_error"]), None),
    }


def _wanted(served: Served, stack: StackStatus) -> list[WantedReplicas]:
    return [
        WantedReplicas(
            model=version["name"],
            version=version["version"],
            uid=version["uid"],
            count=_replicas_wanted(version, stack),
            is_legacy=bool(version.get("legacy")),
        )
        for version in served.catalog["versions"]
    ]


def _replicas_wanted(version: Json, stack: StackStatus) -> int:
    return sum(one.wanted for one in stack.versions if (one.name, one.version) == (version["name"], version["version"]))


def _warnings(found: Json) -> Iterable[str]:
    for part in found["parts"]:
        if part["state"] in {"waiting", "failed"}:
            what = "was given up after too many deaths" if part["state"] == "failed" else "died and is started again"
            yield f"{part['name']} {what}: {part['last_error'] or 'it logged nothing'}"
    if found["catalog"]["problem"]:
        yield f"apps and models cannot be shown, queries are not affected: {found['catalog']['problem']}"
    for frontend in found["frontends"]:
        if frontend["conflict"]:
            yield f"catalog conflict on {frontend['frontend']}: {frontend['conflict']}"
        elif frontend["revision"] != found["catalog"]["revision"]:
            behind = f"serves revision {frontend['revision']} of the catalog, which is at {found['catalog']['revision']}"
            yield f"{frontend['frontend']} {behind}"
    for app in found["apps"]:
        if app["slo_policy"] == "default":
            yield (
                f"{app['name']} has the policy `default`: past its SLO it answers {app['default_output']!r} as Clipper did, "
                "with status 200"
            )
    if not found["catalog"]["problem"]:
        for version in found["versions"]:
            yield from _replica_warnings(version, found["mesh"]["lacks"], len(found["frontends"]))
        yield from _frontend_warnings(found)


def _replica_warnings(version: Json, lacks: Sequence[Json], frontends: int) -> Iterable[str]:
    """A version that is short of replicas, or frontends that are: what all of them lack is the version's."""
    model = f"{version['model']}:{version['version']}"
    ours = [lack for lack in lacks if (lack["model"], lack["version"]) == (version["model"], version["version"])]
    if len(ours) == frontends and version["replicas_ready"] < version["replicas_wanted"]:
        yield f"{model}: {version['replicas_ready']} of {version['replicas_wanted']} replicas are ready"
        return
    for lack in ours:
        if version["replicas_ready"] >= version["replicas_wanted"] and lack["via_peers"]:
            continue  # more frontends than a replica has links: relaying is as it should be
        frontend, ready, wanted = lack["frontend"], lack["replicas_ready"], lack["replicas_wanted"]
        if ready:
            yield f"{frontend} has links to {ready} of {wanted} replicas of {model}"
        elif lack["via_peers"]:
            yield f"{frontend} has no link to a replica of {model}; it relays to other frontends"
        else:
            yield f"{frontend} has no link to a replica of {model}, nor knows a frontend that has one"


def _frontend_warnings(found: Json) -> Iterable[str]:
    running = {part["name"] for part in found["parts"] if part["state"] == "running"}
    for name in found["mesh"]["silent"]:
        if name in running:
            yield f"{name} runs and does not answer"
    for one in found["mesh"]["unlinked_peers"]:
        yield f"{one['frontend']} has no link to {one['peer']}"


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
