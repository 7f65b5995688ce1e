"""Queries that a peer frontend relayed to this one: executed by our replicas like our own, answered to the peer. Pure.

Each input becomes a Query under the terms that it has at its own frontend, counted for no app here. It is executed at most
once and never relayed again; what becomes of it (`Fate`) goes back, and its frontend decides.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import unquote

from clipper_nomad.protocol.mesh_messages import Fate, RelayedAnswer
from clipper_nomad_frontend import answers
from clipper_nomad_frontend.answers import Answer
from clipper_nomad_frontend.endpoints import Query

_FATES = {answers.LOST: Fate.LOST, answers.NOT_TAKEN: Fate.REFUSED, answers.SPLIT: Fate.SPLIT}
_REPLICA = b"X-Clipper-Replica: "

REFUSED = RelayedAnswer(fate=Fate.REFUSED)


class RelayedBatch:
    """Collects the answers of one relayed batch: the sink of its queries."""

    __slots__ = ("_missing", "_places", "_reply", "_rows")

    def __init__(self, count: int, reply: Callable[[list[RelayedAnswer]], None]) -> None:
        self._rows = [REFUSED] * count
        self._missing = count
        self._places: dict[int, int] = {}
        self._reply = reply

    def expect(self, queries: list[Query]) -> None:
        """Note which query belongs to which input, before any is submitted."""
        self._places = {query.query_id: place for place, query in enumerate(queries)}

    def take(self, query: Query, answer: Answer) -> None:
        """Keep one query's answer; the last one sends the reply."""
        self._rows[self._places[query.query_id]] = row_of(answer)
        self._missing -= 1
        if not self._missing:
            self._reply(self._rows)


def row_of(answer: Answer) -> RelayedAnswer:
    """Return what the peer is told of a query with this answer."""
    if answer.status == 200:
        replica = answer.headers.partition(_REPLICA)[2].partition(b"\r\n")[0]
        name = unquote(replica.decode())  # as the replica said it: the peer quotes it for its own header
        return RelayedAnswer(fate=Fate.ANSWERED, replica=name, output=answers.output_of(answer))
    fate = _FATES.get(answer.kind, Fate.FAILED)
    error = str(json.loads(answer.body)["error"])
    return RelayedAnswer(fate=fate, status=answer.status, error=error, cause=answer.cause, kind=answer.kind)
