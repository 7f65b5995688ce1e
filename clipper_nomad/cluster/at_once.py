"""Several jobs at the same time, one thread each, and what becomes of them when somebody presses Ctrl-C.

Only the main thread hears of Ctrl-C. It sets `halt`, which the others look at once a second; each puts back what it was at,
and says so in a note of its KeyboardInterrupt.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

MOST_AT_ONCE = 16
Item = TypeVar("Item")
Done = TypeVar("Done")


def at_once(
    work: Callable[[Item], Done], items: Sequence[Item], *, halt: threading.Event, done: Callable[[Item], str]
) -> list[Done]:
    """Return what `work` returns for each item. Raises: the first failure, when all have ended.

    Interrupted, it raises KeyboardInterrupt when all have ended, with a note about each. `done`: of one that was done.
    """
    halt.clear()
    if len(items) <= 1:
        return [work(item) for item in items]  # in the caller's thread, which hears of Ctrl-C itself
    with ThreadPoolExecutor(max_workers=min(MOST_AT_ONCE, len(items))) as pool:
        running = [pool.submit(work, item) for item in items]
        try:
            wait(running)
        except KeyboardInterrupt as exc:
            halt.set()
            wait(running)
            for item, each in zip(items, running, strict=True):
                for note in _notes_of(each, done(item)):
                    exc.add_note(note)
            raise
    return [each.result() for each in running]


def _notes_of(ended: Future[Done], done: str) -> Sequence[str]:
    error = ended.exception()
    if error is None:
        return [done]
    own = [] if isinstance(error, KeyboardInterrupt) else [str(error)]  # else it failed by itself meanwhile
    return [*own, *getattr(error, "__notes__", ())]
