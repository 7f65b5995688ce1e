"""One process that is started again when it ends, as a supervisor does, and that can be killed, stopped and continued.

rig.py owns a number of them and calls `look` often; who ended a process, and what it lived through, is kept for the
judges of a test.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.zygote import Forked, Zygote, end_with_parent

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
STEADY_S = 5.0  # a process that lived this long starts again after the first pause
END_S = 5.0


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a process. `signal_sent`: what this side sent it before; 0 if nothing did."""

    name: str
    at: float  # on the monotonic clock, when it was seen
    code: int
    signal_sent: int


class Supervised:
    """A process by name, through all its lives."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        zygote: Zygote | None = None,
        pass_fds: Sequence[int] = (),
        orders: Callable[[], Iterable[str]] | None = None,
    ) -> None:
        """`zygote`: who forks it, instead of the command, and it starts again without a pause.

        `orders`: the lines that each life gets on stdin first; `tell` sends more. Without it stdin is empty.
        """
        self.name = name
        self.restarts = True
        self.deaths: list[Death] = []
        self.starts = 0
        self.started_at = 0.0
        self._command = command
        self._environment = environment
        self._log = log
        self._zygote = zygote
        self._pass_fds = pass_fds
        self._orders = orders
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._signal_sent = 0
        self._start_at = 0.0
        self._pause_s = FIRST_PAUSE_S

    @property
    def pid(self) -> int | None:
        """The process that lives now."""
        return self._process.pid if self._process is not None else None

    @property
    def is_ending(self) -> bool:
        """Whether the process that lives now was asked to end: a second SIGTERM would cut its drain short."""
        return self._signal_sent != 0

    @property
    def log(self) -> str:
        """What all its lives wrote."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        """Start it now."""
        if self._zygote is not None:
            self._process = self._zygote.fork(self._environment, self._log)
        else:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    env=dict(self._environment),
                    cwd=self._log.parent,  # not the project's root: nothing is imported from there by accident
                    stdin=subprocess.DEVNULL if self._orders is None else subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    bufsize=0,  # of stdin: an order is there at once, or nobody is
                    start_new_session=True,
                    pass_fds=self._pass_fds,
                    preexec_fn=end_with_parent,  # noqa: PLW1509  # one call of the kernel, no lock
                )
        self._signal_sent = 0
        self.starts += 1
        self.started_at = time.monotonic()
        for line in self._orders() if self._orders is not None else ():
            self.tell(line)

    def tell(self, line: str) -> None:
        """Write a line to its stdin; nobody reads it if it has ended."""
        if isinstance(self._process, subprocess.Popen) and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(line.encode())

    def look(self, now: float) -> None:
        """Note a death, and start again when the pause after it is over."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            if isinstance(self._process, subprocess.Popen) and self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None
            self.deaths.append(Death(self.name, now, code, self._signal_sent))
            self._pause_s = FIRST_PAUSE_S if now - self.started_at > STEADY_S else min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._start_at = now if self._zygote is not None else now + self._pause_s
        if self.restarts and now >= self._start_at:
            self.start()

    def send(self, number: signal.Signals, *, only: int | None = None) -> int | None:
        """Send a signal to the process, if it lives (and is `only`); return its pid."""
        if self._process is None or self._process.poll() is not None or only not in (None, self._process.pid):
            return None
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._signal_sent = int(number)
        os.kill(self._process.pid, number)
        return self._process.pid

    def end(self) -> None:
        """End it for good, and wait for that: in good order if it reads stdin, else by a kill."""
        self.restarts = False
        if self._process is not None:
            if isinstance(self._process, subprocess.Popen) and self._process.stdin is not None:
                self._close_stdin(self._process)
            self._process.kill()
            self._process.wait(END_S)
            self._process = None

    @staticmethod
    def _close_stdin(process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
