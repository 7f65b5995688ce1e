"""What admin and the query frontends tell each other through the store's channels. Pure.

On `changes` admin gives orders: "the catalog changed" (Change), "who is there?" (RollCall), "take that store's catalog"
(AcceptStore). On `acks` frontends answer (Ack), on `frontends` they find one another (Presence). store.py sends orders and
gathers acks, watch.py does the reverse. A message that is not understood is passed over: a newer toolkit may say more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The catalog is at `revision` now; `fields` of its hash were put or deleted."""

    revision: int
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RollCall:
    """Every live frontend is to send its report, marked with `id`."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptStore:
    """A person said that the catalog of this store counts, whatever a frontend served before."""

    store_id: str


Order = Change | RollCall | AcceptStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """What a frontend serves: the revision, of which store, and whether it refuses what the store holds now.

    `roll_call` and `report` only in answer to a roll call.
    """

    frontend: str
    store_id: str
    revision: int
    conflict: bool
    roll_call: str | None = None
    report: Mapping[str, Any] | None = None  # Any: JSON, for people and the CLI


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A frontend is there; its model channel can be dialled at `address`."""

    frontend: str
    address: str


def encode_presence(presence: Presence) -> str:
    """Return a presence as the text that is published."""
    return _dump({"frontend": presence.frontend, "address": presence.address})


def decode_presence(raw: bytes | str) -> Presence | None:
    """Return the presence in a published text, or None if it is none."""
    match _load(raw):
        case {"frontend": str() as frontend, "address": str() as address}:
            return Presence(frontend=frontend, address=address)
    return None


def encode_order(order: Order) -> str:
    """Return an order as the text that is published."""
    match order:
        case Change(revision=revision, fields=fields):
            return _dump({"revision": revision, "fields": list(fields)})
        case RollCall(id=id_):
            return _dump({"roll_call": id_})
        case AcceptStore(store_id=store_id):
            return _dump({"accept_store": store_id})


def decode_order(raw: bytes | str) -> Order | None:
    """Return the order in a published text, or None if it is none that this toolkit knows."""
    match _load(raw):
        case {"revision": int() as revision, "fields": list() as fields} if all(isinstance(f, str) for f in fields):
            return Change(revision=revision, fields=tuple(fields))
        case {"roll_call": str() as id_}:
            return RollCall(id=id_)
        case {"accept_store": str() as store_id}:
            return AcceptStore(store_id=store_id)
    return None


def encode_ack(ack: Ack) -> str:
    """Return an ack as the text that is published."""
    said: dict[str, Any] = {
        "frontend": ack.frontend,
        "store_id": ack.store_id,
        "revision": ack.revision,
        "conflict": ack.conflict,
    }
    if ack.roll_call is not None:
        said |= {"roll_call": ack.roll_call, "report": dict(ack.report or {})}
    return _dump(said)


def decode_ack(raw: bytes | str) -> Ack | None:
    """Return the ack in a published text, or None if it is none."""
    match _load(raw):
        case {
            "frontend": str() as frontend,
            "store_id": str() as store_id,
            "revision": int() as revision,
            "conflict": bool() as conflict,
            **rest,
        }:
            roll_call, report = rest.get("roll_call"), rest.get("report")
            return Ack(
                frontend=frontend,
                store_id=store_id,
                revision=revision,
                conflict=conflict,
                roll_call=roll_call if isinstance(roll_call, str) else None,
                report=report if isinstance(report, dict) else None,
            )
    return None


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _load(raw: bytes | str) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None
