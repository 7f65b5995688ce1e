"""The truth test, short: no answer is another query's or another version's, whatever is broken meanwhile.

benchmarks/truth.py and session_attack.py are the same for as long as one likes; benchmarks/truth_judge.py says what is
allowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path

import pytest
import uvloop

from benchmarks import session_attack, truth, truth_queries
from benchmarks.acts import Kind
from benchmarks.checked_answers import Verdict
from benchmarks.truth_history import History

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

QUERIES = 30_000
SECONDS = 15.0  # at most: a loaded machine gets to fewer queries
GAP_S = 0.25  # between acts of the nemesis: three times as often as in the benchmark
MESH_SECONDS = 8.0
MESH_GAP_S = 0.5
KILLS = 20


def run(test: Coroutine[None, None, History]) -> History:
    """Run as the benchmark does: the client is to load the frontend fully."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(test)


def test_no_answer_is_wrong_or_missing_while_everything_breaks(tmp_path: Path) -> None:
    # Frontends are forked: with so little time, most of it would go by while one imports.
    plan = truth_queries.plan(seed=20, forked=True)
    history = run(truth.run(tmp_path, plan, queries=QUERIES, seconds=SECONDS, mean_gap_s=GAP_S))

    assert history.is_good, history.describe()
    assert history.acts.total() > 10, history.describe()
    assert history.tally.queries > QUERIES / 10, history.describe()
    assert history.calm_right > 0.5, history.describe()  # the rest is what can have no answer, and 429


def test_no_answer_of_a_mesh_is_wrong_or_missing_and_none_says_no_models_while_one_is_healthy(tmp_path: Path) -> None:
    # A cache so small that entries come and go; one query in eight repeats another.
    plan = truth_queries.plan(frontends=3, replicas=3, seed=22, forked=True, cache_bytes=256 * 1024)
    history = run(
        # That all are linked everywhere takes long when they have spent their dials: it is enough that all can answer.
        truth.run(tmp_path, plan, queries=QUERIES, seconds=MESH_SECONDS, mean_gap_s=MESH_GAP_S, everywhere=False)
    )

    assert history.is_good, history.describe()
    assert history.acts.total() > 5, history.describe()
    assert history.tally.queries > QUERIES / 20, history.describe()
    assert history.calm_right > 0.5, history.describe()


def test_results_of_a_killed_frontend_never_answer_what_its_successor_asks(tmp_path: Path) -> None:
    history = run(session_attack.run(tmp_path, kills=KILLS, seed=1, seconds=SECONDS))

    assert history.is_good, history.describe()
    assert history.acts[Kind.KILL_FRONTEND] > KILLS / 2, history.describe()
    assert history.tally.verdicts[Verdict.BROKEN] > KILLS, history.describe()  # results were under way,
    assert history.relayed["replayed"] > KILLS, history.describe()  # and came to the successor, where they fit
