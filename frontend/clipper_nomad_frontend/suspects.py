"""Queries that are sent alone: what ended a replica, or made it raise, may have been one of them. Pure.

Those that end while they wait (client gone, timeout) are dropped when they come up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from clipper_nomad_frontend.endpoints import Query


class Suspects:
    """The suspects of one model version, in the order in which they are tried. True while there is one to try."""

    __slots__ = ("_queries",)

    def __init__(self) -> None:
        self._queries: deque[Query] = deque()

    def __bool__(self) -> bool:
        queries = self._queries
        while queries and queries[0].is_done:
            queries.popleft()
        return bool(queries)

    def __len__(self) -> int:
        return len(self._queries)

    def __iter__(self) -> Iterator[Query]:
        return (query for query in self._queries if not query.is_done)

    def __contains__(self, query: object) -> bool:
        return any(each is query for each in self._queries)

    def add(self, query: Query) -> None:
        """Put `query` last."""
        self._queries.append(query)

    def put_back(self, query: Query) -> None:
        """Put a query that was taken and not executed first."""
        self._queries.appendleft(query)

    def take(self) -> Query:
        """Return the next one. There must be one: this does not look."""
        return self._queries.popleft()

    def waits_since(self) -> float:
        """Return when the next one came. There must be one."""
        return self._queries[0].arrived

    def drain(self) -> list[Query]:
        """Return all, and keep none."""
        queries = list(self)
        self._queries.clear()
        return queries
