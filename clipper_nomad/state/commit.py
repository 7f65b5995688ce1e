"""What a rule decides to write, and what was written. Pure values between admin's rules and store.py."""

from __future__ import annotations

from dataclasses import dataclass

from clipper_nomad.state.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What a rule decided: records to put, fields to delete, and the answer for whoever asked."""

    put: tuple[Record, ...] = ()
    delete: tuple[str, ...] = ()
    reply: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """A write that is on disk: at which revision, which fields, and the answer for whoever asked."""

    store_id: str
    revision: int
    fields: tuple[str, ...]
    reply: str
