"""A load in an open loop on a model that adds its inputs up: queries are sent when they are due, whatever the system does.

Each query is a number of its own, so every answer shows whose it is. What is in no row of the table of answers in
docs/behaviour.md is wrong too. Used by tests that stall and kill; benchmarks/checked_load.py is the client.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from benchmarks.checked_answers import Answer, Query, Record, Tally, Verdict
from benchmarks.checked_load import Address, CheckingClient, Shape
from benchmarks.truth_judge import MISSED, NO_MODELS

# Status and error of each row that a right query may get; with those in the second line comes `Retry-After`.
_ERRORS = {(422, "poison_input"), (500, "Model error"), (504, "SLO missed"), (504, "Timeout")}
_COME_AGAIN = {(429, "Overloaded"), (503, "No connected models"), (503, "Replica lost")}
_OF_A_PROXY = {502, 503, 504}  # its own words: nobody is there, or who was there has gone


class SteadyLoad:
    """One run of the load, on `app` (below `prefix`). Keeps what is needed of when an answer came, and from whom."""

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        app: str,
        connections: int,
        max_pipeline: int = 1,
        timeout_s: float = 30.0,
        first_number: int = 0,
        prefix: str = "",
        is_proxied: bool = False,
    ) -> None:
        self.answered_by: Counter[tuple[str, str]] = Counter()  # right answers of each model:version and replica
        self.slowest_s = 0.0
        self.missed: list[Record] = []  # what was late or no true answer
        self.answered = 0
        self.started_at = time.monotonic()
        self._is_proxied = is_proxied
        self._path = f"{prefix}/{app}/predict"
        self._right_at: list[float] = []
        shape = Shape(connections=connections, pipelining_share=1.0, max_pipeline=max_pipeline, timeout_s=timeout_s)
        self._client = CheckingClient(
            addresses,
            make_query=self._make_query,
            check=self._check,
            shape=shape,
            on_record=self._note,
            first_number=first_number,
        )

    @property
    def tally(self) -> Tally:
        """The counts so far; of the whole run, once it has ended."""
        return self._client.tally

    async def run(self, *, rate_per_s: float, seconds: float) -> Tally:
        return await self._client.run_open(rate_per_s=rate_per_s, seconds=seconds)

    @contextmanager
    def running(self, *, rate_per_s: float, seconds: float) -> Iterator[Future[Tally]]:
        """Run it in a thread of its own, for a test that waits for other things meanwhile."""
        with ThreadPoolExecutor(1) as thread:
            yield thread.submit(lambda: asyncio.run(self.run(rate_per_s=rate_per_s, seconds=seconds)))

    def on_time_share(self, *, rate_per_s: float, due_from: float, due_until: float) -> float:
        """Return the share on time of the queries that were due in that time."""
        due = rate_per_s * (due_until - due_from)
        return 1 - sum(due_from <= record.started_at < due_until for record in self.missed) / due

    def longest_gap_s(self, *, since: float) -> float:
        """Return the longest time without a right answer, from then to the last one. Infinity: none came any more."""
        came = sorted(at for at in self._right_at if at > since)
        return max((later - sooner for sooner, later in zip([since, *came], came, strict=False)), default=float("inf"))

    def _make_query(self, number: int) -> Query:
        return Query(number, self._path, json.dumps({"input": [number, 0.5]}).encode())

    def stop(self) -> None:
        """Send nothing more; the run ends when what was sent is answered."""
        self._client.stop()

    def _check(self, query: Query, answer: Answer) -> Verdict:
        if self._is_proxied and answer.status in _OF_A_PROXY and answer.headers.get(b"content-type") != b"application/json":
            return Verdict.ERROR
        body = json.loads(answer.body)
        if answer.status != 200:
            row = (answer.status, body["error"])
            is_known = row in _ERRORS or (row in _COME_AGAIN and b"retry-after" in answer.headers)
            return Verdict.ERROR if is_known else Verdict.WRONG
        if body["default"]:
            return Verdict.DEFAULT if body["default_explanation"] in {NO_MODELS, MISSED} else Verdict.WRONG
        if body["output"] != query.number + 0.5:
            return Verdict.WRONG
        self.answered_by[_text(answer, b"x-clipper-model"), _text(answer, b"x-clipper-replica")] += 1
        return Verdict.RIGHT

    def _note(self, record: Record) -> None:
        self.answered += 1
        self.slowest_s = max(self.slowest_s, record.latency_s)
        if record.verdict is Verdict.RIGHT:
            self._right_at.append(record.started_at + record.latency_s)
        if record.verdict is not Verdict.RIGHT or record.is_late:
            self.missed.append(record)


def _text(answer: Answer, header: bytes) -> str:
    return answer.headers.get(header, b"").decode()
