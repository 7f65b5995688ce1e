"""The one lock of a (user, cluster): who holds it runs the stack. The file tells the others where to find the holder.

Taken by the supervisor and inherited by its janitor, so that it stays taken until a killed supervisor's remains are
removed. Never taken in the user's process: a forked worker would inherit it and hold it for ever.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a lock: the supervisor, and where its sockets are."""

    host: str
    pid: int
    runtime: str


class Lock:
    """A lock that is held, until every process that inherited `fd` has ended."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def take(cls, path: Path) -> Lock | None:
        """Return the lock, or None if another process holds it.

        Raises: FileNotFoundError: the directory is gone; a clean-up was quicker.
        """
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return None
            if _is_still(path, fd):
                return cls(fd)
            os.close(fd)  # removed by the last holder between our open and our lock: that file locks nobody out

    def tell(self, runtime: Path) -> None:
        """Write into the lock where the holder can be reached."""
        holder = Holder(host=socket.gethostname(), pid=os.getpid(), runtime=str(runtime))
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, json.dumps(asdict(holder)).encode(), 0)

    def release(self) -> None:
        """Let go, in this process."""
        os.close(self.fd)


def read_holder(path: Path) -> Holder | None:
    """Return who said last that it holds the lock; it need not be alive any more."""
    try:
        return Holder(**json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):  # no lock; a holder that has not said yet
        return None


def _is_still(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False
