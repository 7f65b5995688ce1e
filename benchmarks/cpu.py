"""Processor time: what a set of processes used in a window, and what everything else on the machine used meanwhile.

figures.py opens a `CpuWindow` around each run. Linux: read from /proc, which counts user and system time of all threads
of a process, ended ones too. In ticks of 10 ms, so a window should hold a second of work or more.
A process that starts and ends inside the window is counted if its parent waited for it.
"""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

VOID_ABOVE = 0.10  # share of the machine in other hands above which a run says nothing (issue 3, Figures)

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class CpuUse:
    """What one window saw."""

    window_s: float
    ours_s: float  # the processes asked for and their descendants
    others_share: float  # of all cores: everything but ours, the load and this process; stolen time is in it

    @property
    def is_void(self) -> bool:
        """Whether others took so much that the window says nothing about ours."""
        return self.others_share > VOID_ABOVE

    @property
    def share_of_a_core(self) -> float:
        """Ours, as a share of one core."""
        return self.ours_s / self.window_s


@dataclass(frozen=True, slots=True)
class _ProcessTicks:
    name: str
    parent: int
    own: int  # user + system, all threads
    waited_for: int  # the same of children that ended and were waited for


@dataclass(frozen=True, slots=True)
class _MachineTicks:
    tasks: int  # user, nice, system, stolen
    interrupts: int  # irq, softirq


class CpuWindow:
    """Opened when made; `close` tells what happened since."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._roots = frozenset(pids)
        self._machine_before = _read_machine()
        self._before = _read_processes()
        self._opened_at = time.monotonic()

    def close(self, *, load_cpu_s: float = 0.0) -> CpuUse:
        """Return what was used since the window was opened.

        `load_cpu_s` is the time of load makers which this process started, and has waited for.
        """
        window_s = time.monotonic() - self._opened_at
        after = _read_processes()
        machine = _read_machine()
        family = _descendants(self._roots, after)
        ours = sum(self._used(pid, after) for pid in family)

        # Seen from below: all other processes that can be seen. ksoftirqd works for whoever makes the traffic: us.
        strangers = after.keys() - family - {os.getpid()}
        seen = sum(self._used(pid, after) for pid in strangers if not after[pid].name.startswith("ksoftirqd"))
        # Seen from above: the machine's own count, in which the interrupts of our loopback traffic are either part of
        # the time of our processes or not, as the kernel was built. It also has what runs outside of our container.
        known = ours + self._own(after) + load_cpu_s * _TICKS_PER_S
        at_least = machine.tasks - self._machine_before.tasks - known
        at_most = at_least + machine.interrupts - self._machine_before.interrupts
        others = max(0.0, at_least, min(seen, at_most))
        return CpuUse(
            window_s=window_s,
            ours_s=ours / _TICKS_PER_S,
            others_share=others / _TICKS_PER_S / window_s / (os.cpu_count() or 1),
        )

    def _used(self, pid: int, after: Mapping[int, _ProcessTicks]) -> int:
        now = after[pid]
        then = self._before.get(pid)
        if then is None:
            return now.own + now.waited_for
        # A child that was there before and has been waited for since arrives in `waited_for` with its whole life:
        # take off what it had used before the window.
        ended = (child for child_pid, child in self._before.items() if child.parent == pid and child_pid not in after)
        earlier = sum(child.own + child.waited_for for child in ended)
        return now.own - then.own + max(0, now.waited_for - then.waited_for - earlier)

    def _own(self, after: Mapping[int, _ProcessTicks]) -> int:
        pid = os.getpid()
        return after[pid].own - self._before[pid].own


def _read_processes() -> dict[int, _ProcessTicks]:
    processes = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):  # it ended between the listing and here
                continue
            # The name, in brackets, may itself hold blanks and brackets: the fields start after the last one. proc(5)
            fields = text[text.rindex(")") + 2 :].split()
            processes[int(entry.name)] = _ProcessTicks(
                name=text[text.index("(") + 1 : text.rindex(")")],
                parent=int(fields[1]),
                own=int(fields[11]) + int(fields[12]),
                waited_for=int(fields[13]) + int(fields[14]),
            )
    return processes


def _descendants(roots: frozenset[int], processes: Mapping[int, _ProcessTicks]) -> set[int]:
    found = {pid for pid in roots if pid in processes}
    while True:
        children = {pid for pid, process in processes.items() if process.parent in found}
        if children <= found:
            return found
        found |= children


def _read_machine() -> _MachineTicks:
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        int(field) for field in (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return _MachineTicks(tasks=user + nice + system + steal, interrupts=irq + softirq)
