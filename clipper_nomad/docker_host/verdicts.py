"""From what Docker says of a container to whether it serves, and why it does not. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field

from clipper_nomad.container_manager import Failure

DEATHS = 2  # so often it may die before it is given up: once may have been an accident
LOG_LINES = 15
_SIGNALLED = 128  # added to the signal's number, as shells do
_LASTING = frozenset({2, 3, 4})  # exit codes of the runtime after which no start will help: settings, import, bundle
_HINTS: Mapping[int, str] = {
    1: "Correct what the log says, and start it again.",
    3: 'If an import is missing: pkgs_to_install=["…"], or a base image that has it.',
    4: "If the log says so: deploy it from the Python that the image has.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A container as Docker sees it. `status`: created, running, restarting, exited, dead …; `health` "" without a check."""

    id: str
    name: str
    image_id: str
    network: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    status: str = "running"
    health: str = ""
    exit_code: int = 0
    deaths: int = 0
    is_oom: bool = False
    error: str = ""
    memory_mb: int | None = None

    @property
    def is_healthy(self) -> bool:
        """Whether it runs, and its check says that it serves."""
        return self.status == "running" and self.health in {"healthy", ""}

    @property
    def has_failed(self) -> bool:
        """Whether it is given up: it ended, cannot be started, or dies again and again."""
        if self.status in {"exited", "dead"}:
            return True
        if self.status == "restarting" and self.exit_code in _LASTING:
            return True
        return self.deaths >= DEATHS and not self.is_healthy


def failure_of(seen: Seen, *, log: str) -> Failure | None:
    """Return why the container is given up, None while it is not."""
    if not seen.has_failed:
        return None
    tail = "\n".join(log.rstrip().splitlines()[-LOG_LINES:])
    said = tail.splitlines()[-1].strip() if tail else ""
    again = f", {seen.deaths} times" if seen.deaths > 1 else ""
    hint: str | None = None
    if seen.is_oom:
        limit = f" at {seen.memory_mb:,} MiB" if seen.memory_mb else ""
        cause = f"container {seen.name} was OOM-killed{limit}{again}"
        hint = "It needs more memory than it may take: JobOptions(memory_mb=…)."
    elif seen.error:
        cause = f"container {seen.name} could not be started: {seen.error}"
    elif seen.status == "running":  # started again already: how it ended is in its log alone
        cause = f"container {seen.name} died{again}"
    elif seen.exit_code > _SIGNALLED:
        cause = f"container {seen.name} was killed by {_signal_name(seen.exit_code - _SIGNALLED)}{again}"
    else:
        cause = f"container {seen.name} exited with code {seen.exit_code}{again}"
        hint = _HINTS.get(seen.exit_code)
    return Failure(cause=f"{cause}: {said}" if said and not seen.is_oom else cause, log_tail=tail, hint=hint)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
