"""Frontends of paper for the mesh of a replica: they welcome, tell rosters and end, on a clock that the test moves."""

from __future__ import annotations

import itertools
from collections import Counter

from clipper_nomad.protocol.links import MOST_LINKS
from clipper_nomad.protocol.mesh_messages import RosterEntry, encode_roster
from clipper_nomad.protocol.wire import MessageType, Reject, Welcome, encode_control, encode_introduction
from clipper_nomad_runtime.link import Link, Stage, Way
from clipper_nomad_runtime.mesh import Mesh, Mode

PROXY = "tcp://proxy:7000"
MAX_STEPS = 5000  # of one run: more is a loop that does not wait


def address_of(frontend: str) -> str:
    return f"tcp://{frontend}:7000"


def names(count: int) -> list[str]:
    return [f"f{number}" for number in range(count)]


class World:
    """Frontends, a proxy that takes them in turn, and the links of one replica, all at once and without a network."""

    def __init__(self, *seeds: str, mode: Mode = Mode.AUTO, most: int = MOST_LINKS) -> None:
        self.now = 0.0
        self.mesh = Mesh(seeds, replica="r0", mode=mode, jitter=lambda: 0.5, dropped=Counter(), most=most)
        self.alive: dict[str, str] = {}  # frontend → where it can be dialled
        self.roster: dict[str, str] = {}  # frontend → where the rosters say that it can
        self.routes: list[str] = []  # of the proxy
        self.refuses: set[str] = set()
        self.dials: list[tuple[float, str, Way]] = []
        self._epochs: dict[str, int] = {}
        self._turns = itertools.count()
        self._starts = itertools.count(1)

    def start(self, *frontends: str, is_reachable: bool = True, is_routed: bool = True) -> None:
        """Start frontends, and let all rosters know."""
        for frontend in frontends:
            self.alive[frontend] = address_of(frontend) if is_reachable else ""
            self._epochs[frontend] = next(self._starts)
            if is_routed:
                self.routes.append(frontend)
            self.roster[frontend] = address_of(frontend)
        self.tell()

    def kill(self, frontend: str, *, is_forgotten: bool = False) -> None:
        """End a frontend; the rosters still have it unless `is_forgotten`."""
        del self.alive[frontend]
        if frontend in self.routes:
            self.routes.remove(frontend)
        if is_forgotten:
            del self.roster[frontend]
        for link in self.links_to(frontend):
            self.lose(link)
        self.tell()

    def lose(self, link: Link) -> bool:
        was = link.stage
        link.lost(self.now)
        return self.mesh.lost(link, was, self.now)

    def tell(self) -> None:
        """Every open link tells the roster."""
        for link in self.mesh.links:
            if link.stage is Stage.OPEN:
                self._tell(link)

    def links_to(self, frontend: str) -> list[Link]:
        return [link for link in self.mesh.links if link.stage is Stage.OPEN and link.frontend == frontend]

    @property
    def linked(self) -> list[str]:
        """The frontends of the open links, sorted; a double shows."""
        return sorted(link.frontend for link in self.mesh.links if link.stage is Stage.OPEN)

    def dialled(self, way: Way, *, since: float = 0.0) -> list[float]:
        """When was dialled in that way."""
        return [at for at, _, its_way in self.dials if its_way is way and at >= since]

    def run(self, seconds: float) -> None:
        """Let that time pass."""
        end = self.now + seconds
        for _ in range(MAX_STEPS):
            due = min([self.mesh.due, *(link.due for link in self.mesh.links)])
            if due > end:
                self.now = end
                return
            self.now = max(self.now, due)
            self._step()
        raise AssertionError(f"the mesh does not come to rest at {self.now} s")

    def _step(self) -> None:
        if self.mesh.is_due(self.now):
            opened = [link for link in self.mesh.links if link.stage is Stage.OPEN]
            for link in self.mesh.plan(self.now):
                assert link not in opened, "a working link was closed"
            assert all(link in self.mesh.links for link in opened)
        for link in list(self.mesh.links):
            if link.stage is Stage.WAITING and self.now >= link.due:
                self._dial(link)

    def _dial(self, link: Link) -> None:
        self.dials.append((self.now, link.address, link.way))
        link.dialled(self.now)
        if link.address == PROXY:
            met = self.routes[next(self._turns) % len(self.routes)] if self.routes else None
        else:
            met = next((each for each, address in self.alive.items() if address == link.address), None)
        if met is None:
            self.lose(link)
            return
        link.greeted(self.now)
        if met in self.refuses:
            take(link, encode_introduction(MessageType.REJECT, Reject(reason="no such version", final=True)))
            self.lose(link)
            return
        welcome = Welcome(frontend=met, toolkit="0")
        take(link, encode_introduction(MessageType.WELCOME, welcome, epoch=self._epochs[met], session=1))
        if self.mesh.welcomed(link, self.now):
            self._tell(link)
        else:
            link.released()
            self.finish(link, MessageType.DRAINED)

    def finish(self, link: Link, kind: MessageType) -> None:
        """The frontend ends a session in good order."""
        epoch, session = link.identity
        take(link, encode_control(kind, epoch=epoch, session=session))
        link.leave()
        self.mesh.stir()

    def _tell(self, link: Link) -> None:
        epoch, session = link.identity
        entries = [RosterEntry(frontend, address) for frontend, address in self.roster.items()]
        take(link, encode_roster(entries, epoch=epoch, session=session))
        self.mesh.told(link, self.now)


def take(link: Link, frames: list[bytes]) -> None:
    link.take(frames, asked=0.0, read=0.0)
