"""Numbers drawn in a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipper_nomad.cli.load import LoadResult
from clipper_nomad.cli.load_report import failure_line, load_document, load_lines
from clipper_nomad.cli.plot import columns, latency_plot, quantile, share_text, sparkline, time_text


def test_a_sparkline_has_a_sign_for_each_value_and_the_largest_is_full() -> None:
    assert sparkline([0, 1, 2, 4]) == " ▂▄█"
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "  "


def test_columns_stack_blocks_and_never_hide_a_small_value() -> None:
    assert columns([1, 0, 100], height=2) == ["  █", "▁ █"]


def test_the_quantile_is_one_of_the_values() -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.99) == 4.0
    assert quantile([7.0], 0.5) == 7.0


@given(st.lists(st.floats(min_value=1e-6, max_value=100), min_size=1, max_size=200))
def test_a_latency_plot_fits_a_terminal_whatever_was_measured(latencies_s: list[float]) -> None:
    lines = latency_plot(latencies_s)

    assert max(map(len, lines)) <= 64  # load_report puts 12 columns in front, demo and bench two more
    assert lines[-1 if "took longer" not in lines[-1] else -2].endswith("ms")


def test_what_lies_beyond_the_end_of_the_plot_is_counted() -> None:
    lines = latency_plot([0.001] * 999 + [5.0])

    assert lines[-1] == " 0.1 % took longer, the longest 5.00 s"


def test_nothing_measured_draws_nothing() -> None:
    assert latency_plot([]) == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.00000123, "1.23 µs"), (0.000123, "123 µs"), (0.0123, "12.3 ms"), (0.999, "999 ms"), (2.5, "2.50 s")],
)
def test_a_time_is_told_with_three_digits_and_its_unit(seconds: float, said: str) -> None:
    assert time_text(seconds) == said


@pytest.mark.parametrize(
    ("share", "said"), [(0.0, "0 %"), (0.00001, "under 0.1 %"), (0.125, "12.5 %"), (0.99999, "over 99.9 %"), (1.0, "100 %")]
)
def test_a_share_is_never_rounded_to_nothing_or_all(share: float, said: str) -> None:
    assert share_text(share) == said


def measured(*, answered: int = 1000, failed: int = 0) -> LoadResult:
    result = LoadResult(connections=8, seconds=2.0, slices=[answered // 20] * 20)
    result.latencies_s.extend(index / 1e6 for index in range(answered))
    for number in range(failed):
        result.add_failure(f"failure {number}")
    return result


def test_a_load_is_told_in_lines_of_at_most_80_columns() -> None:
    lines = load_lines(measured())

    assert lines[0] == "throughput  500 answers a second over 8 connections, for 2 s"
    assert lines[2] == "latency     p50 499 µs · p90 899 µs · p99 989 µs"
    assert max(map(len, lines)) <= 76


def test_a_load_without_a_right_answer_says_so() -> None:
    assert load_lines(measured(answered=0)) == ["no right answer came in 2 s"]


def test_failures_are_counted_and_the_first_is_told() -> None:
    assert failure_line(measured()) is None
    assert failure_line(measured(answered=98, failed=2)) == (
        "2 queries (2 %) were not answered rightly; the first: failure 0"
    )


def test_the_document_of_a_load_has_every_key_even_when_nothing_was_answered() -> None:
    full, empty = load_document(measured()), load_document(measured(answered=0, failed=1))

    assert list(full) == list(empty)
    assert full["p50_ms"] == pytest.approx(0.499)
    assert empty["p50_ms"] is None
    assert empty["first_failure"] == "failure 0"
