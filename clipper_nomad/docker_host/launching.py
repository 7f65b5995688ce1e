"""A container with a name and ports that nobody has: made, and started."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from clipper_nomad.docker_host.containers import ContainerSpec, ExtraSettings
from clipper_nomad.docker_host.engine import DockerEngine, NameTaken
from clipper_nomad.docker_host.names import MOST_NUMBERS
from clipper_nomad.docker_host.ports import any_port, free_port, is_free
from clipper_nomad.errors import DockerHostError

_TRIES = 5
LOOPBACK = "127.0.0.1"
_LOOPBACK_NAMES = frozenset({"localhost", LOOPBACK, "::1"})


class Launcher:
    """Starts containers on one network. `reached_at`: the host's name for clients, which says on what to publish ports."""

    def __init__(self, engine: DockerEngine, *, network: str, reached_at: str, extra: ExtraSettings) -> None:
        self._engine = engine
        self._network = network
        self._extra = extra
        # a host that is only called localhost is to be reached from itself alone
        self._address = LOOPBACK if reached_at in _LOOPBACK_NAMES else "0.0.0.0"  # noqa: S104

    def launch(self, make: Callable[[int, Sequence[int]], ContainerSpec], wishes: Sequence[int] = ()) -> str:
        """Start what `make` makes of a number for its name and of ports of the host; return its id.

        `wishes`: the ports that are wanted; one that is taken gives way to another.
        Raises: DockerHostError: it cannot be started; nothing of it is left.
        """
        for attempt in range(_TRIES):
            is_last = attempt == _TRIES - 1
            ports = self._ports(wishes, is_first=attempt == 0)
            try:
                container = self._engine.create(
                    make(secrets.randbelow(MOST_NUMBERS), ports),
                    network=self._network,
                    address=self._address,
                    extra=self._extra,
                )
            except NameTaken:
                if is_last:
                    raise
                continue
            try:
                self._engine.start(container)
            except BaseException as exc:
                self._engine.remove(container)
                if is_last or not isinstance(exc, DockerHostError) or not self._may_be_port(ports):
                    raise
                continue
            return container
        raise AssertionError("unreachable")

    def _ports(self, wishes: Sequence[int], *, is_first: bool) -> list[int]:
        ports: list[int] = []
        for wish in wishes:
            if self._engine.is_here:
                ports.append(free_port(wish, address=self._address, but=frozenset(ports)))
            else:  # nobody can look there: Docker says it when it starts
                ports.append(wish if is_first and wish not in ports else any_port())
        return ports

    def _may_be_port(self, ports: Sequence[int]) -> bool:
        """Whether it could be for a port that it did not start."""
        if not self._engine.is_here:
            return bool(ports)
        return not all(is_free(port, address=self._address) for port in ports)
