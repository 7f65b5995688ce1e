"""Which catalog this frontend serves: the newest of its own store, kept on disk, never a stranger's.

A catalog replaces the one served only if it comes from the same store with a higher revision, or from a store that was
restored from ours, or if an operator said so. Anything else (another store, an older revision) leaves what is served and
raises `conflict`, so that a store which came back empty or from an old backup wipes nothing. The mirror on disk lets a
frontend start, and answer, with the store away. Source: docs/decisions/0004-catalog.md
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from clipper_nomad.state.records import Snapshot, from_mirror, to_mirror
from clipper_nomad_frontend.metrics import ProcessCounters

log = logging.getLogger(__name__)


def replaces(new: Snapshot, served: Snapshot | None) -> bool:
    """Return whether `new` may take the place of `served`."""
    if not new.store_id:
        return False  # the store is empty: there is nothing to serve
    if served is None:
        return True
    if new.store_id == served.store_id:
        return new.revision > served.revision
    return new.parent_store_id == served.store_id and new.revision >= served.revision


class Catalog:
    """The catalog served, its mirror, and whether the store disagrees with it."""

    def __init__(
        self, mirror: Path | None, apply: Callable[[Snapshot], None], counters: ProcessCounters | None = None
    ) -> None:
        self.served: Snapshot | None = None
        self.conflict: str | None = None
        self._is_confirmed = False  # the store said that it counts, or a peer to which the store said so
        self._mirror = mirror
        self._apply = apply
        self._counters = counters or ProcessCounters()

    def start_from_mirror(self) -> bool:
        """Serve what the mirror holds; False if there is none that can be read."""
        if self._mirror is None:
            return False
        try:
            snapshot = from_mirror(self._mirror.read_bytes())
        except FileNotFoundError:
            return False
        except (OSError, ValueError, RecursionError) as exc:
            fields = {"path": str(self._mirror), "cause": str(exc)}
            log.error("the mirror of the catalog cannot be read", extra=fields)  # noqa: TRY400  # the cause says all
            return False
        self._serve(snapshot, is_confirmed=False)
        log.info("catalog from the mirror", extra={"revision": snapshot.revision, "apps": len(snapshot.apps)})
        return True

    def accept(self, snapshot: Snapshot, forced: bool = False) -> int:  # noqa: FBT001, FBT002  # watch_catalog's callback
        """Take `snapshot` if it may replace what is served, and return the revision that is served now."""
        served = self.served
        if served is not None and (snapshot.store_id, snapshot.revision) == (served.store_id, served.revision):
            self._set_conflict(None)
            self._is_confirmed = True
        elif forced or replaces(snapshot, served):
            self._set_conflict(None)
            self._serve(snapshot, is_confirmed=True)
            self._write_mirror(snapshot)
        elif served is not None:
            self._counters.catalog_rejected += 1
            self._set_conflict(
                f"the store holds revision {snapshot.revision} of store {snapshot.store_id}, this frontend serves revision "
                f"{served.revision} of store {served.store_id}"
            )
        return self.served.revision if self.served is not None else -1

    @property
    def is_confirmed(self) -> bool:
        """Whether the store, as this frontend or a peer saw it, said that what is served counts."""
        return self._is_confirmed

    def wants(self, store_id: str, revision: int, *, is_confirmed: bool) -> bool:
        """Return whether a peer's catalog should be served instead.

        Without a catalog any is wanted; else a newer one of the same store. What only a mirror said gives way to what a
        store confirmed, unless the store was seen from here and says otherwise: it may have lost its data.
        """
        served = self.served
        if served is None or not store_id:
            return bool(store_id)
        if store_id == served.store_id:
            return revision > served.revision
        return is_confirmed and not self._is_confirmed and self.conflict is None

    def take_from_peer(self, mirror: bytes, peer: str, *, is_confirmed: bool) -> None:
        """Serve a peer's catalog if `wants` says so; it is in conflict with the store, or not, as what was served before."""
        try:
            snapshot = from_mirror(mirror)
        except (ValueError, RecursionError) as exc:
            log.error("the catalog of a peer cannot be read", extra={"peer": peer, "cause": str(exc)})  # noqa: TRY400
            return
        if self.wants(snapshot.store_id, snapshot.revision, is_confirmed=is_confirmed):
            log.info("catalog from a peer", extra={"peer": peer, "revision": snapshot.revision})
            self._serve(snapshot, is_confirmed=is_confirmed)
            self._write_mirror(snapshot)

    def mirror_bytes(self) -> bytes | None:
        """Return the served catalog as a mirror file, or None while nothing is served."""
        return None if self.served is None else to_mirror(self.served)

    def _serve(self, snapshot: Snapshot, *, is_confirmed: bool) -> None:
        self.served = snapshot
        self._is_confirmed = is_confirmed
        self._apply(snapshot)

    def _set_conflict(self, reason: str | None) -> None:
        if reason is not None and self.conflict is None:
            log.error("catalog conflict: serving what was served before", extra={"cause": reason})
        elif reason is None and self.conflict is not None:
            log.info("catalog conflict is over")
        self.conflict = reason
        self._counters.catalog_conflict = int(reason is not None)

    def _write_mirror(self, snapshot: Snapshot) -> None:
        if self._mirror is None:
            return
        temporary = self._mirror.with_name(self._mirror.name + ".new")
        try:
            with temporary.open("wb") as file:
                file.write(to_mirror(snapshot))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._mirror)
        except OSError as exc:  # predictions go on without a mirror; a restart while the store is away would not
            fields = {"path": str(self._mirror), "cause": str(exc)}
            log.error("the mirror of the catalog cannot be written", extra=fields)  # noqa: TRY400  # the cause says all
