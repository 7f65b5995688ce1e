"""How much longer queries wait where four frontends share the replicas than with one: real processes, on this machine.

    python -m benchmarks.fairness   # 4 replicas, 50 ms a batch, 70 % load, two minutes: docs/scaling.md, "Fairness"

Each row is one run with one frontend, and one with four and every replica linked to all. The queries come at a steady rate,
each on the next free connection; every answer is checked. The same on simulated time: tests/unit/test_fairness.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cloudpickle
from numpy.typing import NDArray

from benchmarks.checked_answers import Answer, Query, Tally, Verdict
from benchmarks.checked_load import CheckingClient, Shape
from benchmarks.rig import Rig
from benchmarks.rig_plan import Plan, Served
from clipper_nomad.state.records import MICROS, App, ModelVersion

REPLICAS = 4
FRONTENDS = 4
BATCH_S = 0.05
LOAD = 0.7
CONNECTIONS = 256
WARM_S = 3.0
SLO_MICROS = 10 * MICROS


def model(inputs: NDArray[Any]) -> Sequence[float]:
    """Take BATCH_S for a batch of any size."""
    time.sleep(BATCH_S)
    return [float(row[0]) for row in inputs]


def query(number: int) -> Query:
    """Return the query of a number."""
    return Query(number, "/a/predict", json.dumps({"input": [number]}).encode())


def check(asked: Query, answer: Answer) -> Verdict:
    """Tell whether an answer is the number asked with."""
    if answer.status != 200:
        return Verdict.ERROR
    return Verdict.RIGHT if json.loads(answer.body)["output"] == asked.number else Verdict.WRONG


async def run(frontends: int, *, batch_size: int, seconds: float) -> Tally:
    """Load one set of processes, and return what came back after the first seconds."""
    record = ModelVersion(name="m", version="1", uid="uid-of-m-1", input_type="doubles", batch_size=batch_size,
                          replicas=REPLICAS)  # fmt: skip
    app = App(name="a", input_type="doubles", default_output="-1", slo_micros=SLO_MICROS, linked_models=("m",))
    served = [Served(record=record, function=model)]
    plan = Plan(apps=[app], served=served, current={"m": "1"}, frontends=frontends, proxy=None)
    rate = LOAD * REPLICAS * batch_size / BATCH_S
    with tempfile.TemporaryDirectory(prefix="cn-") as folder:
        async with Rig(Path(folder), plan) as rig:
            for lasting in (WARM_S, seconds):
                shape = Shape(connections=CONNECTIONS, pipelining_share=0.0, timeout_s=30.0)
                client = CheckingClient(rig.addresses, make_query=query, check=check, shape=shape)
                tally = await client.run_open(rate_per_s=rate, seconds=lasting)
    if tally.verdicts[Verdict.RIGHT] != tally.queries:
        raise SystemExit(tally.describe())
    return tally


def main() -> None:
    """Print a row for each size of batches."""
    parser = argparse.ArgumentParser(description="Compare four frontends with one.")
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    print(
        f"| queries a batch | one frontend: p50 / p99 ms | {FRONTENDS} | p99, times that of one |\n| --- | --- | --- | --- |"
    )
    for batch_size in (1, 8):
        one, four = (asyncio.run(run(count, batch_size=batch_size, seconds=seconds)) for count in (1, FRONTENDS))
        cells = [f"{1e3 * each.percentile_s(50):.0f} / {1e3 * each.percentile_s(99):.0f}" for each in (one, four)]
        ratio = four.percentile_s(99) / one.percentile_s(99)
        print(f"| {batch_size} | {cells[0]} | {cells[1]} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
