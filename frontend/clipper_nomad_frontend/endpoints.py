"""The apps as HTTP sees them, and their queries: what a path takes and promises, what it owes, and when that runs out.

An Endpoint is made from an app's record and replaced when the record changes; a replaced one lives on until it owes
nothing. Queries of one endpoint wait equally long, so the oldest is always the first to run out: one ordered dict and one
timer serve any number of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Protocol

from clipper_nomad.protocol.datatypes import InputType
from clipper_nomad.state.records import MICROS, App, SloPolicy, Snapshot
from clipper_nomad_frontend import answers
from clipper_nomad_frontend.answers import Answer
from clipper_nomad_frontend.metrics import AppCounters
from clipper_nomad_frontend.output_text import text_as_json
from clipper_nomad_frontend.predict_request import RequestReader


class Endpoint:
    """One app, ready to take queries."""

    __slots__ = (
        "_of_flights", "app", "counters", "default_output", "is_relay", "link", "model", "name", "owed", "patience_s",
        "policy", "reader", "slo_s", "timeout_s",
    )  # fmt: skip

    def __init__(self, app: App, counters: AppCounters, *, is_relay: bool = False) -> None:
        self.app = app
        self.name = app.name
        self.counters = counters
        self.policy: SloPolicy = app.slo_policy
        self.slo_s = app.slo_micros / MICROS
        self.timeout_s = app.effective_timeout_micros / MICROS
        self.patience_s = self.timeout_s if self.policy == "late" else min(self.slo_s, self.timeout_s)
        self.default_output = text_as_json(app.default_output.encode(errors="replace"))
        self.reader = RequestReader(app.kind)
        self.model = app.linked_models[0] if app.linked_models else None
        self.link = link(self.model, app.kind) if self.model is not None else None
        self.owed: dict[Query, None] = {}  # in order of arrival
        self.is_relay = is_relay  # its queries came from a peer, which owns them: they are executed once, and here
        self._of_flights: Endpoint | None = None

    def of_flights(self) -> Endpoint:
        """Return the same for queries that stand for those of several clients: their own end when nobody waits for them."""
        if self._of_flights is None:
            self._of_flights = copy.copy(self)
            self._of_flights.patience_s = math.inf
        return self._of_flights

    def out_of_patience(self, query: Query, *, has_replica: bool, model: str) -> Answer:
        """Return the answer of a query that no output came for in time."""
        if self.is_relay:  # its own frontend keeps the time, and knows what the client is to get
            return answers.lost(model, query.tries) if query.tries else answers.not_taken(model)
        if not has_replica:
            return answers.no_replica(self.policy, query.query_id, self.default_output, model)
        if self.policy == "late":
            return answers.past_timeout(self.name, self.app.effective_timeout_micros)
        return answers.past_slo(self.policy, query.query_id, self.default_output, self.app.slo_micros)


class Sink(Protocol):
    """Whoever waits for the answer: an HTTP connection, the collector of an `input_batch`, a probe."""

    def take(self, query: Query, answer: Answer) -> None:
        """Take the answer of `query`. Must not raise: the query's batch mates are answered after it."""


class Query:
    """An input with its deadlines and its way back. Times are instants on the monotonic clock, in seconds.

    `data` are the packed bytes of the input, `item_length` its number of elements (0 for variable width). `tries` counts
    the batches it was sent in, `is_queued` says that it waits in its version's queue (a suspect waits elsewhere). `reply`
    and `close` belong to the connection: the finished reply while an earlier one is still owed, whether to close after it.
    """

    __slots__ = (
        "arrived", "close", "data", "dispatch", "endpoint", "is_done", "is_queued", "item_length", "pinned_version",
        "query_id", "reply", "request_id", "sink", "slo_at", "tries",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint, data: bytes, item_length: int, arrived: float, sink: Sink, query_id: int) -> None:
        self.endpoint = endpoint
        self.data = data
        self.item_length = item_length
        self.arrived = arrived
        self.slo_at = arrived + endpoint.slo_s
        self.sink = sink
        self.query_id = query_id
        self.dispatch: Dispatch | None = None
        self.tries = 0
        self.is_done = False
        self.is_queued = False
        self.pinned_version: str | None = None
        self.request_id = b""
        self.reply: bytes | None = None
        self.close = False

    @property
    def is_wanted(self) -> bool:
        """Whether anybody waits for its answer; without that it is not tried again."""
        return not self.is_done

    @property
    def timeout_at(self) -> float:
        """When waiting for an answer ends, whatever the app's policy."""
        return self.arrived + self.endpoint.timeout_s


class Dispatch(Protocol):
    """Where a query waits and is worked on: dispatch.VersionDispatch."""

    @property
    def key(self) -> str:
        """The model version, as name:version."""

    @property
    def has_replicas(self) -> bool:
        """Whether any replica of it is connected here."""

    def forget(self, query: Query) -> None:
        """Note that `query` is done."""


def link(model: str, kind: InputType) -> str:
    """Return what ties an app to the current version of `model`: also its input type, so that no other can be taken."""
    return f"{model} {kind.word}"


def smallest_slos(snapshot: Snapshot) -> dict[str, float]:
    """Return the smallest SLO, in seconds, among the apps that use each model."""
    smallest: dict[str, float] = {}
    for app in snapshot.apps.values():
        for model in app.linked_models:
            slo_s = app.slo_micros / MICROS
            smallest[model] = min(slo_s, smallest.get(model, slo_s))
    return smallest


def expire(endpoints: Iterable[Endpoint], now: float, give_up: Callable[[Query], None]) -> float | None:
    """Give up every query whose endpoint has no patience left; return when the next one runs out, or None."""
    following: float | None = None
    for endpoint in endpoints:
        owed = endpoint.owed
        while owed:
            oldest = next(iter(owed))
            runs_out = oldest.arrived + endpoint.patience_s
            if runs_out > now:
                following = runs_out if following is None else min(following, runs_out)
                break
            give_up(oldest)
            owed.pop(oldest, None)  # give_up does this; a loop that could not end would be worse than a lost query
    return following
