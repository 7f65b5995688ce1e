"""What the parts that run were brought up with, as their jobs' meta says it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from clipper_nomad.cluster.jobs.options import META_OPTIONS, JobOptions
from clipper_nomad.cluster.names import Kind
from clipper_nomad.cluster.ownership import JobStub
from clipper_nomad.cluster.rollout.parsed_job import Json
from clipper_nomad.container_manager import USUAL_CACHE_BYTES, check_cache_size

CACHE_BYTES = "CLIPPER_CACHE_BYTES"
_PART_OF = {Kind.REDIS: "redis", Kind.ADMIN: "admin", Kind.FRONTEND: "frontend", Kind.FABIO: "fabio"}


def options_of_parts(jobs: Iterable[JobStub]) -> dict[str, JobOptions]:
    """Return the options of each part among these jobs of one cluster."""
    return {_PART_OF[job.kind]: JobOptions.from_json(job.meta.get(META_OPTIONS, "")) for job in jobs if job.kind in _PART_OF}


def cache_of(frontends: Json | None) -> int | None:
    """Return how many bytes of prediction cache each frontend of a job has, None if the job does not run."""
    if frontends is None or frontends.get("Stop"):
        return None
    env = frontends["TaskGroups"][0]["Tasks"][0].get("Env") or {}
    return int(env.get(CACHE_BYTES, "0"))


def wanted_cache(asked: int | None, *, planned: int | None, runs: int | None) -> int:
    """Return the bytes of the prediction cache that frontends are to have.

    `asked`: of start_clipper, `planned`: of whoever made the manager, `runs`: now. None: nothing was said, or nothing runs.
    Raises: ClipperException: it is no size.
    """
    check_cache_size(asked)
    if asked is None:
        asked = planned
    if asked is None or (asked == USUAL_CACHE_BYTES and runs is not None):  # as callers of Clipper's leave it out
        return runs or 0
    return asked
