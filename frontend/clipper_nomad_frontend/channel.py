"""What dispatch.py sends to replicas and peers, and how: router.py does it, tests and simulations do it otherwise; and
legacy_peers.py for the replicas that speak Clipper's RPC version 3."""

from __future__ import annotations

from typing import Protocol

from clipper_nomad_frontend.sessions import Batch, Session


class Channel(Protocol):
    """Sends to replicas. Each returns False if the peer is gone; nothing was sent then."""

    def send_batch(self, session: Session, batch: Batch, *, input_type: int, item_length: int, budget_micros: int) -> bool:
        """Send the inputs of a batch."""

    def send_cancel(self, session: Session, batch_id: int) -> bool:
        """Ask a replica to forget a batch that it has not started."""

    def send_ask(self, session: Session, waited_s: float) -> bool:
        """Ask a replica to call when it is free for a batch whose first query waits for so long."""

    def send_pass(self, session: Session, call: int = 0) -> bool:
        """Tell a replica that nothing waits for it, in answer to its call or before."""

    def send_relay(self, session: Session, batch: Batch, *, uid: str, input_type: int, item_length: int, now: float) -> bool:
        """Send the queries of a batch to a peer frontend."""


class LegacyChannel(Protocol):
    """Sends to replicas of RPC version 3. They take one batch at a time, and cannot be asked to call."""

    def send_batch(self, session: Session, batch: Batch, *, input_type: int, item_length: int, budget_micros: int) -> bool:
        """Send the inputs of a batch; False if the peer is gone, nothing was sent then."""

    def dismiss(self, session: Session) -> None:
        """Give it nothing more, and forget it once it has answered what it has: its version was removed."""
