"""The logs of a cluster's tasks, as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clipper_nomad.cluster.nomad_api import NomadApi

LOG_BYTES = 64 * 1024 * 1024  # of each stream, its end


def write_logs(nomad: NomadApi, jobs: Sequence[str], folder: Path) -> list[str]:
    """Write stdout and stderr of each allocation of these jobs into files of `folder`; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for job in jobs:
        for allocation in nomad.allocations(job):
            for stream in ("stdout", "stderr"):
                text = nomad.log_tail(allocation["ID"], task=job, stream=stream, last_bytes=LOG_BYTES)
                path = folder / f"{job}.{allocation['ID'][:8]}.{stream}.log"
                path.write_text(text)
                written.append(str(path))
    return written
