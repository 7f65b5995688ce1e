"""What the HTTP side asks of the rest of the frontend; serving.py is it. Pure."""

from __future__ import annotations

from typing import Protocol

from clipper_nomad_frontend.endpoints import Endpoint, Query, Sink


class Predictions(Protocol):
    """Takes queries, and answers each exactly once."""

    routes: dict[bytes, Endpoint]

    def query(self, endpoint: Endpoint, packed: tuple[bytes, int], now: float, sink: Sink) -> Query:
        """Return a new query."""

    def submit(self, query: Query, version: str | None) -> None:
        """Send a query on its way; it is answered through its sink, perhaps before this returns."""

    def abandon(self, query: Query) -> None:
        """The client of `query` has gone."""
