"""Metrics that a predict function adds and reports, as Prometheus gets them from its replica."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.process.bundles import pack
from tests.process.replicas import Bench, first_number, texts
from tests.process.test_runtime_ends import scrape_unix
from tests.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def count_lengths(inputs: list[list[float]]) -> list[int]:
    """What a user writes: metrics are added at each call, and reported."""
    from clipper_nomad import metrics  # noqa: PLC0415  # as users do

    metrics.add_metric("own_inputs", "Counter", "Inputs that came")
    metrics.add_metric("own_last", "Gauge", "The last sum")
    metrics.add_metric("own_sums", "Histogram", "Sums of inputs", [1, 10])
    metrics.add_metric("own_default", "Histogram", "Sums in Clipper's buckets")
    metrics.add_metric("own_lengths", "Summary", "Lengths of inputs")
    for each in inputs:
        metrics.report_metric("own_inputs", 1)
        metrics.report_metric("own_last", sum(each))
        metrics.report_metric("own_sums", sum(each))
        metrics.report_metric("own_default", sum(each))
        metrics.report_metric("own_lengths", len(each))
    return [len(each) for each in inputs]


def answers_and_metrics(bench: Bench, function: Callable[..., object]) -> tuple[list[str], str]:
    """What a replica of `function` answered to two inputs, and its metrics then."""
    path = bench.folder / "metrics"
    pack(bench.bundle, function)
    with bench.frontend() as frontend, bench.replica(None, METRICS_ADDRESS=f"unix://{path}"):
        frontend.welcome()
        result = frontend.ask([[0.5, 0.25], [7.0, 2.0]])
        assert not result.errors, result.errors
        wait_until(lambda: first_number(scrape_unix(path), "clipper_mc_pred_total") == 1, "the batch is counted")
        return (texts(result) if result.lengths is not None else []), scrape_unix(path)


def test_metrics_of_a_users_own_stand_beside_ours_in_the_buckets_that_were_asked_for(bench: Bench) -> None:
    _, text = answers_and_metrics(bench, count_lengths)

    assert first_number(text, "own_inputs_total") == 2
    assert first_number(text, "own_last") == 9.0
    assert [line for line in text.splitlines() if line.startswith("own_sums_bucket")] == [
        'own_sums_bucket{le="1.0"} 1.0',
        'own_sums_bucket{le="10.0"} 2.0',
        'own_sums_bucket{le="+Inf"} 2.0',
    ]
    assert text.count("own_default_bucket") == 14  # 5 … 500, +Inf
    assert (first_number(text, "own_lengths_count"), first_number(text, "own_lengths_sum")) == (2, 4)
    assert "# HELP own_sums Sums of inputs" in text
    assert "clipper_mc_handle_time_ms_bucket" in text


def test_a_function_that_imports_clippers_own_names_gets_ours(bench: Bench) -> None:
    def predict(inputs: list[object]) -> list[str]:
        import clipper_admin.metrics  # type: ignore[import-not-found]  # noqa: PLC0415  # nowhere but in a replica
        from clipper_admin import ClipperException  # noqa: PLC0415  # the same

        clipper_admin.metrics.add_metric("custom_seen", "Counter", "Inputs that came")
        clipper_admin.metrics.report_metric("custom_seen", len(inputs))
        try:
            clipper_admin.metrics.report_metric("custom_unknown", 1)
        except ClipperException as exc:
            return [exc.msg] * len(inputs)
        return []

    said, text = answers_and_metrics(bench, predict)

    assert said[0].startswith("custom_unknown has not been added.")
    assert first_number(text, "custom_seen_total") == 2


def test_a_pickle_that_refers_to_clippers_functions_loads(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def add_metric(*_: object) -> None:
        """Clipper's, where the function was packed."""

    def report_metric(*_: object) -> None:
        """Clipper's, where the function was packed."""

    home = "clipper_admin.metrics.client"
    for name in ("clipper_admin", "clipper_admin.metrics", home):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for function in (add_metric, report_metric):
        function.__module__, function.__qualname__ = home, function.__name__
        setattr(sys.modules[home], function.__name__, function)

    def predict(inputs: list[object]) -> list[int]:
        add_metric("old_seen", "Gauge", "Inputs that came")
        report_metric("old_seen", len(inputs))
        return [1 for _ in inputs]

    _, text = answers_and_metrics(bench, predict)

    assert first_number(text, "old_seen") == 2


def test_where_clippers_package_is_installed_only_its_metrics_are_ours(bench: Bench) -> None:
    """Clipper's own would start a Redis server in the replica."""
    package = bench.bundle / "modules" / "clipper_admin"
    (package / "metrics").mkdir(parents=True)
    (package / "__init__.py").write_text("HOME = 'the installed one'\n")
    (package / "exceptions.py").write_text("ClipperException = 'the installed one'\n")
    (package / "metrics" / "__init__.py").write_text("raise SystemExit('it would start Redis')\n")

    def predict(inputs: list[object]) -> list[str]:
        import clipper_admin  # noqa: PLC0415  # in the bundle
        from clipper_admin import exceptions  # noqa: PLC0415  # the same
        from clipper_admin.metrics import add_metric  # noqa: PLC0415  # the runtime's

        return [f"{clipper_admin.HOME}, {exceptions.ClipperException}, {add_metric.__module__}"] * len(inputs)

    said, _ = answers_and_metrics(bench, predict)

    assert said[0] == "the installed one, the installed one, clipper_nomad.metrics"


def test_no_redis_and_no_second_process_is_needed(bench: Bench) -> None:
    def predict(inputs: list[object]) -> list[str]:
        import psutil  # noqa: PLC0415  # of the tests' environment

        count_lengths([[1.0]])
        of_redis = sorted(name for name in sys.modules if name.partition(".")[0] == "redis")
        return [json.dumps([len(psutil.Process().children()), of_redis])] * len(inputs)

    said, _ = answers_and_metrics(bench, predict)

    assert json.loads(said[0]) == [0, []]
