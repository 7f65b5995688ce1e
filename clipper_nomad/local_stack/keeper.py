"""Keeps one part of the stack running: starts it, starts it again with back-off, gives it up, stops it.

    running → (died) waiting → running …          states: "running", "waiting", "failed", "stopping", "stopped"
            → (died too often) failed

stack.py owns the keepers and hands every SIGCHLD to `look`; restarts.py decides about the next start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from clipper_nomad.local_stack.child import Child, Part
from clipper_nomad.local_stack.endings import is_own_word
from clipper_nomad.local_stack.event_loop import EventLoop, Timer
from clipper_nomad.local_stack.logs import read_tail
from clipper_nomad.local_stack.restarts import Restarts

_log = logging.getLogger(__name__)
_NO_PROGRAM, _CANNOT_START = 127, 126  # as a shell says it


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """How a part's process ended. `tail`: the end of what it logged."""

    exit_code: int
    tail: str


class Keeper:
    """One part. `groups` is told of every process group that starts (True) or has ended (False): the janitor's list.

    `given_up` is called each time the part becomes "failed".
    """

    def __init__(
        self,
        part: Part,
        *,
        loop: EventLoop,
        hopeless: frozenset[int],
        groups: Callable[[int, bool], None],
        given_up: Callable[[Keeper], None],
    ) -> None:
        self.part = part
        self.state = "stopped"
        self.deaths = 0
        self.last_death: Death | None = None
        self.started = loop.now()
        self._loop = loop
        self._restarts = Restarts(hopeless)
        self._groups = groups
        self._given_up = given_up
        self._child: Child | None = None
        self._timer: Timer | None = None
        self._then: list[Callable[[], None]] = []

    @property
    def pid(self) -> int | None:
        """The running process, if there is one."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Start the part, also one that had failed."""
        self._timer = None
        self.started = self._loop.now()
        try:
            self._child = Child(self.part)
        except OSError as exc:
            code = _NO_PROGRAM if isinstance(exc, FileNotFoundError | PermissionError) else _CANNOT_START
            death = Death(exit_code=code, tail=f"{self.part.argv[0]} cannot be started: {exc}")
            self.state = "waiting"
            self._timer = self._loop.after(0, partial(self._died, death))  # later, as every death is told
            return
        self.state = "running"
        self._groups(self._child.pid, True)  # started

    def revive(self) -> None:
        """Start a failed part once more, its deaths forgotten."""
        if self.state == "failed":
            self._restarts.forget()
            self.start()

    def look(self) -> None:
        """Notice the end of the process, if it has ended."""
        child = self._child
        code = child.exit_code() if child is not None else None
        if child is None or code is None:
            return
        self._child = None
        self._groups(child.pid, False)  # ended
        if self.state == "stopping":
            self._stopped()
        else:
            self._died(Death(exit_code=code, tail=read_tail(self.part.log, since=child.log_start)))

    def bound_log(self) -> None:
        """Empty the log of the running process if that is too large."""
        if self._child is not None:
            self._child.bound_log()

    def stop(self, *, within_s: float, then: Callable[[], None]) -> None:
        """Ask the process to end, kill it after `within_s` (0: at once), then call `then`. Also shortens a stop."""
        self._then.append(then)
        if self._timer is not None:
            self._timer.cancel()
        if self._child is None:
            self._stopped()
            return
        if self.state != "stopping" and within_s > 0:
            self._child.terminate()
        self.state = "stopping"
        if within_s > 0:
            self._timer = self._loop.after(within_s, self._kill)
        else:
            self._child.kill()

    def _kill(self) -> None:
        if self._child is not None:
            _log.warning("part did not end in time and is killed", extra={"part": self.part.name})
            self._child.kill()

    def _died(self, death: Death) -> None:
        now = self._loop.now()
        self.deaths += 1
        self.last_death = death
        said = death.exit_code if is_own_word(death.exit_code, death.tail) else None
        delay_s = self._restarts.delay_s(now=now, lived_s=now - self.started, exit_code=said)
        fields = {"part": self.part.name, "exit_code": death.exit_code}
        if delay_s is None:
            self.state = "failed"
            _log.error("part ended and is given up", extra=fields)
            self._given_up(self)
        else:
            self.state = "waiting"
            self._timer = self._loop.after(delay_s, self.start)
            _log.warning("part ended", extra={**fields, "next_start_in_s": delay_s})

    def _stopped(self) -> None:
        self.state = "stopped"
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        then, self._then = self._then, []
        for callback in then:
            callback()


def stop_together(keepers: Iterable[Keeper], *, within_s: float, then: Callable[[], None]) -> None:
    """Stop all of `keepers` at the same time, and call `then` when every one has ended."""
    left = set(keepers)
    if not left:
        then()

    def ended(keeper: Keeper) -> None:
        left.discard(keeper)
        if not left:
            then()

    for keeper in tuple(left):
        keeper.stop(within_s=within_s, then=partial(ended, keeper))
