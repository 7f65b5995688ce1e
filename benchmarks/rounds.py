"""Speed: ours, the echo, the bare path and FastAPI under the same load in turn (ABAB), and ours again in fresh starts.

figures.py calls `measure_set` for each number of connections and `measure_fresh_starts` once. The servers stay up
through a set, so that what changes on the machine changes for all; a round in which others took too much is measured
again.
"""

from collections.abc import Callable

from benchmarks.cpu import CpuWindow
from benchmarks.load import run_load, start_load
from benchmarks.results import FreshStart, LoadSet, Round, Run
from benchmarks.serving import Serving

FASTAPI_FROM = 32  # connections: below, nothing of the comparison is asked
FRESH_CONNECTIONS = 32  # where CPU a query spreads least by itself: 4 % over runs of one start

_WARM_UP_S = 1
_RETRIES = 2  # a set may have this many times the rounds asked for, before it is called void

Say = Callable[[str], None]


def measure_set(
    ours: Serving, echo: Serving, bare: Serving, fastapi: Serving, *, connections: int, rounds: int, seconds: int, say: Say
) -> LoadSet:
    """Measure `rounds` undisturbed rounds, or give up after `_RETRIES` times as many."""
    compared = fastapi if connections >= FASTAPI_FROM else None
    for server in filter(None, (ours, echo, bare, compared)):
        run_load(server.url, connections=connections, seconds=_WARM_UP_S)
    done: list[Round] = []
    undisturbed = 0
    while undisturbed < rounds and len(done) < rounds * _RETRIES:
        one = Round(
            ours=_measure_run(ours, connections=connections, seconds=seconds),
            echo=_measure_run(echo, connections=connections, seconds=seconds),
            bare=_measure_run(bare, connections=connections, seconds=seconds),
            fastapi=_measure_run(compared, connections=connections, seconds=seconds) if compared else None,
        )
        done.append(one)
        undisturbed += not one.is_void
        say(_describe(connections, one))
    measured = LoadSet(connections=connections, seconds=seconds, wanted=rounds, rounds=done)
    if measured.void_because is not None:
        say(f"{connections:>4} connections: VOID, {measured.void_because}")
    return measured


def measure_fresh_starts(start_ours: Callable[[], Serving], *, starts: int, seconds: int, say: Say) -> list[FreshStart]:
    """Start ours until `starts` undisturbed starts are measured, at most `_RETRIES` times as often.

    Returns the undisturbed ones; all, marked void, if there were too few.
    """
    found: list[FreshStart] = []
    while sum(not one.is_void for one in found) < starts and len(found) < starts * _RETRIES:
        ours = start_ours()
        try:
            run_load(ours.url, connections=FRESH_CONNECTIONS, seconds=_WARM_UP_S)
            run = _measure_run(ours, connections=FRESH_CONNECTIONS, seconds=seconds)
        finally:
            ours.stop()
        found.append(FreshStart(run.cpu_us, ours.started_in_s, run.is_void))
        void = f" (void: others {run.others_share:.0%})" if run.is_void else ""
        say(f"start {len(found)}: {run.cpu_us:.1f} µs a query, first answer after {ours.started_in_s:.2f} s{void}")
    undisturbed = [one for one in found if not one.is_void]
    return undisturbed if len(undisturbed) >= starts else found


def _measure_run(server: Serving, *, connections: int, seconds: int) -> Run:
    window = CpuWindow(server.pids().values())
    load = start_load(server.url, connections=connections, seconds=seconds)
    seen = load.wait()
    used = window.close(load_cpu_s=load.cpu_s)
    return Run(
        server=server.name,
        requests=seen.requests,
        failed=seen.failed,
        per_s=seen.per_s,
        p50_ms=seen.p50_ms,
        p90_ms=seen.p90_ms,
        p99_ms=seen.p99_ms,
        max_ms=seen.max_ms,
        cpu_us=used.ours_s / seen.requests * 1e6,
        others_share=used.others_share,
        is_void=used.is_void,
    )


def _describe(connections: int, one: Round) -> str:
    parts = [f"{connections:>4} connections:"]
    for run in one.runs:
        failed = f", {run.failed} FAILED" if run.failed else ""
        parts.append(
            f"{run.server} {run.per_s:,.0f}/s p50 {run.p50_ms:.2f} p99 {run.p99_ms:.2f} ms {run.cpu_us:.1f} µs{failed} ·"
        )
    parts.append(f"over echo {one.ours.per_s / one.echo.per_s:.2f}, over bare {one.ours.per_s / one.bare.per_s:.2f}")
    if one.is_void:
        parts.append(f"· void: others took up to {max(run.others_share for run in one.runs):.0%}")
    return " ".join(parts)
