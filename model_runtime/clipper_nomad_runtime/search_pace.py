"""How often a proxy may be dialled in search of frontends that are not linked. Pure: the caller passes `now`.

Three dials per wanted frontend may be spent at once, then one in two seconds, whatever comes and goes meanwhile: a frontend
in the roster to which the proxy has no route must not cause a storm. The first dials follow each other at once; when they
were in vain the next come ever later, because the proxy may be about to learn of the frontend. One that comes back after its
search has spent everything is worth a few dials more.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

SEARCHES_PER_LINK = 3
SEARCH_EVERY_S = 2.0  # on average, when those are spent
GRANT_EVERY_S = 10.0
_FIRST_PAUSE_S = 0.05
_PAUSE_GROWS = 1.2  # with eight links: the 24 dials take 4 s
_MAX_GROWTH = 30  # it is above SEARCH_EVERY_S by then


class SearchPace:
    """Counts dials, and those in vain."""

    def __init__(self, links: int, *, jitter: Callable[[], float]) -> None:
        """`links`: how many frontends are wanted at most. `jitter` as for Link."""
        self._links = links
        self._jitter = jitter
        self._full = self._left = SEARCHES_PER_LINK * links
        self._more_at = inf  # when one more may be spent
        self._in_vain = 0  # in a row
        self._next_at = -inf
        self._grant_at = -inf

    def ready_at(self, now: float) -> float:
        """Return when the next dial is allowed: not after `now` if it is at once."""
        while self._left < self._full and now >= self._more_at:
            self._left += 1
            self._more_at += self._pause()
        return self._next_at if self._left else max(self._next_at, self._more_at)

    def dialled(self, now: float) -> None:
        """Count a dial. To be called when `ready_at` said that it is allowed."""
        if self._left == self._full:
            self._more_at = now + self._pause()
        self._left -= 1
        if self._in_vain >= self._links:
            pause = _FIRST_PAUSE_S * _PAUSE_GROWS ** min(self._in_vain - self._links, _MAX_GROWTH)
            self._next_at = now + min(pause, SEARCH_EVERY_S) * (0.5 + 0.5 * self._jitter())

    def met(self, *, is_new: bool) -> None:
        """A dial met a frontend: one that was missing, or a double."""
        self._in_vain = 0 if is_new else self._in_vain + 1

    def hurry(self) -> None:
        """Another frontend is missing: it may be found at once."""
        self._in_vain = 0
        self._next_at = -inf

    def grant(self, frontends: int, now: float) -> None:
        """Allow a few more dials, enough to meet each of so many frontends, at most once in GRANT_EVERY_S."""
        if now >= self._grant_at:
            self._grant_at = now + GRANT_EVERY_S
            self._left = max(self._left, min(SEARCHES_PER_LINK * frontends, self._full))

    def _pause(self) -> float:
        return SEARCH_EVERY_S * (0.5 + self._jitter())
