"""Whether a rollout goes on, is healthy or has failed, given what Nomad says and the time. Pure: rollout.py asks and acts.

Nomad alone would let a job without room wait for ever, and tell a crash only when the progress deadline ends; these are
faster, patient only with what may pass by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from clipper_nomad.cluster.rollout.parsed_job import Json, count_of
from clipper_nomad.cluster.rollout.placement import may_pass
from clipper_nomad.cluster.rollout.task_failures import Trouble, troubles_of

ROOM_PATIENCE_S = 5.0  # what ends just now still holds its resources for its shutdown_delay and kill_timeout
MISSING_PATIENCE_S = 3.0  # a template's first look-ups are answered within one second
SETTLED_S = 3.0  # without a deployment nobody else watches min_healthy_time
CRASHES = 3  # a dependency that starts at the same time explains one or two
OOM_KILLS = 2  # the second start met the same limit
_ENDED_WELL = frozenset({"complete"})


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What Nomad said at one moment. `evaluation`: that of our registration, None when there was nothing to register;
    `evaluations`: of the job, from that one on; `deployment`: of our version, None: it has none (yet);
    `allocations`: stubs of our version only."""

    evaluation: Json | None
    evaluations: Sequence[Json]
    deployment: Json | None
    allocations: Sequence[Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoOn:
    """Nothing is decided yet."""

    waiting_for: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    """Its canaries are healthy and wait for a word."""

    deployment_id: str


@dataclass(frozen=True, slots=True)
class Healthy:
    """All that is wanted is healthy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """It will not become healthy. `reason` stands where Nomad's JSON has no better cause; `superseded`: somebody registered
    a newer version meanwhile, which must not be undone."""

    reason: str
    superseded: bool = False


Verdict = GoOn | Promote | Healthy | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How far a rollout is, in allocations."""

    wanted: int
    placed: int
    running: int
    healthy: int


@dataclass(slots=True, kw_only=True)
class RolloutPolicy:
    """Judges one rollout. `job` as registered; `started` and every `now` on one monotonic clock, in seconds.

    `settled_s`: how long all must run where no deployment watches them."""

    job: Json
    started: float
    deadline_s: float
    room_patience_s: float = ROOM_PATIENCE_S
    settled_s: float = SETTLED_S
    _since: dict[str, float] = field(default_factory=dict)  # when a state that may pass was first seen

    def judge(self, view: View, *, now: float) -> Verdict:
        """Return what to do. Called after each change, and at least once a second while something may pass."""
        verdict = self._judge(view, now=now)
        if isinstance(verdict, GoOn) and now - self.started >= self.deadline_s:
            return Failed(reason=f"gave up after {self.deadline_s:g} s waiting for {verdict.waiting_for}")
        return verdict

    def counts(self, view: View) -> Counts:
        """Return how many allocations are wanted, placed, running and healthy."""
        groups = ((view.deployment or {}).get("TaskGroups") or {}).values()
        live = [each for each in view.allocations if each.get("DesiredStatus") == "run"]
        return Counts(
            wanted=sum(int(group["DesiredTotal"]) for group in groups) or self._wanted(live),
            placed=len(live),
            running=sum(each.get("ClientStatus") == "running" for each in live),
            healthy=sum(_is_healthy(each) for each in live),
        )

    def _judge(self, view: View, *, now: float) -> Verdict:
        status = (view.evaluation or {}).get("Status", "complete")
        if status == "failed":
            return Failed(reason=f"Nomad could not evaluate it: {(view.evaluation or {}).get('StatusDescription')}")
        if status in {"canceled", "cancelled"}:
            return Failed(reason="a newer registration replaced it", superseded=True)
        if status != "complete":
            return GoOn(waiting_for=f"Nomad's scheduler (the evaluation is {status})")
        if blocked := _blocked(view):
            patient = may_pass(blocked) and self._for("room", now=now) < self.room_patience_s
            return GoOn(waiting_for="room on a client") if patient else Failed(reason="no client takes it")
        self._since.pop("room", None)
        return self._of_deployment(view) or self._of_allocations(view, now=now) or self._unwatched(view, now=now)

    def _of_deployment(self, view: View) -> Verdict | None:
        match view.deployment:
            case {"Status": "successful"}:
                return Healthy()
            case {"Status": "failed", "StatusDescription": str() as said}:
                return Failed(reason=said[:1].lower() + said[1:])
            case {"Status": "cancelled"}:
                return Failed(reason="a newer version of the job replaced it", superseded=True)
            case {"ID": str() as deployment_id, "TaskGroups": dict() as groups} if _wants_promotion(list(groups.values())):
                return Promote(deployment_id=deployment_id)
            case {"Status": "running", "TaskGroups": dict() as groups} if groups and all(map(_is_whole, groups.values())):
                counts = self.counts(view)  # the allocations were read a moment before the deployment
                return Healthy() if counts.healthy >= counts.wanted else None  # Nomad's watcher says so a second later
        return None

    def _of_allocations(self, view: View, *, now: float) -> Failed | None:
        bad = [each for each in view.allocations if _has_failed(each)]
        healthy = sum(_is_healthy(each) for each in view.allocations)
        # one bad client must not end what is healthy elsewhere: then Nomad's replacement gets its chance
        if bad and (not healthy or len(bad) > 1):
            return Failed(reason=f"{len(bad)} of its allocations failed")
        for allocation in view.allocations:
            if allocation.get("DesiredStatus") != "run" or _is_healthy(allocation):
                continue
            for trouble in troubles_of(allocation):
                if self._is_decided(trouble, allocation["ID"], now=now):
                    return Failed(reason=trouble.cause)
        return None

    def _is_decided(self, trouble: Trouble, alloc_id: str, *, now: float) -> bool:
        if trouble.waits:
            return self._for(f"{alloc_id} {trouble.cause}", now=now) >= MISSING_PATIENCE_S
        return trouble.lasting or trouble.times >= (OOM_KILLS if trouble.is_oom else CRASHES)

    def _unwatched(self, view: View, *, now: float) -> Verdict:
        """Judge by the allocations alone where there is no deployment: system jobs, `max_parallel = 0`, an old job."""
        counts = self.counts(view)
        if view.deployment is not None:
            return GoOn(waiting_for=_what_is_missing(counts, view))
        live = [each for each in view.allocations if each.get("DesiredStatus") == "run"]
        up = [each for each in live if each.get("ClientStatus") in {"running", *_ENDED_WELL}]
        if len(up) < counts.wanted or len(up) < len(live):
            self._since.pop("up", None)
            return GoOn(waiting_for=_what_is_missing(counts, view))
        if self._for("up", now=now) >= self.settled_s:
            return Healthy()
        return GoOn(waiting_for="its tasks to stay up")

    def _wanted(self, live: Sequence[Json]) -> int:
        return len(live) if self.job.get("Type") in {"system", "sysbatch"} else count_of(self.job)

    def _for(self, state: str, *, now: float) -> float:
        """Return for how long a state has been seen."""
        return now - self._since.setdefault(state, now)


def _blocked(view: View) -> Json:
    """Return the groups that wait for a place now: what was blocked and is placed since does not count."""
    waiting = [each for each in view.evaluations if each.get("Status") == "blocked"]
    own = view.evaluation or {}
    known = {each["ID"] for each in view.evaluations}
    if own.get("FailedTGAllocs") and own.get("BlockedEval") not in known:
        waiting.append(own)  # its blocked evaluation is not in the list: asked a moment too early, or there is none
    return {group: metrics for each in waiting for group, metrics in (each.get("FailedTGAllocs") or {}).items()}


def _wants_promotion(groups: Sequence[Json]) -> bool:
    with_canaries = [group for group in groups if group.get("DesiredCanaries")]
    return any(not group.get("Promoted") and not group.get("AutoPromote") for group in with_canaries) and all(
        int(group.get("HealthyAllocs") or 0) >= int(group["DesiredCanaries"]) for group in with_canaries
    )


def _is_whole(group: Json) -> bool:
    """Whether Nomad's clients found all healthy that the group wants, for min_healthy_time; after canaries more comes."""
    return not group.get("DesiredCanaries") and int(group.get("HealthyAllocs") or 0) >= int(group["DesiredTotal"]) > 0


def _is_healthy(allocation: Json) -> bool:
    return (allocation.get("DeploymentStatus") or {}).get("Healthy") is True


def _has_failed(allocation: Json) -> bool:
    return allocation.get("ClientStatus") == "failed" or (allocation.get("DeploymentStatus") or {}).get("Healthy") is False


def _what_is_missing(counts: Counts, view: View) -> str:
    said = f"{counts.healthy} of {counts.wanted} allocations are healthy"
    behind = [each for each in view.allocations if each.get("DesiredStatus") == "run" and not _is_healthy(each)]
    if not behind:
        return f"health ({said})"
    return f"health ({said}; {_state_of(behind[0])})"


def _state_of(allocation: Json) -> str:
    events = [event for state in (allocation.get("TaskStates") or {}).values() for event in state.get("Events") or ()]
    newest: Json = max(events, key=lambda event: int(event.get("Time") or 0), default={})
    said = f": {' '.join(newest['DisplayMessage'].split())}" if newest.get("DisplayMessage") else ""
    return f"allocation {allocation['ID'][:8]} is {allocation.get('ClientStatus')}{said}"
