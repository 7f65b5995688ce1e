"""Waiting for a condition with a deadline, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

LOOK_EVERY_S = 0.01

Seen = TypeVar("Seen")


def wait_until(condition: Callable[[], Seen], what: str, *, within_s: float = 10.0) -> Seen:
    """Return the condition's value once it is true; fail after `within_s`, saying `what` did not happen."""
    deadline = time.monotonic() + within_s
    while not (seen := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"gave up after {within_s} s: {what}")
        time.sleep(LOOK_EVERY_S)
    return seen


async def until(condition: Callable[[], Seen], what: str, *, within_s: float = 10.0) -> Seen:
    """As `wait_until`, with the event loop running meanwhile."""
    deadline = time.monotonic() + within_s
    while not (seen := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"gave up after {within_s} s: {what}")
        await asyncio.sleep(LOOK_EVERY_S)
    return seen
