"""What a stack remembers over a stop: whether its data are kept, and which replicas are wanted. One small JSON file.

Written whole, synced and renamed into place on every change, before the change is acted on: a replica that was answered
for is started again. The file also marks the directory as a stack's: nothing is ever removed from one without it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from clipper_nomad.errors import StackError

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedVersion:
    """So many replicas of one model version. A count of 0 is remembered, so that it can be scaled up again, until the
    version is unregistered. `env`: what its replicas have besides what they inherit. `environment`: the name of the one
    that they run in; "" for the stack's own."""

    name: str
    version: str
    uid: str
    input_type: str
    digest: str
    count: int
    env: Mapping[str, str] = field(default_factory=dict)
    environment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptState:
    """`keep`: the data outlive the stack. `wanted`: in the order in which they were deployed."""

    keep: bool
    wanted: tuple[WantedVersion, ...] = ()

    def find(self, name: str, version: str) -> WantedVersion | None:
        """Return what is wanted of a version, or None if it was never deployed here."""
        return next((item for item in self.wanted if (item.name, item.version) == (name, version)), None)

    def with_version(self, wanted: WantedVersion) -> KeptState:
        """Return this state with `wanted` in the place of what was wanted of that version."""
        others = (item for item in self.wanted if (item.name, item.version) != (wanted.name, wanted.version))
        return replace(self, wanted=(*others, wanted))

    def without(self, models: Mapping[str, tuple[str, ...]]) -> KeptState:
        """Return this state without these versions, but for those of which replicas are wanted."""
        stay = (item for item in self.wanted if item.count or item.version not in models.get(item.name, ()))
        return replace(self, wanted=tuple(stay))

    @property
    def digests(self) -> frozenset[str]:
        """The bundles of all these versions."""
        return frozenset(item.digest for item in self.wanted)

    @property
    def environments(self) -> frozenset[str]:
        """The environments that any of these versions runs in."""
        return frozenset(item.environment for item in self.wanted if item.environment)


def read_state(path: Path) -> KeptState | None:
    """Return what was kept, or None if there is no file. Raises: StackError: the file cannot be read as one of ours."""
    try:
        fields = json.loads(path.read_bytes())
        if fields.pop("format") != FORMAT:
            raise ValueError("it is of another format")  # noqa: TRY301  # one message for all that can be wrong
        wanted = tuple(WantedVersion(**item) for item in fields.pop("wanted"))
        return KeptState(**fields, wanted=wanted)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
        raise StackError(
            f"The state of a local stack, {path}, cannot be read by this version of clipper-nomad: {exc}.",
            hint=f"If nothing in {path.parent} is needed any more, remove that directory; else move it away.",
        ) from exc


def write_state(path: Path, state: KeptState) -> None:
    """Replace the file, so that a reader and a crash see the old or the new state, never a part."""
    fresh = path.with_suffix(".new")
    with fresh.open("w") as file:
        json.dump({"format": FORMAT, **asdict(state)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
