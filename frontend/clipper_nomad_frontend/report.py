"""What this frontend says of itself: to admin's roll call, and on its internal address. Plain values, ready for JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from clipper_nomad_frontend.answers import Outcome
from clipper_nomad_frontend.cache import PredictionCache
from clipper_nomad_frontend.catalog import Catalog
from clipper_nomad_frontend.config import Settings
from clipper_nomad_frontend.dispatch import VersionDispatch
from clipper_nomad_frontend.legacy_router import LegacyRouter
from clipper_nomad_frontend.metrics import AppCounters
from clipper_nomad_frontend.serving import Serving


def frontend_report(
    settings: Settings,
    serving: Serving,
    catalog: Catalog,
    *,
    toolkit: str,
    http: str,
    is_draining: bool,
    peers: Sequence[Mapping[str, object]],
    legacy: LegacyRouter | None = None,
    key: str | None = None,
) -> dict[str, Any]:
    """Return identity, catalog, peers, replicas, versions and apps of this frontend."""
    served = catalog.served
    dispatches = list(serving.dispatches.values())
    return {
        "frontend": settings.frontend_id,
        "toolkit": toolkit,
        "pid": os.getpid(),
        "store_id": served.store_id if served else None,
        "revision": served.revision if served else -1,
        "conflict": catalog.conflict is not None,
        "conflict_cause": catalog.conflict,
        "draining": is_draining,
        "http": http,
        "internal": settings.advertised_internal or (str(settings.internal) if settings.internal else None),
        "rpc": serving.router.address if serving.router else settings.rpc,
        "curve_key": key,
        "legacy_rpc": legacy.address if legacy is not None else None,
        "peers": list(peers),
        "replicas": [row for dispatch in dispatches for row in _replicas(dispatch)]
        + [
            {"model": hello.model, "version": hello.version, "uid": hello.uid, "replica": hello.replica, "id": -1,
             "state": "waiting", "in_flight": 0, "answered": 0, "exec_ms_per_input": 0.0}
            for hello in (*serving.waiting_hellos(), *(legacy.peers.waiting_hellos() if legacy is not None else ()))
        ],
        "versions": [_version(dispatch) for dispatch in dispatches],
        "cache": _cache(serving.cache),
        "apps": [_app(name, counters) for name, counters in serving.app_counters()],
    }  # fmt: skip


def _replicas(dispatch: VersionDispatch) -> list[dict[str, Any]]:
    record = dispatch.record
    return [
        {
            "model": record.name,
            "version": record.version,
            "uid": record.uid,
            "replica": replica.name,
            "id": replica.id,
            "state": replica.state.value,
            "in_flight": sum(len(batch.queries) for batch in replica.in_flight.values()),
            "answered": replica.answered,
            "exec_ms_per_input": round(dispatch.limit.per_query_s * 1000, 4),
        }
        for replica in dispatch.replicas.all.values()
    ]


def _version(dispatch: VersionDispatch) -> dict[str, Any]:
    record = dispatch.record
    return {
        "model": record.name,
        "version": record.version,
        "uid": record.uid,
        "legacy": record.legacy,
        "queued": dispatch.queue.count,
        "ready": len(dispatch.replicas.ready),
        "via_peers": dispatch.relays.ready,
        "relayed": dispatch.counters.relayed,
        "last_error": dispatch.last_error,
        "batch_limit": dispatch.limit.limit,
        "cache_hits": dispatch.counters.cache_hits,
        "cache_lookups": dispatch.counters.cache_lookups,
    }


def _cache(cache: PredictionCache | None) -> dict[str, int] | None:
    if cache is None:
        return None
    return {"capacity": cache.capacity_bytes, "bytes": cache.bytes_held, "entries": cache.count, "evicted": cache.evicted}


def _app(name: str, counters: AppCounters) -> dict[str, Any]:
    outcomes = counters.outcomes
    return {
        "app": name,
        "queries": sum(outcomes),
        "late": outcomes[Outcome.LATE],
        "defaults": outcomes[Outcome.DEFAULT],
        "errors": outcomes[Outcome.ERROR],
        "p50_ms": _ms(counters.latency.quantile(0.5)),
        "p99_ms": _ms(counters.latency.quantile(0.99)),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
