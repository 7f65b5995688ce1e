"""The supervisor's loop: sockets, timers and signals in one thread. It sleeps until one of them has something.

Not asyncio: PR_SET_PDEATHSIG is bound to the thread that forks and `preexec_fn` wants a process of one thread, so there
must be no thread at all; and this loads in a third of the time. Callbacks must not block.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import signal
import socket
import time
from collections.abc import Callable

Callback = Callable[[], None]


class Timer:
    """A callback that is due at `at`, unless cancelled."""

    __slots__ = ("_order", "at", "callback")

    def __init__(self, at: float, order: int, callback: Callback) -> None:
        self.at = at
        self.callback: Callback | None = callback
        self._order = order

    def cancel(self) -> None:
        """Do not call."""
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return (self.at, self._order) < (other.at, other._order)


class EventLoop:
    """Calls what was asked for, one after the other, until `stop`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[Timer] = []
        self._order = itertools.count()
        self._signals: dict[int, Callback] = {}
        self._running = True
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)
        self.watch(self._wake_read.fileno(), self._take_signals)

    @staticmethod
    def now() -> float:
        """The clock of all timers."""
        return time.monotonic()

    def watch(self, fd: int, callback: Callback, *, write: bool = False) -> None:
        """Call whenever `fd` can be read (or written)."""
        self._selector.register(fd, selectors.EVENT_WRITE if write else selectors.EVENT_READ, callback)

    def unwatch(self, fd: int) -> None:
        """Call no longer."""
        self._selector.unregister(fd)

    def after(self, delay_s: float, callback: Callback) -> Timer:
        """Call once, in `delay_s`."""
        timer = Timer(self.now() + delay_s, next(self._order), callback)
        heapq.heappush(self._timers, timer)
        return timer

    def on_signal(self, number: signal.Signals, callback: Callback) -> None:
        """Call after a signal, in the loop and not in a handler."""
        self._signals[number] = callback
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        signal.signal(number, lambda _number, _frame: None)

    def run(self) -> None:
        """Run until `stop`."""
        while self._running:
            for key, _ in self._selector.select(self._sleep_s()):
                if self._selector.get_map().get(key.fd) is key:  # an earlier callback of this round may have closed it
                    key.data()
            self._call_due_timers()

    def stop(self) -> None:
        """Leave `run` after the callback that calls this."""
        self._running = False

    def close(self) -> None:
        """Give back the loop's own descriptors."""
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()

    def _sleep_s(self) -> float | None:
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0].at - self.now()) if self._timers else None

    def _call_due_timers(self) -> None:
        now = self.now()
        while self._running and self._timers and self._timers[0].at <= now:
            timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                timer.callback()

    def _take_signals(self) -> None:
        try:
            numbers = set(self._wake_read.recv(4096))
        except BlockingIOError:
            return
        for number in sorted(numbers & self._signals.keys()):
            self._signals[number]()
