"""The model replicas of a stack: as many of each version as are wanted, and why a version's do not become ready.

What is wanted is written down (kept.py) before it is acted on. A version's replicas all have one uid: another uid under
the same name and version replaces them. stack.py owns this and hands it every SIGCHLD.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from clipper_nomad.local_stack.child import Part
from clipper_nomad.local_stack.control import FailureReply, VersionStatus
from clipper_nomad.local_stack.failure import explain
from clipper_nomad.local_stack.keeper import Keeper, stop_together
from clipper_nomad.local_stack.kept import KeptState, WantedVersion, write_state
from clipper_nomad.local_stack.parts import PartTable
from clipper_nomad.local_stack.place import Place

DRAIN_WITHIN_S = 32.0  # the runtime drains for at most 30 s (CLIPPER_DRAIN_S)
_FROM_OUTSIDE = {0, -signal.SIGTERM, -signal.SIGKILL}  # ends that say nothing about the model: try again

Callback = Callable[[], None]


@dataclass(slots=True, kw_only=True)
class Replica:
    """One replica of what is wanted."""

    name: str
    wanted: WantedVersion
    keeper: Keeper


class Replicas:
    """`make_keeper` makes the keeper of a part."""

    def __init__(
        self,
        state: KeptState,
        *,
        place: Place,
        parts: PartTable,
        make_keeper: Callable[[Part], Keeper],
    ) -> None:
        self.state = state
        self._place = place
        self._parts = parts
        self._make_keeper = make_keeper
        self._replicas: dict[str, Replica] = {}

    @property
    def keepers(self) -> Iterable[Keeper]:
        """The keepers of all replicas, also of those that drain."""
        return [replica.keeper for replica in self._replicas.values()]

    def start_wanted(self) -> None:
        """Start what was wanted when the stack was stopped."""
        for wanted in self.state.wanted:
            self._start(wanted, wanted.count)

    def want(self, wanted: WantedVersion, then: Callback) -> None:
        """Run so many replicas of this version, and call `then` when those that are too many have ended.

        Failed ones are started anew: whoever asks again wants another try.
        """
        self._write(self.state.with_version(wanted))
        ours = self._of(wanted.name, wanted.version)
        of_uid = [replica for replica in ours if replica.wanted.uid == wanted.uid]
        others = [replica for replica in ours if replica.wanted.uid != wanted.uid]
        of_uid.sort(key=lambda replica: replica.keeper.state == "failed")  # these go first
        for replica in of_uid[: wanted.count]:
            replica.wanted = wanted
            replica.keeper.revive()
        self._start(wanted, wanted.count - len(of_uid))
        self._stop([*of_uid[wanted.count :], *others], then)

    def scale(self, name: str, version: str, count: int, then: Callback) -> bool:
        """As `want`, of a version that was deployed here before; returns False if it never was."""
        wanted = self.state.find(name, version)
        if wanted is None:
            return False
        self.want(replace(wanted, count=count), then)
        return True

    def stop_versions(self, models: Mapping[str, tuple[str, ...]] | None, then: Callback) -> None:
        """Want no replicas of these versions (None: of all), and call `then` when they have ended."""
        stopped = [wanted for wanted in self.state.wanted if models is None or wanted.version in models.get(wanted.name, ())]
        state = self.state
        for wanted in stopped:
            state = state.with_version(replace(wanted, count=0))
        self._write(state)
        self._stop([replica for item in stopped for replica in self._of(item.name, item.version)], then)

    def forget_versions(self, models: Mapping[str, tuple[str, ...]]) -> None:
        """Remember nothing of these versions, as far as none of their replicas are wanted."""
        self._write(self.state.without(models))

    def keep(self) -> None:
        """Keep the data over a stop."""
        self._write(replace(self.state, keep=True))

    def forget(self) -> None:
        """Keep the data no longer."""
        self._write(replace(self.state, keep=False))

    def is_ready(self, replica: Replica) -> bool:
        """Whether a replica's model is loaded and warm."""
        return replica.keeper.state == "running" and self._parts.ready_file(replica.name).exists()

    def state_of(self, keeper: Keeper) -> str:
        """Return a keeper's state, or "ready" for a replica that is."""
        for replica in self._replicas.values():
            if replica.keeper is keeper and self.is_ready(replica):
                return "ready"
        return keeper.state

    def versions(self) -> tuple[VersionStatus, ...]:
        """Return how each version's replicas are."""
        return tuple(
            VersionStatus(
                name=wanted.name,
                version=wanted.version,
                wanted=wanted.count,
                ready=sum(map(self.is_ready, ours)),
                failed=sum(replica.keeper.state == "failed" for replica in ours),
            )
            for wanted in self.state.wanted
            for ours in [self._of(wanted.name, wanted.version)]
        )

    def failure(self, name: str, version: str) -> FailureReply:
        """Return why a version's replicas do not become ready: one has failed, or died while none is ready."""
        wanted = self.state.find(name, version)
        if wanted is None or wanted.count == 0:
            return FailureReply(
                cause=f"No replicas of model {name}:{version} are wanted on this machine.",
                hint="Deploy the version, or ask for replicas with set_num_replicas.",
            )
        ours = self._of(name, version)
        for replica in ours:
            death = replica.keeper.last_death
            if replica.keeper.state == "failed" and death is not None:
                return explain(f"Replica {replica.name}", death, log=str(replica.keeper.part.log))
        if any(map(self.is_ready, ours)):
            return FailureReply(cause=None)
        for replica in ours:
            death = replica.keeper.last_death
            if death is not None and death.exit_code not in _FROM_OUTSIDE:
                return explain(f"Replica {replica.name}", death, log=str(replica.keeper.part.log))
        return FailureReply(cause=None)

    def _of(self, name: str, version: str) -> list[Replica]:
        """The version's replicas that are to run."""
        return [
            replica
            for replica in self._replicas.values()
            if (replica.wanted.name, replica.wanted.version) == (name, version)
            and replica.keeper.state not in {"stopping", "stopped"}
        ]

    def _start(self, wanted: WantedVersion, count: int) -> None:
        for _ in range(count):
            free = itertools.count()
            name = next(name for index in free if (name := f"{wanted.name}-{wanted.version}-{index}") not in self._replicas)
            part = self._parts.replica(name, wanted)
            keeper = self._make_keeper(part)
            self._replicas[name] = Replica(name=name, wanted=wanted, keeper=keeper)
            keeper.start()

    def _stop(self, replicas: list[Replica], then: Callback) -> None:
        def ended() -> None:
            for replica in replicas:
                self._replicas.pop(replica.name, None)
            then()

        stop_together([replica.keeper for replica in replicas], within_s=DRAIN_WITHIN_S, then=ended)

    def _write(self, state: KeptState) -> None:
        if state != self.state:
            write_state(self._place.state, state)
            self.state = state
