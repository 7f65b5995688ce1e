"""The frontend's side of the store: follow the catalog, acknowledge what is served, answer roll calls. For ever.

`watch_catalog` hands every catalog it sees to `accept`, which decides (the frontend's catalog.py) and returns the
revision it serves now; nothing is decided here. Pub/sub loses messages while a connection is down, so the catalog is
read anew at each start and reconnect, and the revision is compared every COMPARE_S besides.

A store that holds no catalog, or one that cannot be read, is handed on as a snapshot with store_id "" and revision 0:
whoever serves a catalog keeps it and reports a conflict; whoever has none waits for one.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from clipper_nomad.errors import StoreError
from clipper_nomad.state.layout import COMMAND_TIMEOUT_S, Keys, connect, load, text, without_password
from clipper_nomad.state.messages import (
    AcceptStore,
    Ack,
    Change,
    Presence,
    RollCall,
    decode_order,
    decode_presence,
    encode_ack,
    encode_presence,
)
from clipper_nomad.state.records import Snapshot

COMPARE_S = 5.0  # how long a lost message may go unnoticed; also how often the subscription's connection is tried
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.1, 2.0  # back within 3 s of the store's return, without a storm of dials

log = logging.getLogger(__name__)

Accept = Callable[[Snapshot, bool], int]  # (snapshot, forced: a person said that this store counts) → revision served
Heard = Callable[[Presence], bool]  # another frontend is there → whether that is news
Report = Callable[[], Mapping[str, Any]]  # Any: JSON; must hold store_id and conflict of what is served


async def watch_catalog(
    url: str,
    cluster: str,
    *,
    accept: Accept,
    report: Report,
    frontend_id: str,
    address: str = "",
    heard: Heard | None = None,
    is_present: Callable[[], bool] = lambda: True,
    compare_s: float = COMPARE_S,
) -> NoReturn:
    """Follow the catalog of `cluster` until cancelled; store outages are waited out.

    With `heard`, this frontend also says, while `is_present`, that it is there, at `address`, and hears of the others.
    `accept` and `report` run in this task, between awaits: what the one changes the other sees.
    Raises: StoreError: `url` is none of a store; nothing else.
    """
    client = connect(url, retries=0)  # a connection that broke is a gap in what was heard: begin anew
    own = Presence(frontend=frontend_id, address=address)
    watch = _Watch(
        client,
        Keys(cluster),
        accept=accept,
        report=report,
        own=own,
        heard=heard,
        is_present=is_present,
        compare_s=compare_s,
    )
    try:
        await watch.run(without_password(url))
    finally:
        await client.aclose()


class _Watch:
    def __init__(
        self,
        client: Redis,
        keys: Keys,
        *,
        accept: Accept,
        report: Report,
        own: Presence,
        heard: Heard | None,
        is_present: Callable[[], bool],
        compare_s: float,
    ) -> None:
        self._client = client
        self._keys = keys
        self._accept = accept
        self._report = report
        self._own = own
        self._heard = heard
        self._is_present = is_present
        self._compare_s = compare_s
        self._seen: tuple[str, int] | None = None  # store id and revision of what was handed to accept last
        self._served = 0
        self._failures = 0
        self._is_away = False
        self._damage: str | None = None

    async def run(self, where: str) -> NoReturn:
        while True:
            try:
                await self._follow()
            except (RedisError, OSError) as exc:
                self._failures += 1
                if not self._is_away:
                    self._is_away = True
                    log.warning("store away, serving on", extra={"store": where, "cause": repr(exc)})
            except Exception:  # accept or report raised: a bug, and no reason to stop following
                self._failures += 1
                log.exception("catalog not taken", extra={"store": where})
            backoff_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(self._failures - 1, 10))
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, no secret

    async def _follow(self) -> NoReturn:
        """One connection's life: subscribe, read, then obey. Raises whatever ends it."""
        async with self._client.pubsub() as changes:
            for channel in (self._keys.changes, *([self._keys.frontends] if self._heard else [])):
                await changes.subscribe(channel)
                if await self._next(changes, COMMAND_TIMEOUT_S) is None:  # once confirmed, no change can be missed
                    raise ConnectionError(f"the store did not confirm a subscription within {COMMAND_TIMEOUT_S:.0f} s")
            await self._take()
            await self._show_presence()
            self._failures = 0
            if self._is_away:
                self._is_away = False
                log.info("store back", extra={"revision": self._served})
            loop = asyncio.get_running_loop()
            compare_at = loop.time() + self._compare_s
            was_heard = True
            while True:
                message = await self._next(changes, compare_at - loop.time())
                if message is not None:
                    was_heard = True
                    if message["type"] == "message":
                        await self._hear(text(message["channel"]), message["data"])
                elif loop.time() >= compare_at:
                    if not was_heard:
                        raise ConnectionError("the subscription is silent: even a ping of it was not answered")
                    was_heard = False
                    await changes.ping()
                    await self._show_presence()
                    await self._compare()
                    compare_at = loop.time() + self._compare_s

    async def _next(self, changes: PubSub, timeout_s: float) -> Mapping[str, Any] | None:
        """Return the next message of the subscription, or None after `timeout_s`."""
        _obey_cancellation()
        if timeout_s <= 0:
            return None
        message: Mapping[str, Any] | None = await changes.get_message(timeout=timeout_s)
        return message

    async def _hear(self, channel: str, raw: bytes) -> None:
        if channel == self._keys.changes:
            await self._obey(raw)
            return
        presence = decode_presence(raw)
        is_other = presence is not None and presence.frontend != self._own.frontend
        if presence is not None and is_other and self._heard is not None and self._heard(presence):
            await self._show_presence()  # a newcomer has not heard of us

    async def _show_presence(self) -> None:
        if self._heard is not None and self._is_present():
            await self._client.publish(self._keys.frontends, encode_presence(self._own))

    async def _obey(self, raw: bytes) -> None:
        match decode_order(raw):
            case Change(revision=revision) if self._seen is None or revision > self._seen[1]:
                await self._take()
            case Change():  # read already, on the way to an earlier change; or another store's
                await self._compare()
                await self._acknowledge()
            case RollCall(id=id_):
                await self._acknowledge(roll_call=id_)
            case AcceptStore(store_id=store_id):
                await self._take(forced_for=store_id)

    async def _take(self, *, forced_for: str | None = None) -> None:
        """Read the catalog, hand it on, and acknowledge what is served now."""
        try:
            found, damage = await load(self._client, self._keys), None
        except StoreError as exc:
            found, damage = None, exc.msg
        if damage is not None and damage != self._damage:
            log.error("catalog in the store cannot be read, serving on", extra={"cause": damage})
        self._damage = damage
        catalog = found or Snapshot(store_id="", revision=0)
        self._seen = (catalog.store_id, catalog.revision)
        self._served = self._accept(catalog, forced_for is not None and catalog.store_id == forced_for)
        await self._acknowledge()

    async def _compare(self) -> None:
        """Take the catalog if it is not the one seen last: a message was lost, or the store's data were exchanged."""
        store_id, revision = await self._client.hmget(self._keys.meta, "store_id", "revision")
        try:
            now = (text(store_id or b""), int(revision or 0))
        except ValueError:
            now = ("", 0)
        if now != self._seen:
            await self._take()

    async def _acknowledge(self, *, roll_call: str | None = None) -> None:
        report = self._report()
        ack = Ack(
            frontend=self._own.frontend,
            store_id=report["store_id"] or "",  # None while nothing is served
            revision=self._served,
            conflict=bool(report["conflict"]) or self._damage is not None,
            roll_call=roll_call,
            report=report if roll_call else None,
        )
        await self._client.publish(self._keys.acks, encode_ack(ack))


def _obey_cancellation() -> None:
    """Raise CancelledError if this task was told to end.

    The client sends with asyncio.wait_for, which up to Python 3.11 loses a cancellation that comes in the moment the
    sending is done (python/cpython issue 86296): the watch would wait for the next message for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
