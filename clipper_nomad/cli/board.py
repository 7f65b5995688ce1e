"""Lines that change, one for each part that is worked on: on a terminal in place, in a log one after the other.

`show` may be called by several threads at once. The lines are on stderr. On a terminal those that are left at the end stay;
in a log a part has a line every few seconds at most, and its last one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

_LABEL = 9
_LOG_EVERY_S = 2.0


class Board:
    """Parts and the newest line of each."""

    def __init__(self, console: Console, live: Live | None) -> None:
        self._console = console
        self._live = live
        self._lines: dict[str, str] = {}
        self._logged: dict[str, tuple[float, str]] = {}  # when, and what
        self._lock = threading.Lock()

    def show(self, part: str, text: str) -> None:
        """Make `text` the line of `part`."""
        with self._lock:
            if self._lines.get(part) == text:
                return
            self._lines[part] = text
            if self._live is not None:
                self._draw(self._live)
            elif time.monotonic() - self._logged.get(part, (float("-inf"), ""))[0] >= _LOG_EVERY_S:
                self._log(part)

    def end(self) -> None:
        """Log the last line of each part."""
        with self._lock:
            for part, text in self._lines.items():
                if self._live is None and self._logged[part][1] != text:
                    self._log(part)

    def _log(self, part: str) -> None:
        self._logged[part] = time.monotonic(), self._lines[part]
        self._console.print(_line(part, self._lines[part]), soft_wrap=True)

    def _draw(self, live: Live) -> None:
        rows = [_line(*each) for each in self._lines.items()]
        for row in rows:
            row.truncate(self._console.width, overflow="ellipsis")
        live.update(Text("\n").join(rows), refresh=True)


@contextmanager
def board(console: Console) -> Iterator[Board]:
    """Show lines on `console` while the work lasts."""
    if not console.is_terminal or console.is_dumb_terminal:
        log = Board(console, None)
        try:
            yield log
        finally:
            log.end()
        return
    from rich.live import Live

    with Live(console=console, auto_refresh=False) as live:
        yield Board(console, live)


def _line(part: str, text: str) -> Text:
    return Text.assemble((f"{part:<{_LABEL}} ", "dim"), text)
