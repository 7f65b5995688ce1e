"""Which ports the agents listen on: those of before, else the standard ones, else others that are free. Pure.

Kept over restarts, because clients and the agents' own data name them: a port that was kept and is taken now is no reason
to choose another, it is an error with the holder's name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields

from clipper_nomad.errors import DevClusterError

OTHERS_FROM = 10_000  # above the standard one: 14646 for 4646, below the ports that Nomad and Linux give to tasks
TRIED = 1000
HIGHEST = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """All on 127.0.0.1. `tasks`: the first of TASK_PORTS that Nomad gives to tasks."""

    consul_http: int = 8500
    consul_dns: int = 8600
    consul_server: int = 8300
    consul_serf: int = 8301
    nomad_http: int = 4646
    nomad_rpc: int = 4647
    nomad_serf: int = 4648
    nomad_client: int = 4649
    fabio_http: int = 9999
    fabio_tcp: int = 7000
    fabio_rpc3: int = 7001
    fabio_admin: int = 9998
    tasks: int = 20_000

    @property
    def of_agents(self) -> dict[str, int]:
        """All but those of tasks."""
        return {name: port for name, port in asdict(self).items() if name != "tasks"}

    def to_json(self) -> str:
        """Return what `ports_from` reads."""
        return json.dumps(asdict(self), indent=1)


STANDARD = Ports()
TASK_PORTS = 12_000  # as Nomad has it: 20000 to 31999
OTHER_TASKS, OTHER_TASK_PORTS = 32_000, 700  # beside another Nomad, whose tasks have Nomad's own range; Linux's is 32768 on


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A standard port that is taken: what for, and which was taken instead."""

    purpose: str
    standard: int
    instead: int


def choose(is_free: Callable[[int], bool]) -> tuple[Ports, tuple[Moved, ...]]:
    """Return ports that are free, and which of them are not the standard ones. Raises: DevClusterError: there are none."""
    chosen: dict[str, int] = {}
    moved = []
    for name, standard in STANDARD.of_agents.items():
        port = standard if is_free(standard) else _other(standard, is_free, set(chosen.values()))
        chosen[name] = port
        if port != standard:
            moved.append(Moved(purpose=purpose_of(name), standard=standard, instead=port))
    if chosen["nomad_http"] != STANDARD.nomad_http:
        chosen["tasks"] = OTHER_TASKS
    return Ports(**chosen), tuple(moved)


def last_task_port(ports: Ports) -> int:
    """Return the last of the ports that tasks get."""
    return ports.tasks + (TASK_PORTS if ports.tasks == STANDARD.tasks else OTHER_TASK_PORTS) - 1


def purpose_of(name: str) -> str:
    """Return what a port is for, as people say it: "Nomad's http"."""
    agent, _, what = name.partition("_")
    return f"{agent.capitalize()}'s {what.replace('_', ' ')}"


def ports_from(text: str) -> Ports:
    """Return ports that were kept. Raises: ValueError: that is not what `to_json` wrote."""
    found = json.loads(text)
    known = {each.name for each in fields(Ports)}
    if not isinstance(found, Mapping) or set(found) != known or not all(_is_port(each) for each in found.values()):
        raise ValueError("it does not hold the ports of this version of clipper-nomad")
    return Ports(**found)


def _is_port(value: object) -> bool:
    return isinstance(value, int) and 0 < value <= HIGHEST


def _other(standard: int, is_free: Callable[[int], bool], taken: set[int]) -> int:
    first = standard + OTHERS_FROM
    for port in range(first, first + TRIED):
        if port not in taken and is_free(port):
            return port
    raise DevClusterError(f"Port {standard} and the ports {first} to {first + TRIED - 1} are all taken.")
