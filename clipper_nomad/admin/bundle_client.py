"""The client of admin's bundles: asks what a cluster runs, sends an archive piece by piece, takes it away again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clipper_nomad.admin.client import AdminClient, Json, json_of
from clipper_nomad.errors import AdminRefused, AdminUnreachable, BundleError
from clipper_nomad.protocol.bundle_store import STORE_PATH

LEAST_PIECE_BYTES = 256 * 1024
PATIENCE_S = 60.0  # without a byte that arrived
CHECKED_WITHIN_S = 120.0  # gigabytes, from a slow disk
LOOK_EVERY_S = 0.05
PAUSE_S = 0.5
HTTP_CONFLICT = 409  # somebody else sends the same, or an answer was lost
PASSING = frozenset({404, 408, HTTP_CONFLICT, 502, 503, 504})  # too slow; a proxy that finds no admin, which moves

Said = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBundles:
    """What a cluster takes and runs. `problem`: why it keeps none; "": it does. `cache_volume`: "" without one.

    `runtime_image`: what runs them; "" where whoever brought the cluster up named none.
    """

    problem: str
    runtime_image: str
    cache_volume: str
    max_bytes: int
    piece_bytes: int


class BundleClient(AdminClient):
    """Calls admin about bundles. Every method raises AdminRefused and AdminUnreachable."""

    def taken(self) -> TakenBundles:
        """Return what the cluster takes."""
        return TakenBundles(**json_of(self._ask("GET", STORE_PATH, None)))

    def send(self, digest: str, archive: Path, *, piece_bytes: int, said: Said) -> int:
        """Send what is not there yet of an archive, and return how many bytes that were, once the bundle is checked.

        What was sent before counts, also by another process. After a failure the pieces become smaller, for lines on
        which a proxy's time limit would end each of them. Raises: BundleError: it did not arrive as it is here, twice.
        """
        size, sent = archive.stat().st_size, 0
        for is_last_try in (False, True):
            sent += self._send_rest(digest, archive, size, piece_bytes=piece_bytes, said=said)
            damage = self._await_check(digest)
            if damage is None:
                return sent
            if is_last_try:
                raise BundleError(f"The bundle did not arrive as it was sent: {damage}.", hint="Deploy it again.")
        raise AssertionError("unreachable")

    def drop(self, digest: str) -> None:
        """Remove a bundle that no version runs from."""
        self._ask("DELETE", f"{STORE_PATH}/{digest}", None)

    def _send_rest(self, digest: str, archive: Path, size: int, *, piece_bytes: int, said: Said) -> int:
        where = f"{STORE_PATH}/{digest}"
        sent, give_up_at = 0, time.monotonic() + PATIENCE_S
        state: Json = None
        with archive.open("rb") as file:
            while True:
                try:
                    state = state or json_of(self._ask("GET", where, None))
                    if state["state"] not in {"absent", "partial"}:
                        return sent
                    offset = state["received"]
                    said(f"{_amount(offset)} of {_amount(size)} are sent")
                    file.seek(offset)
                    piece = file.read(piece_bytes)
                    state = json_of(self._ask("PUT", f"{where}?offset={offset}&size={size}", piece))
                    sent, give_up_at = sent + len(piece), time.monotonic() + PATIENCE_S
                except (AdminUnreachable, AdminRefused) as exc:
                    status = exc.status if isinstance(exc, AdminRefused) else 0
                    if (status and status not in PASSING) or time.monotonic() > give_up_at:
                        raise
                    if status != HTTP_CONFLICT:
                        piece_bytes = max(LEAST_PIECE_BYTES, piece_bytes // 2)
                        time.sleep(PAUSE_S)
                    state = None  # an answer may have been lost, and not the piece

    def _await_check(self, digest: str) -> str | None:
        """Return None once the bundle is there, checked, or why it was thrown away."""
        deadline = time.monotonic() + CHECKED_WITHIN_S
        while True:
            state = json_of(self._ask("GET", f"{STORE_PATH}/{digest}", None))
            if state["state"] == "whole":
                return None
            if state["state"] != "checking":
                return str(state["damaged"] or "it was removed meanwhile")
            if time.monotonic() > deadline:
                raise BundleError(
                    f"Gave up after {CHECKED_WITHIN_S:g} s: the admin service has not checked the bundle yet.",
                    hint="Deploy it again: what was sent is there.",
                )
            time.sleep(LOOK_EVERY_S)


def _amount(size: int) -> str:
    return f"{size / 1024**2:.1f} MiB" if size >= 1024**2 else f"{size / 1024:.0f} KiB"
