"""A cluster's parts, started at once and waited for until all are healthy; else an error with the end of a log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from clipper_nomad.cell_block import show
from clipper_nomad.container_manager import Failure
from clipper_nomad.docker_host.engine import DockerEngine
from clipper_nomad.docker_host.launching import Launcher
from clipper_nomad.docker_host.parts import Parts
from clipper_nomad.docker_host.verdicts import LOG_LINES, Seen, failure_of
from clipper_nomad.errors import DockerHostError

START_WITHIN_S = 300.0  # Clipper's; image pulls come before
LOOK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be started. `store_image`: "" where somebody else runs the store; ports: of the host, as wishes."""

    admin_image: str
    frontend_image: str
    store_image: str
    store_volume: str | None
    frontends: int
    admin_port: int
    query_port: int
    rpc_port: int

    @property
    def images(self) -> tuple[str, ...]:
        """Every image that is needed."""
        return tuple(filter(None, (self.store_image, self.admin_image, self.frontend_image)))


def start_parts(engine: DockerEngine, launcher: Launcher, parts: Parts, wanted: Wanted) -> None:
    """Start all parts and return when they are healthy. Raises: DockerHostError; what was started is left to the caller."""
    started = []
    if wanted.store_image:
        image, volume = wanted.store_image, wanted.store_volume
        started.append(launcher.launch(lambda number, _: parts.store(number, image=image, volume=volume)))
    started.append(
        launcher.launch(
            lambda number, ports: parts.admin(number, image=wanted.admin_image, port=ports[0]), [wanted.admin_port]
        )
    )
    started += [
        launcher.launch(
            lambda number, ports: parts.frontend(
                number, image=wanted.frontend_image, query_port=ports[0], rpc_port=ports[1]
            ),
            [wanted.query_port, wanted.rpc_port],
        )
        for _ in range(wanted.frontends)
    ]
    _await_healthy(engine, started, cluster=parts.names.cluster)


def _await_healthy(engine: DockerEngine, containers: Sequence[str], *, cluster: str) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while True:
        seen = [each for each in map(engine.look, containers) if each is not None]
        if len(seen) < len(containers):
            raise DockerHostError(f"A container of cluster {cluster!r} was removed by somebody else while it started.")
        waiting = [each for each in seen if not each.is_healthy]
        show("containers", f"{len(seen) - len(waiting)} of {len(seen)} healthy")
        if not waiting:
            return
        for each in waiting:
            failure = failure_of(each, log=engine.log(each.id)) if each.has_failed else None
            if failure is not None or time.monotonic() > deadline:
                failure = failure or _silent(each, log_tail=engine.log(each.id, lines=LOG_LINES))
                tail = f"\n{failure.log_tail}" if failure.log_tail else ""
                raise DockerHostError(
                    f"Cluster {cluster!r} was not started, and nothing of it is left: {failure.cause}{tail}",
                    hint=failure.hint,
                    log_tail=failure.log_tail,
                )
        time.sleep(LOOK_EVERY_S)


def _silent(seen: Seen, *, log_tail: str) -> Failure:
    cause = f"gave up after {START_WITHIN_S:.0f} s: container {seen.name} is {seen.status} and not healthy"
    return Failure(cause=cause, log_tail=log_tail)
