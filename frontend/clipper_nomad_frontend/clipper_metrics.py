"""The frontend's metrics in Clipper's JSON: category → list of {name: leaves}, and every leaf a text. Pure.

Names and units are Clipper's: app:<app>:num_predictions, model:<model>:<version>:prediction_latency, … Histograms are
counted in buckets here, so min, max and quantiles are bounds of buckets; the mean is exact. All since the process started.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

from clipper_nomad_frontend.answers import Outcome
from clipper_nomad_frontend.metrics import Histogram, MetricsSource

MINUTES = (1, 5, 15)
AGGREGATE = "internal"  # of all versions, those too that are gone
_COUNTERS = {AGGREGATE: "internal:aggregate_num_predictions"}
_METERS = {AGGREGATE: "internal:aggregate_model_throughput"}
Leaves = dict[str, str]
Document = dict[str, list[dict[str, Leaves]]]


class Rates:
    """How quickly counters grow: over all the time, and averaged over the last 1, 5 and 15 minutes."""

    def __init__(self) -> None:
        self._meters: dict[str, _Meter] = {}

    def note(self, counts: Mapping[str, float], now: float) -> None:
        """Take the counters' values at `now`. To be called every few seconds; a counter that is gone is forgotten."""
        self._meters = {name: self._meters.get(name) or _Meter(now) for name in counts}
        for name, count in counts.items():
            self._meters[name].note(count, now)

    def leaves(self, name: str, count: float, now: float) -> Leaves:
        """Return the rates of a counter, per second."""
        meter = self._meters.get(name)
        if meter is None:  # it appeared since the last note
            return {"unit": "events per second", "rate": "0.0"} | {f"rate_{minutes}min": "0.0" for minutes in MINUTES}
        averages = {f"rate_{minutes}min": _text(rate) for minutes, rate in zip(MINUTES, meter.rates, strict=True)}
        since = now - meter.began
        return {"unit": "events per second", "rate": _text(count / since if since > 0 else 0.0)} | averages


class _Meter:
    __slots__ = ("began", "count", "noted_at", "rates")

    def __init__(self, now: float) -> None:
        self.began = self.noted_at = now
        self.count = 0.0
        self.rates = [0.0] * len(MINUTES)

    def note(self, count: float, now: float) -> None:
        passed = now - self.noted_at
        if passed <= 0:
            self.count = count
            return
        rate = (count - self.count) / passed
        for index, minutes in enumerate(MINUTES):
            self.rates[index] += (1 - math.exp(-passed / (60 * minutes))) * (rate - self.rates[index])
        self.count, self.noted_at = count, now


def prediction_counts(source: MetricsSource) -> dict[str, float]:
    """Return how many predictions each app and each model version made, and all together, by Clipper's names."""
    apps = {f"app:{app}": float(sum(counters.outcomes)) for app, counters in source.app_counters()}
    versions = list(source.version_counters())
    models = {f"model:{model}:{version}": counters.batch_size.sum for model, version, counters, _, _ in versions}
    total = source.process_counters.predictions + sum(models.values())
    return apps | models | {AGGREGATE: float(total)}


def clipper_document(source: MetricsSource, rates: Rates, now: float) -> Document:
    """Return the metrics as Clipper's GET /metrics does."""
    counts = prediction_counts(source)
    process = source.process_counters
    hits, lookups = process.cache_hits, process.cache_lookups  # of versions that are gone
    ratios: dict[str, float] = {}
    for model, version, of_version, _, _ in source.version_counters():
        hits += of_version.cache_hits
        lookups += of_version.cache_lookups
        ratios[f"model:{model}:{version}:cache_hit_ratio"] = _ratio(of_version.cache_hits, of_version.cache_lookups)
    ratios["internal:prediction_cache_hit_ratio"] = _ratio(hits, lookups)
    for app, counters in source.app_counters():
        ratios[f"app:{app}:default_prediction_ratio"] = _ratio(counters.outcomes[Outcome.DEFAULT], sum(counters.outcomes))
    totals = {_COUNTERS.get(name, f"{name}:num_predictions"): int(count) for name, count in counts.items()}
    totals["internal:prediction_cache_lookups"] = lookups
    return {
        "counters": [{name: {"count": str(count)}} for name, count in totals.items()],
        "ratio_counters": [{name: {"ratio": _text(ratio)}} for name, ratio in ratios.items()],
        "meters": [
            {_METERS.get(name, f"{name}:prediction_throughput"): rates.leaves(name, count, now)}
            for name, count in counts.items()
        ],
        "histograms": [{name: leaves} for name, leaves in _histograms(source)],
    }


def _histograms(source: MetricsSource) -> Iterator[tuple[str, Leaves]]:
    for app, of_app in source.app_counters():
        yield f"app:{app}:prediction_latency", _summary(of_app.latency, "microseconds", 1e6)
    for model, version, of_version, _, _ in source.version_counters():
        yield f"model:{model}:{version}:prediction_latency", _summary(of_version.batch_exec, "microseconds", 1e6)
        yield f"model:{model}:{version}:batch_size", _summary(of_version.batch_size, "queries", 1)


def _summary(histogram: Histogram, unit: str, scale: float) -> Leaves:
    size = sum(histogram.counts)
    bounds = [0.0, *histogram.bounds, histogram.bounds[-1]]  # what lies above the last bound counts as the last bound
    filled = [index for index, count in enumerate(histogram.counts) if count]
    mean = histogram.sum / size if size else 0.0
    middles = [(low + high) / 2 for low, high in itertools.pairwise(bounds)]
    spread = sum(count * (middle - mean) ** 2 for count, middle in zip(histogram.counts, middles, strict=True))
    values = {
        "min": bounds[filled[0]] if filled else 0.0,
        "max": bounds[filled[-1] + 1] if filled else 0.0,
        "mean": mean,
        "std_dev": math.sqrt(spread / size) if size else 0.0,
        **{f"p{share}": histogram.quantile(share / 100) or 0.0 for share in (50, 95, 99)},
    }
    return {"unit": unit, "size": str(size)} | {name: _text(value * scale) for name, value in values.items()}


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _text(value: float) -> str:
    return str(round(value, 6))
