"""Being told when a process that is not our child ends: the owners of a stack.

Linux: a pidfd. macOS: a kqueue. Both become readable when the process ends, so nothing is polled. Where there is
neither (Linux before 5.3), a pid and its start time, looked at by the caller each second: POLL_EVERY_S.
"""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

POLL_EVERY_S = 1.0  # decision 32
_HAS_PROC = Path("/proc/self/stat").exists()


class ExitWatch:
    """Becomes readable (`fileno`) when the process ends, where the system has such a thing; else `fileno` is None."""

    def __init__(self, pid: int, *, poll: bool = False) -> None:
        """Raises: ProcessLookupError: there is no such process."""
        self.pid = pid
        self.fileno: int | None = None
        self._started = started_at(pid)
        self._kqueue: object = None
        if poll:
            return
        if sys.platform == "linux":
            try:
                self.fileno = os.pidfd_open(pid)
            except ProcessLookupError:
                raise
            except OSError:  # before Linux 5.3, or forbidden by a sandbox: poll
                return
        elif sys.platform == "darwin":
            ends = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
            queue = select.kqueue()
            queue.control([ends], 0)
            self._kqueue = queue  # closed when it is collected
            self.fileno = queue.fileno()

    def has_ended(self) -> bool:
        """Whether the process has ended: by pid and start time, for want of a `fileno`."""
        try:
            return started_at(self.pid) != self._started
        except ProcessLookupError:
            return True

    def close(self) -> None:
        """Watch no longer."""
        if self.fileno is not None and self._kqueue is None:
            os.close(self.fileno)
        self.fileno = self._kqueue = None


def started_at(pid: int) -> int:
    """Return when a process started, in the kernel's units (0 where they cannot be read without a tool).

    Raises: ProcessLookupError: there is no such process, or it has ended and waits for its parent.
    """
    if not _HAS_PROC:  # macOS, where a kqueue tells; this only says whether there is such a process
        os.kill(pid, 0)
        return 0
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None
    if fields[0] in {b"Z", b"X"}:
        raise ProcessLookupError(f"process {pid} has ended")
    return int(fields[19])
