"""Somebody at a shell whose environment leads to a rig: types commands, starts some, interrupts them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.parts import REGISTRY
from tests.cluster.rig import Rig

COMMAND = (sys.executable, "-m", "clipper_nomad.cli")
WITHIN_S = 240.0


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended. `took_s`: of a command that was interrupted, from then on."""

    exit_code: int
    stdout: str
    stderr: str
    took_s: float = 0.0

    @property
    def document(self) -> Any:  # noqa: ANN401  # JSON; the tests say what is in it
        return json.loads(self.stdout)


@dataclass(frozen=True, slots=True)
class Shell:
    """A shell in `folder`; `environ` goes before what leads to the rig, and None takes a variable away."""

    rig: Rig
    folder: Path
    environ: Mapping[str, str | None] = field(default_factory=dict)

    def types(self, *words: str, expect: int = 0) -> Said:
        """Run a command to its end, which must be with the exit code `expect`."""
        done = subprocess.run([*COMMAND, *words], capture_output=True, check=False, timeout=WITHIN_S, **self._how())
        said = Said(done.returncode, done.stdout, done.stderr)
        assert said.exit_code == expect, f"{words} ended with {said.exit_code}\n{said.stdout}\n{said.stderr}"
        return said

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command until it is interrupted (`interrupted`), or the block ends."""
        with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **self._how()) as process:
            try:
                yield process
            finally:
                process.kill()

    def environment(self) -> dict[str, str]:
        """What a command finds in its environment."""
        found = {**self.rig.shell(), "CLIPPER_REGISTRY": REGISTRY, "COLUMNS": "120", **self.environ}
        return {name: value for name, value in found.items() if value is not None}

    def _how(self) -> dict[str, Any]:  # Any: arguments of subprocess
        return {"cwd": self.folder, "env": self.environment(), "stdin": subprocess.DEVNULL, "text": True}


def interrupted(process: subprocess.Popen[str]) -> Said:
    """Press Ctrl-C, and return how the command ended."""
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=WITHIN_S)
    # Python ends itself by the signal if that came within an exec() of text, as dataclasses do: a shell says 130 to both
    exit_code = 128 + signal.SIGINT if process.returncode == -signal.SIGINT else process.returncode
    return Said(exit_code, stdout, stderr, took_s=time.monotonic() - began)
