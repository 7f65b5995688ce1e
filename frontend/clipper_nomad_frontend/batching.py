"""How many queries go into a batch of one model version. Pure: the caller reports sizes and times.

The limit is the largest batch whose expected execution time fits half of the smallest SLO among the apps that use the
version: a query that comes just after a batch was sent waits for that one and then for its own. It is never a function of
how late the queue is: a limit from the remaining budget shrinks batches just when the queue is long, and the system never
recovers. A model that needs more than a quarter of the SLO for any batch gets batches of twice that time: smaller ones
would throw most of its throughput away and keep the promise no better. `batch_size` fixes the limit.
Tried: docs/decisions/0005-batch-limit.md

Execution time is modelled as start + slope·n, a line through recent batches with exponentially fading weights. Where noise
leaves the slope in doubt it is taken as steep, so that no luck makes batches grow; batches of nearly one size say nothing of
it, and the last known ratio stays. The limit at most doubles what was seen so far, so that a first backlog is not sent as
one untried giant batch.
"""

from __future__ import annotations

from math import inf, sqrt

from clipper_nomad.protocol.links import BOUND_BELOW_S

MAX_BATCH = 1024  # more gains nothing: at 1024 the cost per batch is below 1 % of the cost per query
SLO_SHARE = 0.5
START_TIMES = 2.0  # a batch may take this many times the start: half of the throughput that any size could give
FADING = 0.98  # weight of the past at each new batch: some 50 batches count
DOUBT = 1.5  # standard errors by which the slope is taken steeper than it looks
MOST_DOUBT = 0.25  # of time per query: a line in more doubt than that tells no ratio
PAUSE_TIMES = 4.0  # a batch that took so many times what was expected met a pause of the machine, and teaches nothing
OFF_TIMES = 1.5  # so far off what was expected, and
OFF_IN_A_ROW = 3  # so often in a row on one side: the model has become slower or quicker, what was learnt is void
LARGEST_SLACK = 0.25  # of the SLO


class BatchLimit:
    """The limit of one model version, learnt from its batches.

    `limit`: how many queries the next one may have. `slack_s`: by how much answers may come later than execution times let
    expect; two mean deviations.
    """

    __slots__ = (
        "_fixed", "_largest", "_mean_n", "_mean_nn", "_mean_nt", "_mean_t", "_mean_tt", "_off", "_overrun_s",
        "_overrun_spread_s", "_slo_s", "_slope", "_start", "_start_in_queries", "_weight", "limit", "slack_s",
    )  # fmt: skip

    def __init__(self, *, fixed: int | None, slo_s: float) -> None:
        self.limit = fixed or 1
        self.slack_s = 0.0
        self._fixed = fixed
        self._slo_s = slo_s
        self._largest = 0
        self._off = 0  # how many times in a row were longer (above 0) or shorter than expected
        self._weight = self._mean_n = self._mean_t = self._mean_nn = self._mean_nt = self._mean_tt = 0.0
        self._start_in_queries: float | None = None  # start / slope; None: all batches were of one size
        self._start = self._slope = 0.0
        self._overrun_s = self._overrun_spread_s = 0.0

    def promise(self, slo_s: float) -> None:
        """Set the smallest SLO among the apps that use the version."""
        self._slo_s = slo_s
        self._set_limit()

    @property
    def is_measured(self) -> bool:
        """Whether execution times are known."""
        return self._weight > 0

    def record(self, count: int, seconds: float, overrun_s: float = 0.0) -> None:
        """Learn that a batch of `count` inputs took `seconds` to execute.

        `overrun_s`: how much later than expected its result was here.
        """
        if count > self._largest:
            is_first = not self._largest
            self._largest = count
            if is_first:  # it may have met cold caches
                self._set_limit()
                return
        if self._start_in_queries is not None and self._is_pause(seconds, self.expected_s(count)):
            return
        self._learn(count, seconds, overrun_s)
        self._set_limit()

    def _is_pause(self, seconds: float, expected_s: float) -> bool:
        """Return whether this time teaches nothing; forget what was learnt if it is one of a row that says so."""
        if expected_s <= seconds * OFF_TIMES and seconds <= expected_s * OFF_TIMES:
            self._off = 0
            return False
        side = 1 if seconds > expected_s else -1
        self._off = self._off + side if self._off * side > 0 else side
        if abs(self._off) < OFF_IN_A_ROW:
            return seconds > expected_s * PAUSE_TIMES
        self._off = 0
        self._weight = 0.0
        return False

    def _learn(self, count: int, seconds: float, overrun_s: float) -> None:
        weight = self._weight = FADING * self._weight + 1.0
        share = 1.0 / weight
        mean_n = self._mean_n = self._mean_n + share * (count - self._mean_n)
        mean_t = self._mean_t = self._mean_t + share * (seconds - self._mean_t)
        self._mean_nn += share * (count * count - self._mean_nn)
        self._mean_nt += share * (count * seconds - self._mean_nt)
        self._mean_tt += share * (seconds * seconds - self._mean_tt)
        variance = self._mean_nn - mean_n * mean_n
        if variance > 1e-6 * self._mean_nn and not self._off:
            self._tell_start_from_slope(variance)
        if self._start_in_queries is not None:
            self._slope = mean_t / (mean_n + self._start_in_queries)
            self._start = mean_t - self._slope * mean_n
        off = overrun_s - self._overrun_s
        self._overrun_s += share * off
        self._overrun_spread_s += share * (abs(off) - self._overrun_spread_s)
        self.slack_s = min(max(0.0, self._overrun_s + 2 * self._overrun_spread_s), LARGEST_SLACK * self._slo_s)

    def _tell_start_from_slope(self, variance: float) -> None:
        mean_n, mean_t = self._mean_n, self._mean_t
        covariance = self._mean_nt - mean_n * mean_t
        slope = covariance / variance
        noise = max(0.0, self._mean_tt - mean_t * mean_t - slope * covariance)
        doubt = DOUBT * sqrt(noise / (variance * self._weight))
        if doubt <= MOST_DOUBT * mean_t / mean_n or self._start_in_queries is None:
            slope += doubt
            self._start_in_queries = max(0.0, mean_t / slope - mean_n) if slope > 0 else inf  # no start below nothing

    def _set_limit(self) -> None:
        if self._fixed is not None:
            return
        most = max(1, min(2 * self._largest, MAX_BATCH))
        room = max(SLO_SHARE * self._slo_s, START_TIMES * self._start) - self._start
        if self._start_in_queries is None or room >= most * self._slope:
            self.limit = most  # ratio not known: it takes at most twice as long as the largest so far, and tells
        else:
            self.limit = max(1, int(room / self._slope))

    def expected_s(self, count: int) -> float:
        """Return how long a batch of `count` should execute; 0 while nothing was measured."""
        if self._start_in_queries is None:
            return self.per_query_s * count
        return self._start + self._slope * count

    @property
    def per_query_s(self) -> float:
        """Return the execution time per query at recent batch sizes; 0 while nothing was measured."""
        return self._mean_t / self._mean_n if self._mean_n else 0.0

    @property
    def full_per_query_s(self) -> float:
        """Return the execution time per query in batches as large as they get; 0 while larger ones are tried yet."""
        if self.limit >= 2 * self._largest:
            return 0.0
        return self.expected_s(self.limit) / self.limit

    @property
    def allows_second_slot(self) -> bool:
        """Whether batches are short enough that one more may wait at a busy replica."""
        return self.is_measured and self._mean_t < BOUND_BELOW_S
