"""The metrics in Clipper's JSON, and who gets them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipper_nomad_frontend.accept_header import prefers_json
from clipper_nomad_frontend.answers import Outcome
from clipper_nomad_frontend.clipper_metrics import Rates, clipper_document, prediction_counts
from clipper_nomad_frontend.metrics import AppCounters, ProcessCounters, VersionCounters

PROMETHEUS_2 = "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


class Source:
    """One app and one version."""

    def __init__(self) -> None:
        self.app = AppCounters()
        self.version = VersionCounters()
        self.process_counters = ProcessCounters()

    def app_counters(self) -> Iterable[tuple[str, AppCounters]]:
        return [("a", self.app)]

    def version_counters(self) -> Iterator[tuple[str, str, VersionCounters, int, int]]:
        yield "m", "1", self.version, 0, 1

    def gauges(self) -> Iterable[tuple[str, str, float]]:
        return []


def leaves(document: object) -> Iterator[object]:
    match document:
        case dict():
            for value in document.values():
                yield from leaves(value)
        case list():
            for value in document:
                yield from leaves(value)
        case _:
            yield document


def test_every_leaf_is_a_text_and_before_the_first_query_too() -> None:
    document = clipper_document(Source(), Rates(), 0.0)

    assert list(document) == ["counters", "ratio_counters", "meters", "histograms"]
    assert all(isinstance(leaf, str) for leaf in leaves(document))
    assert document["ratio_counters"] == [
        {"model:m:1:cache_hit_ratio": {"ratio": "nan"}},
        {"internal:prediction_cache_hit_ratio": {"ratio": "nan"}},
        {"app:a:default_prediction_ratio": {"ratio": "nan"}},
    ]
    json.loads(json.dumps(document, allow_nan=False))


def test_what_happened_is_there_under_clipper_s_names() -> None:
    source = Source()
    source.app.outcomes[Outcome.ANSWERED] = 3
    source.app.outcomes[Outcome.DEFAULT] = 1
    for seconds in (0.001, 0.001, 0.003, 0.003):
        source.app.latency.observe(seconds)
    source.version.batch_size.observe(3)
    source.version.batch_exec.observe(0.002)

    document = clipper_document(source, Rates(), 0.0)

    assert document["counters"] == [
        {"app:a:num_predictions": {"count": "4"}},
        {"model:m:1:num_predictions": {"count": "3"}},
        {"internal:aggregate_num_predictions": {"count": "3"}},
        {"internal:prediction_cache_lookups": {"count": "0"}},
    ]
    assert document["ratio_counters"][2] == {"app:a:default_prediction_ratio": {"ratio": "0.25"}}
    assert [list(each) for each in document["meters"]] == [
        ["app:a:prediction_throughput"],
        ["model:m:1:prediction_throughput"],
        ["internal:aggregate_model_throughput"],
    ]
    by_name = {name: found for each in document["histograms"] for name, found in each.items()}
    assert list(by_name) == ["app:a:prediction_latency", "model:m:1:prediction_latency", "model:m:1:batch_size"]
    latency = by_name["app:a:prediction_latency"]
    assert list(latency) == ["unit", "size", "min", "max", "mean", "std_dev", "p50", "p95", "p99"]
    assert (latency["unit"], latency["size"], latency["mean"]) == ("microseconds", "4", "2000.0")
    assert (latency["min"], latency["max"], latency["p50"], latency["p99"]) == ("750.0", "3000.0", "1000.0", "3000.0")
    assert (by_name["model:m:1:batch_size"]["unit"], by_name["model:m:1:batch_size"]["mean"]) == ("queries", "3.0")


def test_the_cache_s_hits_count_among_lookups_and_a_query_that_joined_another_is_no_hit() -> None:
    source = Source()
    source.version.cache_hits, source.version.cache_misses, source.version.cache_joins = 6, 3, 1

    document = clipper_document(source, Rates(), 0.0)

    assert document["counters"][-1] == {"internal:prediction_cache_lookups": {"count": "10"}}
    assert document["ratio_counters"][:2] == [
        {"model:m:1:cache_hit_ratio": {"ratio": "0.6"}},
        {"internal:prediction_cache_hit_ratio": {"ratio": "0.6"}},
    ]


def test_sums_over_all_versions_do_not_fall_when_one_is_removed() -> None:
    source, gone = Source(), VersionCounters()
    gone.cache_hits, gone.cache_misses = 3, 1
    gone.batch_size.observe(7)
    source.version.cache_misses = 4

    source.process_counters.keep(gone)

    document = clipper_document(source, Rates(), 0.0)
    assert {"internal:prediction_cache_lookups": {"count": "8"}} in document["counters"]
    assert {"internal:aggregate_num_predictions": {"count": "7"}} in document["counters"]
    assert {"internal:prediction_cache_hit_ratio": {"ratio": "0.375"}} in document["ratio_counters"]


def test_rates_follow_what_happens_and_forget_it() -> None:
    rates = Rates()
    for second in range(601):
        rates.note({"app:a": 10.0 * second}, float(second))

    steady = {name: float(rate) for name, rate in rates.leaves("app:a", 6000.0, 600.0).items() if name != "unit"}
    for second in range(601, 901):
        rates.note({"app:a": 6000.0}, float(second))
    idle = {name: float(rate) for name, rate in rates.leaves("app:a", 6000.0, 900.0).items() if name != "unit"}

    assert steady["rate"] == pytest.approx(10.0)
    assert steady["rate_1min"] == pytest.approx(10.0, rel=0.01)
    assert 8 < steady["rate_5min"] < 10
    assert 4 < steady["rate_15min"] < steady["rate_5min"]
    assert idle["rate"] == pytest.approx(6000 / 900)
    assert idle["rate_1min"] < 0.1 < idle["rate_5min"] < idle["rate_15min"] < steady["rate_15min"]


def test_a_counter_that_is_not_noted_yet_and_one_that_is_gone_have_no_rate() -> None:
    rates = Rates()
    rates.note({"app:a": 5.0}, 0.0)
    rates.note({"app:a": 9.0}, 1.0)
    rates.note({"app:b": 0.0}, 2.0)

    assert rates.leaves("app:a", 9.0, 2.0)["rate_1min"] == "0.0"
    assert set(prediction_counts(Source())) == {"app:a", "model:m:1", "internal"}


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("", None),
        ("*/*", None),
        ("text/html,application/xhtml+xml,*/*;q=0.8", None),
        ("application/json", True),
        ("application/json, text/plain, */*", None),
        ("application/*", None),
        ("application/json;q=0.9,text/plain;q=0.1", True),
        ("APPLICATION/JSON", True),
        ("text/plain", False),
        ("text/*", False),
        ("text/plain;version=0.0.4", False),
        ("application/json;q=0.1,*/*", False),
        ("application/json;q=nonsense,text/plain;q=0.1", False),
        (PROMETHEUS_2, False),
        (PROMETHEUS_3, False),
    ],
)
def test_who_gets_json(accept: str, is_json: bool | None) -> None:  # noqa: FBT001  # what is expected; None: as usual there
    for usual in (True, False):
        assert prefers_json(accept, otherwise=usual) is (usual if is_json is None else is_json)


@given(accept=st.text(), usual=st.booleans())
def test_any_header_can_be_read(accept: str, *, usual: bool) -> None:
    assert prefers_json(accept, otherwise=usual) in (True, False)
