"""The apps as HTTP sees them: what a path takes and promises, the queries it owes an answer, and when they run out.

An Endpoint is made from an app's record and replaced when the record changes; a replaced one lives on until it owes
nothing. Queries of one endpoint wait equally long, so the oldest is always the first to run out: one ordered dict and one
timer serve any number of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from clipper_nomad.protocol.datatypes import InputType
from clipper_nomad.state.records import MICROS, App, SloPolicy
from clipper_nomad_frontend import answers
from clipper_nomad_frontend.answers import Answer
from clipper_nomad_frontend.metrics import AppCounters
from clipper_nomad_frontend.output_text import text_as_json
from clipper_nomad_frontend.predict_request import RequestReader
from clipper_nomad_frontend.query import Query


class Endpoint:
    """One app, ready to take queries."""

    __slots__ = (
        "app", "counters", "default_output", "link", "model", "name", "owed", "patience_s", "policy", "reader", "slo_s",
        "timeout_s",
    )  # fmt: skip

    def __init__(self, app: App, counters: AppCounters) -> None:
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

    def out_of_patience(self, query: Query, *, has_replica: bool, model: str) -> Answer:
        """Return the answer of a query that no output came for in time."""
        if not has_replica:
            return answers.no_replica(self.policy, query.query_id, self.default_output, model)
        if self.policy == "late":
            return answers.past_timeout(self.name, self.app.effective_timeout_micros)
        return answers.past_slo(self.policy, query.query_id, self.default_output, self.app.slo_micros)


def link(model: str, kind: InputType) -> str:
    """Return what ties an app to the current version of `model`: also its input type, so that no other can be taken."""
    return f"{model} {kind.word}"


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
