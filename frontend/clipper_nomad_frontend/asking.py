"""Queries that a coroutine waits for: how aiohttp's handlers ask what http_predict.py asks without one."""

from __future__ import annotations

import asyncio
import time

from clipper_nomad_frontend.answers import Answer
from clipper_nomad_frontend.endpoints import Endpoint, Query
from clipper_nomad_frontend.serving import Serving


class FutureSink:
    """Hands an answer to whoever awaits it."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def take(self, query: Query, answer: Answer) -> None:  # noqa: ARG002  # Sink's signature
        """Note the answer."""
        if not self.answer.done():
            self.answer.set_result(answer)


async def ask(
    serving: Serving, endpoint: Endpoint, inputs: list[tuple[bytes, int]], version: str | None, request_id: bytes
) -> list[tuple[int, Answer]]:
    """Return (query id, answer) of each packed input, in their order. Whoever waits no longer frees their places."""
    now = time.monotonic()
    sinks = [FutureSink() for _ in inputs]
    queries = [serving.query(endpoint, packed, now, sink) for packed, sink in zip(inputs, sinks, strict=True)]
    try:
        for query in queries:
            query.request_id = request_id
            serving.submit(query, version)
        return [(query.query_id, await sink.answer) for query, sink in zip(queries, sinks, strict=True)]
    finally:
        for query in queries:
            if query.endpoint.owed.get(query, query) is None:
                serving.abandon(query)
