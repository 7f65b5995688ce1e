"""The targets of issue 3, section Figures, held against the figures of one run. Pure.

figures.py prints the rows, report.py puts them in docs/performance.md. A row whose set was void is neither met nor
short.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.memory import BYTES_PER_MB
from benchmarks.results import Footprint, LoadSet, Results, Round, Spread

CPU_US = {256: 20.0, 32: 38.0, 1: 400.0}  # connections → at most, a query
FRESH_STARTS_RATIO = 1.2
ECHO_RATIO = {256: 0.65, 32: 0.40}
FASTAPI_RATIO = {256: 12.0, 32: 10.0}
P99_OVER_ECHO_MS = {256: 8.0, 32: 3.0}
P50_MS = {1: 0.40}
FRONTEND_MB = 90.0
GROWTH_MB = 2.0
GROWTH_QUERIES = 10_000_000
RUNTIME_MB = 15.0
IDLE_SHARE = 0.01
UP_S = 3.0


class Verdict(StrEnum):
    """What a row comes to."""

    MET = "met"
    SHORT = "short"
    VOID = "void"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Row:
    """One target and what was measured."""

    what: str
    target: str
    measured: str
    verdict: Verdict


def judge(results: Results) -> list[Row]:
    """Return one row for each target."""
    return [
        *(row for connections in (256, 32, 1) for row in _rows_of_set(results, connections)),
        *_rows_of_starts(results),
        *_rows_of_footprint(results),
        _row_of_up(results),
        *_rows_of_checks(results),
    ]


def _rows_of_set(results: Results, connections: int) -> Iterator[Row]:
    measured = results.set_at(connections)

    def row(what: str, target: str, limit: float, *, value: Callable[[Round], float], unit: str, at_most: bool) -> Row:
        what = f"{what}, {connections} connection{'s' if connections > 1 else ''}"
        if measured is None:
            return Row(what, target, "", Verdict.NOT_MEASURED)
        spread = measured.spread(value)
        is_met = spread.median <= limit if at_most else spread.median >= limit
        return Row(what, target, show(spread, unit), _verdict_of_set(measured, is_met=is_met))

    limit = CPU_US[connections]
    yield row(
        "CPU a query, all our processes",
        f"≤ {limit:.0f} µs",
        limit,
        value=lambda one: one.ours.cpu_us,
        unit="µs",
        at_most=True,
    )
    if connections in ECHO_RATIO:
        limit = ECHO_RATIO[connections]
        yield row("throughput over the echo's", f"≥ {limit:.2f}", limit, value=_ratio_to_echo, unit="", at_most=False)
    if connections in FASTAPI_RATIO:
        limit = FASTAPI_RATIO[connections]
        yield row("throughput over FastAPI's", f"≥ {limit:.0f} ×", limit, value=_ratio_to_fastapi, unit="×", at_most=False)
    if connections in P99_OVER_ECHO_MS:
        limit = P99_OVER_ECHO_MS[connections]
        yield row("p99 above the echo's", f"≤ {limit:.0f} ms", limit, value=_p99_over_echo, unit="ms", at_most=True)
    if connections in P50_MS:
        limit = P50_MS[connections]
        yield row("p50", f"≤ {limit:.2f} ms", limit, value=lambda one: one.ours.p50_ms, unit="ms", at_most=True)
    if measured is not None:
        failed = sum(one.ours.failed for one in measured.rounds)
        sent = sum(one.ours.requests for one in measured.rounds)
        what = f"queries refused or without answer, {connections} connection{'s' if connections > 1 else ''}"
        yield Row(what, "0", f"{failed:,} of {sent:,}", _met(is_met=failed == 0))


def _rows_of_starts(results: Results) -> Iterator[Row]:
    what, target = "CPU a query over fresh starts, highest over lowest", f"≤ {FRESH_STARTS_RATIO}"
    starts = results.fresh_starts
    if not starts:
        yield Row(what, target, "", Verdict.NOT_MEASURED)
        return
    spread = Spread.of(start.cpu_us for start in starts)
    text = f"{spread.ratio:.2f} ({len(starts)} starts, {show(spread, 'µs')})"
    is_void = any(start.is_void for start in starts)
    yield Row(what, target, text, Verdict.VOID if is_void else _met(is_met=spread.ratio <= FRESH_STARTS_RATIO))


def _rows_of_footprint(results: Results) -> Iterator[Row]:
    found = results.footprint
    memory = f"≤ {FRONTEND_MB:.0f} MB"
    growth = f"≤ {GROWTH_MB:.0f} MB over {GROWTH_QUERIES:,} queries"
    runtime = f"≤ {RUNTIME_MB:.0f} MB over an interpreter with the same imports"
    idle = f"≤ {IDLE_SHARE:.0%} of a core"
    names = ("frontend's memory, 256 connections", "its growth", "runtime's memory", "idle, everything together")
    if found is None:
        for what, target in zip(names, (memory, growth, runtime, idle), strict=True):
            yield Row(what, target, "", Verdict.NOT_MEASURED)
        return
    highest = max(point.resident_bytes for point in found.frontend) / BYTES_PER_MB
    yield Row(names[0], memory, f"{highest:.1f} MB", _met(is_met=highest <= FRONTEND_MB))
    yield _row_of_growth(names[1], growth, found)
    above = (found.runtime_bytes - found.interpreter_bytes) / BYTES_PER_MB
    above_bare = (found.runtime_bytes - found.bare_interpreter_bytes) / BYTES_PER_MB
    text = f"{above:.1f} MB (without sklearn.linear_model, which the model itself imports: {above_bare:.1f})"
    yield Row(names[2], runtime, text, _met(is_met=above <= RUNTIME_MB))
    share = found.idle_share_of_a_core
    yield Row(names[3], idle, f"{share:.2%} over {found.idle_s:.0f} s", _met(is_met=share <= IDLE_SHARE))


def _row_of_growth(what: str, target: str, found: Footprint) -> Row:
    first, last = found.frontend[0], found.frontend[-1]
    grown = (last.resident_bytes - first.resident_bytes) / BYTES_PER_MB
    text = f"{grown:+.1f} MB from query {first.queries:,} to {last.queries:,}"
    if last.queries < GROWTH_QUERIES:
        return Row(what, target, text, Verdict.NOT_MEASURED)
    return Row(what, target, text, _met(is_met=grown <= GROWTH_MB))


def _row_of_up(results: Results) -> Row:
    what, target = "`up --local` until the printed address answers", f"≤ {UP_S:.0f} s"
    if results.up_s is None:
        return Row(what, target, "", Verdict.NOT_MEASURED)
    return Row(what, target, f"{results.up_s:.2f} s", _met(is_met=results.up_s <= UP_S))


def _rows_of_checks(results: Results) -> Iterator[Row]:
    what, target = "answers that were wrong or missing in the checked run", "0"
    if not results.checked:
        yield Row(what, target, "", Verdict.NOT_MEASURED)
    for run in results.checked:
        not_right = run.queries - run.verdicts.get("right", 0)
        how = f"{run.connections} connections" + (f", pipelining 1–{run.max_pipeline}" if run.max_pipeline > 1 else "")
        text = f"{run.wrong} wrong, {run.unanswered} unanswered, {not_right} not right in all, of {run.queries:,}"
        yield Row(f"{what}, {how}", target, text, _met(is_met=not_right == 0 and run.wrong == 0))


def show(spread: Spread, unit: str) -> str:
    """Return `median [low–high] unit` with as many digits as mean something."""
    digits = 0 if spread.median >= 100 else 1 if spread.median >= 10 else 2
    return f"{spread.median:.{digits}f} [{spread.low:.{digits}f}–{spread.high:.{digits}f}] {unit}".rstrip()


def _ratio_to_echo(one: Round) -> float:
    return one.ours.per_s / one.echo.per_s


def _ratio_to_fastapi(one: Round) -> float:
    return one.ours.per_s / one.fastapi.per_s if one.fastapi is not None else 0.0


def _p99_over_echo(one: Round) -> float:
    return one.ours.p99_ms - one.echo.p99_ms


def _verdict_of_set(measured: LoadSet, *, is_met: bool) -> Verdict:
    return Verdict.VOID if measured.void_because is not None else _met(is_met=is_met)


def _met(*, is_met: bool) -> Verdict:
    return Verdict.MET if is_met else Verdict.SHORT
