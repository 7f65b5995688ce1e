"""The catalog's writer: records ↔ Redis in transactions that raise the revision, and what frontends say to them.

Admin is the only writer. A write is WATCH, read, decide (a pure rule), MULTI … EXEC, again if another writer got in
between; then `announce` publishes it and waits for the acks of all live frontends. Only layout.py, watch.py and
feedback.py touch Redis besides this file.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from typing import Self

from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError, WatchError

from clipper_nomad.errors import StoreError
from clipper_nomad.state.commit import Commit, Committed
from clipper_nomad.state.feedback import read_feedback
from clipper_nomad.state.gathering import Gathering, Propagation, Roll
from clipper_nomad.state.layout import SCHEMA, Keys, connect, load, load_watched, text, translated
from clipper_nomad.state.messages import AcceptStore, Change, encode_order
from clipper_nomad.state.records import Snapshot, field_of, to_json

COMMIT_PATIENCE_S = 10.0  # writers race only when two admins run; each round lets one of them through
Value = bytes | bytearray | memoryview | str | int | float  # what the client writes into a hash
REPLAY_S = 600  # far longer than any client retries one call


class Store:
    """One cluster's catalog. Made by `open`; every method raises StoreError when the store is away or damaged."""

    def __init__(self, url: str, cluster: str) -> None:
        self._keys = Keys(cluster)
        self._client = connect(url, retries=1)  # all that is sent may be sent twice; a commit by its request key
        self._frontends = Gathering(self._client, self._keys)

    @classmethod
    async def open(cls, url: str, cluster: str, *, create: bool) -> Self:
        """Return the store at `url`; with `create`, one that has none yet gets its store id, once and for ever."""
        store = cls(url, cluster)
        try:
            if create:
                await store.create()
            else:
                with translated("reaching the store"):
                    await store._client.ping()
        except BaseException:
            await store.close()
            raise
        return store

    async def create(self) -> None:
        """Give the store an id if it has none."""
        with translated("setting up the store"):
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.hsetnx(self._keys.meta, "store_id", secrets.token_hex(16))
                pipe.hsetnx(self._keys.meta, "revision", "0")
                pipe.hsetnx(self._keys.meta, "schema", str(SCHEMA))
                pipe.publish(self._keys.changes, encode_order(Change(revision=0)))  # frontends may have looked before
                await pipe.execute()

    async def read(self) -> Snapshot:
        """Return the catalog as it is now."""
        with translated("reading the catalog"):
            return self._present(await load(self._client, self._keys))

    async def commit(self, change: Callable[[Snapshot], Commit], *, request_key: str | None = None) -> Committed:
        """Write what `change` decides from the catalog as it is, in one transaction; raises whatever `change` raises.

        `change` may be called more than once. A `request_key` that wrote before gets the first answer and writes
        nothing: a caller whose connection broke may ask again.
        """
        # without a key of the caller's, a transaction whose answer was lost must not be done again either
        request = self._keys.request(request_key or secrets.token_hex(16))
        deadline = time.monotonic() + COMMIT_PATIENCE_S
        with translated("writing the catalog"):
            while True:
                async with self._client.pipeline(transaction=True) as pipe:
                    try:
                        return await self._transact(pipe, change, request)
                    except WatchError:  # another writer was quicker, or the connection broke: look again
                        if time.monotonic() > deadline:
                            raise StoreError(
                                f"gave up after {COMMIT_PATIENCE_S:.0f} s: other writers changed the catalog each time",
                                hint="Try again; if it stays so, see whether more than one admin service runs.",
                            ) from None
                await asyncio.sleep(secrets.randbelow(10) / 1000)  # two writers in step would collide for ever

    async def _transact(self, pipe: Pipeline, change: Callable[[Snapshot], Commit], request: str) -> Committed:
        await pipe.watch(request)
        earlier = await pipe.get(request)
        before = self._present(await load_watched(pipe, self._keys))
        if earlier is not None:
            said = json.loads(earlier)
            return Committed(
                store_id=before.store_id, revision=said["revision"], fields=tuple(said["fields"]), reply=said["reply"]
            )
        commit = change(before)
        fields = (*map(field_of, commit.put), *commit.delete)
        if not fields:
            return Committed(store_id=before.store_id, revision=before.revision, fields=(), reply=commit.reply)
        revision = before.revision + 1
        pipe.multi()  # type: ignore[no-untyped-call]  # the client's
        if commit.put:
            pipe.hset(self._keys.catalog, mapping={field_of(record): to_json(record) for record in commit.put})
        if commit.delete:
            pipe.hdel(self._keys.catalog, *commit.delete)
        pipe.hincrby(self._keys.meta, "revision", 1)
        said = {"revision": revision, "fields": list(fields), "reply": commit.reply}
        pipe.set(request, json.dumps(said), ex=REPLAY_S)
        await pipe.execute()
        return Committed(store_id=before.store_id, revision=revision, fields=fields, reply=commit.reply)

    async def replace(self, snapshot: Snapshot) -> Committed:
        """Write a whole catalog under a new store id that names the snapshot's store as its parent.

        Frontends that serve the parent's catalog take the new one without being asked, since its revision is higher.
        """
        store_id, revision = secrets.token_hex(16), snapshot.revision + 1
        records: dict[Value, Value] = {field_of(record): to_json(record) for record in snapshot.records}
        meta: dict[Value, Value] = {
            "store_id": store_id,
            "revision": revision,
            "schema": SCHEMA,
            "parent_store_id": snapshot.store_id,
        }
        with translated("restoring the catalog"):
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.delete(self._keys.meta, self._keys.catalog)
                if records:
                    pipe.hset(self._keys.catalog, mapping=records)
                pipe.hset(self._keys.meta, mapping=meta)
                await pipe.execute()
        return Committed(store_id=store_id, revision=revision, fields=tuple(map(field_of, snapshot.records)), reply="")

    async def announce(self, committed: Committed, timeout_s: float = 2.0) -> Propagation:
        """Tell all frontends of a write, and return who does not serve it within `timeout_s`."""
        with translated("announcing a write"):
            change = Change(revision=committed.revision, fields=committed.fields)
            return await self._frontends.announce(change, committed.store_id, timeout_s)

    async def accept(self, timeout_s: float = 2.0) -> Propagation:
        """Tell all frontends that this store's catalog counts, and return who does not serve it within `timeout_s`."""
        current = await self.read()
        with translated("announcing that this store counts"):
            return await self._frontends.announce(AcceptStore(store_id=current.store_id), current.store_id, timeout_s)

    async def roll_call(self, timeout_s: float = 1.0) -> Roll:
        """Ask all frontends for their reports, and return those that came within `timeout_s`."""
        with translated("calling the roll of the frontends"):
            return await self._frontends.roll_call(timeout_s)

    async def feedback(self, *, app: str | None, most: int) -> list[dict[str, object]]:
        """Return the newest feedback first, of one app or of all."""
        with translated("reading feedback"):
            return await read_feedback(self._client, self._keys, app=app, most=most)

    async def is_durable(self) -> bool | None:
        """Return whether an answered write is on disk (`appendonly yes`, `appendfsync always`); None: unknown."""
        with translated("asking how the store keeps its data"):
            try:
                settings = await self._client.config_get("appendonly", "appendfsync")
            except ResponseError:  # many hosted stores do not allow CONFIG
                return None
        said = {text(name or ""): text(value or "") for name, value in settings.items()}
        return said == {"appendonly": "yes", "appendfsync": "always"}

    async def close(self) -> None:
        """Close all connections."""
        with translated("closing the store"):
            await self._client.aclose()

    def _present(self, found: Snapshot | None) -> Snapshot:
        if found is None:
            raise StoreError(
                f"the store holds no catalog of cluster '{self._keys.cluster}': it is new, or it lost its data",
                hint="Query frontends serve their last good one. Write it back with POST /admin/v1/store/restore, or "
                "start with an empty one with POST /admin/v1/store/accept.",
            )
        return found
