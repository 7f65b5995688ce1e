"""Why a job is not healthy, for those who wait for it: asked of Nomad and Consul, and not oftener than is of use."""

from __future__ import annotations

import time

from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.rollout.evidence import gather, view_of
from clipper_nomad.cluster.rollout.explain import explain
from clipper_nomad.container_manager import Failure

LOOK_EVERY_S = 1.0


class Failures:
    """What is wrong with the jobs of one Nomad."""

    def __init__(self, nomad: NomadApi, consul: ConsulApi) -> None:
        self._nomad = nomad
        self._consul = consul
        self._known: dict[str, tuple[float, Failure | None]] = {}

    def now(self, job_id: str) -> Failure | None:
        """Return why a job is not healthy, None if nothing says so. Raises: NomadUnreachable."""
        job = self._nomad.job(job_id)
        if job is None:
            return None
        return explain(gather(job, view_of(self._nomad, job_id), nomad=self._nomad, consul=self._consul))

    def lately(self, job_id: str) -> Failure | None:
        """Return the same, of at most LOOK_EVERY_S ago."""
        looked_at, failure = self._known.get(job_id, (float("-inf"), None))
        now = time.monotonic()
        if now >= looked_at + LOOK_EVERY_S:
            failure = self.now(job_id)
            self._known[job_id] = now, failure
        return failure
