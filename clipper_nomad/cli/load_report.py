"""What a load found, for people (lines with a plot) and for machines (a document). Pure. bench and demo show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clipper_nomad.cli.load import LoadResult
from clipper_nomad.cli.plot import latency_plot, quantile, share_text, sparkline, time_text

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def load_lines(result: LoadResult) -> Sequence[str]:
    """Return figures and plots, each a line of at most 80 columns."""
    if not result.answered:
        return [f"no right answer came in {result.seconds:g} s"]
    latencies = sorted(result.latencies_s)
    figures = " · ".join(f"{name} {time_text(quantile(latencies, share))}" for name, share in _QUANTILES.items())
    over = "1 connection" if result.connections == 1 else f"{result.connections} connections"
    return [
        f"throughput  {result.per_second:,.0f} answers a second over {over}, for {result.seconds:g} s",
        f"            {sparkline(result.slices)}",
        f"latency     {figures}",
        *(f"            {line}" for line in latency_plot(latencies)),
    ]


def failure_line(result: LoadResult) -> str | None:
    """Return how many queries were not answered rightly and why the first one was not, or None."""
    if not result.failed:
        return None
    share = result.failed / (result.failed + result.answered)
    return f"{result.failed:,} queries ({share_text(share)}) were not answered rightly; the first: {result.first_failure}"


def load_document(result: LoadResult) -> Mapping[str, Any]:
    """Return the figures for --json; times in milliseconds."""
    latencies = sorted(result.latencies_s)
    figures = {f"{name}_ms": round(quantile(latencies, share) * 1000, 4) for name, share in _QUANTILES.items() if latencies}
    return {
        "connections": result.connections,
        "seconds": result.seconds,
        "answered": result.answered,
        "per_second": round(result.per_second, 1),
        **dict.fromkeys(f"{name}_ms" for name in _QUANTILES),
        **figures,
        "failed": result.failed,
        "first_failure": result.first_failure,
    }
