"""What ours holds and costs beside its speed: memory under load and over many queries, and processor time when idle.

figures.py calls `measure_footprint` with a fresh start. A few minutes in full mode: ten million queries.
"""

import time
from collections.abc import Callable

from benchmarks.cpu import CpuWindow
from benchmarks.load import LoadError, start_load
from benchmarks.memory import BARE_IMPORTS, BYTES_PER_MB, RUNTIME_IMPORTS, interpreter_bytes, resident_bytes
from benchmarks.results import Footprint, MemoryPoint
from benchmarks.serving import Serving

CONNECTIONS = 256

_SETTLE_S = 2.0  # after the start, before idle is measured: a replica has just said hello
_BEFORE_END_S = 0.5  # memory is read this long before a load ends, with all its connections open


def measure_footprint(ours: Serving, *, queries: int, part_s: int, idle_s: float, say: Callable[[str], None]) -> Footprint:
    """Measure ours from its start: idle first, then `queries` queries in loads of `part_s` seconds each."""
    pids = ours.pids()
    time.sleep(_SETTLE_S)
    window = CpuWindow(pids.values())
    time.sleep(idle_s)
    idle = window.close().share_of_a_core
    say(f"idle: {idle:.2%} of a core, {', '.join(pids)} together")

    points: list[MemoryPoint] = []
    sent = 0
    while sent < queries or len(points) < 2:
        load = start_load(ours.url, connections=CONNECTIONS, seconds=part_s)
        time.sleep(part_s - _BEFORE_END_S)
        resident = resident_bytes(pids["frontend"])
        seen = load.wait()
        if seen.failed:
            raise LoadError(f"{seen.failed} of {seen.requests} queries failed while memory was measured: {seen}")
        sent += seen.requests
        points.append(MemoryPoint(sent, resident))
        say(f"frontend: {resident / BYTES_PER_MB:.1f} MB after {sent:,} queries")
    return Footprint(
        frontend=points,
        runtime_bytes=resident_bytes(pids["runtime"]),
        interpreter_bytes=interpreter_bytes(RUNTIME_IMPORTS),
        bare_interpreter_bytes=interpreter_bytes(BARE_IMPORTS),
        idle_share_of_a_core=idle,
        idle_s=idle_s,
        processes=list(pids),
    )
