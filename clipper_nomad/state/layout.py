"""How the catalog lies in Redis, and the one way to read it. store.py writes through it, watch.py follows it.

    clipper:{cluster}:meta           hash: store_id, revision, schema, parent_store_id
    clipper:{cluster}:catalog        hash: records.field_of → records.to_json
    clipper:{cluster}:request:{key}  what a write answered, for REPLAY_S, so that a retried call gets the same answer
    clipper:{cluster}:changes        channel: admin's orders       clipper:{cluster}:acks   channel: frontends' answers
    clipper:{cluster}:frontends      channel: frontends find one another; nothing is stored
    clipper:{cluster}:feedback       stream: feedback.py; no part of the catalog

Every write raises the revision in the same transaction, so a reader that sees one revision sees all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from clipper_nomad.errors import StoreError
from clipper_nomad.state.moving_store import SCHEME, StoreFile
from clipper_nomad.state.records import Snapshot, snapshot

SCHEMA = 1
CONNECT_TIMEOUT_S = 2.0
COMMAND_TIMEOUT_S = 5.0  # an fsync on a busy disk takes seconds at worst; a stopped store is noticed after this


@dataclass(frozen=True, slots=True)
class Keys:
    """The names that one cluster's catalog has in the store."""

    cluster: str

    @property
    def meta(self) -> str:
        """The hash with store_id, revision and schema."""
        return f"clipper:{self.cluster}:meta"

    @property
    def catalog(self) -> str:
        """The hash with the records."""
        return f"clipper:{self.cluster}:catalog"

    @property
    def changes(self) -> str:
        """The channel that only frontends subscribe to."""
        return f"clipper:{self.cluster}:changes"

    @property
    def acks(self) -> str:
        """The channel that frontends answer on."""
        return f"clipper:{self.cluster}:acks"

    @property
    def frontends(self) -> str:
        """The channel on which frontends tell one another that they are there."""
        return f"clipper:{self.cluster}:frontends"

    @property
    def feedback(self) -> str:
        """The stream with the newest feedback on predictions."""
        return f"clipper:{self.cluster}:feedback"

    def request(self, key: str) -> str:
        """The text with the answer of an earlier write."""
        return f"clipper:{self.cluster}:request:{key}"


def connect(url: str, *, retries: int) -> Redis:
    """Return a client; it connects when it is first used. Raises: StoreError: the URL is none of a store.

    `url` may be file:///path, a file with the URL in it that is read at each connect: moving_store.py. `retries`: how
    often a command is sent again on a new connection when the old one turns out to be closed.
    """
    options: dict[str, Any] = {  # Any: the client's keyword arguments
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": COMMAND_TIMEOUT_S,
        "retry": Retry(NoBackoff(), retries, supported_errors=(RedisConnectionError,)),
        "protocol": 2,
    }
    try:
        if url.startswith(SCHEME):
            place = StoreFile(Path(url.removeprefix(SCHEME)))
            return Redis.from_pool(ConnectionPool(**place.connection_options(), **options))
        return Redis.from_url(url, **options)
    except ValueError as exc:
        raise StoreError(
            f"{without_password(url)!r} is no address of a store: {exc}",
            hint="Give redis://host:port/0, rediss://…, unix:///path/of/the.sock, or file:///path of a file with one.",
        ) from exc


async def load(client: Redis, keys: Keys) -> Snapshot | None:
    """Return the catalog as it is at one revision, or None if there is none (a new store, or one that lost its data).

    Raises: StoreError: what is there is no catalog of ours. RedisError, OSError: the store cannot be asked.
    """
    async with client.pipeline(transaction=True) as both:
        both.hgetall(keys.meta)
        both.hgetall(keys.catalog)
        meta, catalog = await both.execute()
    return parse(meta, catalog, keys)


async def load_watched(pipe: Pipeline, keys: Keys) -> Snapshot | None:
    """As `load`, inside a transaction that is void if the catalog changes before it ends."""
    await pipe.watch(keys.meta, keys.catalog)
    return parse(await pipe.hgetall(keys.meta), await pipe.hgetall(keys.catalog), keys)


Reply = Mapping[bytes | str, bytes | str]  # of HGETALL; always bytes here, which the client's types do not know


def parse(meta: Reply, catalog: Reply, keys: Keys) -> Snapshot | None:
    """Return the snapshot in the two hashes, or None if there is no store id. Raises: StoreError: damaged, too new."""
    try:
        about = _texts(meta)
        if "store_id" not in about:
            return None
        schema, revision = int(about["schema"]), int(about["revision"])
        if schema > SCHEMA:
            raise StoreError(
                f"the catalog of cluster '{keys.cluster}' has schema {schema}; this toolkit knows up to {SCHEMA}",
                hint="A newer clipper-nomad wrote it: use that version.",
            )
        parent = about.get("parent_store_id") or None
        return snapshot(about["store_id"], revision, _texts(catalog), parent_store_id=parent)
    except (KeyError, ValueError) as exc:
        raise StoreError(
            f"the catalog of cluster '{keys.cluster}' in the store is damaged: {exc}",
            hint="Query frontends serve their last good one. Write it back: POST /admin/v1/store/restore.",
        ) from exc


def text(value: bytes | str) -> str:
    """Return a reply of the client as text. Raises: ValueError: it is not UTF-8."""
    return value.decode() if isinstance(value, bytes) else value


def _texts(reply: Reply) -> dict[str, str]:
    return {text(name): text(value) for name, value in reply.items()}


def without_password(url: str) -> str:
    """Return a URL as it may be shown: secrets appear in no message."""
    return re.sub(r"//[^@/]*@", "//…@", url)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn every error of the client into StoreError, with what was being done."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as exc:
        raise StoreError(
            f"{what} failed: the store does not answer as it should: {type(exc).__name__}: {exc}",
            hint="Predictions go on without it. See that the store runs, and its log.",
        ) from exc
