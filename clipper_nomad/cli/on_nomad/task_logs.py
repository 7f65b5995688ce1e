"""`logs` on Nomad: the last lines of a part's allocations, and what is added.

Nomad is asked for the end of each log; what was not in the end that was seen before is new (`added`, pure).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipper_nomad.cli.on_nomad.reaching import new_manager, not_on_nomad, part_names
from clipper_nomad.cli.options import Building, Shape, Where
from clipper_nomad.errors import ClipperException

if TYPE_CHECKING:
    from clipper_nomad.cli.output import Output
    from clipper_nomad.cluster.manager import NomadContainerManager

STREAMS = ("stdout", "stderr")
LOOK_EVERY_S = 1.0
END_BYTES = 64 * 1024
_GUESSED_LINE_BYTES = 300
_OVERLAP = 2000  # characters that are looked for again: more than a line, which may well be written twice


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One task of one allocation. `name` for people: "frontend-1a2b3c4d"."""

    name: str
    alloc_id: str
    task: str


class Tail:
    """The end of one task's stream: its last lines first, then what is added."""

    def __init__(self, manager: NomadContainerManager, source: Source, stream: str, *, last: int) -> None:
        self._nomad = manager.nomad
        self._source = source
        self._stream = stream
        self._last: int | None = last
        self._seen = ""

    def read(self) -> list[str]:
        """Return the complete lines since the last call."""
        wanted = max(END_BYTES, (self._last or 0) * _GUESSED_LINE_BYTES)
        text = self._nomad.log_tail(self._source.alloc_id, task=self._source.task, stream=self._stream, last_bytes=wanted)
        whole = text[: text.rfind("\n") + 1]
        new = added(self._seen, whole)
        self._seen = whole or self._seen
        last, self._last = self._last, None
        return new.splitlines() if last is None else last_lines(new, last)


def show_logs(output: Output, where: Where, part: str | None, *, lines: int, follow: bool) -> None:
    """Print the last lines of a part's logs. Raises: ClipperException: there is no such part, or no cluster."""
    manager = new_manager(where, Shape(no_fabio=True), Building(registry=""))
    sources = find_sources(manager, part)
    if not sources:
        known = [_label(manager, job.id, job.model) for job in manager.find_jobs().ours]
        if not known:
            raise not_on_nomad(where, manager.nomad)
        raise ClipperException(f"There is no log of {part!r}.", hint=f"There are logs of: {', '.join(known)}.")
    has_prefix = len(sources) > 1
    output.note(f"… the last {lines} lines of {len(sources)} logs" + ("; Ctrl-C ends" if follow else ""))
    tails: dict[Source, list[Tail]] = {}
    while True:
        for source in sources:
            if source not in tails:
                tails[source] = [Tail(manager, source, stream, last=lines) for stream in STREAMS]
            for line in (line for tail in tails[source] for line in tail.read()):
                _print(output, source.name, line, prefix=has_prefix)
        if not follow:
            return
        time.sleep(LOOK_EVERY_S)
        sources = find_sources(manager, part)


def find_sources(manager: NomadContainerManager, part: str | None) -> list[Source]:
    """Return the tasks that `part` means: redis, admin, frontend, a model or model:version; None: all."""
    found = []
    for job in manager.find_jobs().ours:
        label = _label(manager, job.id, job.model)
        if part is not None and part not in {label, job.id, job.model[0] if job.model else label, *_aliases(label)}:
            continue
        for allocation in manager.nomad.allocations(job.id):
            if allocation.get("DesiredStatus") == "run" and allocation.get("TaskStates"):
                name = f"{label}-{allocation['ID'][:8]}"
                found.append(Source(name=name, alloc_id=allocation["ID"], task=job.id))
    return found


def added(before: str, now: str) -> str:
    """Return what `now`, the end of a log, has after `before`, its end at an earlier look. Pure."""
    if not before:
        return now
    overlap = before[-_OVERLAP:]
    at = now.rfind(overlap)
    return now if at < 0 else now[at + len(overlap) :]


def last_lines(text: str, count: int) -> list[str]:
    """Return the last lines of a text. Pure."""
    return text.splitlines()[-count:] if count else []


def _aliases(label: str) -> Sequence[str]:
    return ("store",) if label == "redis" else ()


def _label(manager: NomadContainerManager, job_id: str, model: tuple[str, str] | None) -> str:
    return ":".join(model) if model else part_names(manager.names).get(job_id, job_id)


def _print(output: Output, name: str, line: str, *, prefix: bool) -> None:
    from rich.text import Text

    output.line(Text.assemble((f"{name} │ ", "dim"), line) if prefix else line)
