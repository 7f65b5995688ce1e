"""A Fabio of the cluster's own, as a system job on each client, for a Nomad that has none."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from clipper_nomad.cluster.jobs.blueprint import Blueprint
from clipper_nomad.cluster.jobs.programs import Image
from clipper_nomad.cluster.jobs.specs import OPEN_FILES, JobSpec
from clipper_nomad.cluster.routes import FabioLoadBalancer, LoadBalancer
from clipper_nomad.errors import ClipperException, FabioUnreachable

LISTENS_WITHIN_S = 30.0
LOOK_EVERY_S = 0.25
CONNECT_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFabio:
    """`image`: Fabio's, as fabiolb/fabio with a tag. `consul_address`: of the Consul agent on each client.

    `open_files`: its limit, at most Docker's own on the clients; each model channel takes two.
    `has_consul_token`: Consul wants one, and it is item `consul_token` of the Variable nomad/jobs/clipper-<cluster>-fabio.
    """

    image: str
    consul_address: str = "127.0.0.1:8500"
    has_consul_token: bool = False
    open_files: int = OPEN_FILES


def own_fabio_job(own: OwnFabio | None, balancer: LoadBalancer | None, blueprint: Blueprint) -> list[JobSpec]:
    """Return its job, which listens where `balancer` says; nothing where there is none. Raises: InvalidSpec."""
    if own is None or not isinstance(balancer, FabioLoadBalancer):
        return []
    return [
        blueprint.fabio(
            Image(reference=own.image),
            http_port=balancer.http_proxy_port,
            tcp_ports=(balancer.tcp_proxy_port, *([blueprint.legacy_port] if blueprint.legacy_rpc else [])),
            admin_port=balancer.admin_port,
            consul_address=own.consul_address,
            open_files=own.open_files,
            has_consul_token=own.has_consul_token,
        )
    ]


def refuse_second(balancer: FabioLoadBalancer, legacy_port: int | None = None) -> None:
    """Refuse to start a Fabio where something listens on one of its ports. Raises: ClipperException."""
    for port in (balancer.http_proxy_port, balancer.tcp_proxy_port, *([] if legacy_port is None else [legacy_port])):
        try:
            with socket.create_connection((balancer.address, port), timeout=CONNECT_WITHIN_S):
                pass
        except OSError:
            continue
        raise ClipperException(
            f"Something listens at {balancer.address}:{port} already, so no Fabio of this cluster's own can be started"
            " there; nothing was changed.",
            hint="If that is a Fabio, use it: leave out --with-fabio (fabio=). Else give this one other ports: --http-port,"
            " --tcp-port.",
        )


def check_listeners(balancer: FabioLoadBalancer, *, is_new: bool, legacy_port: int | None = None) -> None:
    """See that somebody listens on each port, or nobody yet where a new Fabio is to. Raises: FabioUnreachable."""
    if is_new:
        refuse_second(balancer, legacy_port)
    else:
        balancer.check_tcp()
        balancer.check_http()
        if legacy_port is not None:
            balancer.check_legacy(legacy_port)


def await_listeners(find: Callable[[], LoadBalancer | None], *, job: str, legacy_port: int | None = None) -> None:
    """Return when the Fabio that was started listens where it is looked for (`find`). Raises: FabioUnreachable."""
    deadline = time.monotonic() + LISTENS_WITHIN_S
    while isinstance(balancer := find(), FabioLoadBalancer):
        try:
            check_listeners(balancer, is_new=False, legacy_port=legacy_port)
        except FabioUnreachable as exc:
            if time.monotonic() > deadline:
                raise FabioUnreachable(
                    f"The job {job} runs, and after {LISTENS_WITHIN_S:g} s no Fabio answers at {balancer.address}:"
                    f" {exc.msg}",
                    hint="Is that one of Nomad's clients? If not, name one: --fabio HOST. Else see the job's log.",
                ) from exc
            time.sleep(LOOK_EVERY_S)
        else:
            return
