"""What the supervisor tells others: one JSON file, replaced whole at each change; left only when it is killed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from clipper_nomad.dev_cluster.ports import Ports
from clipper_nomad.local_stack.exits import started_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What an agent is started from."""

    name: str
    path: str
    version: str
    downloaded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a supervisor is started with."""

    data: str
    programs: tuple[Program, ...]
    ports: Ports

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Return what `to_json` wrote."""
        found = json.loads(text)
        return cls(
            data=found["data"],
            programs=tuple(Program(**each) for each in found["programs"]),
            ports=Ports(**found["ports"]),
        )

    def program(self, agent: str) -> Program:
        """Return what an agent is started from: "nomad" and "nomad-client" from one program."""
        return next(each for each in self.programs if each.name == agent.partition("-")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    """One agent. `state`: "running", "waiting" (for its restart), "failed" (given up), "stopping", "stopped"."""

    name: str
    state: str
    pid: int | None
    since: float  # when it was started, seconds of Unix
    restarts: int
    last_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The whole of it. `pid`, `pid_started`: of the supervisor, by which it is told from a later process of that number."""

    pid: int
    pid_started: int
    since: float
    settings: Settings
    agents: tuple[AgentState, ...] = field(default=())

    @property
    def is_alive(self) -> bool:
        """Whether the supervisor runs."""
        try:
            return started_at(self.pid) == self.pid_started
        except ProcessLookupError:
            return False

    def agent(self, name: str) -> AgentState:
        """Return how an agent is."""
        return next(each for each in self.agents if each.name == name)


def read_state(path: Path) -> State | None:
    """Return what was told last, None if there is nothing, or nothing of this version's."""
    try:
        found: Mapping[str, object] = json.loads(path.read_bytes())
        settings = Settings.from_json(json.dumps(found["settings"]))
        agents = found["agents"]
        assert isinstance(agents, list)  # noqa: S101  # else as any other damage
        rest = {name: value for name, value in found.items() if name not in {"settings", "agents"}}
        return State(settings=settings, agents=tuple(AgentState(**each) for each in agents), **rest)  # type: ignore[arg-type]  # checked by use
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AssertionError):
        return None


def write_state(path: Path, state: State) -> None:
    """Replace the file, so that a reader sees the old or the new one."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps(asdict(state), indent=1))
    fresh.replace(path)
