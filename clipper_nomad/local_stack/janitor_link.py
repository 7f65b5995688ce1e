"""The supervisor's side of its janitor: starts it, tells it the process groups, and starts it again if it is killed."""

from __future__ import annotations

import logging
import os
import subprocess

from clipper_nomad.local_stack.janitor import janitor_argv
from clipper_nomad.local_stack.lock import Lock
from clipper_nomad.local_stack.place import Place

_log = logging.getLogger(__name__)


class JanitorLink:
    """A janitor that runs. It acts when this process, the only one with the pipe's other end, has ended."""

    def __init__(self, place: Place, lock: Lock) -> None:
        self._argv = janitor_argv(place, lock=lock.fd)
        self._lock = lock
        self._groups: set[int] = set()
        self._pipe = -1
        self._process = self._start()

    def tell(self, group: int, started: bool) -> None:  # noqa: FBT001  # a keeper's callback
        """Say that a process group has started or ended."""
        (self._groups.add if started else self._groups.discard)(group)
        self._write(f"{'+' if started else '-'}{group}\n")

    def look(self) -> None:
        """Start another if it has ended."""
        if self._process.poll() is not None:
            _log.warning("the janitor ended; starting another", extra={"exit_code": self._process.returncode})
            os.close(self._pipe)
            self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        read_end, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)  # a stopped janitor must not stop the supervisor
        try:
            process = subprocess.Popen(
                self._argv,
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # not ours of now: it would hold open what our starter reads
                cwd="/",
                pass_fds=(self._lock.fd,),
                start_new_session=True,
            )
        finally:
            os.close(read_end)
        for group in self._groups:
            self._write(f"+{group}\n")
        return process

    def _write(self, line: str) -> None:
        try:
            os.write(self._pipe, line.encode())
        except (BrokenPipeError, BlockingIOError):  # it has ended: `look` starts another and tells it all
            return
