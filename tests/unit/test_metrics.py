"""The counters, and the text that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from clipper_nomad.state.records import Snapshot
from clipper_nomad_frontend.answers import Outcome
from clipper_nomad_frontend.catalog import Catalog
from clipper_nomad_frontend.metrics import (
    LATENCY_BOUNDS_S,
    SIZE_BOUNDS,
    AppCounters,
    Exposition,
    Histogram,
    ProcessCounters,
    VersionCounters,
)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Source:
    """One app and one version."""

    def __init__(self, app: str = "digits", model: str = "m", version: str = "1") -> None:
        self.process_counters = ProcessCounters()
        self.app = AppCounters()
        self.version = VersionCounters()
        self.waiting, self.replicas = 0, 0
        self._names = app, model, version

    def app_counters(self) -> Iterable[tuple[str, AppCounters]]:
        return [(self._names[0], self.app)]

    def version_counters(self) -> Iterable[tuple[str, str, VersionCounters, int, int]]:
        return [(self._names[1], self._names[2], self.version, self.waiting, self.replicas)]

    def gauges(self) -> Iterable[tuple[str, str, float]]:
        return [("sessions", "Replicas connected.", 2.0)]


def scraped(source: Source) -> Samples:
    """What Prometheus reads."""
    families = text_string_to_metric_families(Exposition(source).text().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value for family in families for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


# ---- histograms


def test_a_value_counts_in_the_first_bucket_that_holds_it() -> None:
    histogram = Histogram((1.0, 2.0, 5.0))
    for observed in (0.5, 1.0, 1.5, 5.0, 7.0):
        histogram.observe(observed)

    assert histogram.cumulative() == [("1.0", 2.0), ("2.0", 3.0), ("5.0", 4.0), ("+Inf", 5.0)]
    assert histogram.sum == 15.0


def test_a_quantile_is_the_bound_of_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0, 5.0))
    assert histogram.quantile(0.5) is None
    for observed in (0.5, 0.5, 1.5, 9.0):
        histogram.observe(observed)

    assert [histogram.quantile(share) for share in (0.25, 0.5, 0.75, 0.99)] == [1.0, 1.0, 2.0, 5.0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1.0))
def test_a_quantile_is_never_below_what_was_seen_but_for_the_last_bound(seen: list[float], share: float) -> None:
    histogram = Histogram(LATENCY_BOUNDS_S)
    for observed in seen:
        histogram.observe(observed)
    true = sorted(seen)[max(0, -(-int(share * len(seen) * 1000) // 1000) - 1)]

    found = histogram.quantile(share)

    assert found is not None
    assert found >= min(true, LATENCY_BOUNDS_S[-1])


def test_the_bounds_rise() -> None:
    assert list(LATENCY_BOUNDS_S) == sorted(set(LATENCY_BOUNDS_S))
    assert list(SIZE_BOUNDS) == sorted(set(SIZE_BOUNDS))


# ---- exposition


def test_a_frontend_that_did_nothing_shows_zeros() -> None:
    samples = scraped(Source())

    for outcome in Outcome:
        assert value(samples, "clipper_queries_total", app="digits", outcome=outcome.name.lower()) == 0
    assert value(samples, "clipper_query_latency_seconds_count", app="digits") == 0
    assert value(samples, "clipper_sessions") == 2


def test_what_happened_to_queries_is_shown() -> None:
    source = Source()
    source.app.outcomes[Outcome.LATE] = 3
    source.app.latency.observe(0.004)
    source.app.latency.observe(99.0)

    samples = scraped(source)

    assert value(samples, "clipper_queries_total", app="digits", outcome="late") == 3
    assert value(samples, "clipper_query_latency_seconds_bucket", app="digits", le="0.003") == 0
    assert value(samples, "clipper_query_latency_seconds_bucket", app="digits", le="0.005") == 1
    assert value(samples, "clipper_query_latency_seconds_bucket", app="digits", le="+Inf") == 2
    assert value(samples, "clipper_query_latency_seconds_sum", app="digits") == pytest.approx(99.004)


def test_what_replicas_did_is_shown_by_version() -> None:
    source = Source()
    source.waiting, source.replicas = 7, 2
    source.version.batch_size.observe(64)
    source.version.errors, source.version.resent, source.version.lost = 1, 2, 3
    source.version.poisoned, source.version.refused = 4, 5

    samples = scraped(source)

    shown = {
        name: value(samples, f"clipper_{name}", model="m", version="1")
        for name in (
            "queued_queries", "ready_replicas", "batch_size_count", "batch_size_sum", "model_errors_total",
            "resent_queries_total", "lost_replicas_total", "poison_inputs_total", "refused_queries_total",
        )
    }  # fmt: skip
    assert list(shown.values()) == [7, 2, 1, 64, 1, 2, 3, 4, 5]


def test_what_concerns_the_process_is_shown() -> None:
    source = Source()
    source.process_counters.connections = 5
    source.process_counters.stray_results = 6

    samples = scraped(source)

    assert value(samples, "clipper_http_connections_total") == 5
    assert value(samples, "clipper_stray_results_total") == 6


def test_names_may_hold_what_the_format_uses_itself() -> None:
    source = Source(app='a"b\\c', model="m\n{}", version="1,2=3")

    samples = scraped(source)

    assert value(samples, "clipper_queries_total", app='a"b\\c', outcome="late") == 0
    assert value(samples, "clipper_queued_queries", model="m\n{}", version="1,2=3") == 0


def test_counters_never_go_back() -> None:
    source = Source()
    before = scraped(source)
    for counters in (source.process_counters, source.version):
        for name in counters.__slots__:
            if isinstance(getattr(counters, name), int):
                setattr(counters, name, getattr(counters, name) + 1)
    source.app.outcomes[Outcome.ERROR] += 1
    source.app.latency.observe(0.1)
    source.version.batch_exec.observe(0.1)
    source.version.batch_size.observe(3)

    after = scraped(source)

    counters_seen = [key for key in before if key[0].endswith(("_total", "_count", "_sum", "_bucket"))]
    assert all(after[key] >= before[key] for key in counters_seen)
    assert sum(after[key] > before[key] for key in counters_seen) > 15


def test_the_text_follows_the_numbers() -> None:
    source = Source()
    exposition = Exposition(source)
    exposition.text()

    source.process_counters.connections = 9

    assert b"clipper_http_connections_total 9.0" in exposition.text()


def test_a_catalog_of_another_store_shows_in_the_counters() -> None:
    counters = ProcessCounters()
    catalog = Catalog(None, lambda _: None, counters)
    catalog.accept(Snapshot(store_id="ours", revision=3))

    catalog.accept(Snapshot(store_id="another", revision=9))

    assert (counters.catalog_rejected, counters.catalog_conflict) == (1, 1)
    catalog.accept(Snapshot(store_id="ours", revision=4))
    assert (counters.catalog_rejected, counters.catalog_conflict) == (1, 0)
