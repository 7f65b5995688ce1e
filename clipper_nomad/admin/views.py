"""What apps, models and replicas look like in replies: Clipper's shapes, and the whole catalog. Pure.

Replicas are what query frontends report; a replica that several frontends report is one. They are never stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from clipper_nomad.state.records import App, ModelVersion, Snapshot

Json = dict[str, Any]  # Any: JSON of a reply
WORKING_STATES = frozenset({"ready", "stalled", "draining"})  # a waiting replica is of no version in the catalog


def app_view(app: App) -> Json:
    """Return an app as Clipper shows it."""
    return {
        "input_type": app.input_type,
        "default_output": app.default_output,
        "latency_slo_micros": app.slo_micros,
        "name": app.name,
        "linked_models": list(app.linked_models),
    }


def model_view(catalog: Snapshot, version: ModelVersion) -> Json:
    """Return a model version as Clipper shows it."""
    return {
        "model_name": version.name,
        "model_version": version.version,
        "input_type": version.input_type,
        "labels": list(version.labels),
        "container_name": version.image,
        "model_data_path": "DEPRECATED",
        "is_current_version": catalog.current_version(version.name) == version,
    }


def replica_view(version: ModelVersion, replica_id: int) -> Json:
    """Return a replica as Clipper shows it."""
    return {
        "model_id": version.key,
        "model_name": version.name,
        "model_version": version.version,
        "model_replica_id": replica_id,
        "input_type": version.input_type,
    }


def registered_versions(catalog: Snapshot) -> list[ModelVersion]:
    """Return every version that is not staged, by name and version."""
    return sorted((v for v in catalog.versions.values() if not v.staged), key=lambda v: (v.name, v.version))


def replicas(catalog: Snapshot, reports: Iterable[Mapping[str, Any]]) -> list[Json]:
    """Return the replicas of all registered versions that any frontend reports, each once, with an id of its own.

    Each frontend numbers replicas by itself: a number that another frontend gave to another replica is not used again.
    """
    by_uid = {version.uid: version for version in registered_versions(catalog)}
    ids: dict[str, dict[str, int]] = {uid: {} for uid in by_uid}  # uid → replica's name → id
    for report in sorted(reports, key=lambda report: str(report.get("frontend"))):
        for replica in report.get("replicas", ()):
            named = ids.get(replica["uid"])
            if named is None or replica["state"] not in WORKING_STATES or replica["replica"] in named:
                continue
            taken = named.values()
            named[replica["replica"]] = replica["id"] if replica["id"] not in taken else max(taken) + 1
    return [replica_view(version, id_) for uid, version in by_uid.items() for id_ in sorted(ids[uid].values())]


def catalog_view(catalog: Snapshot) -> Json:
    """Return the whole catalog, staged versions too."""
    return {
        "store_id": catalog.store_id,
        "revision": catalog.revision,
        "apps": [asdict(app) for app in catalog.apps.values()],
        "models": [asdict(model) for model in catalog.models.values()],
        "versions": [asdict(version) for version in catalog.versions.values()],
    }
