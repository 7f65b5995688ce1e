"""Specs to jobs that run, several at once, and jobs to nothing. How one job comes about is rollout/'s business."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from clipper_nomad.cluster.at_once import at_once
from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.jobs.render import render_job
from clipper_nomad.cluster.jobs.specs import JobSpec, RedisJob
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.rollout.events import RolloutEvent
from clipper_nomad.cluster.rollout.parsed_job import Json
from clipper_nomad.cluster.rollout.rollout import RolledOut, Rollout


class Registering:
    """Registers and removes the jobs of one cluster. `progress`: hears of it."""

    def __init__(
        self, nomad: NomadApi, consul: ConsulApi, *, cluster: str, progress: Callable[[RolloutEvent], None]
    ) -> None:
        self._nomad = nomad
        self._cluster = cluster
        self._halt = threading.Event()
        self._rollout = Rollout(nomad, consul=consul, progress=progress, halt=self._halt)

    def parsed(self, spec: JobSpec) -> tuple[Json, str]:
        """Return the job as Nomad reads it, and its HCL. Raises: NomadRefused: its texts do not come out as they are."""
        hcl = render_job(spec)
        return self._nomad.parse(hcl, whole=[spec.job_id, self._cluster]), hcl

    def roll_out(self, specs: Sequence[JobSpec], *, deadline_s: float) -> list[RolledOut]:
        """Roll out jobs at once; raise the first failure when all have ended. All give up if the store fails."""
        no_store = threading.Event()

        def run(spec: JobSpec) -> RolledOut:
            job, hcl = self.parsed(spec)
            try:
                return self._rollout.run(job, deadline_s=deadline_s, source=hcl, is_given_up=no_store.is_set)
            except BaseException:
                if isinstance(spec, RedisJob):
                    no_store.set()
                raise

        return at_once(run, specs, halt=self._halt, done=lambda spec: f"{spec.job_id}: it is as it is wanted, and stays.")

    def roll_out_source(self, hcl: str, *, deadline_s: float) -> RolledOut:
        """Roll out a jobspec. Raises: as Rollout.run."""
        return self._rollout.run(self._nomad.parse(hcl), deadline_s=deadline_s, source=hcl)

    def remove(self, job_ids: Sequence[str]) -> None:
        """Purge jobs at once, and return when their tasks have ended. Raises: RolloutFailed: tasks still run."""
        at_once(self._rollout.remove, job_ids, halt=self._halt, done=lambda job_id: f"{job_id}: it is removed.")
