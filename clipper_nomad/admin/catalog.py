"""The store as the handlers use it: guarded writes, reads that go on when the store is away, roll calls, restore.

A write is refused while a frontend reports that the store is not the one it serves (decision 8): whoever wrote then would
build on a catalog that nobody serves. It is answered when every live frontend serves it, or names those behind.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from clipper_nomad.errors import StoreError
from clipper_nomad.state.commit import Commit, Committed
from clipper_nomad.state.gathering import Propagation, Roll
from clipper_nomad.state.records import Snapshot
from clipper_nomad.state.store import Store

OPEN_AGAIN_S = 0.2
CONFLICT_CHECK_S = 0.5  # an idle frontend answers within milliseconds; a stopped one must not hold up each write

log = logging.getLogger(__name__)


class InConflict(Exception):
    """Frontends serve another catalog than the store holds, so nothing is written."""

    def __init__(self, frontends: tuple[str, ...]) -> None:
        super().__init__(
            f"query frontends {', '.join(frontends)} serve another catalog than the store holds: it lost its data, or an "
            "old state of it came back. Write the newest served catalog back with POST /admin/v1/store/restore, or say "
            "that the store counts with POST /admin/v1/store/accept."
        )


class NothingToRestore(Exception):
    """No frontend serves a catalog that the store does not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A write that is on disk, and how far it has come."""

    committed: Committed
    propagation: Propagation


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The catalog, and for how many seconds it may have been out of date (0: it is not)."""

    snapshot: Snapshot
    stale_s: float = 0.0


class CatalogService:
    """One cluster's catalog. Every method raises StoreError while the store is away, but `read` after a first one."""

    def __init__(self, url: str, cluster: str) -> None:
        self._url = url
        self._cluster = cluster
        self._store: Store | None = None
        self._last: Snapshot | None = None
        self._last_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the store was reached since this process started."""
        return self._store is not None

    async def open(self, stop: asyncio.Event) -> None:
        """Reach the store, however long that takes, unless `stop` is set, and give a new one its id."""
        is_first = True
        while self._store is None and not stop.is_set():
            try:
                self._store = await Store.open(self._url, self._cluster, create=True)
            except StoreError as exc:
                if is_first:
                    log.warning("store away, waiting for it", extra={"cause": exc.msg})
                is_first = False
                await asyncio.sleep(OPEN_AGAIN_S)

    async def close(self) -> None:
        """Close all connections to the store."""
        if self._store is not None:
            await self._store.close()

    async def read(self) -> Seen:
        """Return the catalog as it is, or, while the store is away, as it was last seen."""
        try:
            self._last, self._last_at = await self._opened().read(), time.monotonic()
        except StoreError:
            if self._last is None:
                raise
            return Seen(snapshot=self._last, stale_s=max(time.monotonic() - self._last_at, 0.001))
        return Seen(snapshot=self._last)

    async def write(self, rule: Callable[[Snapshot], Commit], *, request_key: str | None) -> Written:
        """Write what `rule` decides and wait until it is served. Raises: InConflict; whatever `rule` raises."""
        store = self._opened()
        if conflicting := (await store.roll_call(CONFLICT_CHECK_S)).in_conflict:
            raise InConflict(conflicting)
        committed = await store.commit(rule, request_key=request_key)
        return await self._announced(store, committed)

    async def roll_call(self) -> Roll:
        """Return who is there."""
        return await self._opened().roll_call()

    async def accept(self) -> Propagation:
        """Let every frontend serve what the store holds; one that lost its data begins with nothing."""
        store = self._opened()
        await store.create()
        return await store.accept()

    async def restore(self, newest: Snapshot) -> Written:
        """Write a catalog that frontends serve back into the store."""
        store = self._opened()
        return await self._announced(store, await store.replace(newest))

    async def feedback(self, *, app: str | None, most: int) -> list[dict[str, object]]:
        """Return the newest feedback first, of one app or of all."""
        return await self._opened().feedback(app=app, most=most)

    async def is_durable(self) -> bool | None:
        """Return whether an answered write is on disk; None: the store does not say."""
        return await self._opened().is_durable()

    async def _announced(self, store: Store, committed: Committed) -> Written:
        propagation = await store.announce(committed)
        log.info(
            "catalog written",
            extra={
                "revision": committed.revision,
                "fields": " ".join(committed.fields),
                "frontends": propagation.live,
                "behind": " ".join(propagation.behind) or "none",
            },
        )
        return Written(committed=committed, propagation=propagation)

    def _opened(self) -> Store:
        if self._store is None:
            raise StoreError("the store was not reached since the admin service started")
        return self._store
