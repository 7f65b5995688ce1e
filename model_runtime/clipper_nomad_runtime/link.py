"""The link of this replica to one frontend, as a state machine. Pure: messages and the time are handed in.

    WAITING ─dialled─► DIALING ─greeted─► GREETING ─WELCOME─► OPEN ─released─► RELEASING ─DRAINED─► LEAVING ─► GONE
       ▲                  │                  │                  └────────────────DRAIN────────────────►┘
       └───────lost───────┴────── lost ──────┴─── lost: dialled again, later each time; GONE if it was leaving

One connection is one session and is never resumed: what waits on a lost one is forgotten, because the frontend gives it
to another replica. mesh.py decides which links there are, serving.py moves the messages, dealer.py holds the sockets.
Source: docs/decisions/0003-wire-format.md
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Callable
from math import inf
from typing import NamedTuple

from clipper_nomad.protocol.mesh_messages import RosterEntry, decode_roster
from clipper_nomad.protocol.wire import (
    Header,
    MessageType,
    Reject,
    Welcome,
    WireError,
    decode_ask,
    decode_introduction,
    header_of,
)

DIAL_S = 2.0  # a connection that is not there by then is dialled anew; the name is then looked up anew too
WELCOME_S = 2.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
MAX_BREACHES = 10  # of the protocol on one connection: then it is closed
MICROS = 1_000_000
MAX_WAITING = 1024  # batches of one frontend; it sends a handful


class Way(enum.StrEnum):
    """How a link came to be dialled."""

    SEED = "seed"  # an address of the settings: whoever is there
    DIRECT = "direct"  # the address that a roster gives for one frontend
    PROXY = "proxy"  # a seed again, in search of frontends that are not linked: one connection, never dialled again


class Stage(enum.Enum):
    """Where a link is. Work comes in OPEN and RELEASING; what came is still done in LEAVING."""

    WAITING = "waiting"
    DIALING = "dialing"
    GREETING = "greeting"
    OPEN = "open"
    RELEASING = "releasing"
    LEAVING = "leaving"
    GONE = "gone"


_WELCOMED = frozenset({Stage.OPEN, Stage.RELEASING, Stage.LEAVING})


class Batch(NamedTuple):
    """One PREDICT as it came, not yet unpacked. `asked` and `read`: when reading it began and ended."""

    header: Header
    frames: list[bytes]
    asked: float
    read: float


Roster = tuple[RosterEntry, ...]


class Link:
    """What is known of one frontend, and the batches of it that wait here."""

    def __init__(
        self,
        address: str,
        *,
        jitter: Callable[[], float],
        dropped: Counter[str],
        way: Way = Way.SEED,
        expected: str = "",
    ) -> None:
        """`jitter` returns numbers from 0 to 1, so that replicas do not dial in step; `dropped` counts by reason.

        `expected`: the frontend that a roster says is there.
        """
        self.address = address
        self.way = way
        self.expected = expected
        self.frontend = ""  # who welcomed this replica there, the last time
        self.stage = Stage.WAITING
        self.due = -inf  # when `stage` must have changed
        self.batches: deque[Batch] = deque()
        self.breaches = 0
        self.failed_dials = 0  # in a row
        self.is_told_again = False  # the last roster was the one before, once more
        self.roster: Roster = ()  # every frontend, as this one knows it; empty till it told
        self.is_surplus = False  # its frontend is linked already, or is not wanted: it is being released
        self.refusal: str | None = None  # why the frontend will never take this replica
        self.was_sent_away = False  # the frontend wants no more of this replica's version
        self.waits_since: float | None = None  # its frontend has queries, the first since then, and asked to be called
        self.call = 0  # the number of the call (FREE) that its frontend has not answered yet; 0: none
        self._jitter = jitter
        self._dropped = dropped
        self.longest_pause_s = LONGEST_PAUSE_S
        self._pause = FIRST_PAUSE_S
        self._epoch = 0
        self._session = 0
        self._first_turn = int(jitter() * 256)  # by chance: a search dials each connection once

    @property
    def turn(self) -> int:
        """Which of the frontends' keys the next dial tries: another one after each that failed."""
        return self._first_turn + self.failed_dials

    @property
    def is_finished(self) -> bool:
        """Whether the frontend sends no more and all that it sent is answered."""
        return self.stage is Stage.LEAVING and not self.batches

    @property
    def backlog(self) -> int:
        """How many batches it has here, and one more if it asked to be called."""
        return len(self.batches) + (self.waits_since is not None)

    @property
    def identity(self) -> tuple[int, int]:
        """Epoch and session, as in every message of this session."""
        return self._epoch, self._session

    def dialled(self, now: float) -> None:
        """A connection was begun."""
        self.stage, self.due = Stage.DIALING, now + DIAL_S

    def greeted(self, now: float) -> None:
        """The connection stands and the hello is on its way."""
        self.stage, self.due = Stage.GREETING, now + WELCOME_S

    def released(self) -> None:
        """The frontend was asked to send no more."""
        self.stage, self.waits_since = Stage.RELEASING, None

    def hasten(self, now: float) -> None:
        """Dial soon, however long it has failed: something says that it may be worth it."""
        if self.stage is Stage.WAITING:
            self._pause = FIRST_PAUSE_S
            self.due = min(self.due, now + self._next_pause())

    def lost(self, now: float) -> int:
        """The connection is gone, or is given up. Return how many batches are forgotten."""
        forgotten = len(self.batches)
        self.batches.clear()
        self.waits_since, self.call = None, 0
        self.breaches = 0
        self.failed_dials += 1
        self.roster = ()
        if self.refusal is not None or self.way is Way.PROXY or self.stage in {Stage.RELEASING, Stage.LEAVING}:
            self.leave()
            return forgotten
        self.stage, self.due = Stage.WAITING, now + self._next_pause()
        return forgotten

    def leave(self) -> None:
        """This link has ended and is not dialled again."""
        self.batches.clear()
        self.stage, self.due = Stage.GONE, inf

    def take(self, frames: list[bytes], *, asked: float, read: float) -> Welcome | Reject | Roster | None:
        """Take one message of the frontend. Return it if it is news for the mesh or the operator.

        Raises: WireError: it is not of this protocol, or cannot come at this stage.
        """
        header = header_of(frames[0])
        kind = header.type
        if kind is MessageType.WELCOME and self.stage is Stage.GREETING:
            return self._open(header, decode_introduction(frames, Welcome))
        if kind is MessageType.REJECT:
            reject = decode_introduction(frames, Reject)
            self.refusal = reject.reason if reject.final else None
            return reject
        if self.stage not in _WELCOMED:
            raise WireError(f"{kind.name} cannot come before a welcome")
        if header.epoch != self._epoch or header.session != self._session:
            self._dropped["stale"] += 1
        elif kind is MessageType.PREDICT:
            if len(self.batches) >= MAX_WAITING:
                raise WireError(f"{MAX_WAITING} batches of this frontend wait here already")
            self.batches.append(Batch(header, frames, asked, read))
        elif kind is MessageType.ASK:
            waited_s = decode_ask(frames) / MICROS
            self.waits_since = read - waited_s if self.stage is Stage.OPEN else None
        elif kind is MessageType.PASS:
            self._passed(header.batch)
        elif kind is MessageType.CANCEL:
            self._cancel(header.batch)
        elif kind is MessageType.ROSTER:
            told = decode_roster(frames)
            self.is_told_again = told == self.roster
            self.roster = told
            return self.roster
        elif kind is MessageType.DRAIN or (kind is MessageType.DRAINED and self.stage is not Stage.OPEN):
            self.was_sent_away |= kind is MessageType.DRAIN
            self.stage, self.due, self.waits_since = Stage.LEAVING, inf, None
        else:
            raise WireError(f"{kind.name} cannot come from a frontend while the link is {self.stage.value}")
        return None

    def _open(self, header: Header, welcome: Welcome) -> Welcome:
        self._epoch, self._session = header.epoch, header.session
        self._pause = FIRST_PAUSE_S
        self.failed_dials = 0
        self.frontend = welcome.frontend
        self.stage, self.due = Stage.OPEN, inf
        return welcome

    def _next_pause(self) -> float:
        pause = min(self._pause, self.longest_pause_s) * (0.5 + 0.5 * self._jitter())
        self._pause = min(2 * self._pause, self.longest_pause_s)
        return pause

    def _passed(self, call: int) -> None:
        if not call:
            self.waits_since = None
        elif call == self.call:
            self.call = 0
        else:
            self._dropped["late pass"] += 1

    def _cancel(self, batch: int) -> None:
        for index, waiting in enumerate(self.batches):
            if waiting.header.batch == batch:
                del self.batches[index]
                self._dropped["cancelled"] += 1
                return
