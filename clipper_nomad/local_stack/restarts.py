"""When a part that died is started again, and when it is given up. Pure: the caller passes the time in.

keeper.py reports each death. The delay doubles from 0.2 s to 5 s and starts over after a life of 10 s; five deaths
within 60 s, or an exit code that another start cannot change, and the part has failed (decision 32).
"""

from __future__ import annotations

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 5.0
SETTLED_AFTER_S = 10.0
MAX_DEATHS = 5
DEATHS_WITHIN_S = 60.0


class Restarts:
    """The deaths of one part. `hopeless`: exit codes after which a new start would end the same way."""

    def __init__(self, hopeless: frozenset[int] = frozenset()) -> None:
        self._hopeless = hopeless
        self._delay_s = FIRST_DELAY_S
        self._deaths: list[float] = []

    def delay_s(self, *, now: float, lived_s: float, exit_code: int | None) -> float | None:
        """Record a death and return how long to wait before the next start, or None to give up.

        `exit_code`: None for one that is not the part's own word.
        """
        if exit_code in self._hopeless:
            return None
        self._deaths = [at for at in self._deaths if at > now - DEATHS_WITHIN_S] + [now]
        if len(self._deaths) >= MAX_DEATHS:
            return None
        if lived_s >= SETTLED_AFTER_S:
            self._delay_s = FIRST_DELAY_S
        delay_s = self._delay_s
        self._delay_s = min(2 * delay_s, LONGEST_DELAY_S)
        return delay_s

    def forget(self) -> None:
        """Start over: someone asked for the part again."""
        self._delay_s = FIRST_DELAY_S
        self._deaths.clear()
