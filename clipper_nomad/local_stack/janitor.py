"""The process that cleans up when the supervisor is gone, however it went.

It sleeps on its standard input, a pipe of which only the supervisor has the other end. The supervisor tells every process
group that starts ("+123") or has ended ("-123"). At the end of the pipe the supervisor is dead or done: what is left
of the groups is killed, the sockets are removed, the data too unless they are kept, and at last the lock is let go.

    janitor '{"cluster": …, "lock": 7}'       the supervisor's
    janitor '{"cluster": …, "lock": null}'    removes the kept data of a stack that is stopped; exit 3: it runs
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from clipper_nomad.errors import StackError
from clipper_nomad.local_stack.exits import started_at
from clipper_nomad.local_stack.kept import KeptState, read_state, write_state
from clipper_nomad.local_stack.lock import Lock
from clipper_nomad.local_stack.place import Place
from clipper_nomad.local_stack.sweep import remove_data, remove_empty, remove_sockets

LOCK_IS_HELD = 3  # exit code of a purge
KILLED_WITHIN_S = 1.0  # SIGKILL takes effect at once, but for a process in the midst of a disk write


def janitor_argv(place: Place, *, lock: int | None) -> list[str]:
    """Return the command of a janitor for `place`. `lock`: the descriptor it inherits."""
    order = {"cluster": place.cluster, "data": str(place.data), "runtime": str(place.runtime), "lock": lock}
    return [sys.executable, "-P", "-m", __name__, json.dumps(order)]


def main() -> int:
    """Wait for the supervisor's end and clean up."""
    order = json.loads(sys.argv[1])
    place = Place(cluster=order["cluster"], data=Path(order["data"]), runtime=Path(order["runtime"]))
    if order["lock"] is None:
        return _purge(place)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends after the supervisor, and only so
    _kill(_groups_at_the_end(sys.stdin.fileno()))
    _clean(place)
    return 0


def _groups_at_the_end(pipe: int) -> set[int]:
    groups: set[int] = set()
    rest = b""
    while received := os.read(pipe, 4096):
        *lines, rest = (rest + received).split(b"\n")
        for line in lines:
            (groups.add if line.startswith(b"+") else groups.discard)(int(line[1:]))
    return groups


def _kill(groups: set[int]) -> None:
    """Kill what is left, and wait for its end: a store in the midst of a write would make its files anew."""
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    give_up = time.monotonic() + KILLED_WITHIN_S
    while any(map(_runs, groups)) and time.monotonic() < give_up:
        time.sleep(0.005)


def _runs(pid: int) -> bool:
    try:
        started_at(pid)
    except ProcessLookupError:
        return False
    return True


def _clean(place: Place) -> None:
    try:
        removed = remove_data(place)
    except StackError as exc:  # a state.json that is not ours to judge: the next start says so
        sys.stderr.write(f"{exc}\n")
        removed = False
    remove_sockets(place)  # who waits for the stack's end waits for this
    if removed:
        remove_empty(place)


def _purge(place: Place) -> int:
    try:
        lock = Lock.take(place.lock)
    except FileNotFoundError:  # nothing there
        return 0
    if lock is None:
        return LOCK_IS_HELD
    if read_state(place.state) is not None:
        write_state(place.state, KeptState(keep=False))
    _clean(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
