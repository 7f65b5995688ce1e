"""Following one registered version of a job until the policy decides. I/O only: policy.py decides, rollout.py acts.

What changes next is waited for with a blocking query; whatever else may change is read anew once a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.rollout.events import Progress, RolloutEvent
from clipper_nomad.cluster.rollout.parsed_job import Json
from clipper_nomad.cluster.rollout.policy import Failed, GoOn, Healthy, Promote, RolloutPolicy, View
from clipper_nomad.errors import NomadRefused, NomadUnreachable

LOOK_EVERY_S = 1.0  # at the latest: for what changes with the time alone, and for what has no blocking query of its own
PAUSE_S = 0.05  # after an answer with nothing new: a server that does not block must not be asked without pause


@dataclass(slots=True, kw_only=True)
class Follow:
    """Follows one registered version with blocking queries until the policy decides. `eval_id` None: none was registered.

    `halt`: somebody pressed Ctrl-C in another thread."""

    nomad: NomadApi
    policy: RolloutPolicy
    job_id: str
    eval_id: str | None
    modify_index: int
    tell: Callable[[RolloutEvent], None]
    promote: bool
    halt: threading.Event = field(default_factory=threading.Event)
    is_given_up: Callable[[], bool] = bool  # asked at each look: whether what it needs has failed
    version: int = -1
    view: View = View(evaluation=None, evaluations=(), deployment=None, allocations=())  # noqa: RUF009  # it is frozen

    def find_version(self) -> int:
        """Return the version that was registered. Another's of the same moment has another JobModifyIndex."""
        job = self.nomad.job(self.job_id) or {}
        self.version = int(job.get("Version") or 0)
        return self.version

    def until_decided(self) -> Healthy | Failed:
        """Ask, judge and wait until the policy has decided. Raises: KeyboardInterrupt: `halt` was set."""
        index, told = 0, None
        while True:
            if self.halt.is_set():
                raise KeyboardInterrupt
            try:
                index, changed = self._look(index)
            except NomadUnreachable:  # a restart: the deadline below ends it
                changed = False
            except NomadRefused as exc:
                if exc.status < 500:  # above: an election
                    raise
                changed = False
            now = time.monotonic()
            verdict = self.policy.judge(self.view, now=now)
            if self.is_given_up():
                return Failed(reason="it was given up, because what it needs has failed")
            if isinstance(verdict, Healthy | Failed):
                return verdict
            if isinstance(verdict, Promote):
                verdict = self._promote(verdict)
            counts = self.policy.counts(self.view)
            if (counts, verdict.waiting_for) != told:
                told = (counts, verdict.waiting_for)
                self.tell(
                    Progress(
                        job_id=self.job_id,
                        wanted=counts.wanted,
                        placed=counts.placed,
                        running=counts.running,
                        healthy=counts.healthy,
                        waiting_for=verdict.waiting_for,
                        elapsed_s=now - self.policy.started,
                    )
                )
            if not changed:
                time.sleep(PAUSE_S)

    def _look(self, index: int) -> tuple[int, bool]:
        """Read all anew once something changed, or after LOOK_EVERY_S. Returns the index of the allocations, and whether it
        moved."""
        waited = self._wait_elsewhere()
        seen = self.nomad.watch_allocations(self.job_id, index=0 if waited else index, wait_s=LOOK_EVERY_S)
        own = self.nomad.evaluation(self.eval_id) if self.eval_id else None
        since = int((own or {}).get("CreateIndex") or self.modify_index)
        self.view = View(
            evaluation=own,
            evaluations=[each for each in self.nomad.evaluations(self.job_id) if int(each.get("CreateIndex") or 0) >= since],
            deployment=self._deployment(),
            allocations=[each for each in seen.body or () if int(each.get("JobVersion") or 0) == self.version],
        )
        return seen.index, seen.index != index

    def _wait_elsewhere(self) -> bool:
        """Wait for the evaluation or the deployment where these, not the allocations, change next. Tells whether it did."""
        own, deployment = self.view.evaluation, self.view.deployment
        counts = self.policy.counts(self.view)
        if own is not None and own["Status"] == "pending":
            index = int(own["ModifyIndex"])
            self.nomad.watch_evaluation(own["ID"], index=index, wait_s=LOOK_EVERY_S)
            return True
        if deployment is not None and deployment["Status"] == "running" and counts.healthy >= counts.wanted > 0:
            index = int(deployment["ModifyIndex"])
            self.nomad.watch_deployment(deployment["ID"], index=index, wait_s=LOOK_EVERY_S)
            return True
        return False

    def _deployment(self) -> Json | None:
        """The deployment of our own registration: after an auto-revert the newest one is another's, and successful."""
        for each in self.nomad.deployments(self.job_id):
            if int(each.get("JobSpecModifyIndex") or 0) == self.modify_index:
                # of what was registered earlier a deployment that failed long ago says nothing about now
                return None if self.eval_id is None and each["Status"] == "failed" else each
        return None

    def _promote(self, verdict: Promote) -> GoOn:
        if self.promote:
            self.nomad.promote(verdict.deployment_id)
            return GoOn(waiting_for="its canaries to be promoted")
        return GoOn(waiting_for="somebody to promote its canaries")
