"""A bundle's trial: its function is called once, in a process of its own, before anything is built or sent.

What a replica would fail at minutes later is told here at once, with the line of the user's code. The process is the
runtime's, with this Python and its packages, so it loads and calls as a replica does.
"""

from __future__ import annotations

import contextlib
import linecache
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clipper_nomad.connection.inputs import Input
from clipper_nomad.deployers.closure_modules import is_installed
from clipper_nomad.errors import DeployFailed
from clipper_nomad.protocol.trial import Asked, Outcome, Report, read_report, to_json

SLACK_S = 5.0  # beyond its time, for the process to say where it hangs
MAX_FRAMES = 4
MAX_TAIL_LINES = 20
MAX_INPUT = 60
WITHOUT = "If it can only run there, deploy without this trial: trial=False (clipper-nomad deploy --no-trial)."


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried, and how. `is_made_up`: nobody said that the function takes this input, so it may refuse it.

    `has_other_packages`: replicas will have packages that this Python may lack, so one that is missing here is no failure.
    """

    model: str
    version: str
    input: Input
    is_made_up: bool
    within_s: float
    has_other_packages: bool = False
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, bundle: Path) -> bool:
        """Return whether the function answered; False: it may, but this input or this machine cannot tell.

        Raises: DeployFailed: it does not load or answer; the message has the user's line, or what the process said last.
        """
        with tempfile.TemporaryDirectory(prefix="clipper-trial-") as name:
            folder = Path(name)
            ended = self._call(bundle, folder)
            report = folder / "report.json"
            if not report.is_file():
                said = _tail(folder / "said.txt") or "  nothing"
                raise self._failed(f"{ended}. What it said:\n{said}", WITHOUT)
            return self._judge(read_report(report.read_text(encoding="utf-8")))

    def _call(self, bundle: Path, folder: Path) -> str:
        """Run the process to its end, and return how it ended."""
        asked = Asked(bundle=str(bundle), title=f"{self.model}:{self.version}", input=self.input, within_s=self.within_s)
        (folder / "asked.json").write_text(to_json(asked), encoding="utf-8")
        (folder / "work").mkdir()
        program = [sys.executable, "-m", "clipper_nomad_runtime.trial"]
        with (folder / "said.txt").open("wb") as said:
            process = subprocess.Popen(
                [*program, str(folder / "asked.json"), str(folder / "report.json")],
                stdin=subprocess.PIPE,  # its end tells the process that we are gone
                stdout=said,
                stderr=said,
                cwd=folder / "work",
                env={**os.environ, **self.env},
                start_new_session=True,
            )
            with _ended_with(process):
                try:
                    code = process.wait(self.within_s + SLACK_S)
                except subprocess.TimeoutExpired:
                    return f"gave up after {self.within_s:g} s: it had not answered one input"
        if code == 1 and "Timeout (" in _tail(folder / "said.txt", lines=10_000):  # faulthandler's word
            return f"gave up after {self.within_s:g} s: it had not answered one input"
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return f"the process in which it was tried ended {how}"

    def _judge(self, report: Report) -> bool:
        shown = _shown(report)
        match report.outcome:
            case Outcome.ANSWERED:
                return True
            case Outcome.RAISED if self.is_made_up:
                return False  # the deploy says so: loaded, not tested
            case Outcome.RAISED:
                raise self._failed(
                    f"its function raised {report.error}{shown}",
                    f"It was called on the sample {_short(self.input)}. Fix the function, or give another sample. {WITHOUT}",
                )
            case Outcome.WRONG:
                raise self._failed(f"on one input it failed: {report.error}", f"It was called on {_short(self.input)}.")
            case Outcome.IMPORT if self.has_other_packages:
                return False
            case Outcome.IMPORT:
                raise self._failed(
                    f"it lacks a package: {report.error}{shown}",
                    "Install the package here; for a cluster, name it in pkgs_to_install too, or an image that has it.",
                )
            case Outcome.LOAD:
                raise self._failed(f"it cannot be loaded in another process: {report.error}{shown}", WITHOUT)

    def _failed(self, cause: str, hint: str) -> DeployFailed:
        return DeployFailed(f"Model '{self.model}' version '{self.version}' was not deployed: {cause}", hint=hint)


@contextlib.contextmanager
def _ended_with(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """See that the process, and what it started, has ended when the block is left, however that is."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with process:  # closes its standard input, and waits
            pass


def _shown(report: Report) -> str:
    """Return the lines of the user's code that an exception passed through, as Python shows them."""
    theirs = [frame for frame in report.frames if not is_installed(Path(frame[0]))] or report.frames[-1:]
    lines = [""]
    for file, number, name in theirs[-MAX_FRAMES:]:
        lines.append(f'  File "{file}", line {number}, in {name}')
        if code := linecache.getline(file, number).strip():  # a notebook's cells are known to this process alone
            lines.append(f"    {code}")
    return "\n".join(lines) if len(lines) > 1 else ""


def _tail(file: Path, *, lines: int = MAX_TAIL_LINES) -> str:
    return "\n".join(f"  {line}" for line in file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _short(value: Input) -> str:
    text = repr(value)
    return text if len(text) <= MAX_INPUT else f"{text[: MAX_INPUT - 1]}…"
