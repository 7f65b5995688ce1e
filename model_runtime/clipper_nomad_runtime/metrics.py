"""Counters of this replica: plain numbers, because the loop raises them at every batch. exporter.py shows them.

The names and buckets are Clipper's, so that its dashboards go on working; the times are in milliseconds as theirs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

_LONG_MS = (5.0, 10.0, 20.0, 35.0, 50.0, 75.0, 100.0, 150.0, 200.0, 250.0, 300.0, 400.0, 500.0)
_SHORT_MS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Histogram:
    """How often a time fell into each bucket; the last bucket has no bound."""

    __slots__ = ("bounds_ms", "counts", "sum_ms")

    def __init__(self, bounds_ms: tuple[float, ...]) -> None:
        self.bounds_ms = bounds_ms
        self.counts = [0] * (len(bounds_ms) + 1)
        self.sum_ms = 0.0

    def observe(self, seconds: float) -> None:
        """Count one time."""
        ms = seconds * 1000
        self.counts[bisect_left(self.bounds_ms, ms)] += 1
        self.sum_ms += ms


class Metrics:
    """What this replica did since it started."""

    def __init__(self) -> None:
        self.batches = 0
        self.inputs = 0
        self.errors: Counter[str] = Counter()  # kind → inputs without an output
        self.dropped: Counter[str] = Counter()  # reason → messages and batches that were thrown away
        self.dials: Counter[str] = Counter()  # way → connections that were begun
        self.links_open = 0
        self.links_wanted = 0
        self.links_by_proxy = 0  # frontends that cannot be dialled at their own address
        self.recv = Histogram(_SHORT_MS)
        self.parse = Histogram(_SHORT_MS)
        self.handle = Histogram(_LONG_MS)
        self.end_to_end = Histogram(_LONG_MS)

    def record(self, *, inputs: int, recv_s: float, parse_s: float, handle_s: float, end_to_end_s: float) -> None:
        """Count one answered batch. `handle_s`: the function and its outputs; `end_to_end_s`: with the wait here."""
        self.batches += 1
        self.inputs += inputs
        self.recv.observe(recv_s)
        self.parse.observe(parse_s)
        self.handle.observe(handle_s)
        self.end_to_end.observe(end_to_end_s)

    def set_links(self, is_open: int, wanted: int, by_proxy: int) -> None:
        """Note how many frontends may send work, are wanted, and cannot be dialled at their own address."""
        self.links_open, self.links_wanted, self.links_by_proxy = is_open, wanted, by_proxy
