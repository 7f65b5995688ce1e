"""Queries without a client, and the endpoints that they are asked at, for tests of what handles queries."""

from __future__ import annotations

import itertools

from clipper_nomad.state.records import MICROS, App, SloPolicy
from clipper_nomad_frontend.answers import Answer
from clipper_nomad_frontend.endpoints import Endpoint, Query
from clipper_nomad_frontend.metrics import AppCounters

_ids = itertools.count()


class Inbox:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def take(self, query: Query, answer: Answer) -> None:
        """Keep an answer."""
        self.answers.append(answer)


def endpoint(
    name: str = "app",
    *,
    slo_s: float = 1.0,
    timeout_s: float | None = None,
    policy: SloPolicy = "late",
    default: str = "-1.0",
    is_relay: bool = False,
) -> Endpoint:
    """Return the endpoint of an app of doubles."""
    app = App(
        name=name,
        input_type="doubles",
        default_output=default,
        slo_micros=round(slo_s * MICROS),
        slo_policy=policy,
        timeout_micros=None if timeout_s is None else round(timeout_s * MICROS),
        linked_models=("m",),
    )
    return Endpoint(app, AppCounters(), is_relay=is_relay)


def query(at: Endpoint, *, arrived: float = 0.0, shape: int = 1, data: bytes | None = None) -> Query:
    """Return a query of `shape` doubles."""
    return Query(at, bytes(8 * shape) if data is None else data, shape, arrived, Inbox(), next(_ids))
