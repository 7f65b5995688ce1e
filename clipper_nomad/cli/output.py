"""Where a verb writes: results on stdout, progress and errors on stderr, one JSON document with --json.

Every result begins with what happened (`done`) and ends with what to do next (`next_step`). Colour and moving lines are
for terminals only; NO_COLOR is honoured (both by rich).
"""

from __future__ import annotations

import json
import logging
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.text import Text

from clipper_nomad.cli.board import Board, board
from clipper_nomad.errors import ClipperException

_LABEL_WIDTH = 9
_WIDTH_OF_A_FILE = 160  # what is not a terminal has no edge; this bounds tables only
_WIDEST_LINE = 100
_FIX = "  fix  "
_QUIET_S = 0.5  # in a log, what is over sooner is not worth a line


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=_WIDTH_OF_A_FILE)
    return console


@dataclass(slots=True)
class Output:
    """One verb's output. With `as_json` what is for people is left out, and `document` is the whole of stdout."""

    as_json: bool = False
    _out: Console = field(default_factory=lambda: _console(stderr=False))
    _err: Console = field(default_factory=lambda: _console(stderr=True))

    @property
    def width(self) -> int:
        """How many columns a result may take."""
        return self._out.width

    def done(self, text: str, *, took_s: float | None = None) -> None:
        """Say what happened."""
        line = Text.assemble(("✔ ", "green"), text)
        if took_s is not None:
            took = f"{took_s:.1f} s"
            room = min(self.width, _WIDEST_LINE) - line.cell_len - len(took)
            line.append(" " * max(2, min(room, 78 - line.cell_len - len(took))) + took, "dim")
        self._say(line)

    def detail(self, label: str, text: str, style: str = "") -> None:
        """Say one fact of what happened."""
        self._say(Text.assemble((f"  {label:<{_LABEL_WIDTH}} ", "dim"), (text, style)))

    def line(self, text: str | Text = "") -> None:
        """Say a line as it is."""
        self._say(Text(text) if isinstance(text, str) else text)

    def warn(self, text: str) -> None:
        """Say what is not as it should be, in yellow."""
        self._say(Text("! " + _wrapped(text, self._out, indent="  "), "yellow"))

    def next_step(self, *commands: str) -> None:
        """Say what to do next: the last lines."""
        self.detail("next", commands[0])
        for command in commands[1:]:
            self.detail("", command)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str | Text]], *, right: frozenset[str]) -> None:
        """Say a table; the columns in `right` hold numbers. The last column takes what room is left."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", collapse_padding=True)
        for name in columns:
            is_last = name == columns[-1]
            table.add_column(
                name, justify="right" if name in right else "left", no_wrap=True, overflow="ellipsis" if is_last else "fold"
            )
        for row in rows:
            table.add_row(*row)
        if not self.as_json:
            self._out.print(table)

    def document(self, value: Mapping[str, Any]) -> None:
        """Print the JSON document, if that is what was asked for."""
        if self.as_json:
            self._out.print(Text(json.dumps(value, indent=2, default=str)), soft_wrap=True)

    def note(self, text: str, style: str = "dim") -> None:
        """Say something beside the result, on stderr."""
        self._err.print(Text(text, style), soft_wrap=True)

    def show_warnings_of(self, logger: str) -> None:
        """Say on stderr what this process logs as a warning, instead of what an earlier Output said there."""
        ours = logging.getLogger(logger)
        ours.handlers = [_Warnings(self)]
        ours.propagate = False

    @contextmanager
    def progress(self, waiting_for: str, *, at_most_s: float) -> Iterator[None]:
        """Show on stderr what is waited for, and for how long at most: a moving line, or without a terminal one line
        if it takes a while."""
        limit = f"(at most {at_most_s:g} s)"
        if not self._err.is_terminal or self._err.is_dumb_terminal:
            announcement = threading.Timer(_QUIET_S, self.note, (f"… {waiting_for} {limit}",))
            announcement.start()
            try:
                yield
            finally:
                announcement.cancel()
            return
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), TextColumn(limit, style="dim"))
        with Progress(*columns, console=self._err, transient=True) as moving:
            moving.add_task(waiting_for, total=None)
            yield

    @contextmanager
    def board(self) -> Iterator[Board]:
        """Show on stderr a line for each part that is worked on."""
        with board(self._err) as lines:
            yield lines

    def _say(self, line: Text) -> None:
        if not self.as_json:
            self._out.print(line, soft_wrap=True)


class _Warnings(logging.Handler):
    """Log records as yellow lines, above a progress line if there is one."""

    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        self._output.note(f"! {record.getMessage()}", "yellow")


def report_error(error: ClipperException, *, as_json: bool) -> None:
    """Print an exception for people on stderr, and with --json as a document on stdout."""
    output = Output(as_json=as_json)
    console = _console(stderr=True)
    what, *more = error.msg.strip().splitlines() or [type(error).__name__]
    console.print(Text.assemble(("✖ ", "red"), (_wrapped(what, console, indent="  "), "bold")), soft_wrap=True)
    for line in more:
        console.print(Text(f"  {line}"), soft_wrap=True)
    for note in getattr(error, "__notes__", ()):  # what became of the rest, added on the way up
        console.print(Text(f"  {note}"), soft_wrap=True)
    for line in str(getattr(error, "log_tail", "")).splitlines():  # of what failed on Nomad
        console.print(Text(f"  │ {line}", "dim"), soft_wrap=True)
    if error.hint:
        hint = _wrapped(error.hint, console, indent=" " * len(_FIX))
        console.print(Text.assemble((_FIX, "dim"), hint), soft_wrap=True)
    output.document({"error": {"kind": type(error).__name__, "what": error.msg, "fix": error.hint}})


def report_interrupt(interrupt: KeyboardInterrupt, *, as_json: bool) -> None:
    """Print that Ctrl-C was pressed and what became of what was under way; with --json also as a document on stdout."""
    notes: list[str] = list(getattr(interrupt, "__notes__", ()))
    console = _console(stderr=True)
    console.print(Text("\ninterrupted"), soft_wrap=True)
    for note in notes:
        console.print(Text(f"  {note}"), soft_wrap=True)
    what = " ".join(["interrupted with Ctrl-C", *notes])
    Output(as_json=as_json).document({"error": {"kind": "Interrupted", "what": what, "fix": None}})


def _wrapped(text: str, console: Console, *, indent: str) -> str:
    """Return `text` with its later lines indented, and on a terminal broken between words at its width."""
    if not console.is_terminal:
        return text.replace("\n", "\n" + indent)
    width = max(20, min(console.width, _WIDEST_LINE) - len(indent))
    lines = [
        piece
        for line in text.splitlines()
        for piece in textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
    ]
    return ("\n" + indent).join(lines)
