"""How this process ends, and what SIGTERM and SIGINT do: the first asks it to finish its work, the second ends it.

A handler only takes a note; the loop in serving.py reads it. Signals also write to `fileno()`, because a poll that is
interrupted by a signal is resumed by Python. Before there is work to finish the first signal ends the process too.
"""

from __future__ import annotations

import enum
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

LEAVE_S = 3.0  # for exit handlers and threads of the model, when the work is done

_OURS = (signal.SIGTERM, signal.SIGINT)
_SIGNALLED = 128  # added to the signal's number, as shells do


class Exit(enum.IntEnum):
    """The exit codes of this process. A hang ends it with FAILED too: hang.py."""

    DRAINED = 0
    FAILED = 1  # the model, or every frontend refused it
    SETTINGS = 2
    IMPORT = 3  # an import of the model is missing
    BUNDLE = 4  # damaged, or for another Python
    FETCH = 5  # the bundle, or a package of it, could not be had


class StopRequest:
    """Whether this process was asked to stop. Made in the main thread, once."""

    def __init__(self) -> None:
        self.is_made = False
        self._then: Callable[[], None] | None = None
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in _OURS:
            signal.signal(number, self._note)
        os.register_at_fork(before=_hold_signals, after_in_parent=_release_signals, after_in_child=_forget_signals)

    def expect(self, then: Callable[[], None]) -> None:
        """From now on there is work to finish: the first signal calls `then`, in the main thread, and is noted."""
        self._then = then

    def fileno(self) -> int:
        """Return the descriptor that is readable after a signal, until `clear`."""
        return self._reader.fileno()

    def clear(self) -> None:
        """Read what signals wrote."""
        try:
            while self._reader.recv(64):
                pass
        except BlockingIOError:
            pass

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.is_made or self._then is None:
            os._exit(_SIGNALLED + number)
        self.is_made = True
        self._then()


# A model may fork workers and end them by SIGTERM, as multiprocessing does. They must not inherit the handler, and a
# signal that comes between the fork and the end of the handler's inheritance must not be lost.


def _hold_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)


def _release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OURS)


def _forget_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in _OURS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OURS)
