"""What the prediction cache costs and saves: a stack without one, one whose queries all miss, one whose queries all hit.

The load is 4,096 inputs in turn (load.lua). A cache for a few dozen of them gives nearly each up before it is asked for
again (SIEVE holds on to those that were), so that a query is looked up, executed, kept, and makes another go; one for all
of them answers every query after the first round. The three stacks stay up and are loaded in turn, so that what changes on
the machine changes for all; processor time of a query, of frontend and replica, is the figure to look at.
Linux, `wrk` on PATH.

Run: python -m benchmarks.cache [--rounds 5] [--seconds 3]
"""

import argparse
import contextlib
import statistics
import sys

import requests

from benchmarks.cpu import CpuWindow
from benchmarks.load import run_load, start_load
from benchmarks.ours import start_ours
from benchmarks.serving import Serving

CACHES = {"off": 0, "miss": 8 * 1024, "hit": 32 * 1024 * 1024}
EXPECTED_RATIO = {"off": (0.0, 0.0), "miss": (0.0, 0.01), "hit": (0.99, 1.0)}
CONNECTIONS = (1, 32, 256)


def main() -> None:
    """Measure, and print one line for each number of connections and cache."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of each cache, in turn")
    parser.add_argument("--seconds", type=int, default=3, metavar="N", help="of each run")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        stacks: dict[str, Serving] = {}
        for name, cache_bytes in CACHES.items():
            stacks[name] = start_ours(name, cache_bytes=cache_bytes)
            stack.callback(stacks[name].stop)
        print("| connections | cache | µs a query | its spread | of these the frontend | queries/s | over off |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for connections in CONNECTIONS:
            _measure(stacks, connections=connections, rounds=options.rounds, seconds=options.seconds)


def _measure(stacks: dict[str, Serving], *, connections: int, rounds: int, seconds: int) -> None:
    sent = dict.fromkeys(stacks, 0)  # a run that began anew would ask for what the one before it left in the cache
    for name, server in stacks.items():  # with so many connections that each input comes, and is kept where there is room
        sent[name] += run_load(server.url, connections=256, seconds=1).requests + 256
    whole: dict[str, list[float]] = {name: [] for name in stacks}
    frontend: dict[str, list[float]] = {name: [] for name in stacks}
    per_s: dict[str, list[float]] = {name: [] for name in stacks}
    ratios: dict[str, list[float]] = {name: [] for name in stacks}
    for _ in range(rounds):
        for name, server in stacks.items():
            before = _lookups(server)
            window, of_frontend = CpuWindow(server.pids().values()), CpuWindow([server.pids()["frontend"]])
            load = start_load(server.url, connections=connections, seconds=seconds, sent_before=sent[name])
            seen = load.wait()
            sent[name] += seen.requests + connections
            used, used_by_frontend = window.close(load_cpu_s=load.cpu_s), of_frontend.close(load_cpu_s=load.cpu_s)
            if seen.failed:
                sys.exit(f"{name}: {seen.failed} of {seen.requests} queries failed")
            whole[name].append(used.ours_s / seen.requests * 1e6)
            frontend[name].append(used_by_frontend.ours_s / seen.requests * 1e6)
            per_s[name].append(seen.per_s)
            after = _lookups(server)
            ratios[name].append((after[0] - before[0]) / max(1.0, after[1] - before[1]))
    for name in stacks:
        least, most = EXPECTED_RATIO[name]
        if not all(least <= ratio <= most for ratio in ratios[name]):
            sys.exit(f"{name}: hit ratios {ratios[name]}; expected {least} to {most}")
        cost = statistics.median(whole[name])
        print(
            f"| {connections} | {name} | {cost:.1f} | {min(whole[name]):.1f}–{max(whole[name]):.1f}"
            f" | {statistics.median(frontend[name]):.1f} | {statistics.median(per_s[name]):,.0f}"
            f" | {cost / statistics.median(whole['off']):.2f} |",
            flush=True,
        )


def _lookups(server: Serving) -> tuple[float, float]:
    """Return hits and lookups of the frontend so far."""
    address = server.url.partition("/clipper/")[0]
    text = requests.get(f"{address}/metrics", headers={"Accept": "text/plain"}, timeout=10).text
    counts = {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if "{model=" in line}
    hits, misses, joins = (counts[f"clipper_cache_{what}_total"] for what in ("hits", "misses", "joins"))
    return hits, hits + misses + joins


if __name__ == "__main__":
    main()
