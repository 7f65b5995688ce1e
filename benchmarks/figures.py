"""All figures by one command: `python -m benchmarks.figures`, about ten minutes; `--quick` for a try-out of two.

Ours, the echo, the bare path and FastAPI at 256, 32 and 1 connections; ours in fresh starts; memory, idle and start-up
of ours; and a second run at full load in which every answer is checked. Writes results/<date>.json,
docs/performance.md and its picture.

rounds.py, footprint.py, startup.py and checked_diabetes.py measure; targets.py judges; report.py writes the page.
"""

import argparse
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import footprint, ours, report, rounds, startup
from benchmarks.checked_diabetes import check_answers
from benchmarks.load import LoadError
from benchmarks.results import CheckedRun, Results, write_results
from benchmarks.serving import Serving, ServingError, start_bare, start_echo, start_fastapi
from benchmarks.targets import Verdict, judge

CONNECTIONS = (256, 32, 1)
RESULTS = Path(__file__).with_name("results")

_VOID_RULE = (
    "Void rule: a round in which other processes take over 10 % of the machine is measured again; a set without enough "
    "undisturbed rounds, or whose echo spreads by more than 1.5, says nothing and is marked void."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    seconds: int
    starts: int
    queries: int  # for the growth of memory
    part_s: int  # of the loads that these are sent in
    idle_s: float
    checked_s: float


FULL = Plan(rounds=5, seconds=5, starts=5, queries=10_000_000, part_s=15, idle_s=20, checked_s=10)
QUICK = Plan(rounds=1, seconds=2, starts=2, queries=100_000, part_s=2, idle_s=5, checked_s=2)


def measure(plan: Plan, *, start_ours: Callable[[], Serving]) -> Results:
    """Measure everything; a part that cannot be measured is left out with its reason, the others go on."""
    results = Results()

    def measure_sets() -> None:
        with ExitStack() as running:
            servers = []
            for start in (start_ours, start_echo, start_bare, start_fastapi):
                servers.append(start())
                running.callback(servers[-1].stop)
            mine, echo, bare, fastapi = servers
            for connections in CONNECTIONS:
                results.sets.append(
                    rounds.measure_set(
                        mine,
                        echo,
                        bare,
                        fastapi,
                        connections=connections,
                        rounds=plan.rounds,
                        seconds=plan.seconds,
                        say=_say,
                    )
                )
            for connections, max_pipeline in ((256, 1), (64, 8)):
                results.checked.append(_check(mine, plan, connections=connections, max_pipeline=max_pipeline))

    def measure_starts() -> None:
        results.fresh_starts = rounds.measure_fresh_starts(start_ours, starts=plan.starts, seconds=plan.seconds, say=_say)

    def measure_footprint() -> None:
        with ExitStack() as running:
            mine = start_ours()
            running.callback(mine.stop)
            results.footprint = footprint.measure_footprint(
                mine, queries=plan.queries, part_s=plan.part_s, idle_s=plan.idle_s, say=_say
            )

    def measure_up() -> None:
        results.up_s = startup.measure_up()
        _say(f"up: {results.up_s:.2f} s")

    for part, run in (
        ("sets", measure_sets),
        ("fresh starts", measure_starts),
        ("footprint", measure_footprint),
        ("up", measure_up),
    ):
        try:
            run()
        except Exception as exc:  # noqa: BLE001  # whatever it is, the minutes of the other parts are not thrown away
            results.missing[part] = str(exc) or repr(exc)
            _say(f"{part}: NOT MEASURED, {exc}")
            if not isinstance(exc, ServingError | LoadError):
                traceback.print_exc()
    return results


def _check(mine: Serving, plan: Plan, *, connections: int, max_pipeline: int) -> CheckedRun:
    tally = check_answers(mine.url, connections=connections, seconds=plan.checked_s, max_pipeline=max_pipeline)
    _say(tally.describe())
    return CheckedRun(
        connections=connections,
        max_pipeline=max_pipeline,
        queries=tally.queries,
        wrong=tally.wrong,
        unanswered=tally.unanswered,
        verdicts={str(verdict): count for verdict, count in tally.verdicts.items()},
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, write, print; exit 1 if a target was not met or not measured."""
    parser = argparse.ArgumentParser(description="Measure the figures of docs/performance.md.")
    parser.add_argument("--quick", action="store_true", help="one round of 2 s each; writes results/quick.json, no page")
    parser.add_argument("--rounds", type=int, help="rounds for each number of connections (5)")
    parser.add_argument("--seconds", type=int, help="seconds of each run (5)")
    parser.add_argument("--queries", type=int, help="queries over which memory may grow (10,000,000)")
    given = parser.parse_args()
    base = QUICK if given.quick else FULL
    plan = Plan(
        rounds=given.rounds or base.rounds,
        seconds=given.seconds or base.seconds,
        starts=base.starts,
        queries=given.queries or base.queries,
        part_s=base.part_s,
        idle_s=base.idle_s,
        checked_s=base.checked_s,
    )
    _say(_VOID_RULE)
    results = measure(plan, start_ours=ours.start_ours)
    path = RESULTS / ("quick.json" if given.quick else f"{datetime.now(UTC):%Y-%m-%d}.json")
    write_results(results, path)
    if not given.quick:
        report.write_page(results, source=path.name)
    rows = judge(results)
    print(report.render_text(rows))
    sys.exit(any(row.verdict is not Verdict.MET for row in rows))


if __name__ == "__main__":
    main()
