"""The mesh at a size that no test machine has: the real policy of frontends and replicas, on simulated time.

    python -m benchmarks.mesh_simulation          # 100 frontends, 10,000 replicas: results/mesh-<date>.json, docs/scaling.md
    python -m benchmarks.mesh_simulation --quick  # 20 frontends, 1,000 replicas: prints only

What is real and what is not: docs/scaling.md, "What is simulated". One seed is one run, but for the figures of CPU time.
"""

from __future__ import annotations

import argparse
import gc
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks import mesh_simulation_costs as costs
from benchmarks import mesh_simulation_scenarios as scenarios
from benchmarks.mesh_simulation_cluster import Cluster, Shape
from benchmarks.mesh_simulation_frontend import simulated
from benchmarks.mesh_simulation_scenarios import Cell, Table
from clipper_nomad_frontend.roster import FORGOTTEN_AFTER_S

BEGIN = "<!-- figures: made by benchmarks/mesh_simulation.py from here -->"
END = "<!-- figures: to here -->"
LIGHT = 0.02  # of what all replicas can do: while frontends are killed, so that no failure is for want of replicas
PROXIED = 100  # replicas: each looks for its frontends by itself, so that more of them only take longer to simulate

_RESULTS = Path(__file__).with_name("results")
_PAGE = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"


@dataclass(slots=True, kw_only=True)
class Results:
    """Everything one run found."""

    started_at: str
    frontends: int
    replicas: int
    seed: int
    took_s: float = 0.0
    tables: list[Table] = field(default_factory=list)


def run(shape: Shape) -> Iterator[Table]:
    """Yield the table of each scenario as it is ready."""
    yield costs.memory(shape)  # first: it looks at the memory of this process
    yield costs.messages(shape)
    cluster = Cluster(shape)
    with simulated(cluster.loop):
        yield scenarios.cover(cluster)
        yield scenarios.rest(cluster)
        for utilisation in (0.35, 0.7):
            yield scenarios.load(cluster, utilisation=utilisation, seconds=6.0)
        yield scenarios.lose(cluster, cluster.live[:1], utilisation=LIGHT, watch_s=10.0)
        yield scenarios.lose(
            cluster, cluster.live[: shape.frontends // 2], utilisation=LIGHT, watch_s=FORGOTTEN_AFTER_S + 10.0
        )
        yield scenarios.empty_store(cluster, utilisation=LIGHT)
    sample = Shape(
        frontends=shape.frontends, replicas=min(PROXIED, shape.replicas), sizes=1, models_of_a_size=1, seed=shape.seed
    )
    yield scenarios.proxy(sample, sorted({4, 10, 20, 50, shape.frontends}), at_most_s=900.0)
    yield scenarios.few_frontends(Shape(frontends=2, replicas=shape.replicas, seed=shape.seed))


def render(table: Table) -> str:
    """Return a table as Markdown."""
    rows = [table.head, ["---"] * len(table.head), *([show(cell) for cell in row] for row in table.rows)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n\n".join([f"### {table.title}", "\n".join(lines), *table.notes])


def show(cell: Cell) -> str:
    """Return a figure with as many digits as say something."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        digits = 2 if abs(cell) < 10 else 1 if abs(cell) < 100 else 0
        return f"{cell:,.{digits}f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def write_page(results: Results, source: str) -> None:
    """Replace what stands between the markers of docs/scaling.md."""
    text = _PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    where = (
        f"{results.frontends} frontends, {results.replicas:,} replicas, {results.started_at[:10]}, seed {results.seed}; the "
        f"run took {results.took_s:.0f} s. All numbers: [{source}](../benchmarks/results/{source})."
    )
    made = "\n\n".join([where, *map(render, results.tables)])
    _PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Run every scenario, print the tables, and write them down unless it was a quick run."""
    parser = argparse.ArgumentParser(description="Simulate the mesh of frontends and replicas.")
    parser.add_argument("--quick", action="store_true", help="20 frontends, 1,000 replicas; nothing is written")
    parser.add_argument("--frontends", type=int, default=100)
    parser.add_argument("--replicas", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)  # links come and go by the thousand; that is the point
    shape = Shape(frontends=given.frontends, replicas=given.replicas, seed=given.seed)
    if given.quick:
        shape = Shape(frontends=20, replicas=1000, seed=given.seed, sizes=7, models_of_a_size=2)
    gc.disable()  # millions of objects that stay: looking through them again and again would take most of the time
    begun = time.perf_counter()
    results = Results(
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        frontends=shape.frontends,
        replicas=shape.replicas,
        seed=shape.seed,
    )
    for table in run(shape):
        results.tables.append(table)
        print(f"{render(table)}\n\n({time.perf_counter() - begun:.0f} s)\n", flush=True)
    results.took_s = time.perf_counter() - begun
    if not given.quick:
        path = _RESULTS / f"mesh-{results.started_at[:10]}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
        write_page(results, path.name)


if __name__ == "__main__":
    main()
