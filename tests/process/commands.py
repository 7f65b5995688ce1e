"""Running `clipper-nomad` as a user does: a process of its own, with a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.process.local_stack_rig import Home

COMMAND = (sys.executable, "-m", "clipper_nomad")
WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and what it wrote."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()

    @property
    def document(self) -> Any:  # noqa: ANN401  # JSON; the tests say what is in it
        """The JSON document that is the whole of stdout."""
        return json.loads(self.stdout)


@dataclass(frozen=True, slots=True)
class User:
    """Somebody at a shell in `folder`, whose clusters are all below `home`."""

    home: Home
    folder: Path

    def types(self, *words: str, expect: int = 0, input_: str = "") -> Said:
        """Run a command to its end, which must be this exit code."""
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            input=input_,
            check=False,
            timeout=WITHIN_S,
        )
        said = Said(done.returncode, done.stdout, done.stderr)
        assert said.exit_code == expect, f"{words} ended with {said.exit_code}\n{said.stdout}\n{said.stderr}"
        return said

    def starts(self, *words: str) -> subprocess.Popen[str]:
        """Start a command that does not end by itself, or is to be interrupted."""
        return subprocess.Popen(
            [*COMMAND, *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def writes(self, name: str, code: str) -> None:
        (self.folder / name).write_text(code)

    @property
    def environment(self) -> dict[str, str]:
        here = {name: value for name, value in os.environ.items() if not name.startswith(("NOMAD_", "CONSUL_"))}
        return {**here, "CLIPPER_HOME": str(self.home.path), "COLUMNS": "80"}


def interrupted(process: subprocess.Popen[str], interrupt: Callable[[], None]) -> Said:
    """Interrupt a command as Ctrl-C does, and return how it ended."""
    interrupt()
    stdout, stderr = process.communicate(timeout=WITHIN_S)
    return Said(process.returncode, stdout, stderr)
