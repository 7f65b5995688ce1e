"""Endpoints for queries that are of no app here: those of peers, by the terms that they bring, and probes. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from clipper_nomad.protocol.mesh_messages import Terms
from clipper_nomad.state.records import App, ModelVersion
from clipper_nomad_frontend.endpoints import Endpoint
from clipper_nomad_frontend.metrics import AppCounters

MOST_TERMS = 256  # kinds of terms that are remembered


class Guests:
    """The endpoints of queries of peers. Iterating gives all that may owe answers."""

    __slots__ = ("_by_terms", "_retired")

    def __init__(self) -> None:
        self._by_terms: dict[Terms, Endpoint] = {}
        self._retired: list[Endpoint] = []  # forgotten, and still owing answers

    def __iter__(self) -> Iterator[Endpoint]:
        yield from self._by_terms.values()
        yield from self._retired

    def endpoint(self, terms: Terms, record: ModelVersion) -> Endpoint:
        """Return the endpoint of queries that come under these terms."""
        key = dataclasses.replace(terms, waited=0)
        endpoint = self._by_terms.get(key)
        if endpoint is None:
            if len(self._by_terms) >= MOST_TERMS:
                self._retired = [guest for guest in self if guest.owed]
                self._by_terms.clear()
            app = _app("_relay", record, slo_micros=max(1, terms.slo), timeout_micros=max(1, terms.timeout))
            endpoint = self._by_terms[key] = Endpoint(app, AppCounters(), is_relay=True)
        return endpoint


def probe_endpoint(record: ModelVersion, timeout_micros: int) -> Endpoint:
    """Return the endpoint of one probe."""
    return Endpoint(_app("_probe", record, slo_micros=timeout_micros, timeout_micros=timeout_micros), AppCounters())


def _app(name: str, record: ModelVersion, *, slo_micros: int, timeout_micros: int) -> App:
    return App(
        name=name, input_type=record.input_type, default_output="", slo_micros=slo_micros, timeout_micros=timeout_micros
    )
