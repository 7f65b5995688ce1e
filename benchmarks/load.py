"""Full load on one URL with wrk: how many answers a second, and how long they took. Answers are not checked here.

figures.py calls `start_load` (to look at memory meanwhile) or `run_load`; load.lua says what is sent. wrk is closed
loop: a connection sends its next request when it has the answer, and wrk corrects its latencies for the requests it
could not send. Linux. What is checked, and at a steady rate, is checked_load.py's.

Run: python -m benchmarks.load http://127.0.0.1:9999/app-1/predict --connections 256 --seconds 3
"""

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

_SCRIPT = Path(__file__).with_name("load.lua")
_MARK = "RESULT "
_TIMEOUT_S = 10  # an answer later than this is an error; the default of wrk, 2 s, is below the timeout of an app


class LoadError(Exception):
    """The load could not be made: wrk is missing, could not connect, or was refused."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What one run of wrk saw."""

    requests: int
    duration_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    refused: int  # answers with a status of 400 and above
    connect_errors: int
    read_errors: int
    write_errors: int
    timeouts: int

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.requests / self.duration_s

    @property
    def failed(self) -> int:
        """Everything that was not an answer, or was a refusal."""
        return self.refused + self.connect_errors + self.read_errors + self.write_errors + self.timeouts


class Load:
    """A wrk under way."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self._url = url
        self.cpu_s = 0.0  # processor time of wrk itself, known after `wait`

    @property
    def pid(self) -> int:
        """The process that makes the load."""
        return self._process.pid

    def wait(self) -> LoadResult:
        """Wait for the end and return what was seen.

        Raises: LoadError: wrk failed, or not one request was answered.
        """
        assert self._process.stdout is not None
        printed = self._process.stdout.read()
        _, status, usage = os.wait4(self._process.pid, 0)  # not Popen.wait: only wait4 tells what this child alone has used
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_s = usage.ru_utime + usage.ru_stime
        line = next((line for line in printed.splitlines() if line.startswith(_MARK)), None)
        if line is None or self._process.returncode != 0:
            raise LoadError(f"wrk on {self._url} ended with {self._process.returncode} and no result:\n{printed.strip()}")
        result = msgspec.json.decode(line.removeprefix(_MARK), type=LoadResult)
        if result.requests == 0:
            raise LoadError(f"{self._url} answered nothing in {result.duration_s:.1f} s: {result}")
        return result


def start_load(url: str, *, connections: int, seconds: int, threads: int = 1, sent_before: int = 0) -> Load:
    """Start wrk on `url`. One thread carries more than 100,000 requests a second; a second would only take a core away.

    `sent_before`: which of its inputs, sent in turn, is the first. Raises: LoadError: there is no wrk on this machine.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise LoadError(
            "wrk was not found on PATH; the load figures are made with it. "
            "Install it (Debian: apt-get install wrk; macOS: brew install wrk) and run this again."
        )
    command = [
        wrk,
        f"-t{threads}",
        f"-c{connections}",
        f"-d{seconds}s",
        f"--timeout={_TIMEOUT_S}s",
        f"-s{_SCRIPT}",
        url,
        "--",
        str(sent_before),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return Load(process, url)


def run_load(url: str, *, connections: int, seconds: int) -> LoadResult:
    """Start wrk on `url` and wait for its result."""
    return start_load(url, connections=connections, seconds=seconds).wait()


def main() -> None:
    """Load one URL and print what was seen."""
    arguments = argparse.ArgumentParser(description="Load a predict URL with wrk.")
    arguments.add_argument("url")
    arguments.add_argument("--connections", type=int, default=32)
    arguments.add_argument("--seconds", type=int, default=3)
    given = arguments.parse_args()
    try:
        result = run_load(given.url, connections=given.connections, seconds=given.seconds)
    except LoadError as exc:
        sys.exit(str(exc))
    print(
        f"{result.per_s:,.0f} a second · p50 {result.p50_ms:.2f} ms · p90 {result.p90_ms:.2f} · "
        f"p99 {result.p99_ms:.2f} · max {result.max_ms:.1f} · {result.failed} failed of {result.requests:,}"
    )


if __name__ == "__main__":
    main()
