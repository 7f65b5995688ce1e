"""Metrics of a user's own, reported by a predict function: Clipper's `add_metric` and `report_metric`.

They stand on the replica's /metrics beside ours. In a model's container this file is on the path; anywhere else, such as in
the notebook that a function is tried in, the calls do the same and nobody reads what they count.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence

from prometheus_client import Counter, Gauge, Histogram, Summary

from clipper_nomad.errors import ClipperException

DEFAULT_BUCKETS = (5, 10, 20, 35, 50, 75, 100, 150, 200, 250, 300, 400, 500, float("inf"))

_TYPES = ("Gauge", "Counter", "Histogram", "Summary")

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")  # what every version of Prometheus reads

_added: dict[str, Callable[[float], None]] = {}  # name → what takes a value
_adding = threading.Lock()


def add_metric(name: str, metric_type: str, description: str, buckets: Sequence[float] = DEFAULT_BUCKETS) -> None:
    """Add a metric. `metric_type`: "Gauge", "Counter", "Histogram" or "Summary"; `buckets`: a histogram's upper bounds.

    A name that was added before is ignored, so a predict function may add its metrics at each call.
    Raises: ClipperException: there is no such type, or the name or the buckets cannot be a metric's.
    """
    if metric_type not in _TYPES:
        raise ClipperException(f"Metric type needs to be one of {', '.join(_TYPES)}; metric {name!r} is a {metric_type!r}.")
    with _adding:
        if name in _added:
            return
        try:
            if not _NAME.match(name):
                raise ValueError("it is no name of a metric")  # noqa: TRY301  # one message for all that can be wrong
            _added[name] = _registered(name, metric_type, description, buckets)
        except (ValueError, TypeError) as exc:
            raise ClipperException(
                f"Metric {name!r} cannot be added: {exc}.",
                hint="A name is of letters, digits and '_', and new in this process; buckets are numbers that rise.",
            ) from exc


def report_metric(name: str, val: float) -> None:
    """Count `val`: a counter goes up by it, a gauge is set to it, a histogram and a summary observe it.

    `val` may be an array or a tensor of one number. Raises: ClipperException: the metric was not added, or `val` is no
    number that it can take.
    """
    report = _added.get(name)
    if report is None:
        raise ClipperException(f"{name} has not been added. Please use clipper_nomad.metrics.add_metric to add this metric.")
    try:
        # an array of one number, as of predict_proba, was cast by NumPy until 2.4
        report(float(val.item() if hasattr(val, "item") else val))
    except (ValueError, TypeError) as exc:
        raise ClipperException(f"Metric {name!r} cannot take {val!r}: {exc}.") from exc


def _registered(name: str, metric_type: str, description: str, buckets: Sequence[float]) -> Callable[[float], None]:
    if metric_type == "Counter":
        return Counter(name, description).inc
    if metric_type == "Gauge":
        return Gauge(name, description).set
    if metric_type == "Summary":
        return Summary(name, description).observe
    return Histogram(name, description, buckets=tuple(buckets)).observe
