"""Asking all live frontends something through the store, and gathering their answers. Used by store.py.

Only frontends subscribe to `changes`, so the reply of PUBLISH is the number of those that live, and how many answers
to wait for. Who did not answer is named from what was heard earlier: PUBLISH counts, it does not name.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from clipper_nomad.state.layout import COMMAND_TIMEOUT_S, Keys
from clipper_nomad.state.messages import AcceptStore, Ack, Change, Order, RollCall, decode_ack, encode_order

MAX_KNOWN = 256  # frontends have a new id at each start; only the latest are of use
UNNAMED = "unnamed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Propagation:
    """How far a write has come: `live` frontends, and the ids of those that do not serve it."""

    live: int
    behind: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """Who is there: `live` frontends, the reports of those that answered, and who is in conflict with the store."""

    live: int
    reports: tuple[Mapping[str, Any], ...] = ()  # Any: JSON, form in docs/behaviour.md, "JSON"
    in_conflict: tuple[str, ...] = ()


class Gathering:
    """The admin's end of the two channels."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._known: dict[str, None] = {}  # ids, the one heard last at the end

    async def announce(self, order: Change | AcceptStore, store_id: str, timeout_s: float) -> Propagation:
        """Publish `order` and wait until every live frontend serves it, or refuses, or `timeout_s` is over."""
        least = order.revision if isinstance(order, Change) else 0

        def is_final(ack: Ack) -> bool:
            if ack.conflict:  # told to accept, a frontend has no more conflict: this ack was sent before it was told
                return isinstance(order, Change)
            return ack.store_id == store_id and ack.revision >= least

        live, acks = await self._ask(order, is_final, timeout_s)
        refused = [ack.frontend for ack in acks.values() if ack.conflict]
        return Propagation(live=live, behind=(*refused, *self._silent(live - len(acks), acks)))

    async def roll_call(self, timeout_s: float) -> Roll:
        """Ask every live frontend for its report and wait for all, or until `timeout_s` is over."""
        id_ = secrets.token_hex(8)
        live, acks = await self._ask(RollCall(id=id_), lambda ack: ack.roll_call == id_, timeout_s)
        return Roll(
            live=live,
            reports=tuple(ack.report or {} for ack in acks.values()),
            in_conflict=tuple(ack.frontend for ack in acks.values() if ack.conflict),
        )

    async def _ask(self, order: Order, is_final: Callable[[Ack], bool], timeout_s: float) -> tuple[int, Mapping[str, Ack]]:
        """Return how many live, and the final ack of each that gave one, by frontend."""
        acks: dict[str, Ack] = {}
        async with self._client.pubsub() as pubsub:
            await self._subscribe(pubsub)
            live = int(await self._client.publish(self._keys.changes, encode_order(order)))
            deadline = time.monotonic() + timeout_s
            while len(acks) < live and (left := deadline - time.monotonic()) > 0:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=left)
                ack = decode_ack(message["data"]) if message else None
                if ack is None:
                    continue
                self._remember(ack.frontend)
                if is_final(ack):
                    acks[ack.frontend] = ack
        return live, acks

    async def _subscribe(self, pubsub: PubSub) -> None:
        """Return when answers can no longer be missed."""
        await pubsub.subscribe(self._keys.acks)
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        while time.monotonic() < deadline:
            message = await pubsub.get_message(timeout=deadline - time.monotonic())
            if message and message["type"] == "subscribe":
                return
        raise TimeoutError(f"the store did not confirm a subscription within {COMMAND_TIMEOUT_S:.0f} s")

    def _remember(self, frontend: str) -> None:
        self._known.pop(frontend, None)
        self._known[frontend] = None
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def _silent(self, count: int, heard: Mapping[str, Ack]) -> list[str]:
        """Return names for `count` frontends that said nothing: those heard last before, then UNNAMED."""
        if count <= 0:
            return []
        candidates = [frontend for frontend in reversed(self._known) if frontend not in heard]
        return [*candidates, *[UNNAMED] * count][:count]
