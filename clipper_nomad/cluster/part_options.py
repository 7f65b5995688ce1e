"""What the parts that run were brought up with, as their jobs' meta says it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from clipper_nomad.cluster.jobs.options import META_OPTIONS, JobOptions
from clipper_nomad.cluster.names import META_KEY_ROUND, Kind
from clipper_nomad.cluster.ownership import JobStub, Survey
from clipper_nomad.cluster.rollout.parsed_job import Json
from clipper_nomad.container_manager import USUAL_CACHE_BYTES, check_cache_size
from clipper_nomad.errors import NomadRefused, NomadUnreachable

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


def key_round_of(jobs: Iterable[JobStub]) -> int:
    """Return how often the frontends among these jobs of one cluster changed their key."""
    said = next((job.meta.get(META_KEY_ROUND, "") for job in jobs if job.kind is Kind.FRONTEND), "")
    return int(said) if said.isascii() and said.isdigit() else 0


def parts_to_be(wanted: Mapping[str, JobOptions] | None, find: Callable[[], Survey]) -> tuple[Mapping[str, JobOptions], int]:
    """Return the options of each part, as wanted or else as they run, and the round of the frontends' key. `find`: the jobs.

    Raises: NomadUnreachable, NomadRefused: they must be asked for, and cannot be."""
    try:
        ours = find().ours
    except (NomadUnreachable, NomadRefused):
        if wanted is None:
            raise
        return wanted, 0  # jobspecs can be made without Nomad
    return (options_of_parts(ours) if wanted is None else wanted), key_round_of(ours)
