"""Where the development cluster of this user lies, and the making of it.

    data     XDG_STATE_HOME/clipper-nomad-dev: lock, state.json, ports.json, config/, logs/, consul/, nomad/, volumes/
    cache    XDG_CACHE_HOME/clipper-nomad: releases that were downloaded

CLIPPER_HOME puts both below itself, as <home>/dev and <home>/cache.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clipper_nomad.errors import DevClusterError, StackError
from clipper_nomad.local_stack.place import make_private, state_home

VOLUMES = ("redis", "bundles", "bundle-cache")  # host volumes of Nomad's client
_ANYBODY = 0o777  # tasks run as users of their own; the folder above lets nobody else in


@dataclass(frozen=True, slots=True, kw_only=True)
class DevPlace:
    """The folders of the development cluster."""

    data: Path
    cache: Path

    @property
    def lock(self) -> Path:
        """Held by the supervisor."""
        return self.data / "lock"

    @property
    def state(self) -> Path:
        """What runs; state.py."""
        return self.data / "state.json"

    @property
    def ports(self) -> Path:
        """The ports that were chosen, kept over restarts."""
        return self.data / "ports.json"

    @property
    def logs(self) -> Path:
        """One file for each agent, and the supervisor's."""
        return self.data / "logs"

    @property
    def config(self) -> Path:
        """The agents' configuration, written anew at each start."""
        return self.data / "config"

    @property
    def nomad(self) -> Path:
        """The data of Nomad's server: jobs."""
        return self.data / "nomad"

    @property
    def nomad_client(self) -> Path:
        """The data of Nomad's client: allocations."""
        return self.data / "nomad-client"

    @property
    def consul(self) -> Path:
        """Consul's data."""
        return self.data / "consul"

    def volume(self, name: str) -> Path:
        """Return the folder behind a host volume."""
        return self.data / "volumes" / name

    def log(self, part: str) -> Path:
        """Return a part's log file."""
        return self.logs / f"{part}.log"


def find_dev_place(environ: Mapping[str, str]) -> DevPlace:
    """Return where the development cluster lies. Makes nothing."""
    if environ.get("CLIPPER_HOME"):
        home = Path(os.path.realpath(Path(environ["CLIPPER_HOME"]).expanduser()))
        return DevPlace(data=home / "dev", cache=home / "cache")
    own = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or Path.home()) / ".cache"
    return DevPlace(data=state_home(environ) / "clipper-nomad-dev", cache=Path(os.path.realpath(own)) / "clipper-nomad")


def make_dev_place(place: DevPlace) -> None:
    """Make the folders, closed to others. Raises: DevClusterError: one is another user's, or cannot be made."""
    try:
        make_private(place.data)
        for folder in (place.logs, place.config, place.nomad, place.nomad_client, place.consul):
            folder.mkdir(mode=0o700, exist_ok=True)
        for name in VOLUMES:
            place.volume(name).mkdir(parents=True, exist_ok=True)
            place.volume(name).chmod(_ANYBODY)
    except StackError as exc:
        raise DevClusterError(exc.msg, hint=exc.hint) from exc
    except OSError as exc:
        raise DevClusterError(
            f"The development cluster's folder cannot be made: {exc}.",
            hint="Set CLIPPER_HOME to a directory that you may write to.",
        ) from exc
