"""Which of the frontends that share a listening socket takes the next connection: the one with the fewest. Pure.

The system wakes all of them for every connection, and whoever runs first gets it; of 64 that come at once one process may
so get 62. A frontend that has more than the others lets them go first for a moment, and takes what they leave.
shared_listener.py asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_FRONTENDS = 64  # on one socket
SLACK = 8  # one eighth above the least of the others is as good as even
MOST_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Share:
    """The file with the counts of all, and which of them is this frontend's."""

    path: Path
    index: int


class Turns:
    """One frontend's side. Each wait in vain allows twice as many connections before the next: a peer may be stuck."""

    __slots__ = ("_allowed", "_next_allowed")

    def __init__(self) -> None:
        self._allowed = 0
        self._next_allowed = 1

    def is_ours(self, own: int, others: Sequence[int]) -> bool:
        """Whether to take a connection now. `own`, `others`: open connections of this and of the other live frontends."""
        if not others:
            return True
        least = min(others)
        if own <= least + least // SLACK:
            return True
        if self._allowed:
            self._allowed -= 1
            return True
        return False

    def waited(self, *, in_vain: bool) -> None:
        """The others had their moment; `in_vain`: they left the connection."""
        if in_vain:
            self._allowed = self._next_allowed
            self._next_allowed = min(2 * self._next_allowed, MOST_AT_ONCE)
        else:
            self._allowed = 0
            self._next_allowed = 1
