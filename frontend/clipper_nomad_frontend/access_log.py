"""One JSON line per noted query, written in bulk. By default only what is worth a look: late, default, errors.

Lines are gathered and written twice a second, so that a query costs an append. Inputs and outputs are never logged.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TextIO

import msgspec

from clipper_nomad_frontend.answers import Answer, Outcome
from clipper_nomad_frontend.endpoints import Query

FLUSH_EVERY_S = 0.5
MOST_LINES_PER_FLUSH = 2_000  # in a storm of errors the log must not become the load

PROBE = "_probe"  # serving.py's app of a deploy's probes; no user's app can have the name

Mode = Literal["off", "slow", "sample", "all"]
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class AccessLogMode:
    """Which queries are noted: none, the slow and failed ones, those and one in `every`, or all."""

    mode: Mode = "slow"
    every: int = 1


def parse_mode(text: str) -> AccessLogMode:
    """Return the mode that `text` names: off, slow, sample:N or all. Raises: ValueError."""
    word, _, number = text.partition(":")
    if word == "sample" and number:
        every = int(number)
        if every < 1:
            raise ValueError(text)
        return AccessLogMode("sample", every)
    if number or word not in ("off", "slow", "all"):
        raise ValueError(text)
    return AccessLogMode(word)  # type: ignore[arg-type]  # one of the three, just checked


class AccessLog:
    """Gathers lines and writes them to `stream`."""

    def __init__(self, mode: AccessLogMode, stream: TextIO, wall_clock: Callable[[], float]) -> None:
        self.notes_answered = mode.mode in ("sample", "all")  # asked before each call: `slow` must cost nothing
        self._mode = mode
        self._stream = stream
        self._wall_clock = wall_clock
        self._lines: list[bytes] = []
        self._dropped = 0
        self._count = itertools.count()
        self._flush_is_due = False

    def note(self, query: Query, answer: Answer, latency_s: float) -> None:
        """Write a line about `query` if the mode wants one."""
        if self._mode.mode == "off" or (answer.outcome is Outcome.ANSWERED and not self._wants_answered()):
            return
        if len(self._lines) >= MOST_LINES_PER_FLUSH:
            self._dropped += 1
            return
        line = {
            "time": round(self._wall_clock(), 3),
            "event": "query",
            "app": _app_of(query),
            "outcome": answer.outcome.name.lower(),
            "status": answer.status,
            "ms": round(latency_s * 1000, 3),
            "request_id": query.request_id.decode(errors="replace"),
        }
        if query.dispatch is not None:
            line["model"] = query.dispatch.key
        if answer.cause:
            line["cause"] = answer.cause
        self._lines.append(_encode(line))
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_later(FLUSH_EVERY_S, self.flush)

    def _wants_answered(self) -> bool:
        return self._mode.mode == "all" or (self._mode.mode == "sample" and next(self._count) % self._mode.every == 0)

    def flush(self) -> None:
        """Write what was gathered."""
        self._flush_is_due = False
        if self._dropped:
            self._lines.append(_encode({"event": "access log lines dropped", "count": self._dropped}))
            self._dropped = 0
        if self._lines:
            self._stream.write(b"\n".join(self._lines).decode() + "\n")
            self._stream.flush()
            self._lines.clear()


def _app_of(query: Query) -> str:
    """Return the app, or for a probe, which is no app's query, what it is a probe of."""
    if query.endpoint.name == PROBE and query.dispatch is not None:
        return f"probe of {query.dispatch.key}"
    return query.endpoint.name
