"""The link of this replica to a frontend of Clipper's own, by RPC version 3. Pure: messages and the time are handed in.

    WAITING ─dialled─► DIALING ─called─► CALLING ─anything heard─► OPEN
       ▲                  └────────────────┴──── lost, or silent for too long ────┘

A container calls once and then waits to be asked who it is; later it sends a heartbeat whenever it has heard nothing for
POLL_S. A frontend that says nothing for LOST_AFTER_S is given up, and dialled anew.
Source: docs/decisions/0014-clipper-rpc.md
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from math import inf
from typing import NamedTuple

from clipper_nomad.protocol import rpc3
from clipper_nomad.protocol.rpc3 import FrontendHeartbeat, HeartbeatType, OtherVersion, Request
from clipper_nomad.protocol.wire import WireError
from clipper_nomad_runtime.link import DIAL_S, FIRST_PAUSE_S, LONGEST_PAUSE_S

MAX_WAITING = 1024  # requests of one frontend; Clipper's sends one


class Stage(enum.Enum):
    """Where a link is."""

    WAITING = "waiting"
    DIALING = "dialing"
    CALLING = "calling"
    OPEN = "open"


class Batch(NamedTuple):
    """One request as it came. `asked` and `read`: when reading it began and ended."""

    request: Request
    asked: float
    read: float


class LegacyLink:
    """What is known of one frontend, and the requests of it that wait here."""

    turn = 0  # version 3 has no keys

    def __init__(self, address: str, *, introduction: list[bytes], jitter: Callable[[], float]) -> None:
        """`jitter` returns numbers from 0 to 1, so that replicas do not dial in step."""
        self.address = address
        self.stage = Stage.WAITING
        self.due = -inf  # when `stage` must have changed, or a heartbeat is to be sent
        self.batches: deque[Batch] = deque()
        self.is_of_other_version = False
        self._introduction = introduction
        self._jitter = jitter
        self._pause = FIRST_PAUSE_S
        self._heard_at = -inf

    def dialled(self, now: float) -> None:
        """A connection was begun."""
        self.stage, self.due = Stage.DIALING, now + DIAL_S

    def called(self, now: float) -> None:
        """The connection stands and the first heartbeat is on its way."""
        self.stage, self.due = Stage.CALLING, now + rpc3.LOST_AFTER_S

    def take(self, frames: list[bytes], *, asked: float, read: float) -> list[bytes] | None:
        """Take one message of the frontend. Return what to say to it, or None.

        Raises: WireError: it is not of this protocol.
        """
        self._heard_at, self.due = read, read + rpc3.POLL_S
        self.stage = Stage.OPEN
        try:
            message = rpc3.decode_from_frontend(frames)
        except OtherVersion:
            self.is_of_other_version = True
            return None  # as Clipper's containers do: nothing but a note
        self._pause = FIRST_PAUSE_S
        if isinstance(message, FrontendHeartbeat):
            return self._introduction if message.kind is HeartbeatType.INTRODUCE else None
        if len(self.batches) >= MAX_WAITING:
            raise WireError(f"{MAX_WAITING} requests of this frontend wait here already")
        self.batches.append(Batch(message, asked, read))
        return None

    def is_silent(self, now: float) -> bool:
        """Return whether the frontend is to be given up. While OPEN and not, a heartbeat is due."""
        return self.stage is not Stage.OPEN or now >= self._heard_at + rpc3.LOST_AFTER_S

    def beaten(self, now: float) -> None:
        """A heartbeat was sent."""
        self.due = min(now + rpc3.POLL_S, self._heard_at + rpc3.LOST_AFTER_S)

    def worked(self, now: float) -> None:
        """The model was called: what came meanwhile is not read yet, and nobody was silent."""
        self._heard_at, self.due = now, now + rpc3.POLL_S

    def lost(self, now: float) -> int:
        """The connection is gone, or is given up. Return how many requests are forgotten."""
        forgotten = len(self.batches)
        self.batches.clear()
        self.stage = Stage.WAITING
        self.due = now + self._pause * (0.5 + 0.5 * self._jitter())
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        return forgotten
