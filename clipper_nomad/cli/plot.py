"""Numbers → a few lines of unicode for a terminal. Pure. bench and demo show a load's result with it."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_NICE = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)  # where an axis may end


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the ordered values lie. Raises: IndexError: there are none."""
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1 if share > 0 else 0)]


def sparkline(values: Sequence[float]) -> str:
    """Return one character for each value, from nothing to the largest."""
    top = max(values, default=0.0)
    return "".join(_block(value / top if top else 0.0) for value in values)


def columns(values: Sequence[float], *, height: int) -> list[str]:
    """Return `height` lines in which each value is a column; what is above 0 always shows."""
    top = max(values, default=0.0)
    fills = [value / top * height if top else 0.0 for value in values]
    fills = [max(fill, 1 / 8) if fill > 0 else 0.0 for fill in fills]
    return ["".join(_block(fill - row) for fill in fills).rstrip() for row in reversed(range(height))]


def latency_plot(latencies_s: Sequence[float], *, width: int = 56, height: int = 5) -> list[str]:
    """Return a histogram of latencies over an axis in milliseconds. What lies beyond its end is counted in a note."""
    ordered = sorted(latencies_s)
    if not ordered:
        return []
    end_ms = _nice_end(quantile(ordered, 0.99) * 1000 * 1.1)
    edges = [end_ms * (index + 1) / width / 1000 for index in range(width)]
    places = [0, *(bisect_left(ordered, edge) for edge in edges)]
    counts = [after - before for before, after in pairwise(places)]
    beyond = len(ordered) - places[-1]
    axis = "└" + "".join("┴" if (index + 1) % (width // 4) == 0 else "─" for index in range(width))
    lines = ["│" + line for line in columns(counts, height=height)]
    lines += [axis, _axis_labels(end_ms, width)]
    if beyond:
        lines.append(f" {share_text(beyond / len(ordered))} took longer, the longest {time_text(ordered[-1])}")
    return lines


def time_text(seconds: float) -> str:
    """Return a length of time with three digits and its unit."""
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{_three_digits(seconds * factor)} {unit}"
    return f"{_three_digits(seconds)} s"


def share_text(share: float) -> str:
    """Return a share in percent, never rounded to nothing or to all."""
    percent = share * 100
    if 0 < percent < 0.1:
        return "under 0.1 %"
    if 99.9 < percent < 100:
        return "over 99.9 %"
    return f"{percent:.3g} %"


def _block(fill: float) -> str:
    return _EIGHTHS[max(0, min(8, round(fill * 8)))]


def _nice_end(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(max(value, 1e-6)))
    return next((step * power for step in _NICE if step * power >= value), 10 * power)


def _axis_labels(end_ms: float, width: int) -> str:
    labels = "0"
    for quarter in range(1, 5):
        label = f"{end_ms * quarter / 4:g}" + (" ms" if quarter == 4 else "")
        place = quarter * (width // 4) - len(f"{end_ms * quarter / 4:g}") // 2
        labels = labels.ljust(max(place, len(labels) + 1)) + label
    return labels


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
