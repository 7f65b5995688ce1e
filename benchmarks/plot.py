"""The picture of docs/performance.md: throughput, CPU a query and latency of the servers. report.py calls it.

Bars are medians of a set, lines on them lowest to highest, short ticks the targets. The same results give the same
file.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.results import Results, Run, Spread
from benchmarks.targets import CPU_US

_SERVERS = {
    "ours": ("clipper-nomad", "#1f5a8a"),
    "echo": ("bare echo, no model", "#b9c2ca"),
    "bare": ("bare path: same model and sockets, no system", "#7f9c8a"),
    "fastapi": ("FastAPI", "#d59b4a"),
}
_INK = "#333333"


def draw(results: Results, path: Path) -> None:
    """Write the picture as SVG."""
    settings: dict[Any, Any] = {  # matplotlib's own type lists its 300 names
        "font.size": 9,
        "font.family": "sans-serif",
        "svg.fonttype": "none",  # text stays text: it can be searched, and the file is a third of the size
        "svg.hashsalt": "clipper-nomad",  # ids are random otherwise, and every run would change the whole file
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": "#999999",
        "xtick.color": _INK,
        "ytick.color": _INK,
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=(9.6, 3.4), layout="constrained")
        speed, cost, latency = figure.subplots(1, 3)
        _bars(speed, results, lambda run: run.per_s / 1000, title="Queries a second, thousands", digits=1)
        _bars(cost, results, lambda run: run.cpu_us, title="CPU a query, µs (log)", digits=0)
        cost.set_yscale("log")
        _mark_targets(cost, results)
        _bars(latency, results, lambda run: run.p99_ms, title="p99, ms (log)", digits=1)
        latency.set_yscale("log")
        handles, labels = cost.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _bars(axes: Axes, results: Results, value: Callable[[Run], float], *, title: str, digits: int) -> None:
    sets = sorted(results.sets, key=lambda one: one.connections)
    width = 0.8 / len(_SERVERS)
    for place, (server, (label, colour)) in enumerate(_SERVERS.items()):
        spreads = [
            (index, Spread.of(value(run) for run in runs)) for index, one in enumerate(sets) if (runs := one.runs_of(server))
        ]
        at = [index + (place - (len(_SERVERS) - 1) / 2) * width for index, _ in spreads]
        medians = [spread.median for _, spread in spreads]
        below = [spread.median - spread.low for _, spread in spreads]
        above = [spread.high - spread.median for _, spread in spreads]
        axes.bar(at, medians, width * 0.92, color=colour, label=label)
        axes.errorbar(at, medians, yerr=[below, above], fmt="none", ecolor=_INK, elinewidth=0.8, capsize=1.5)
        for x, (_, spread) in zip(at, spreads, strict=True):
            text = f"{spread.median:.{digits if spread.median < 100 else 0}f}"
            axes.annotate(text, (x, spread.high), (0, 2), textcoords="offset points", ha="center", fontsize=7)
    axes.set_xticks(range(len(sets)), [str(one.connections) for one in sets])
    axes.set_xlabel("connections")
    axes.set_title(title, fontsize=9, loc="left")
    axes.margins(y=0.12)
    axes.spines[["top", "right"]].set_visible(False)


def _mark_targets(axes: Axes, results: Results) -> None:
    sets = sorted(results.sets, key=lambda one: one.connections)
    for index, one in enumerate(sets):
        axes.hlines(
            CPU_US[one.connections],
            index - 0.42,
            index - 0.12,
            color="#c0392b",
            linewidth=1.4,
            zorder=3,
            label="target" if index == 0 else "_",  # an underscore keeps it out of the legend
        )
