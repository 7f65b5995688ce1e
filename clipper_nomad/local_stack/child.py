"""One process of the stack: how it is forked, that it dies with the supervisor, and how its whole group is ended.

Each child leads a process group of its own, so that what a model forks ends with it. On Linux the kernel kills a child
whose supervisor died (PR_SET_PDEATHSIG); the groups' remains, and everything on macOS, are the janitor's.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clipper_nomad.local_stack.logs import bound_log, open_log

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # loaded before the fork: between fork and exec as little as can be
_LOST_PARENT = 70  # exit code of a child that was forked by a supervisor that is dead already


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """How a process is started. `kind`: store, admin, frontend or replica; parts.py makes them.

    `inherit`: descriptors it gets under their own numbers. `makes`: sockets and files it makes, removed before it starts.
    """

    name: str
    kind: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    log: Path
    inherit: tuple[int, ...] = ()
    makes: tuple[Path, ...] = ()


class Child:
    """A started process. Only the supervisor's main thread may make one."""

    def __init__(self, part: Part) -> None:
        """Raises: OSError: the program cannot be started."""
        for path in part.makes:
            path.unlink(missing_ok=True)
        log = open_log(part.log)
        try:
            self.log_start = os.fstat(log).st_size
            self._process = subprocess.Popen(
                part.argv,
                env=part.env,
                cwd=part.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=part.inherit,
                process_group=0,
                preexec_fn=_die_with_supervisor() if sys.platform == "linux" else None,  # noqa: PLW1509  # this process has one thread
            )
        finally:
            os.close(log)
        self.pid = self._process.pid
        self._log = part.log

    def bound_log(self) -> None:
        """Empty its log if that is too large."""
        if bound_log(self._log):
            self.log_start = 0

    def exit_code(self) -> int | None:
        """Return the exit code (negative: the signal), or None while it runs. Its group ends with it."""
        if self._process.returncode is None and self._has_exited():
            _kill_group(self.pid)  # before it is reaped: its number cannot be another group's yet
            self._process.wait()
        code: int | None = self._process.returncode
        return code

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and all of its group."""
        if self._process.returncode is None:
            _kill_group(self.pid)

    def _has_exited(self) -> bool:
        if sys.platform == "linux":
            has_exited = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        else:  # macOS's Python has no waitid before 3.13: reaped first, its group killed an instant later
            has_exited = self._process.poll() is not None
        return has_exited


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # nobody left; macOS: only zombies left
        return


def _die_with_supervisor() -> Callable[[], None]:
    supervisor = os.getpid()

    def before_exec() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:  # it died before the line above
            os._exit(_LOST_PARENT)

    return before_exec
