"""What the public path costs: queries straight to a query frontend, through Fabio's HTTP proxy, through Fabio's TCP proxy.

A cluster of one frontend and one replica on a real Nomad, Consul, Docker and Fabio of its own, all on loopback. The three
paths are loaded in turn, in every round: with wrk for throughput and for the processor time of Fabio and of the frontend,
and at a low steady rate, with every answer checked, for latency. Ratios are taken within a round. The path through the TCP
proxy is made as docs/performance.md says: one more service in Consul, with a TCP route to the frontend's HTTP port.

Run: python -m benchmarks.public_path --rounds 5
"""

import argparse
import asyncio
import datetime as dt
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import requests

from benchmarks.checked_answers import Verdict
from benchmarks.checked_load import Address
from benchmarks.cpu import CpuWindow
from benchmarks.load import run_load, start_load
from benchmarks.results import Spread
from tests.cluster.clusters import APP, Cluster, running_cluster
from tests.cluster.parts import docker_client, local_images
from tests.cluster.rig import Rig, fabio_options, free_ports, process, running_rig
from tests.process.steady_load import SteadyLoad
from tests.waiting import wait_until

CONNECTIONS = (1, 32, 256)
LOW_RATE_PER_S = 50.0
_SERVICE = "public-path-benchmark"
_RESULTS = Path(__file__).resolve().parent / "results"
_READY_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class FullLoad:
    """One path under wrk. Processor time in µs for each query."""

    path: str
    connections: int
    per_s: float
    p50_ms: float
    p99_ms: float
    failed: int
    fabio_us: float
    frontend_us: float
    replica_us: float
    others_share: float


@dataclass(frozen=True, slots=True)
class LowLoad:
    """One path at a steady rate, every answer checked."""

    path: str
    rate_per_s: float
    queries: int
    right: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Paths:
    """Where each path begins, and the processes behind it."""

    urls: dict[str, str]
    fabio: psutil.Process
    frontend: psutil.Process
    replica: psutil.Process


@contextmanager
def three_paths(rig: Rig, cluster: Cluster, folder: Path) -> Iterator[Paths]:
    """Run a Fabio with a TCP listener for queries, beside the rig's."""
    http, tcp, ui = free_ports(3)
    direct = urlsplit(cluster.frontends()[0])
    told = requests.put(
        f"{rig.consul_url}/v1/agent/service/register",
        json={
            "Name": _SERVICE,
            "Address": direct.hostname,
            "Port": direct.port,
            "Tags": [f"urlprefix-:{tcp} proto=tcp"],
            "Check": {"HTTP": f"http://{direct.netloc}/health/ready", "Interval": "1s", "Timeout": "1s"},
        },
        timeout=10,
    )
    told.raise_for_status()
    listeners = f"127.0.0.1:{http},127.0.0.1:{tcp};proto=tcp"
    options = [*fabio_options(rig), "-proxy.addr", listeners, "-ui.addr", f"127.0.0.1:{ui}"]  # the last one counts
    prefix = cluster.manager.names.query_path
    urls = {
        "direct": f"http://{direct.netloc}{prefix}/{APP}/predict",
        "http": f"http://127.0.0.1:{http}{prefix}/{APP}/predict",
        "tcp": f"http://127.0.0.1:{tcp}{prefix}/{APP}/predict",
    }
    before = set(psutil.Process().children())
    with process("fabio", *options, folder=folder):
        (fabio,) = set(psutil.Process().children()) - before
        for url in urls.values():
            wait_until(lambda url=url: _answers(url), f"an answer at {url}", within_s=_READY_WITHIN_S)  # type: ignore[misc]
        names = cluster.manager.names
        frontend, replica = (_process_of(cluster, job) for job in (names.frontend_job, names.model_job("sums", "1")))
        yield Paths(urls, fabio, frontend, replica)


def _answers(url: str) -> bool:
    try:
        return requests.post(url, json={"input": [1.0]}, timeout=5).json()["output"] == 1.0
    except (requests.RequestException, ValueError, KeyError):
        return False


def _process_of(cluster: Cluster, job_id: str) -> psutil.Process:
    (allocation,) = cluster.running(job_id)
    container = docker_client().containers.get(f"{job_id}-{allocation['ID']}")
    return psutil.Process(container.attrs["State"]["Pid"])


def _cpu_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return used.user + used.system


def full_load(paths: Paths, path: str, *, connections: int, seconds: int) -> FullLoad:
    """Load one path with wrk."""
    parts = (paths.fabio, paths.frontend, paths.replica)
    window = CpuWindow([part.pid for part in parts])
    before = [_cpu_s(part) for part in parts]
    load = start_load(paths.urls[path], connections=connections, seconds=seconds)
    seen = load.wait()
    used = [(_cpu_s(part) - then) * 1e6 / seen.requests for part, then in zip(parts, before, strict=True)]
    others = window.close(load_cpu_s=load.cpu_s).others_share
    return FullLoad(path, connections, seen.per_s, seen.p50_ms, seen.p99_ms, seen.failed, *used, others_share=others)


def low_load(paths: Paths, path: str, *, seconds: float) -> LowLoad:
    """Ask one path at a low rate, and check each answer."""
    url = urlsplit(paths.urls[path])
    assert url.hostname
    assert url.port
    prefix = url.path.removesuffix(f"/{APP}/predict")
    load = SteadyLoad([Address(url.hostname, url.port)], app=APP, prefix=prefix, is_proxied=True, connections=4)
    tally = asyncio.run(load.run(rate_per_s=LOW_RATE_PER_S, seconds=seconds))
    p50, p99 = (tally.percentile_s(percent) * 1e3 for percent in (50, 99))
    return LowLoad(path, LOW_RATE_PER_S, tally.queries, tally.verdicts[Verdict.RIGHT], p50, p99)


def measure(paths: Paths, *, rounds: int, seconds: int) -> tuple[list[list[FullLoad]], list[list[LowLoad]]]:
    """Return the rounds of each number of connections, and those of the low load; a round holds every path once."""
    names = list(paths.urls)
    full, low = [], []
    for connections in CONNECTIONS:
        for path in names:
            run_load(paths.urls[path], connections=connections, seconds=1)
        for number in range(rounds):
            order = names[number % 3 :] + names[: number % 3]
            full.append([full_load(paths, path, connections=connections, seconds=seconds) for path in order])
            print(
                "  ".join(f"{one.path} {one.per_s:,.0f}/s" for one in full[-1]), f"({connections} connections)", flush=True
            )
    for number in range(rounds):
        order = names[number % 3 :] + names[: number % 3]
        low.append([low_load(paths, path, seconds=2.0 * seconds) for path in order])
    return full, low


def table(full: Sequence[Sequence[FullLoad]], low: Sequence[Sequence[LowLoad]]) -> str:
    """Return the figures as the rows of two tables in Markdown."""
    rows = [
        "| connections | path | queries a second | over direct | CPU of Fabio, µs | of the frontend | p50 ms | p99 ms |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for connections in CONNECTIONS:
        rounds = [{one.path: one for one in each} for each in full if each[0].connections == connections]
        for path in rounds[0]:
            ratio = _spread((each[path].per_s / each["direct"].per_s for each in rounds), 2) if path != "direct" else "1"
            cells = [
                _spread((each[path].per_s for each in rounds), 0),
                ratio,
                _spread((each[path].fabio_us for each in rounds), 0) if path != "direct" else "–",
                _spread((each[path].frontend_us for each in rounds), 0),
                _spread((each[path].p50_ms for each in rounds), 2),
                _spread((each[path].p99_ms for each in rounds), 2),
            ]
            rows.append(f"| {connections} | {path} | {' | '.join(cells)} |")
    rows += [
        "",
        f"| path, {LOW_RATE_PER_S:.0f} queries a second | p50 ms | over direct | p99 ms |",
        "| --- | --- | --- | --- |",
    ]
    for path in sorted({one.path for one in low[0]}):
        mine = [{one.path: one for one in each} for each in low]
        added = _spread((each[path].p50_ms - each["direct"].p50_ms for each in mine), 2) if path != "direct" else "–"
        p50, p99 = (_spread((getattr(each[path], name) for each in mine), 2) for name in ("p50_ms", "p99_ms"))
        rows.append(f"| {path} | {p50} | {added} | {p99} |")
    return "\n".join(rows)


def _spread(values: Iterator[float], digits: int) -> str:
    spread = Spread.of(values)
    return f"{spread.median:.{digits}f} [{spread.low:.{digits}f}–{spread.high:.{digits}f}]"


def main() -> int:
    """Run from the command line; the exit code is 1 if an answer was not right."""
    parser = argparse.ArgumentParser(description="What the public path costs: direct, Fabio's HTTP proxy, its TCP proxy.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each load")
    parser.add_argument("--no-results", action="store_true", help="print only")
    given = parser.parse_args()
    docker = docker_client()
    images = local_images()
    with tempfile.TemporaryDirectory() as place, running_rig(Path(place)) as rig:
        mine = Path(place) / "public-path"
        mine.mkdir()
        with running_cluster(rig, docker, images, frontends=1) as cluster, three_paths(rig, cluster, mine) as paths:
            full, low = measure(paths, rounds=given.rounds, seconds=given.seconds)
    print(table(full, low))
    if not given.no_results:
        target = _RESULTS / f"public-path-{dt.datetime.now(tz=dt.UTC).date()}.json"
        values = {
            "cpus": os.cpu_count(),
            "seconds": given.seconds,
            "full_load": [[asdict(one) for one in each] for each in full],
            "low_load": [[asdict(one) for one in each] for each in low],
        }
        target.write_text(json.dumps(values, indent=1) + "\n")
        print(f"written to {target}")
    lost = sum(one.queries - one.right for each in low for one in each) + sum(one.failed for each in full for one in each)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
