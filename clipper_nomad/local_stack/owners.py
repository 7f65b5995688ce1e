"""Whose end ends the stack: the processes that called `local()`, watched until they end (exits.py).

A forked worker of an owner is another process and no owner: it neither keeps the stack alive nor ends it.
"""

from __future__ import annotations

from collections.abc import Callable

from clipper_nomad.local_stack.event_loop import EventLoop, Timer
from clipper_nomad.local_stack.exits import POLL_EVERY_S, ExitWatch


class Owners:
    """The owners that still run. `on_last_gone` is called each time the last one goes."""

    def __init__(self, loop: EventLoop, on_last_gone: Callable[[], None]) -> None:
        self._loop = loop
        self._on_last_gone = on_last_gone
        self._watches: dict[int, ExitWatch] = {}
        self._poll: Timer | None = None

    @property
    def pids(self) -> tuple[int, ...]:
        """The owners, in the order in which they came."""
        return tuple(self._watches)

    def add(self, watch: ExitWatch) -> None:
        """Make the watched process an owner, if it is none yet."""
        pid = watch.pid
        known = self._watches.get(pid)
        if known is not None and not known.has_ended():
            watch.close()
            return
        if known is not None:  # its number was given to another process, and its end not noticed yet
            self._forget(known)
        self._watches[pid] = watch
        if watch.fileno is not None:
            self._loop.watch(watch.fileno, lambda: self._gone(watch))
        elif self._poll is None:
            self._poll = self._loop.after(POLL_EVERY_S, self._look)

    def remove(self, pid: int) -> None:
        """Take an owner off, as if it had ended."""
        watch = self._watches.get(pid)
        if watch is not None:
            self._gone(watch)

    def _gone(self, watch: ExitWatch) -> None:
        self._forget(watch)
        if not self._watches:
            self._on_last_gone()

    def _forget(self, watch: ExitWatch) -> None:
        if watch.fileno is not None:
            self._loop.unwatch(watch.fileno)
        watch.close()
        del self._watches[watch.pid]

    def _look(self) -> None:
        self._poll = None
        for watch in list(self._watches.values()):
            if watch.fileno is None and watch.has_ended():
                self._gone(watch)
        if any(watch.fileno is None for watch in self._watches.values()):
            self._poll = self._loop.after(POLL_EVERY_S, self._look)
