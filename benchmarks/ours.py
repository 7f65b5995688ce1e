"""Ours, started to be measured: the local stack through the public API, with the settings a user gets.

The one file of the suite that knows how clipper-nomad is started.
"""

import shutil
import tempfile
import time
from collections.abc import Mapping

import clipper_nomad
from benchmarks.diabetes import train
from benchmarks.serving import Serving, ServingError
from clipper_nomad import ClipperConnection, ClipperException, LocalContainerManager
from clipper_nomad.deployers import python

_ROLES = {"frontend": "frontend", "replica": "runtime"}  # kind of a part → what the suite calls it


class _Ours:
    """A local stack of its own with one frontend, one replica of the diabetes model, and app-1."""

    def __init__(self, name: str, cache_bytes: int) -> None:
        self.name = name
        model = train()
        self._home = tempfile.mkdtemp(prefix="cnb-")  # short: a socket's path has at most 107 bytes
        began = time.monotonic()
        self._connection: ClipperConnection = clipper_nomad.local(
            cluster_name=f"bench-{name}", home=self._home, cache_size=cache_bytes
        )
        try:
            self._connection.register_application("app-1", "doubles", "-1.0", 10_000_000)
            python.deploy_python_closure(self._connection, "diabetes", 1, "doubles", model.predict)
            self._connection.link_model_to_app("app-1", "diabetes")
            self.url = self._connection.predict_url("app-1")
            self._connection.predict("app-1", [0.0] * 10)
        except BaseException:
            self.stop()
            raise
        self.started_in_s = time.monotonic() - began

    def pids(self) -> Mapping[str, int]:
        """See `Serving`."""
        manager = self._connection.cm
        assert isinstance(manager, LocalContainerManager)  # local() made it
        status = manager.status()
        parts = {_ROLES.get(part.kind, part.name): part.pid for part in status.parts if part.pid is not None}
        return {"supervisor": status.pid, **parts}

    def stop(self) -> None:
        """See `Serving`."""
        try:
            self._connection.stop_all()
        finally:
            shutil.rmtree(self._home, ignore_errors=True)


def start_ours(name: str = "ours", *, cache_bytes: int = 0) -> Serving:
    """Start a frontend and a replica, and return when app-1 has answered. `cache_bytes`: of the prediction cache.

    Raises: ServingError: it did not start.
    """
    try:
        return _Ours(name, cache_bytes)
    except ClipperException as exc:
        raise ServingError(f"ours did not start: {exc}") from exc
