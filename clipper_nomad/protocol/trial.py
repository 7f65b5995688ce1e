"""What is said of a bundle's trial: its first call, in a process of its own, on the machine that deploys it. Pure.

clipper_nomad/deployers/trial.py starts that process and reads its report; the runtime's trial.py is the process.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a trial ended."""

    ANSWERED = "answered"
    RAISED = "raised"  # the function did, when it was called
    WRONG = "wrong"  # what it returned is no list of one output
    IMPORT = "import"  # a module is missing, when it was loaded or called
    LOAD = "load"  # it raised when it was loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to do: call the function in the bundle on `input`, one input as JSON, and give up after `within_s`."""

    bundle: str
    title: str
    input: Any
    within_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of it. `frames`: (file, line, function) of the traceback, without the runtime's own."""

    outcome: Outcome
    error: str = ""
    frames: tuple[tuple[str, int, str], ...] = ()


def to_json(value: Asked | Report) -> str:
    """Return what `read_asked` and `read_report` read."""
    return json.dumps(asdict(value))


def read_asked(text: str) -> Asked:
    """Read what the deployer wrote."""
    return Asked(**json.loads(text))


def read_report(text: str) -> Report:
    """Read what the process wrote. Raises: ValueError: it did not come to its end."""
    fields = json.loads(text)
    frames = tuple((str(file), int(line), str(name)) for file, line, name in fields["frames"])
    return Report(outcome=Outcome(fields["outcome"]), error=fields["error"], frames=frames)
