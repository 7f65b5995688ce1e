"""What starts more replicas of a version, its key too: a file for each version in admin's container.

There whoever may speak to Docker finds it, and nobody else; it goes with the cluster.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace

from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.docker_host.containers import SECRETS
from clipper_nomad.docker_host.engine import DockerEngine
from clipper_nomad.docker_host.names import version_label
from clipper_nomad.docker_host.replicas import Version


class VersionRecords:
    """The records of one cluster, in the container `admin`."""

    def __init__(self, engine: DockerEngine, admin: str) -> None:
        self._engine = engine
        self._admin = admin

    def find(self, name: str, version: str) -> Version | None:
        """Return what is known of a version, None if nothing is."""
        text = self._engine.read(self._admin, _path(name, version))
        if text is None:
            return None
        said = json.loads(text)
        return Version(**said | {"options": JobOptions.from_json(said["options"])})

    def keep(self, version: Version) -> None:
        """Keep what is known of a version, instead of what was known before."""
        said = asdict(replace(version, options=JobOptions())) | {"options": version.options.to_json()}
        self._engine.write(self._admin, {_path(version.name, version.version): json.dumps(said)})

    def forget(self, versions: Iterable[tuple[str, str]]) -> None:
        """Know nothing of these versions any more."""
        paths = [_path(name, version) for name, version in versions]
        if paths:
            self._engine.delete(self._admin, paths)


def _path(name: str, version: str) -> str:
    return f"{SECRETS}/versions/{version_label(name, version)}.json"
