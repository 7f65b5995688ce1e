"""Rolling out one job: plan, register, follow until it is healthy or has failed, and then put back what was there.

follow.py asks Nomad, policy.py decides, evidence.py and explain.py say what went wrong. After a failure a new job is
purged, a changed one is back at its version before; nothing else is left. After Ctrl-C the same is asked of Nomad and not
waited for, and a note of the KeyboardInterrupt says so. Who may touch which job is not decided here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.rollout.events import (
    BecameHealthy,
    Gone,
    Registered,
    RollingBack,
    RolloutEvent,
    Stopping,
    Unchanged,
)
from clipper_nomad.cluster.rollout.evidence import gather, rooms
from clipper_nomad.cluster.rollout.explain import Situation, explain, refusal
from clipper_nomad.cluster.rollout.follow import LOOK_EVERY_S, PAUSE_S, Follow
from clipper_nomad.cluster.rollout.parsed_job import Json, acts_of, is_same_text, with_counts_of
from clipper_nomad.cluster.rollout.placement import may_pass
from clipper_nomad.cluster.rollout.policy import ROOM_PATIENCE_S, Failed, RolloutPolicy
from clipper_nomad.container_manager import Failure
from clipper_nomad.errors import ClipperException, NomadConflict, NomadRefused, RolloutFailed

RETRY_S = 0.5  # between two plans while there is no room
GONE_WITHIN_S = 60.0  # tasks that are stopped end within their kill_timeout (30 s in our jobspecs) and shutdown_delay
BACK_WITHIN_S = 120.0  # the version before was healthy a moment ago
_GONE = frozenset({"complete", "failed", "lost"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledOut:
    """A job that is healthy. `changed` False: it was registered just so before. `warnings`: Nomad's, usually empty."""

    job_id: str
    version: int
    modify_index: int
    changed: bool
    warnings: str
    took_s: float


def _silent(_: RolloutEvent) -> None: ...


class Rollout:
    """Rolls out jobs on one Nomad. `consul` names the check that fails; `progress` is called in the caller's thread.

    `halt`: set by whoever hears of Ctrl-C in another thread; each job ends then as if it had been pressed in its own."""

    def __init__(
        self,
        nomad: NomadApi,
        *,
        consul: ConsulApi | None = None,
        progress: Callable[[RolloutEvent], None] = _silent,
        room_patience_s: float = ROOM_PATIENCE_S,
        halt: threading.Event | None = None,
    ) -> None:
        self._nomad = nomad
        self._consul = consul
        self._tell = progress
        self._room_patience_s = room_patience_s
        self._halt = halt or threading.Event()

    def run(
        self,
        job: Json,
        *,
        deadline_s: float,
        source: str | None = None,
        promote: bool = True,
        is_given_up: Callable[[], bool] = bool,
    ) -> RolledOut:
        """Register `job` unless it is registered just so, and return when it is healthy.

        `source` is the HCL that Nomad's UI shows; `promote`: promote canaries once they are healthy; `is_given_up`: asked
        until then, whether to fail now, as something it needs has failed.
        Raises: RolloutFailed: it did not become healthy within `deadline_s`; what was there before is there again.
        NomadConflict: somebody else changed the job since. NomadRefused, NomadUnreachable."""
        started = time.monotonic()
        job_id = str(job["ID"])
        before = self._nomad.job(job_id)
        try:
            has_changes = self._preflight(job, before, started, deadline_s=deadline_s)
        except NomadRefused as exc:
            raise self._not_taken(job_id, exc) from exc.__cause__
        except KeyboardInterrupt as exc:
            exc.add_note(f"{job_id}: nothing was changed.")
            raise
        if before is not None and not has_changes:
            return self._unchanged(before, started=started, deadline_s=deadline_s)
        index = int(before["JobModifyIndex"]) if before else 0
        try:
            answer = self._nomad.register(job, modify_index=index, source=source)
        except NomadRefused as exc:
            raise self._not_taken(job_id, exc) from exc.__cause__
        except KeyboardInterrupt as exc:  # whether Nomad took it was not heard
            exc.add_note(f"{job_id}: {self._hurry_back(job_id, before, index)}")
            raise
        follow = Follow(
            nomad=self._nomad,
            policy=RolloutPolicy(job=job, started=started, deadline_s=deadline_s, room_patience_s=self._room_patience_s),
            job_id=job_id,
            eval_id=answer.eval_id,
            modify_index=answer.job_modify_index,
            tell=self._tell,
            promote=promote,
            halt=self._halt,
            is_given_up=is_given_up,
        )
        try:
            version = follow.find_version()
            self._tell(Registered(job_id=job_id, version=version, warnings=answer.warnings))
            verdict = follow.until_decided()
        except KeyboardInterrupt as exc:
            self._tell(RollingBack(job_id=job_id, cause="it was interrupted", to_version=_version_before(before)))
            exc.add_note(f"{job_id}: {self._hurry_back(job_id, before, index)}")
            raise
        except BaseException as exc:  # what is half rolled out is put back
            self._put_back(job_id, before, follow, cause=f"it was interrupted ({type(exc).__name__})")
            raise
        if isinstance(verdict, Failed):
            failure = self._explained(verdict, follow)
            if verdict.superseded:
                raise self._failed(job_id, failure, "The newer version was left alone.")
            outcome = self._put_back(job_id, before, follow, cause=failure.cause)
            raise self._failed(job_id, failure, outcome)
        took_s = time.monotonic() - started
        healthy = follow.policy.counts(follow.view).healthy
        self._tell(BecameHealthy(job_id=job_id, version=version, healthy=healthy, elapsed_s=took_s))
        return RolledOut(
            job_id=job_id,
            version=version,
            modify_index=answer.job_modify_index,
            changed=True,
            warnings=answer.warnings,
            took_s=took_s,
        )

    def remove(self, job_id: str, *, within_s: float = GONE_WITHIN_S) -> None:
        """Purge a job and return when none of its tasks runs any more. A job that is not there is no error.
        Raises: RolloutFailed: tasks still run after `within_s`."""
        if self._nomad.job(job_id) is None:
            return
        started = time.monotonic()
        self._tell(Stopping(job_id=job_id))
        try:
            left = self._stop(job_id, within_s=within_s)
        except KeyboardInterrupt as exc:
            exc.add_note(f"{job_id}: it is stopped, and still registered; what it runs ends.")
            raise
        if not left:
            self._nomad.deregister(job_id, purge=True)
            self._tell(Gone(job_id=job_id, elapsed_s=time.monotonic() - started))
        else:
            cause = f"{len(left)} of its allocations still run after {within_s:g} s: {', '.join(each[:8] for each in left)}"
            failure = Failure(cause=cause, hint="`nomad alloc status` says what holds them.")
            raise self._failed(job_id, failure, "It is stopped, and still registered.")

    # --- before ---

    def _preflight(self, job: Json, before: Json | None, started: float, *, deadline_s: float) -> bool:
        """Return whether there is something to change. Raises: RolloutFailed: there is no place for it."""
        asked = with_counts_of(job, before)
        while True:
            plan = self._nomad.plan(asked)
            failed = plan.get("FailedTGAllocs") or {}
            if not failed:
                return before is None or not is_same_text(plan) or bool(acts_of(asked, plan))
            room = rooms(self._nomad)
            waited_s = time.monotonic() - started
            if not may_pass(failed, rooms=room) or waited_s >= min(self._room_patience_s, deadline_s):
                situation = Situation(job=asked, evaluations=[{"FailedTGAllocs": failed}], rooms=room)
                failure = explain(situation) or Failure(cause="no client takes it")
                raise self._failed(str(job["ID"]), failure, "Nothing was registered.")
            if self._halt.wait(RETRY_S):
                raise KeyboardInterrupt

    def _unchanged(self, before: Json, *, started: float, deadline_s: float) -> RolledOut:
        """See that what is registered already is healthy, or becomes it."""
        job_id, version = str(before["ID"]), int(before["Version"])
        policy = RolloutPolicy(
            job=before, started=started, deadline_s=deadline_s, room_patience_s=self._room_patience_s, settled_s=0.0
        )
        follow = Follow(
            nomad=self._nomad,
            policy=policy,
            job_id=job_id,
            eval_id=None,
            modify_index=int(before["JobModifyIndex"]),
            tell=self._tell,
            promote=False,
            version=version,
            halt=self._halt,
        )
        try:
            verdict = follow.until_decided()
        except KeyboardInterrupt as exc:
            exc.add_note(f"{job_id}: nothing was changed.")
            raise
        if isinstance(verdict, Failed):
            raise self._failed(
                job_id, self._explained(verdict, follow), "It was registered just so before; nothing was changed."
            )
        self._tell(Unchanged(job_id=job_id, version=version))
        return RolledOut(
            job_id=job_id,
            version=version,
            modify_index=int(before["JobModifyIndex"]),
            changed=False,
            warnings="",
            took_s=time.monotonic() - started,
        )

    # --- after a failure ---

    def _explained(self, verdict: Failed, follow: Follow) -> Failure:
        """Return the cause as well as it can be told."""
        if verdict.superseded:
            return Failure(cause=verdict.reason, hint="`nomad job history` shows who registered what.")
        situation = gather(follow.policy.job, follow.view, nomad=self._nomad, consul=self._consul)
        return explain(situation) or Failure(
            cause=verdict.reason,
            hint=f"If it only needs longer: timeout_s=, or --timeout. `nomad job status {follow.job_id}` shows its state.",
        )

    def _put_back(self, job_id: str, before: Json | None, follow: Follow, *, cause: str) -> str:
        """Bring back what was there before and return in a sentence what became of the job."""
        to_version = _version_before(before)
        self._tell(RollingBack(job_id=job_id, cause=cause, to_version=to_version))
        index = int(before["JobModifyIndex"]) if before else 0
        try:
            if before is None or to_version is None:
                return self._remove_again(job_id, follow, existed=before is not None)
            if follow.modify_index == index:
                return "Its registration was not changed."
            return self._revert(job_id, before, follow)
        except KeyboardInterrupt as exc:
            exc.add_note(f"{job_id}: {self._hurry_back(job_id, before, index)}")
            raise
        except ClipperException as exc:
            return f"It could not be put back: {exc.msg}"

    def _hurry_back(self, job_id: str, before: Json | None, index: int) -> str:
        """Ask Nomad for what was there before, wait for nothing, and return in a sentence what becomes of the job.

        `index`: the JobModifyIndex that the job had before, 0 if it was not there."""
        to_version = _version_before(before)
        try:
            now = self._nomad.job(job_id)
            if now is None or int(now["JobModifyIndex"]) == index:
                return "nothing was changed."
            if to_version is None:
                self._nomad.deregister(job_id, purge=before is None)
                return f"it is {'removed' if before is None else 'stopped'} again; what it had started ends."
            self._nomad.revert(job_id, version=to_version, from_version=int(now["Version"]))
        except ClipperException as exc:
            return f"it could not be put back: {exc.msg}"
        return f"it goes back to version {to_version}, which serves on meanwhile."

    def _remove_again(self, job_id: str, follow: Follow, *, existed: bool) -> str:
        now = self._nomad.job(job_id)
        if now is not None and int(now["JobModifyIndex"]) != follow.modify_index:
            return "Somebody registered it anew meanwhile; that was left alone."
        left = self._stop(job_id, within_s=GONE_WITHIN_S) if now is not None else []
        if now is not None and not existed:
            self._nomad.deregister(job_id, purge=True)
        done = "It is stopped, as it was before" if existed else "It is removed again"
        return f"{done}; {len(left)} allocations are still ending." if left else f"{done}."

    def _revert(self, job_id: str, before: Json, follow: Follow) -> str:
        version = int(before["Version"])
        eval_id: str | None = None
        try:
            eval_id = self._nomad.revert(job_id, version=version, from_version=follow.version)
        except NomadRefused:
            now = self._nomad.job(job_id)
            if now is None or int(now["Version"]) == follow.version:
                raise
            # Nomad's own auto_revert was faster, or somebody else: what is registered now is followed
        now = self._nomad.job(job_id)
        if now is None:
            return "Somebody removed it meanwhile."
        policy = RolloutPolicy(
            job=now, started=time.monotonic(), deadline_s=BACK_WITHIN_S, room_patience_s=self._room_patience_s
        )
        back = replace(
            follow,
            policy=policy,
            eval_id=eval_id,
            modify_index=int(now["JobModifyIndex"]),
            version=int(now["Version"]),
            promote=True,
            is_given_up=bool,
            tell=_silent,
        )
        verdict = back.until_decided()
        if isinstance(verdict, Failed):
            return f"It is back at version {version}, which is not healthy either: {self._explained(verdict, back).cause}."
        return f"Version {version} serves again."

    def _stop(self, job_id: str, *, within_s: float) -> list[str]:
        """Stop a job and return the allocations that still run after `within_s`; none: all have ended.

        A purge comes after this: with it Nomad forgets the allocations at once, while their tasks still run."""
        self._nomad.deregister(job_id)
        deadline = time.monotonic() + within_s
        index = 0
        while True:
            if self._halt.is_set():
                raise KeyboardInterrupt
            wait_s = max(0.0, min(LOOK_EVERY_S, deadline - time.monotonic()))
            seen = self._nomad.watch_allocations(job_id, index=index, wait_s=wait_s)
            left = [each["ID"] for each in seen.body or () if each.get("ClientStatus") not in _GONE]
            if not left or time.monotonic() >= deadline:
                return left
            if seen.index == index:
                time.sleep(PAUSE_S)
            index = seen.index

    def _not_taken(self, job_id: str, refused: NomadRefused) -> ClipperException:
        """Word a refused plan or registration; what is not about the job is told as it is."""
        if isinstance(refused, NomadConflict) or refused.status not in {400, 500}:
            return refused
        return self._failed(job_id, refusal(refused.body), "Nothing was registered.")

    def _failed(self, job_id: str, failure: Failure, outcome: str) -> RolloutFailed:
        return RolloutFailed(job_id, cause=failure.cause, log_tail=failure.log_tail, hint=failure.hint, outcome=outcome)


def _version_before(before: Json | None) -> int | None:
    """Return the version that served before, None if none did."""
    served = before is not None and not before.get("Stop") and before.get("Status") != "dead"
    return int(before["Version"]) if before is not None and served else None
