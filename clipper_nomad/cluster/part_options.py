"""What the parts that run were brought up with, as their jobs' meta says it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from clipper_nomad.cluster.jobs.options import META_OPTIONS, JobOptions
from clipper_nomad.cluster.names import Kind
from clipper_nomad.cluster.ownership import JobStub

_PART_OF = {Kind.REDIS: "redis", Kind.ADMIN: "admin", Kind.FRONTEND: "frontend", Kind.FABIO: "fabio"}


def options_of_parts(jobs: Iterable[JobStub]) -> dict[str, JobOptions]:
    """Return the options of each part among these jobs of one cluster."""
    return {_PART_OF[job.kind]: JobOptions.from_json(job.meta.get(META_OPTIONS, "")) for job in jobs if job.kind in _PART_OF}
