"""An event loop on simulated time: it jumps from one due callback to the next, sleeps nowhere and reads no clock.

As much of asyncio's loop as serving.py, mesh.py and their tasks use. tests/unit/simulation.py runs one frontend on it, the
simulation of the mesh (mesh_simulation.py) a hundred. The same callbacks in the same order make the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, cast

START_S = 1000.0  # not 0: nobody may take an instant for a duration


class Timer:
    """A callback that waits for its time."""

    __slots__ = ("_args", "_callback", "is_cancelled")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._callback = callback
        self._args = args
        self.is_cancelled = False

    def cancel(self) -> None:
        """Let it not happen."""
        self.is_cancelled = True

    def run(self) -> None:
        """Let it happen, if it may."""
        if not self.is_cancelled:
            self._callback(*self._args)


class SimulatedLoop:
    """As much of an event loop as the frontend's code uses. Time stands still while a callback runs."""

    def __init__(self) -> None:
        self._now = START_S
        self._order = itertools.count()
        self._timers: list[tuple[float, int, Timer]] = []
        self.events = 0  # that have happened

    def time(self) -> float:
        """Return the simulated time."""
        return self._now

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: object = None) -> Timer:
        """Call `callback` at the instant `when`; if that has passed, after what is due now."""
        del context  # nothing here has context variables
        timer = Timer(callback, args)
        heapq.heappush(self._timers, (max(when, self._now), next(self._order), timer))
        return timer

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: object = None) -> Timer:
        """Call `callback` in `delay` seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_soon(self, callback: Callable[..., object], *args: Any, context: object = None) -> Timer:
        """Call `callback` after what is due now."""
        return self.call_at(self._now, callback, *args, context=context)

    def create_task(self, coro: Coroutine[Any, Any, Any], **_: object) -> asyncio.Task[Any]:
        """Run a coroutine on this loop."""
        return asyncio.Task(coro, loop=self._as_asyncio)

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop: asyncio.sleep asks for one."""
        return asyncio.Future(loop=self._as_asyncio)

    def get_debug(self) -> bool:
        """Return False: tasks ask."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Take what a task left behind: its exception ends the run; that it was still waiting when the run ended is fine."""
        if "exception" in context:
            raise RuntimeError(context.get("message")) from context["exception"]

    def run_until(self, instant: float) -> None:
        """Let everything happen that is due until `instant`."""
        timers = self._timers
        with self.running():
            while timers and timers[0][0] <= instant:
                self._now, _, timer = heapq.heappop(timers)
                self.events += 1
                timer.run()
        self._now = instant

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Be the running loop of this thread."""
        before = asyncio._get_running_loop()  # noqa: SLF001  # documented, for those who make event loops
        asyncio._set_running_loop(self._as_asyncio)  # noqa: SLF001
        try:
            yield
        finally:
            asyncio._set_running_loop(before)  # noqa: SLF001

    @property
    def _as_asyncio(self) -> asyncio.AbstractEventLoop:
        return cast("asyncio.AbstractEventLoop", self)  # it has what is used here
