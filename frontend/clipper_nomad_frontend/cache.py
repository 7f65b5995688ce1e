"""Outputs of queries that were answered before, in a bounded number of bytes. Pure: no clock, no I/O.

One PredictionCache for each frontend; in it a Shelf for each model version, found by the version's uid and gone with it.
Inputs are compared byte by byte, not by a hash alone. The input type is the version's, and the shape follows from the
bytes, so the bytes are the whole key. flights.py asks before a query is queued, and puts true outputs in.

What goes first: SIEVE (Zhang et al., NSDI 2024). Entries stand in the order in which they came, a hit only sets a mark,
and a hand that goes from old to new takes away what has no mark and wipes marks off on its way.
Source: docs/decisions/0017-prediction-cache.md
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

# What an entry takes besides the bytes of input and output: their two headers, the entry, its place in a dict that may have
# just grown, what the allocator rounds up. Measured: 175 to 200 and the rounding; test_cache.py measures it again.
ENTRY_BYTES = 256


class _Entry:
    """An input and its output, as JSON text. `newer` and `older` lead to its neighbours of all versions."""

    __slots__ = ("among", "data", "is_marked", "newer", "older", "output")

    newer: _Entry
    older: _Entry

    def __init__(self, among: dict[bytes, _Entry], data: bytes, output: bytes) -> None:
        self.among = among  # the entries of its version, itself too
        self.data = data
        self.output = output
        self.is_marked = False


class PredictionCache:
    """All entries of one frontend. `bytes_held` never exceeds `capacity_bytes`; keys and overhead are counted."""

    __slots__ = ("_closed", "_end", "_hand", "bytes_held", "capacity_bytes", "count", "evicted")

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.bytes_held = 0
        self.count = 0
        self.evicted = 0
        self._end = _Entry({}, b"", b"")  # between the newest and the oldest; its own neighbour while there are none
        self._end.newer = self._end.older = self._end
        self._hand = self._end  # the entry that is looked at next; at the end: the oldest
        self._closed: deque[dict[bytes, _Entry]] = deque()  # entries that nobody can find any more

    def shelf(self) -> Shelf:
        """Return a place for the entries of one model version."""
        return Shelf(self)

    def gauges(self) -> Iterator[tuple[str, str, float]]:
        """Name, help and value of what a scrape shows."""
        yield "cache_bytes", "Bytes that the prediction cache takes.", float(self.bytes_held)
        yield "cache_capacity_bytes", "The most that it may take.", float(self.capacity_bytes)
        yield "cache_entries", "Outputs that it holds.", float(self.count)
        yield "cache_evicted_entries", "Outputs that it has given up for others.", float(self.evicted)

    def add(self, among: dict[bytes, _Entry], data: bytes, output: bytes) -> None:
        """Add an entry, the newest, unless it is larger than the whole cache. What makes room for it is gone."""
        size = len(data) + len(output) + ENTRY_BYTES
        if size > self.capacity_bytes:
            return
        while self.bytes_held + size > self.capacity_bytes:
            self._evict()
        entry = among[data] = _Entry(among, data, output)
        end = self._end
        entry.newer, entry.older = end, end.older
        end.older.newer = entry
        end.older = entry
        self.bytes_held += size
        self.count += 1

    def _unlink(self, entry: _Entry) -> None:
        if self._hand is entry:
            self._hand = entry.newer
        entry.older.newer = entry.newer
        entry.newer.older = entry.older
        self.bytes_held -= len(entry.data) + len(entry.output) + ENTRY_BYTES
        self.count -= 1
        del entry.newer, entry.older  # neighbours that are gone too must not keep one another

    def close(self, entries: dict[bytes, _Entry]) -> None:
        """Take over the entries of a version that is gone, for `sweep`."""
        self._closed.append(entries)

    def sweep(self, most: int) -> bool:
        """Take away up to `most` entries of versions that are gone; return whether there are more of them."""
        while self._closed and most:
            if not self._closed[0]:
                self._closed.popleft()
                continue
            self._unlink(self._closed[0].popitem()[1])
            most -= 1
        return bool(self._closed)

    def _evict(self) -> None:
        """Take away the next entry without a mark. There is one entry at least."""
        end = self._end
        entry = self._hand if self._hand is not end else end.newer
        while entry.is_marked:
            entry.is_marked = False
            entry = entry.newer if entry.newer is not end else end.newer
        self._hand = entry
        self._unlink(entry)
        del entry.among[entry.data]
        if not entry.among:
            entry.among.clear()  # or it keeps the table that it had when it was full
        self.evicted += 1


class Shelf:
    """The entries of one model version, by the bytes of the input."""

    __slots__ = ("_cache", "_entries", "is_closed")

    def __init__(self, cache: PredictionCache) -> None:
        self._cache = cache
        self._entries: dict[bytes, _Entry] = {}
        self.is_closed = False

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, data: bytes) -> bytes | None:
        """Return the output of this very input, or None."""
        entry = self._entries.get(data)
        if entry is None:
            return None
        entry.is_marked = True
        return entry.output

    def put(self, data: bytes, output: bytes) -> None:
        """Keep an output, if there is room for it at all. One that is there stays: the first answer was as true."""
        if not self.is_closed and data not in self._entries:
            self._cache.add(self._entries, data, output)

    def close(self) -> None:
        """Let nothing be found here any more. The memory comes back with the cache's `sweep`: there may be very many."""
        if not self.is_closed:
            self.is_closed = True
            self._cache.close(self._entries)
            self._entries = {}
