"""The queue of one model version: which queries the next batch takes. Pure: the caller passes `now`.

Order: queries that can still make their SLO, earliest deadline first; then the late ones, oldest first, in the room that
is left, and in one place of sixteen at least, so that neither starves the other (docs/decisions/0005-batch-limit.md).
A batch holds inputs of one shape.

Queries of one app and one shape arrive in the order of their deadlines, so each such lane is a plain deque; a batch looks
only at the heads of the lanes. Queries that end while they wait (client gone, timeout) stay as husks until they come up
or until husks outnumber the living.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from operator import attrgetter

from clipper_nomad_frontend.endpoints import Query

LATE_SHARE = 1 / 16  # of the places in batches go to late queries, while any wait; on-time ones keep over nine in ten
_MANY_HUSKS = 64

_Shape = int  # elements per input; 0 for inputs of variable width
_Lanes = dict[tuple[float, _Shape], deque[Query]]  # (SLO, shape) → queries in order of arrival, so of deadline
_Rank = Callable[[Query], float]
_by_deadline: _Rank = attrgetter("slo_at")
_by_age: _Rank = attrgetter("arrived")


class ModelQueue:
    """Queries of one model version that wait for a replica. `count` and `input_bytes` are of those still wanted."""

    __slots__ = ("_husks", "_late", "_late_credit", "_on_time", "count", "input_bytes")

    def __init__(self) -> None:
        self._on_time: _Lanes = {}
        self._late: _Lanes = {}
        self._late_credit = 0.0  # places that are due to late queries
        self._husks = 0
        self.count = 0
        self.input_bytes = 0

    def add(self, query: Query) -> None:
        """Put `query` at the end of its lane."""
        key = (query.endpoint.slo_s, query.item_length)
        lane = self._on_time.get(key)
        if lane is None:
            lane = self._on_time[key] = deque()
        lane.append(query)
        query.is_queued = True
        self.count += 1
        self.input_bytes += len(query.data)

    def put_back(self, query: Query) -> None:
        """Put a query that was taken and not executed before all of its lane."""
        key = (query.endpoint.slo_s, query.item_length)
        late = self._late.get(key)
        if late is not None and query.arrived <= late[0].arrived:
            late.appendleft(query)
        else:
            self._on_time.setdefault(key, deque()).appendleft(query)
        query.is_queued = True
        self.count += 1
        self.input_bytes += len(query.data)

    def forget(self, query: Query) -> None:
        """Note that a query which waits here is done; its place is free at once, its husk goes later."""
        query.is_queued = False
        self.count -= 1
        self.input_bytes -= len(query.data)
        self._husks += 1
        if self._husks > _MANY_HUSKS and self._husks > self.count:
            self._sweep()

    def take(self, limit: int, now: float, expected_s: float, slack_s: float = 0.0) -> list[Query]:
        """Return up to `limit` queries of one shape for a batch that should take `expected_s`; none if none waits.

        `slack_s`: what a query's deadline needs beyond `expected_s` to be rather safe.
        """
        self._part_late(now + expected_s)
        if slack_s and self.count > limit:
            self._part_doubtful(now + expected_s + slack_s, limit)
        batch: list[Query] = []
        if not self._late:
            self._late_credit = 0.0
            if self._on_time:
                self._fill(self._on_time, _next_shape(self._on_time, _by_deadline), limit, batch, _by_deadline)
        else:
            shape, for_late = self._share(limit)
            self._fill(self._on_time, shape, limit - for_late, batch, _by_deadline)
            self._fill(self._late, shape, limit - len(batch), batch, _by_age)
            self._fill(self._on_time, shape, limit - len(batch), batch, _by_deadline)
        self.count -= len(batch)
        return batch

    def waits_since(self) -> float | None:
        """Return when the query came that is about the next to be taken, or None if none waits."""
        lanes = self._on_time or self._late
        return min(lane[0].arrived for lane in lanes.values()) if self.count else None

    def drain(self) -> list[Query]:
        """Return every query that waits, and leave the queue empty."""
        self._sweep()
        queries = [query for lanes in (self._late, self._on_time) for lane in lanes.values() for query in lane]
        for query in queries:
            query.is_queued = False
        self._late.clear()
        self._on_time.clear()
        self.count = self.input_bytes = 0
        return queries

    def _part_late(self, horizon: float) -> None:
        """Move queries that cannot make their SLO if the batch ends at `horizon` to the late lanes; drop husks."""
        for key in list(self._on_time):
            lane = self._on_time[key]
            while lane and (not lane[0].is_queued or lane[0].slo_at < horizon):
                self._make_late(key, lane)
            if not lane:
                del self._on_time[key]
        for key in list(self._late):
            self._drop_husks(self._late, key)

    def _part_doubtful(self, horizon: float, limit: int) -> None:
        """Where more wait than the batch takes, move those late that may miss their SLO by a little bad luck.

        Otherwise an overloaded queue would always work at the edge of the deadline, and miss half of the time.
        """
        surplus = sum(map(len, self._on_time.values())) - limit
        for key in list(self._on_time):
            lane = self._on_time[key]
            while surplus > 0 and lane and lane[0].slo_at < horizon:
                self._make_late(key, lane)
                surplus -= 1
            if lane:
                self._drop_husks(self._on_time, key)
            else:
                del self._on_time[key]

    def _make_late(self, key: tuple[float, _Shape], lane: deque[Query]) -> None:
        query = lane.popleft()
        if query.is_queued:
            self._late.setdefault(key, deque()).append(query)
        else:
            self._husks -= 1

    def _drop_husks(self, lanes: _Lanes, key: tuple[float, _Shape]) -> None:
        lane = lanes[key]
        while lane and not lane[0].is_queued:
            lane.popleft()
            self._husks -= 1
        if not lane:
            del lanes[key]

    def _share(self, limit: int) -> tuple[_Shape, int]:
        """Return the shape of the next batch, and how many of its places are due to late queries.

        The places that late queries of another shape would have had are saved up until they are a whole batch.
        """
        oldest = _next_shape(self._late, _by_age)
        if not self._on_time:
            return oldest, limit
        self._late_credit = min(self._late_credit + limit * LATE_SHARE, float(limit))
        shape = _next_shape(self._on_time, _by_deadline)
        if shape != oldest and self._late_credit < limit:
            return shape, 0
        due = int(self._late_credit)
        self._late_credit -= due
        return oldest, due

    def _fill(self, lanes: _Lanes, shape: _Shape, room: int, batch: list[Query], rank: _Rank) -> None:
        """Move up to `room` wanted queries of `shape` to `batch`, the lowest rank across lanes first."""
        keys = [key for key in lanes if key[1] == shape]
        taken_bytes = 0
        while room > 0 and keys:
            is_last = len(keys) == 1
            key = keys[0] if is_last else min(keys, key=lambda k: rank(lanes[k][0]))
            lane = lanes[key]
            step = room if is_last else 1
            room -= step
            while lane and step:
                query = lane.popleft()
                if query.is_queued:
                    query.is_queued = False
                    batch.append(query)
                    taken_bytes += len(query.data)
                    step -= 1
                else:
                    self._husks -= 1
            room += step
            if lane and not is_last:
                self._drop_husks(lanes, key)
            if not lane:
                lanes.pop(key, None)
                keys.remove(key)
        self.input_bytes -= taken_bytes

    def _sweep(self) -> None:
        for lanes in (self._on_time, self._late):
            for key in list(lanes):
                lanes[key] = deque(query for query in lanes[key] if query.is_queued)
                if not lanes[key]:
                    del lanes[key]
        self._husks = 0


def _next_shape(lanes: _Lanes, rank: _Rank) -> _Shape:
    """Return the shape of the query of the lowest rank. `lanes` is not empty, its heads are no husks."""
    if len(lanes) == 1:
        return next(iter(lanes))[1]
    return min(lanes.items(), key=lambda item: rank(item[1][0]))[0][1]
