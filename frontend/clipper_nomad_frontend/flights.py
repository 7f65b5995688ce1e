"""Identical queries of one model version, asked at the same time or one after the other: executed once. Pure.

With a prediction cache no client's query is queued itself. A Flight is queued for all that ask for the same input, and each
of them keeps its own deadline, policy and reply: to a client's query its flight is the Dispatch on which it waits, to the
dispatch the flight is one query like any other. A true output answers all who wait and goes into the cache, also when
nobody waits any more; anything else is told to those who wait and kept nowhere.

Queries of peers, probes, and those of a version that may not be tried twice come past here. docs/behaviour.md, "Cache".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from clipper_nomad_frontend import answers
from clipper_nomad_frontend.answers import Answer
from clipper_nomad_frontend.cache import Shelf
from clipper_nomad_frontend.endpoints import Dispatch, Query
from clipper_nomad_frontend.metrics import VersionCounters
from clipper_nomad_frontend.replicas import hit_headers

JOINED_WITHIN_S = 2.0  # or the SLO, if that is longer: a flight that takes this long may hang, as its replica may
_MANY_HUSKS = 64


class Queue(Dispatch, Protocol):
    """Where flights are queued: dispatch.VersionDispatch."""

    def holds(self, query: Query) -> bool:
        """Whether `query` waits here, and is not at a replica or a peer."""


class Flight(Query):
    """One input under way, for every query that waits for its output."""

    __slots__ = ("_flights", "_joined", "_timeout_at", "_waiting", "earlier", "where")

    def __init__(self, first: Query, where: Queue, flights: Flights, earlier: Flight | None) -> None:
        """`earlier`: another with the same input, which `first` had better not wait for."""
        endpoint = first.endpoint.of_flights()
        super().__init__(endpoint, first.data, first.item_length, first.arrived, first.sink, first.query_id)
        first.dispatch = self
        self.dispatch = self.where = where
        self.earlier = earlier
        self._flights = flights
        self._joined: list[Query] = [first]
        self._waiting = 1
        self._timeout_at = first.arrived + endpoint.timeout_s

    # ---- as the dispatch sees it -----------------------------------------------------------------------------------

    @property
    def is_wanted(self) -> bool:
        """Whether anybody waits for it."""
        return self._waiting > 0

    @property
    def timeout_at(self) -> float:
        """When the last of those who wait gives up."""
        return self._timeout_at

    def land(self, output: bytes, headers: bytes, now: float) -> None:
        """Keep the output, and answer with it all who wait for this input, here or in another flight."""
        flights = self._flights
        flights.shelf.put(self.data, output)
        waiting = self.empty()
        flight = flights.under_way.pop(self.data, None)
        while flight is not None:
            if not flight.is_done:  # itself is, just now
                flight.where.forget(flight)
                waiting += flight.empty()
            flight = flight.earlier
        for query in waiting:
            flights.answer(query, output, headers, now)

    def end(self, answer: Answer, now: float) -> None:
        """Tell all who wait that there is no output, and why."""
        self._flights.leaves(self)
        for query in self.empty():
            self._flights.answered(query, answer, now)

    def disband(self) -> list[Query]:
        """Return those who wait, each on its own from now on."""
        self._flights.leaves(self)
        queries = [query for query in self.empty() if not query.is_done]
        for query in queries:
            query.dispatch = None
            query.tries = self.tries
        return queries

    def empty(self) -> list[Query]:
        """End, and return who was here. Nothing refers to them any more: a circle would wait for the collector."""
        self.is_done = True
        joined, self._joined = self._joined, []
        return joined

    # ---- as those who wait see it: their Dispatch ------------------------------------------------------------------

    def takes(self, query: Query) -> bool:
        """Whether `query` loses nothing by waiting here: not for what is queued behind it, nor for what may hang."""
        may_hang_at = self.arrived + max(JOINED_WITHIN_S, self.endpoint.slo_s)
        return (self.tries > 0 or self.slo_at <= query.slo_at) and query.arrived <= may_hang_at

    def join(self, query: Query) -> None:
        """Let `query` wait here."""
        query.dispatch = self
        query.data = self.data  # the same bytes: one copy is enough for all
        self._joined.append(query)
        self._waiting += 1
        self._timeout_at = max(self._timeout_at, query.arrived + query.endpoint.timeout_s)

    def forget(self, query: Query) -> None:
        """One who waited has its answer, or its client has gone. What nobody waits for leaves its place in the queue."""
        if self.is_done:
            return
        self._waiting -= 1
        if not self._waiting and self.where.holds(self):
            self._flights.leaves(self)
            self.empty()
            self.where.forget(self)
        elif len(self._joined) > 2 * self._waiting + _MANY_HUSKS:
            self._joined = [each for each in self._joined if each is not query and not each.is_done]

    @property
    def key(self) -> str:
        """The model version, as name:version."""
        return self.where.key

    @property
    def has_replicas(self) -> bool:
        """Whether a replica has it in hand, or any can be reached from here."""
        return self.tries > 0 or self.where.has_replicas


class Flights:
    """What one version's queries find before the queue: outputs of before, and flights that are under way."""

    __slots__ = ("_answered", "_clock", "_counters", "_hit_headers", "_model", "shelf", "under_way")

    def __init__(
        self,
        shelf: Shelf,
        counters: VersionCounters,
        *,
        model: str,
        answered: Callable[[Query, Answer, float], None],
        clock: Callable[[], float],
    ) -> None:
        """`answered` gives a client's query its one answer."""
        self.shelf = shelf
        self.under_way: dict[bytes, Flight] = {}  # the latest flight of each input
        self._counters = counters
        self._answered = answered
        self._clock = clock
        self._model = model
        self._hit_headers = hit_headers(model)

    def board(self, query: Query, where: Queue) -> Flight | None:
        """Answer `query` from the cache or let it wait for a flight under way, else return a new flight to be queued."""
        counters = self._counters
        output = self.shelf.get(query.data)
        if output is not None:
            counters.cache_hits += 1
            self.answer(query, output, self._hit_headers, self._clock())
            return None
        flight = self.under_way.get(query.data)
        if flight is not None and flight.takes(query):
            counters.cache_joins += 1
            flight.join(query)
            return None
        counters.cache_misses += 1
        flight = self.under_way[query.data] = Flight(query, where, self, flight)
        return flight

    def land(
        self, headers: bytes, queries: list[Query], outputs: list[bytes], now: float
    ) -> tuple[list[Query], list[bytes]]:
        """Answer who waits for these flights; return what is no flight: queries of peers, and probes."""
        others = []
        for query, output in zip(queries, outputs, strict=True):
            if not isinstance(query, Flight):
                others.append((query, output))
            elif not query.is_done:
                query.land(output, headers, now)
        return [query for query, _ in others], [output for _, output in others]

    def leaves(self, flight: Flight) -> None:
        """Let nobody else wait for this flight, which ends without an output."""
        if self.under_way.get(flight.data) is not flight:
            return
        earlier = flight.earlier
        while earlier is not None and earlier.is_done:
            earlier = earlier.earlier
        if earlier is None:
            del self.under_way[flight.data]
        else:
            self.under_way[flight.data] = earlier

    def answer(self, query: Query, output: bytes, headers: bytes, now: float) -> None:
        """Give a client's query a true output, as far as its own deadlines allow that."""
        if query.is_done:
            return
        is_late = now > query.slo_at
        if is_late and now > query.arrived + query.endpoint.patience_s:  # its timer did not come first
            self._answered(query, query.endpoint.out_of_patience(query, has_replica=True, model=self._model), now)
        else:
            self._answered(query, answers.prediction(query.query_id, output, headers, is_late=is_late), now)

    def answered(self, query: Query, answer: Answer, now: float) -> None:
        """Take an answer of the dispatch: to a flight, for all who wait, or to another query."""
        if isinstance(query, Flight):
            query.end(answer, now)
        else:
            self._answered(query, answer, now)

    def disband(self, queries: Iterable[Query]) -> list[Query]:
        """Return the clients' queries behind `queries`, which wait for a version that is gone; forget its outputs."""
        self.shelf.close()
        return [each for query in queries for each in (query.disband() if isinstance(query, Flight) else (query,))]
