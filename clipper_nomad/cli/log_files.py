"""The log files of a cluster's parts: which of them a word means, their last lines, and the lines that are added."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from clipper_nomad.errors import ClipperException

LOOK_EVERY_S = 0.2
_GUESSED_LINE_BYTES = 200  # a tail that turns out too short is read again, longer


def find_logs(folder: Path) -> dict[str, Path]:
    """Return part → log file: "store", "admin", "frontend-0", "model-digits-1-0", "supervisor"."""
    return {path.stem: path for path in sorted(folder.glob("*.log"))}


def select_logs(logs: Mapping[str, Path], part: str | None) -> dict[str, Path]:
    """Return the logs that `part` means: one part, all frontends, or the replicas of a model or of "model:version".

    Raises: ClipperException: there is none.
    """
    found = _selected(logs, part)
    if part is not None and not found:
        raise ClipperException(
            f"There is no log of {part!r}.", hint=f"There are logs of: {', '.join(logs) or 'nothing yet'}."
        )
    return found


class LogReader:
    """Reads a log's last `last` lines, then what is added; goes on when the file is replaced, or not there yet."""

    def __init__(self, path: Path, *, last: int) -> None:
        self._path = path
        self._last: int | None = last
        self._offset = 0
        self._inode = 0
        self._rest = b""  # the beginning of a line that is not complete

    def read(self) -> list[str]:
        """Return the complete lines since the last call."""
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                if self._last is not None:
                    self._offset = _start_of_last(file.fileno(), found.st_size, self._last)
                elif found.st_ino != self._inode or found.st_size < self._offset:
                    self._offset, self._rest = 0, b""
                self._last, self._inode = None, found.st_ino
                file.seek(self._offset)
                added = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def read_all(self) -> list[str]:
        """Return the lines since the last call, one that is not complete too."""
        lines = self.read()
        rest, self._rest = self._rest, b""
        return [*lines, rest.decode(errors="replace")] if rest else lines


def follow_logs(folder: Path, part: str | None, *, last: int) -> Iterator[tuple[str, str]]:
    """Yield (part, line): the last lines of each log, then what is added, also by parts that start later.

    Ends when the folder is gone.
    """
    readers: dict[str, LogReader] = {}
    while folder.is_dir():
        for name, path in _selected(find_logs(folder), part).items():
            if name not in readers:
                readers[name] = LogReader(path, last=last)
        for name, reader in readers.items():
            for line in reader.read():
                yield name, line
        time.sleep(LOOK_EVERY_S)


def _selected(logs: Mapping[str, Path], part: str | None) -> dict[str, Path]:
    if part is None:
        return dict(logs)
    name, _, version = part.partition(":")
    exact = {part, f"model-{part}"}
    starts = (f"model-{name}-{version}-",) if version else (f"{part}-", f"model-{part}-")
    return {log: path for log, path in logs.items() if log in exact or log.startswith(starts)}


def _start_of_last(fd: int, size: int, count: int) -> int:
    """Return where the last `count` lines of a file of `size` bytes begin."""
    if count == 0:
        return size
    wanted = count * _GUESSED_LINE_BYTES
    while True:
        start = max(0, size - wanted)
        tail = os.pread(fd, size - start, start)
        ends = [index for index, byte in enumerate(tail) if byte == 0x0A and index != len(tail) - 1]
        if len(ends) >= count:
            return start + ends[-count] + 1
        if start == 0:
            return 0
        wanted *= 4
