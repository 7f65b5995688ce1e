"""Whose batch this replica works on next. Pure: the caller passes `now`.

Where several frontends share this replica and batches take long, a batch that waits here neither grows nor can be begun by
another replica that rests. So each result then tells its frontend to ask first (ASK_FIRST): it keeps what it has and sends
ASK. When this replica is free it calls (FREE) the frontend whose query waits longest, as one queue of all would do, and that
answers with the best batch that it has by then, or with PASS. Batches that come uncalled take turns by link.

Nothing of this happens where only one link gives work, nor where batches take less than BOUND_BELOW_S.

serving.py moves the messages. Source: docs/decisions/0011-late-binding.md
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import inf

from clipper_nomad.protocol.links import BOUND_BELOW_S
from clipper_nomad.protocol.wire import MessageType, encode_control
from clipper_nomad_runtime.link import Link, Stage

CALL_S = 0.05  # then whoever was called has lost its turn: it stands still or is cut off. An answer takes 0.2 ms
RECENT = 1 / 8  # of the time of batches is the last one's
ALONE_AFTER = 16  # batches in a row of one link: nobody else gives work


class Line:
    """Who is next. `call_ends`: when to ask `next` again if nothing comes before; inf if nobody is called."""

    def __init__(self, send: Callable[[Link, list[bytes]], object], dropped: Counter[str]) -> None:
        """`send` sends a message on a link; `dropped` counts by reason."""
        self.call_ends = inf
        self._send = send
        self._dropped = dropped
        self._called: Link | None = None
        self._calls = 0
        self._turn = 0  # in the list of links: whose uncalled batch is looked at first
        self._batch_s = 0.0  # how long batches take
        self._last: Link | None = None
        self._in_a_row = ALONE_AFTER

    @property
    def is_calling(self) -> bool:
        """Whether somebody was called and may still answer."""
        called = self._called
        return called is not None and called.call > 0 and not called.batches

    def next(self, links: Sequence[Link], now: float) -> Link | None:
        """Return the link whose oldest batch is to be begun now; None if there is none, or if somebody is called.

        `links`: all that may have batches.
        """
        called = self._called
        if called is not None:
            if self.is_calling:
                if now < self.call_ends:
                    return None
                self._dropped["missed call"] += 1
            self._called, self.call_ends, called.call = None, inf, 0
            if called.batches:
                return called
        if len(links) == 1 and links[0].batches:
            return links[0]
        first = oldest = None
        for offset in range(len(links)):
            link = links[(self._turn + offset) % len(links)]
            if link.batches:
                first = first or link
            elif link.waits_since is not None:
                oldest = min(oldest or link, link, key=_waits_since)
        if oldest is not None and (first is None or _waits_since(oldest) < first.batches[0].read):
            self._call(oldest, now)
            return None
        if first is not None:
            self._turn = links.index(first) + 1
        return first

    def _call(self, link: Link, now: float) -> None:
        self._calls += 1
        link.waits_since, link.call = None, self._calls
        self._called, self.call_ends = link, now + CALL_S
        epoch, session = link.identity
        self._send(link, encode_control(MessageType.FREE, epoch=epoch, session=session, batch=self._calls))

    def ended(self, links: Sequence[Link], link: Link, exec_s: float) -> bool:
        """A batch of `link` took `exec_s`. Return whether its frontend is to ask before it sends the next one."""
        if len(links) < 2:
            return False
        self._batch_s += RECENT * (exec_s - self._batch_s)
        if link is not self._last:
            self._last, self._in_a_row = link, 0
        self._in_a_row += 1
        if self._batch_s < BOUND_BELOW_S:
            return False
        others = [other for other in links if other is not link and other.stage is Stage.OPEN]
        return bool(others) and (self._in_a_row < ALONE_AFTER or any(other.backlog for other in others))


def _waits_since(link: Link) -> float:
    return inf if link.waits_since is None else link.waits_since
