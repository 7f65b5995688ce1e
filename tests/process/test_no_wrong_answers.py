"""The truth test, short: no answer is another query's or another version's, whatever is broken meanwhile.

benchmarks/truth.py is the same for a million queries and more; benchmarks/truth_judge.py says what is allowed.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import uvloop

from benchmarks import truth
from benchmarks.checked_answers import Verdict
from benchmarks.nemesis import Kind
from benchmarks.truth import History

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

QUERIES = 30_000
SECONDS = 20  # at most: a loaded machine gets to fewer queries
GAP_S = 0.25  # between acts of the nemesis: three times as often as in the benchmark
KILLS = 20


def run_truth(
    folder: Path, *, seed: int, queries: int, seconds: float, only: tuple[Kind, ...] = (), gap_s: float
) -> History:
    # Frontends are forked: with so little time, most of it would go by while one imports.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(
            truth.run(folder, queries=queries, seed=seed, seconds=seconds, mean_gap_s=gap_s, only=only, forked=True)
        )


def test_no_answer_is_wrong_or_missing_while_everything_breaks(tmp_path: Path) -> None:
    history = run_truth(tmp_path, seed=20, queries=QUERIES, seconds=SECONDS, gap_s=GAP_S)

    assert history.is_good, history.describe()
    assert history.acts.total() > 10, history.describe()
    assert history.tally.queries > QUERIES / 10, history.describe()
    assert history.calm_right > 0.7, history.describe()  # the rest is what can have no answer, and 429


def test_no_answer_is_wrong_when_a_frontend_is_killed_again_and_again_with_results_under_way(tmp_path: Path) -> None:
    """What the killed one asked for must never answer what its successor on the same port asks for."""
    history = run_truth(tmp_path, seed=1, queries=1_000_000, seconds=KILLS * 0.4, gap_s=0.4, only=(Kind.KILL_FRONTEND,))

    assert history.is_good, history.describe()
    assert history.acts[Kind.KILL_FRONTEND] > KILLS / 2, history.describe()
    assert history.tally.verdicts[Verdict.BROKEN] > KILLS, history.describe()  # results were under way
