"""The parts of one running stack: started together, known to be up, kept running, and stopped in order.

Start: the store, the frontends, admin and the wanted replicas at once; up when the store, every frontend and admin say so.
Stop: frontends first, because they finish their queries with the replicas' help; then replicas, then admin and store.
supervisor.py owns the one stack; keeper.py has the life of each part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from clipper_nomad.local_stack.child import Part
from clipper_nomad.local_stack.control import PartStatus
from clipper_nomad.local_stack.event_loop import EventLoop
from clipper_nomad.local_stack.keeper import Keeper, stop_together
from clipper_nomad.local_stack.kept import KeptState
from clipper_nomad.local_stack.logs import LOOK_EVERY_S, bound_log, last_line
from clipper_nomad.local_stack.parts import HOPELESS, PartTable, StackSettings
from clipper_nomad.local_stack.probe import ReadyProbe, http_question, store_question
from clipper_nomad.local_stack.replicas import Replicas

Callback = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long each step of a stop may take before what is left of it is killed."""

    name: str
    frontends_s: float
    replicas_s: float
    rest_s: float


GRACEFUL = Patience(
    name="graceful", frontends_s=16.0, replicas_s=32.0, rest_s=5.0
)  # a frontend drains ≤ 15 s, a runtime ≤ 30 s
QUICK = Patience(
    name="quick", frontends_s=1.0, replicas_s=0.7, rest_s=0.5
)  # nothing is left 5 s after the last owner (decision 32)
AT_ONCE = Patience(name="at once", frontends_s=0.0, replicas_s=0.0, rest_s=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """The descriptors that children inherit, and admin's port."""

    public: int
    admin: int
    admin_port: int
    legacy: int | None = None


class Stack:
    """All parts. `failed` is called with the part that is given up, of those that are not replicas."""

    def __init__(
        self,
        settings: StackSettings,
        *,
        parts: PartTable,
        loop: EventLoop,
        state: KeptState,
        store: tuple[str, ...],
        sockets: Sockets,
        groups: Callable[[int, bool], None],
        failed: Callable[[Keeper], None],
    ) -> None:
        self._settings = settings
        self._loop = loop
        self._groups = groups
        self._failed = failed
        self._probes: dict[str, ReadyProbe] = {}
        self._sockets = sockets
        self._store = self._keeper(parts.store(store))
        self._admin = self._keeper(parts.admin(sockets.admin))
        self._frontends = [
            self._keeper(parts.frontend(index, sockets.public, sockets.legacy)) for index in range(settings.frontends)
        ]
        self.replicas = Replicas(state, place=settings.place, parts=parts, make_keeper=self._keeper)

    def start(self, up: Callback) -> None:
        """Start everything, and call `up` when all but the replicas are ready."""
        for keeper in self._fixed:
            keeper.start()
        self.replicas.start_wanted()
        self._loop.after(LOOK_EVERY_S, self._bound_logs)
        place = self._settings.place
        questions = {
            "store": store_question(place.store_socket),
            "admin": http_question(self._sockets.admin_port, "/health"),
        }
        for index, keeper in enumerate(self._frontends):
            questions[keeper.part.name] = http_question(place.frontend_socket(index), "/health/ready")
        for name, question in questions.items():
            self._probes[name] = ReadyProbe(question, loop=self._loop, then=partial(self._is_up, name, up))

    @property
    def waited_for(self) -> tuple[str, ...]:
        """The parts that are not up yet."""
        return tuple(self._probes)

    def look(self) -> None:
        """Notice which processes have ended (on SIGCHLD)."""
        for keeper in (*self._fixed, *self.replicas.keepers):
            keeper.look()

    def revive(self) -> None:
        """Try the parts anew that were given up."""
        for keeper in self._fixed:
            keeper.revive()

    def stop(self, patience: Patience, then: Callback) -> None:
        """Stop all parts in order, then call `then`."""
        self.give_up_waiting()
        rest = [self._admin, self._store]

        def stop_replicas() -> None:
            stop_together(self.replicas.keepers, within_s=patience.replicas_s, then=stop_rest)

        def stop_rest() -> None:
            stop_together(rest, within_s=patience.rest_s, then=then)

        stop_together(self._frontends, within_s=patience.frontends_s, then=stop_replicas)

    def kill(self) -> None:
        """End a stop that takes too long."""
        for keeper in (*self._fixed, *self.replicas.keepers):
            keeper.stop(within_s=0, then=lambda: None)

    def give_up_waiting(self) -> None:
        """Ask no part any more whether it is ready."""
        for probe in self._probes.values():
            probe.cancel()
        self._probes.clear()

    def part_statuses(self) -> tuple[PartStatus, ...]:
        """Return how each process is."""
        now = self._loop.now()
        return tuple(
            PartStatus(
                name=keeper.part.name,
                kind=keeper.part.kind,
                state=self.replicas.state_of(keeper),
                pid=keeper.pid,
                deaths=keeper.deaths,
                age_s=now - keeper.started,
                log=str(keeper.part.log),
                last_error=last_line(keeper.last_death.tail) if keeper.last_death is not None else None,
            )
            for keeper in (*self._fixed, *self.replicas.keepers)
        )

    @property
    def _fixed(self) -> tuple[Keeper, ...]:
        return (self._store, *self._frontends, self._admin)

    def _bound_logs(self) -> None:
        for keeper in (*self._fixed, *self.replicas.keepers):
            keeper.bound_log()
        bound_log(self._settings.place.supervisor_log)
        self._loop.after(LOOK_EVERY_S, self._bound_logs)

    def _is_up(self, name: str, up: Callback) -> None:
        self._probes.pop(name, None)
        if not self._probes:
            up()

    def _keeper(self, part: Part) -> Keeper:
        return Keeper(part, loop=self._loop, hopeless=HOPELESS[part.kind], groups=self._groups, given_up=self._given_up)

    def _given_up(self, keeper: Keeper) -> None:
        if keeper in self._fixed:
            self._failed(keeper)
