"""Ends this process when one call of the model does not come back, with a traceback that shows where it hangs.

faulthandler's own C thread does it, so it works while a C extension holds the interpreter's lock. Starting that thread
takes 50 µs, as much as all our other work on a batch: so it is started for `hang_after_s` plus a slack, and one start
serves every call that begins within the slack. A call is never ended early and at most the slack late.
"""

from __future__ import annotations

import faulthandler
from math import inf

SLACK_S = 1.0
_STDERR = 2  # the descriptor: the model may have replaced sys.stderr by something that has none


class HangWatch:
    """A timer on the model's calls. `now` is the monotonic clock's."""

    def __init__(self, hang_after_s: float) -> None:
        self._hang_after_s = hang_after_s
        self._valid_until = -inf

    def arm(self, now: float) -> None:
        """Call before the model is called: from `now` on it has `hang_after_s`."""
        if now > self._valid_until:
            self._start(self._hang_after_s + SLACK_S)
            self._valid_until = now + SLACK_S

    @property
    def rest_at(self) -> float:
        """When `rest` is due if the model is not called before: the timer would take an idle process for a hang."""
        return inf if self._valid_until == -inf else self._valid_until

    def rest(self) -> None:
        """Stop the timer: the model is not being called."""
        if self.rest_at < inf:
            faulthandler.cancel_dump_traceback_later()
            self._valid_until = -inf

    def end_within(self, seconds: float) -> None:
        """Let the whole process end after `seconds`, whatever is called till then: it was asked to stop."""
        self._start(seconds)
        self._valid_until = inf

    def stop(self) -> None:
        """Stop every timer: the process ends in good order."""
        faulthandler.cancel_dump_traceback_later()

    def _start(self, seconds: float) -> None:
        faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)
