"""The figures of one run of the suite, as values and as the JSON file in results/.

figures.py fills and writes them; targets.py judges them; report.py and plot.py show them. What was not measured is
None, with the reason in `missing`.
"""

import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import msgspec

ECHO_SPREAD_ABOVE = 1.5  # fastest over slowest echo of a set: above it the machine changed under us (issue 3, Figures)

_SHOWN_PACKAGES = ("uvloop", "httptools", "pyzmq", "msgspec", "numpy", "scikit-learn", "fastapi", "uvicorn")


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Return the spread of one or more values."""
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])

    @property
    def ratio(self) -> float:
        """The highest over the lowest."""
        return self.high / self.low


@dataclass(frozen=True, slots=True)
class Run:
    """One server under one load."""

    server: str  # "ours", "echo", "bare", "fastapi"
    requests: int
    failed: int
    per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    cpu_us: float  # of all its processes, a query
    others_share: float
    is_void: bool


@dataclass(frozen=True, slots=True)
class Round:
    """One run of each server, right after one another."""

    ours: Run
    echo: Run
    bare: Run
    fastapi: Run | None

    @property
    def runs(self) -> list[Run]:
        """The runs in their order."""
        return [run for run in (self.ours, self.echo, self.bare, self.fastapi) if run is not None]

    @property
    def is_void(self) -> bool:
        """Whether others disturbed one of the runs."""
        return any(run.is_void for run in self.runs)


@dataclass(frozen=True, slots=True)
class LoadSet:
    """The rounds at one number of connections; the void ones are kept, and do not count while there are others."""

    connections: int
    seconds: int
    wanted: int
    rounds: list[Round]

    @property
    def counted(self) -> list[Round]:
        """The rounds that the figures are made of."""
        return [one for one in self.rounds if not one.is_void] or self.rounds

    @property
    def void_because(self) -> str | None:
        """Why the figures of this set say nothing, if so."""
        undisturbed = sum(not one.is_void for one in self.rounds)
        if undisturbed < self.wanted:
            return f"other processes took over 10 % of the machine; {undisturbed} of {self.wanted} rounds are undisturbed"
        echo_spread = self.spread(lambda one: one.echo.per_s).ratio
        if echo_spread > ECHO_SPREAD_ABOVE:
            return f"the echo's own spread is {echo_spread:.2f}, over {ECHO_SPREAD_ABOVE}"
        return None

    def runs_of(self, server: str) -> list[Run]:
        """Return the counted runs of one server; none if it was not compared here."""
        return [run for one in self.counted for run in one.runs if run.server == server]

    def spread(self, value: Callable[[Round], float]) -> Spread:
        """Return the spread of a value over the counted rounds."""
        return Spread.of(value(one) for one in self.counted)


@dataclass(frozen=True, slots=True)
class MemoryPoint:
    """The frontend's memory after some queries, at 256 connections."""

    queries: int
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory and idle cost of ours."""

    frontend: list[MemoryPoint]  # under load, in order
    runtime_bytes: int
    interpreter_bytes: int  # with the runtime's imports of other people's code, see memory.py
    bare_interpreter_bytes: int  # with `import sklearn, zmq, numpy` only
    idle_share_of_a_core: float  # everything together
    idle_s: float
    processes: list[str]


@dataclass(frozen=True, slots=True)
class FreshStart:
    """CPU a query in one fresh start, at 32 connections, and the time from the first command to the first answer."""

    cpu_us: float
    started_in_s: float
    is_void: bool


@dataclass(frozen=True, slots=True)
class CheckedRun:
    """The second run at full load, in which every answer was compared."""

    connections: int
    max_pipeline: int
    queries: int
    wrong: int
    unanswered: int
    verdicts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured. No host name: the file is published."""

    cores: int
    processor: str
    kernel: str
    python: str
    packages: dict[str, str]

    @classmethod
    def here(cls) -> "Machine":
        """Return this machine."""
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
        release = ".".join(platform.release().split("-")[0].split("."))
        return cls(
            cores=os.cpu_count() or 1,
            processor=model,
            kernel=f"{platform.system()} {release}",
            python=platform.python_version(),
            packages={name: metadata.version(name) for name in _SHOWN_PACKAGES},
        )


@dataclass(slots=True)
class Results:
    """Everything one run of the suite found; filled part by part."""

    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    command: str = field(default_factory=lambda: "python -m benchmarks.figures " + " ".join(sys.argv[1:]))
    machine: Machine = field(default_factory=Machine.here)
    sets: list[LoadSet] = field(default_factory=list)
    fresh_starts: list[FreshStart] = field(default_factory=list)
    checked: list[CheckedRun] = field(default_factory=list)
    footprint: Footprint | None = None
    up_s: float | None = None
    missing: dict[str, str] = field(default_factory=dict)  # part → why it was not measured

    def set_at(self, connections: int) -> LoadSet | None:
        """Return the rounds at this number of connections."""
        return next((one for one in self.sets if one.connections == connections), None)


def write_results(results: Results, path: Path) -> None:
    """Write `results` as JSON that is readable and that git can compare."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def read_results(path: Path) -> Results:
    """Read what `write_results` wrote.

    Raises: msgspec.ValidationError: it is of another version of the suite.
    """
    return msgspec.json.decode(path.read_bytes(), type=Results)


def newest(paths: Sequence[Path]) -> Path:
    """Return the newest of results files that are named by their date."""
    return max(paths, key=lambda path: path.name)
