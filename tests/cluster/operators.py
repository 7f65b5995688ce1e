"""Somebody who types `clipper-nomad` at a shell, with the variables that name the rig."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from clipper_nomad.cluster.nomad_api import NomadApi
from tests.cluster.rig import Rig
from tests.cluster.shell import Said, Shell

SHAPING = ("doctor", "plan", "render", "up")  # the verbs that take the options of `up`

MODEL = """
def total(inputs):
    return [float(one.sum()) for one in inputs]

def broken(inputs):
    raise ValueError("no such feature: height")
"""


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

    @property
    def shell(self) -> Shell:
        """With the rig's registry, where it has one."""
        registry = {} if self.rig.registry is None else {"CLIPPER_REGISTRY": self.rig.registry.address}
        return Shell(self.rig, self.folder, registry | {name: value or None for name, value in self.variables.items()})

    def having(self, **variables: str) -> Operator:
        """The same with other variables."""
        return replace(self, variables={**self.variables, **variables})

    @property
    def options(self) -> list[str]:
        """What no variable says."""
        return ["--tcp-port", str(self.rig.fabio_tcp_port), "--redis-image", self.redis_image]

    def types(self, *words: str, expect: int = 0) -> Said:
        options = self.options if words[0] in SHAPING and "--tcp-port" not in words else []
        return self.shell.types(*words, *options, expect=expect)
