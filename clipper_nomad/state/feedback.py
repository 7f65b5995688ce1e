"""Feedback on predictions: a stream in the store, bounded, that frontends write and admin reads.

    clipper:{cluster}:feedback   stream: the newest MOST_KEPT entries, each with the fields of Feedback as texts

An entry's id begins with the milliseconds at which it came. Feedback is no part of the catalog: it raises no revision, is
not mirrored and not restored. What comes at once is written at once, so that a store which syncs each write keeps up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from clipper_nomad.state.layout import Keys, Reply, connect, text

Field = bytes | bytearray | memoryview | str | int | float  # what the client writes into a stream
Fields = dict[Field, Field]

MOST_KEPT = 10_000
MOST_WAITING = 1_000
MOST_AT_ONCE = 256
KEPT_WITHIN_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What a user of an app (`uid`) says an input's output should have been (`label`).

    `model`: "name:version" that answers the app's queries, "" for none. `input`: JSON text, "" if it was too long;
    `input_sha256`: of the input's bytes as models get them. `frontend`, `query_id`: who took it, and its number there.
    """

    app: str
    uid: int
    label: float
    model: str
    input: str
    input_sha256: str
    frontend: str
    query_id: int


class FeedbackStream:
    """Keeps feedback. To be closed; nothing it does raises because the store is away."""

    def __init__(self, url: str, cluster: str) -> None:
        self._client = connect(url, retries=0)
        self._key = Keys(cluster).feedback
        self._waiting: deque[tuple[Feedback, asyncio.Future[bool]]] = deque()
        self._writing: asyncio.Task[None] | None = None

    async def keep(self, feedback: Feedback) -> bool:
        """Return whether the store has it, as far as is known within KEPT_WITHIN_S."""
        if len(self._waiting) >= MOST_WAITING:
            return False
        kept: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((feedback, kept))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        done, _ = await asyncio.wait([kept], timeout=KEPT_WITHIN_S)
        return bool(done) and not kept.cancelled() and kept.result()

    async def close(self) -> None:
        """Give up what waits, and close the connection."""
        if self._writing is not None:
            self._writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writing
        await self._client.aclose()

    async def _write(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]
            is_kept = False
            try:
                async with self._client.pipeline(transaction=False) as pipe:
                    for feedback, _ in batch:
                        fields: Fields = {name: str(value) for name, value in asdict(feedback).items()}
                        pipe.xadd(self._key, fields, maxlen=MOST_KEPT, approximate=False)
                    await pipe.execute()
                is_kept = True
            except (RedisError, OSError):
                pass  # whoever gave it is told
            finally:
                for _, kept in batch:
                    if not kept.done():
                        kept.set_result(is_kept)


async def read_feedback(client: Redis, keys: Keys, *, app: str | None, most: int) -> list[dict[str, object]]:
    """Return the newest feedback first, of one app or of all, as JSON objects. Raises: RedisError, OSError."""
    found: list[dict[str, object]] = []
    entries = await client.xrevrange(keys.feedback, count=most if app is None else MOST_KEPT)
    for id_, fields in cast("Iterable[tuple[bytes, Reply]]", entries):  # the client's types know None, which does not come
        entry = _shown(text(id_), {text(name): text(value) for name, value in fields.items()})
        if app is None or entry["app"] == app:
            found.append(entry)
    return found[:most]


def _shown(id_: str, fields: Mapping[str, str]) -> dict[str, object]:
    numbers = {"uid": int(fields["uid"]), "query_id": int(fields["query_id"]), "label": float(fields["label"])}
    return {"id": id_, "at_ms": int(id_.partition("-")[0]), **fields, **numbers}
