"""Counters of the hot path, plain integers, and the Prometheus text made from them at scrape.

Nothing here locks or allocates per query: one increment and one bucket. The frontend is one thread, so plain integers
are exact.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from clipper_nomad_frontend.answers import Outcome

# seconds: from the quickest answer seen to the longest default timeout
LATENCY_BOUNDS_S = (
    0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075,
    0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
SIZE_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Histogram:
    """Counts per bucket, and a sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count `value`."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def quantile(self, share: float) -> float | None:
        """Return the upper bound of the bucket that holds this quantile, or None when nothing was counted."""
        total = sum(self.counts)
        if not total:
            return None
        wanted, seen = share * total, 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            seen += count
            if seen >= wanted:
                return bound
        return self.bounds[-1]

    def cumulative(self) -> list[tuple[str, float]]:
        """Return the buckets as Prometheus writes them."""
        rows, seen = [], 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            seen += count
            rows.append((bound, float(seen)))
        return rows


class AppCounters:
    """What happened to the queries of one app, by Outcome."""

    __slots__ = ("feedback_kept", "feedback_lost", "latency", "outcomes")

    def __init__(self) -> None:
        self.feedback_kept = 0
        self.feedback_lost = 0
        self.outcomes = [0] * len(Outcome)
        self.latency = Histogram(LATENCY_BOUNDS_S)


class VersionCounters:
    """What the replicas of one model version did."""

    __slots__ = (
        "batch_exec", "batch_size", "cache_hits", "cache_joins", "cache_misses", "errors", "lost", "passed", "poisoned",
        "refused", "relayed", "resent",
    )  # fmt: skip

    def __init__(self) -> None:
        self.batch_size = Histogram(SIZE_BOUNDS)
        self.batch_exec = Histogram(LATENCY_BOUNDS_S)
        self.errors = 0
        self.resent = 0
        self.lost = 0
        self.poisoned = 0
        self.refused = 0
        self.relayed = 0
        self.passed = 0
        self.cache_hits = 0
        self.cache_misses = 0
        self.cache_joins = 0

    @property
    def cache_lookups(self) -> int:
        """Queries that were looked up, however that ended."""
        return self.cache_hits + self.cache_misses + self.cache_joins


class ProcessCounters:
    """What concerns no app and no model, and what versions that are gone have counted."""

    __slots__ = (
        "cache_hits", "cache_lookups", "catalog_conflict", "catalog_rejected", "connections", "http_errors", "predictions",
        "protocol_errors", "stray_results",
    )  # fmt: skip

    def __init__(self) -> None:
        self.connections = 0
        self.http_errors = 0
        self.protocol_errors = 0
        self.stray_results = 0
        self.catalog_rejected = 0
        self.catalog_conflict = 0  # 1 while the store's catalog is not the one served
        self.cache_hits = 0
        self.cache_lookups = 0
        self.predictions = 0

    def keep(self, gone: VersionCounters) -> None:
        """Take over what a version has counted that is removed: sums over all versions must never fall."""
        self.cache_hits += gone.cache_hits
        self.cache_lookups += gone.cache_lookups
        self.predictions += int(gone.batch_size.sum)


class MetricsSource(Protocol):
    """Where the collector finds the numbers at scrape."""

    @property
    def process_counters(self) -> ProcessCounters:
        """The process's counters."""

    def app_counters(self) -> Iterable[tuple[str, AppCounters]]:
        """App name and counters."""

    def version_counters(self) -> Iterable[tuple[str, str, VersionCounters, int, int]]:
        """Model, version, counters, queries that wait, replicas that are ready."""

    def gauges(self) -> Iterable[tuple[str, str, float]]:
        """Name, help and value of whatever else is worth a gauge."""


class _Collector(Collector):
    def __init__(self, source: MetricsSource) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        queries = CounterMetricFamily("clipper_queries", "Queries by what became of them.", labels=["app", "outcome"])
        latency = HistogramMetricFamily("clipper_query_latency_seconds", "From request to reply.", labels=["app"])
        feedback = CounterMetricFamily(
            "clipper_feedback", "Feedback taken, and whether the store has it.", labels=["app", "kept"]
        )
        for app, counters in self._source.app_counters():
            feedback.add_metric([app, "yes"], counters.feedback_kept)
            feedback.add_metric([app, "no"], counters.feedback_lost)
            for outcome in Outcome:
                queries.add_metric([app, outcome.name.lower()], counters.outcomes[outcome])
            latency.add_metric([app], counters.latency.cumulative(), counters.latency.sum)
        yield queries
        yield latency
        yield feedback
        yield from self._versions()
        process = self._source.process_counters
        for name, text, value in (
            ("http_connections", "HTTP connections accepted.", process.connections),
            ("http_errors", "Requests that broke the HTTP rules.", process.http_errors),
            ("protocol_errors", "Messages on the model channel that are not of its protocol.", process.protocol_errors),
            ("stray_results", "Results and calls that fit nothing of their session, dropped.", process.stray_results),
            ("catalog_rejected", "Catalogs of another store or a lower revision, not taken.", process.catalog_rejected),
        ):
            yield CounterMetricFamily(f"clipper_{name}", text, value=value)
        yield GaugeMetricFamily(
            "clipper_catalog_conflict", "1 while the store's catalog is not the one served.", value=process.catalog_conflict
        )
        for name, text, gauge in self._source.gauges():
            yield GaugeMetricFamily(f"clipper_{name}", text, value=gauge)

    def _versions(self) -> Iterator[Metric]:
        labels = ["model", "version"]
        size = HistogramMetricFamily("clipper_batch_size", "Queries per batch.", labels=labels)
        seconds = HistogramMetricFamily("clipper_batch_seconds", "Execution time of a batch.", labels=labels)
        queued = GaugeMetricFamily("clipper_queued_queries", "Queries that wait for a replica.", labels=labels)
        ready = GaugeMetricFamily("clipper_ready_replicas", "Replicas that take work from here.", labels=labels)
        kinds = {
            "errors": CounterMetricFamily("clipper_model_errors", "Inputs without an output.", labels=labels),
            "resent": CounterMetricFamily("clipper_resent_queries", "Queries sent a second time.", labels=labels),
            "lost": CounterMetricFamily("clipper_lost_replicas", "Replicas lost with work in hand.", labels=labels),
            "poisoned": CounterMetricFamily("clipper_poison_inputs", "Inputs that ended replicas.", labels=labels),
            "relayed": CounterMetricFamily("clipper_relayed_queries", "Queries sent on to a peer frontend.", labels=labels),
            "cache_hits": CounterMetricFamily("clipper_cache_hits", "Queries answered from the cache.", labels=labels),
            "cache_misses": CounterMetricFamily("clipper_cache_misses", "Queries that were not there.", labels=labels),
            "cache_joins": CounterMetricFamily(
                "clipper_cache_joins", "Queries that waited for an identical one under way.", labels=labels
            ),
            "passed": CounterMetricFamily("clipper_passed_calls", "Calls for which nothing waited.", labels=labels),
            "refused": CounterMetricFamily("clipper_refused_queries", "Queries the queue had no room for.", labels=labels),
        }
        for model, version, counters, waiting, replicas in self._source.version_counters():
            names = [model, version]
            size.add_metric(names, counters.batch_size.cumulative(), counters.batch_size.sum)
            seconds.add_metric(names, counters.batch_exec.cumulative(), counters.batch_exec.sum)
            queued.add_metric(names, waiting)
            ready.add_metric(names, replicas)
            for name, family in kinds.items():
                family.add_metric(names, getattr(counters, name))
        yield from (size, seconds, queued, ready, *kinds.values())


class Exposition:
    """The Prometheus text of one process."""

    def __init__(self, source: MetricsSource) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(source))

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self._registry)
