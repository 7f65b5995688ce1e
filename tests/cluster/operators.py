"""Somebody who types `clipper-nomad` at a shell, with the variables that name the rig."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clipper_nomad.cluster.nomad_api import NomadApi
from tests.cluster.rig import Rig

COMMAND = (sys.executable, "-m", "clipper_nomad.cli")
WITHIN_S = 240.0
SHAPING = ("doctor", "plan", "render", "up")  # the verbs that take the options of `up`


@dataclass(frozen=True, slots=True)
class Said:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:  # noqa: ANN401  # JSON; the tests say what is in it
        return json.loads(self.stdout)


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody at a shell in `folder`. `variables`: theirs, in place of the rig's ("": not set)."""

    folder: Path
    rig: Rig
    redis_image: str = field(kw_only=True)
    variables: Mapping[str, str] = field(default_factory=dict, kw_only=True)

    @property
    def nomad(self) -> NomadApi:
        """With all rights, whatever theirs are."""
        return self.rig.nomad()

    def shell(self) -> dict[str, str]:
        found = {**self.rig.shell(), "COLUMNS": "120", **self.variables}
        return {name: value for name, value in found.items() if value}

    def having(self, **variables: str) -> Operator:
        """The same with other variables."""
        return replace(self, variables={**self.variables, **variables})

    @property
    def options(self) -> list[str]:
        """What no variable says."""
        return ["--tcp-port", str(self.rig.fabio_tcp_port), "--redis-image", self.redis_image]

    def types(self, *words: str, expect: int = 0) -> Said:
        options = self.options if words[0] in SHAPING and "--tcp-port" not in words else []
        done = subprocess.run(
            [*COMMAND, *words, *options],
            cwd=self.folder,
            env=self.shell(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=WITHIN_S,
        )
        said = Said(done.returncode, done.stdout, done.stderr)
        assert said.exit_code == expect, f"{words} ended with {said.exit_code}\n{said.stdout}\n{said.stderr}"
        return said
