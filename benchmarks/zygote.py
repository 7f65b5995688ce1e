"""Query frontends that start in milliseconds: a process that has imported everything forks one for each line on stdin.

For attacks that kill a frontend thousands of times; importing takes 0.6 s of processor time. What is forked has made no
ZeroMQ context and no event loop, and runs the same `main` as `python -m clipper_nomad_frontend`. The end of stdin ends
all. supervised.py is who asks.

Run: python -m benchmarks.zygote, then lines {"environment": {…}, "log": "…"} on stdin; each is answered by a pid.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import uvloop  # noqa: F401  # imported here, so that no fork has to

from clipper_nomad_frontend import __main__ as frontend

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent() -> None:
    """Have the kernel kill this process when who started it ends: a killed test leaves nothing behind. In the child."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Zygote:
    """This side: starts the process and asks it."""

    def __init__(self, *, pass_fds: Sequence[int] = ()) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.zygote"],
            cwd=Path(__file__).resolve().parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
        )

    def fork(self, environment: Mapping[str, str], log: Path) -> "Forked":
        """Start a frontend."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"environment": dict(environment), "log": str(log)}) + "\n")
        self._process.stdin.flush()
        return Forked(int(self._process.stdout.readline()))

    def close(self) -> None:
        """End it; what it started must have ended before."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it was killed
            self._process.stdin.close()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Forked:
    """A process that the zygote started: what supervised.py needs of subprocess.Popen. Its exit code is not known."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)
        self._is_over = False

    def poll(self) -> int | None:
        """Return a code when it has ended."""
        if not self._is_over:
            try:
                signal.pidfd_send_signal(self._fd, 0)
            except ProcessLookupError:
                self._is_over = True
                os.close(self._fd)
        return -signal.SIGKILL if self._is_over else None

    def kill(self) -> None:
        """Kill it."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._fd, signal.SIGKILL)

    def wait(self, timeout: float) -> None:
        """Return when it has ended; a killed process does so at once."""
        if not self._is_over:
            select.select([self._fd], [], [], timeout)


def _run(line: str) -> None:
    """Be a frontend: in the child."""
    order = json.loads(line)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    end_with_parent()
    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(order["environment"])
    code = 1
    try:
        code = frontend.main()
    finally:
        os._exit(code)


def main() -> None:
    """Fork until stdin ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children: the kernel takes them away
    for line in iter(sys.stdin.readline, ""):
        pid = os.fork()
        if not pid:
            _run(line)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
