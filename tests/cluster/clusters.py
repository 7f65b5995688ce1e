"""A whole cluster on the rig, through the library, for the tests that ask it, change it and break it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import docker
import requests

from clipper_nomad import ClipperConnection, ConsulDNS, NomadContainerManager
from clipper_nomad.cluster.rollout.events import RolloutEvent
from clipper_nomad.cluster.routes import LoadBalancer
from clipper_nomad.deployers import python as python_deployer
from clipper_nomad.images.image_set import ImageSet
from tests.cluster.parts import redis_image
from tests.cluster.rig import Rig
from tests.waiting import wait_until

APP, MODEL = "app", "sums"
SLO_MICROS = 10_000_000
ENDED_WITHIN_S = 120.0


@dataclass
class Cluster:
    """A cluster that is up, and what was heard of its rollouts."""

    manager: NomadContainerManager
    conn: ClipperConnection
    events: list[RolloutEvent] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.manager.predict_url(APP)

    def ask(self, value: float, url: str | None = None) -> dict[str, Any]:  # Any: JSON
        reply: dict[str, Any] = requests.post(url or self.url, json={"input": [value]}, timeout=10).json()
        return reply

    def frontends(self) -> list[str]:
        """Where each query frontend itself takes queries."""
        found = self.manager.consul.instances(self.manager.names.query_service).found
        return [f"http://{each.address}:{each.port}/{APP}/predict" for each in found]

    def reports(self) -> dict[str, Mapping[str, Any]]:  # Any: JSON
        """What each live frontend says of itself, by its name."""
        return {each["frontend"]: each for each in self.conn._admin.frontends().reports}  # noqa: SLF001

    def ready_replicas(self, version: str = "1") -> int:
        """How many ready replicas of the model's version the frontends see, each frontend's counted by itself."""
        return sum(
            each["state"] == "ready" and (each["model"], each["version"]) == (MODEL, version)
            for report in self.reports().values()
            for each in report["replicas"]
        )

    def running(self, job_id: str) -> list[dict[str, Any]]:  # Any: Nomad's JSON
        """The allocations of a job that run."""
        return [each for each in self.manager.nomad.allocations(job_id) if each["ClientStatus"] == "running"]


@contextmanager
def running_cluster(
    rig: Rig, daemon: docker.DockerClient, images: ImageSet, *, frontends: int, replicas: int = 1, **more: Any
) -> Iterator[Cluster]:
    """Bring a cluster up, with the app and its model, which adds its inputs up; take it down at the end."""
    rig.need_docker()
    events: list[RolloutEvent] = []
    manager = a_manager(rig, daemon, images, progress=events.append, **more)
    conn = ClipperConnection(manager)
    try:
        conn.start_clipper(num_frontend_replicas=frontends, cache_size=0)  # queries are to reach the replicas
        conn.register_application(APP, "doubles", "-1.0", SLO_MICROS)
        deploy(conn, "1", lambda inputs: [float(row.sum()) for row in inputs], replicas=replicas)
        conn.link_model_to_app(APP, MODEL)
        yield Cluster(manager, conn, events)
    finally:
        conn.stop_all()


def a_manager(
    rig: Rig,
    daemon: docker.DockerClient,
    images: ImageSet,
    *,
    progress: Callable[[RolloutEvent], None],
    load_balancer: LoadBalancer | None = None,
    **more: Any,  # Any: as the manager has it
) -> NomadContainerManager:
    return NomadContainerManager(
        rig.nomad_url,
        ConsulDNS("127.0.0.1", rig.consul_dns_port),
        load_balancer or rig.fabio(),
        consul_address=rig.consul_url,
        redis_image=redis_image(daemon),
        images=images,
        progress=progress,
        **more,
    )


def deploy(
    conn: ClipperConnection,
    version: str,
    function: Callable[[Any], Any],
    *,
    name: str = MODEL,
    replicas: int = 1,
    retry: bool = True,
) -> None:
    python_deployer.deploy_python_closure(conn, name, version, "doubles", function, num_replicas=replicas, retry=retry)


def await_frontends(cluster: Cluster, count: int) -> None:
    """Return when no more than `count` run: those that end have ended."""
    job = cluster.manager.names.frontend_job
    wait_until(lambda: len(cluster.running(job)) == count, f"{count} frontends", within_s=ENDED_WITHIN_S)


def answered_by(cluster: Cluster) -> dict[str, int]:
    """How many queries of the app each live frontend has answered."""
    return {
        name: sum(app["queries"] for app in report["apps"] if app["app"] == APP)
        for name, report in cluster.reports().items()
    }
