"""The log files of a stack: one per process, stdout and stderr together, its lines unchanged.

A file over MAX_LOG_BYTES is set aside as <name>.1 when its process is started next, and emptied into that while its
process runs: nothing that a process writes can fill the disk. One old file is kept.
"""

from __future__ import annotations

import contextlib
import os
import re
from io import FileIO
from pathlib import Path

MAX_LOG_BYTES = 10 << 20
LOOK_EVERY_S = 5.0  # between two looks at how large the logs are: at 100 MB/s one grows by 500 MB
TAIL_BYTES = 8 << 10
_PIECE_BYTES = 1 << 16
TAIL_LINES = 40

_HEADLINES = ("Timeout (", "Fatal Python error: ")  # faulthandler's: a hang, a crash in native code
_LAST_WORDS = re.compile(r"^(?:Traceback \(most recent call last\):|Timeout \(.*\)!|Fatal Python error: .*)$", re.MULTILINE)
_EVENT = re.compile(r"^\d{4}-\d\d-\d\dT\S+ [A-Z]+ ", re.MULTILINE)  # protocol/log_lines.py


def open_log(path: Path) -> int:
    """Return a file descriptor to append to the log at `path`, which is rotated first if it is large."""
    try:
        if path.stat().st_size > MAX_LOG_BYTES:
            path.replace(path.with_name(path.name + ".1"))
    except FileNotFoundError:
        pass
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def bound_log(path: Path) -> bool:
    """Empty a log that is too large, while its process appends to it, and return whether it was.

    Its last MAX_LOG_BYTES go to <name>.1. A line may be lost that is written between the last read and the emptying.
    """
    try:
        with path.open("r+b", buffering=0) as log:
            size = log.seek(0, os.SEEK_END)
            if size <= MAX_LOG_BYTES:
                return False
            with contextlib.suppress(OSError):  # the disk is full: the more it must be emptied
                _copy(log, size - MAX_LOG_BYTES, path.with_name(path.name + ".1"))
            log.truncate(0)
    except OSError:  # there is none, or the user closed it to us: no reason for the supervisor to end
        return False
    return True


def _copy(log: FileIO, start: int, target: Path) -> None:
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as old:
        log.seek(start)
        left = 2 * MAX_LOG_BYTES  # a process that writes faster than this reads must not hold it up
        while left > 0 and (piece := log.read(_PIECE_BYTES)):
            old.write(piece)
            left -= len(piece)


def read_tail(path: Path, *, since: int = 0) -> str:
    """Return the last lines of a log, none from before byte `since`: what a process wrote last before it died."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = file.seek(max(min(since, size), size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    lines = text.splitlines()
    if start > since and lines:
        del lines[0]  # most likely half a line
    return "\n".join(lines[-TAIL_LINES:])


def last_words(tail: str) -> str:
    """Return the last traceback in a log's tail, or what faulthandler wrote, or without either its last lines."""
    starts = [found.start() for found in _LAST_WORDS.finditer(tail)]
    if not starts:
        return "\n".join([line for line in tail.splitlines() if line.strip()][-5:])
    words = tail[starts[-1] :]
    event = _EVENT.search(words)  # logged after the traceback
    return (words[: event.start()] if event else words).rstrip()


def names_error(tail: str) -> bool:
    """Whether there is a traceback in a log's tail, or what faulthandler wrote."""
    return _LAST_WORDS.search(tail) is not None


def last_line(tail: str) -> str:
    """Return the line of the last words that names the error."""
    lines = [line.strip() for line in last_words(tail).splitlines() if line.strip()]
    if not lines:
        return ""
    return lines[0] if lines[0].startswith(_HEADLINES) else lines[-1]
