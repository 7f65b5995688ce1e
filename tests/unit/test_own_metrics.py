"""`clipper_nomad.metrics`: Clipper's signature and errors."""

from __future__ import annotations

import inspect
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from prometheus_client import REGISTRY

from clipper_nomad import ClipperException, metrics

NUMBER = itertools.count()


@pytest.fixture
def name() -> str:
    """A name that no test had: the registry is the process's."""
    return f"own_metric_{next(NUMBER)}"


def test_the_calls_take_what_clippers_take() -> None:
    default = (5, 10, 20, 35, 50, 75, 100, 150, 200, 250, 300, 400, 500, float("inf"))
    adding, reporting = inspect.signature(metrics.add_metric), inspect.signature(metrics.report_metric)

    assert list(adding.parameters) == ["name", "metric_type", "description", "buckets"]
    assert tuple(adding.parameters["buckets"].default) == default
    assert list(reporting.parameters) == ["name", "val"]


def test_a_name_that_was_added_before_is_ignored(name: str) -> None:
    metrics.add_metric(name, "Gauge", "first")
    metrics.report_metric(name, 3)
    metrics.add_metric(name, "Counter", "second")

    metrics.report_metric(name, 2)

    assert REGISTRY.get_sample_value(name) == 2


def test_another_type_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(
        ClipperException, match="Metric type needs to be one of Gauge, Counter, Histogram, Summary"
    ) as caught:
        metrics.add_metric(name, "Meter", "no such type")

    assert repr(name) in str(caught.value)


def test_what_was_not_added_cannot_be_reported(name: str) -> None:
    with pytest.raises(ClipperException, match=f"{name} has not been added"):
        metrics.report_metric(name, 1)


@pytest.mark.parametrize("bad", ["not a name", "clipper-mc", ""])
def test_a_name_that_is_none_is_refused(bad: str) -> None:
    with pytest.raises(ClipperException, match="cannot be added"):
        metrics.add_metric(bad, "Counter", "no name")


def test_a_name_of_another_metric_of_the_process_is_refused() -> None:
    with pytest.raises(ClipperException, match="'python_info' cannot be added"):
        metrics.add_metric("python_info", "Gauge", "prometheus_client's own")


@pytest.mark.parametrize("buckets", [[], [2, 1], ["wide"]])
def test_buckets_that_are_none_are_refused_and_the_name_stays_free(name: str, buckets: list[float]) -> None:
    with pytest.raises(ClipperException, match="cannot be added"):
        metrics.add_metric(name, "Histogram", "odd", buckets)

    metrics.add_metric(name, "Histogram", "good", [1, 2])
    metrics.report_metric(name, 1.5)
    assert REGISTRY.get_sample_value(f"{name}_bucket", {"le": "2.0"}) == 1


@pytest.mark.parametrize(("kind", "value"), [("Gauge", "wide"), ("Gauge", None), ("Counter", -1)])
def test_a_value_that_a_metric_cannot_take_is_refused(name: str, kind: str, value: object) -> None:
    metrics.add_metric(name, kind, "strict")

    with pytest.raises(ClipperException, match=f"'{name}' cannot take"):
        metrics.report_metric(name, value)  # type: ignore[arg-type]  # what users do


def test_what_can_be_cast_to_a_float_is_taken(name: str) -> None:
    metrics.add_metric(name, "Gauge", "a text of a number")
    metrics.report_metric(name, "2.5")  # type: ignore[arg-type]  # Clipper takes it

    assert REGISTRY.get_sample_value(name) == 2.5


def test_an_array_of_one_number_is_taken_and_of_more_refused(name: str) -> None:
    """As Clipper's own example reports what predict_proba gives."""
    metrics.add_metric(name, "Histogram", "d", [0.5, 1.0])
    metrics.report_metric(name, np.array([0.75]))  # type: ignore[arg-type]  # what users do
    metrics.report_metric(name, np.float32(0.75))  # type: ignore[arg-type]

    assert REGISTRY.get_sample_value(f"{name}_sum") == 1.5
    with pytest.raises(ClipperException, match=f"'{name}' cannot take"):
        metrics.report_metric(name, np.array([0.5, 0.5]))  # type: ignore[arg-type]


def test_threads_that_add_the_same_metric_at_once_do_no_harm(name: str) -> None:
    def add_and_report(_: int) -> None:
        metrics.add_metric(name, "Counter", "by many")
        metrics.report_metric(name, 1)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(add_and_report, range(64)))

    assert REGISTRY.get_sample_value(f"{name}_total") == 64
