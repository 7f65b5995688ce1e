"""What a rollout tells while it goes on, as values that a command line can draw. Made by rollout.py and follow.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """Nomad took the job. `version` counts from 0; `warnings` is Nomad's text, usually empty."""

    job_id: str
    version: int
    warnings: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How many of the wanted allocations have a place, run, and are healthy; told when one of these changes.

    `waiting_for` is for people. `elapsed_s` counts from the plan."""

    job_id: str
    wanted: int
    placed: int
    running: int
    healthy: int
    waiting_for: str
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchanged:
    """The job is registered just so and healthy: nothing was done."""

    job_id: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BecameHealthy:
    """All that was wanted is healthy."""

    job_id: str
    version: int
    healthy: int
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingBack:
    """The rollout failed for `cause`. `to_version` None: the job is new and will be removed."""

    job_id: str
    cause: str
    to_version: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """The job is stopped; its tasks end."""

    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """No task of the job runs any more, and the job is purged."""

    job_id: str
    elapsed_s: float


RolloutEvent = Registered | Progress | Unchanged | BecameHealthy | RollingBack | Stopping | Gone
