"""One replica of the simulated mesh: the runtime's mesh.py decides which links there are, its link.py what messages mean.

The runtime's line.py decides whose batch is next; a batch takes the time that the Speed says, and what comes meanwhile is
read when it is over. Every replica computes the identity on one
double, so a wrong answer shows.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from benchmarks.mesh_simulation_loop import SimulatedLoop, Timer
from benchmarks.mesh_simulation_network import Network, Traffic
from clipper_nomad.protocol import wire
from clipper_nomad.protocol.wire import Header, Hello, MessageType, OutputType, Reject, Welcome
from clipper_nomad.state.records import MICROS, ModelVersion
from clipper_nomad_runtime.line import Line
from clipper_nomad_runtime.link import Batch, Link, Stage
from clipper_nomad_runtime.mesh import Mesh, Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How long a batch takes: `start_s` and `per_query_s` for each input, give or take a share of about `jitter`."""

    start_s: float
    per_query_s: float = 0.0
    jitter: float = 0.0


class Channel:
    """The connection that a link has just now: the network's Dialer."""

    __slots__ = ("connection", "link", "replica", "traffic")

    def __init__(self, replica: SimulatedReplica, link: Link) -> None:
        self.replica = replica
        self.link = link
        self.traffic = replica.traffic
        self.connection = replica.network.dial(link.address, self, from_afar=True)

    def on_connected(self) -> None:
        """See Dialer."""
        self.connection.send_up(self.replica.hello)
        self.link.greeted(self.replica.loop.time())
        self.replica.tend_soon()

    def on_frames(self, frames: list[bytes]) -> None:
        """See Dialer."""
        self.replica.take(self.link, frames)

    def on_ended(self) -> None:
        """See Dialer."""
        if self.replica.is_alive and self.replica.channels.get(self.link) is self:
            self.replica.lose(self.link)


class SimulatedReplica:
    """A replica process. `busy_s` is how long it has computed, `executed` how many inputs it was given.

    What the links want is done as the runtime's serving.py does it: `tend`, `lose`, `release`, turns.
    """

    def __init__(self, network: Network, version: ModelVersion, name: str, *, speed: Speed, seed: int,
                 seeds: Sequence[str], mode: Mode = Mode.DIRECT) -> None:  # fmt: skip
        self.network = network
        self.loop: SimulatedLoop = network.loop
        self.name = name
        self.version = version
        self.speed = speed
        self.traffic = Traffic()
        self.is_alive = True
        self.channels: dict[Link, Channel] = {}
        self.busy_s = 0.0
        self.executed = 0
        self.unsent = 0
        self.is_busy = False
        self.covered_at: float | None = None  # when it had all the links that it wants, the first time
        self.dials_when_covered = 0
        self.chance = random.Random(seed)
        self.dropped: Counter[str] = Counter()
        self.mesh = Mesh(seeds, replica=name, mode=mode, jitter=self.chance.random, dropped=self.dropped)
        self.hello = wire.encode_introduction(
            MessageType.HELLO,
            Hello(model=version.name, version=version.version, uid=version.uid, input_type=version.input_type,
                  replica=name, python="3.11", toolkit="0.0.0"),
        )  # fmt: skip
        self.line = Line(lambda link, frames: self.channels[link].connection.send_up(frames), self.dropped)
        self.begun: Header | None = None  # of the batch that was begun last
        self._unread: list[tuple[Link, Channel, list[bytes]]] = []  # came while it works
        self._call: Timer | None = None
        self._tending: Timer | None = None
        self._tends_at = inf

    @property
    def backlog(self) -> int:
        """How many batches wait here, of all frontends."""
        return sum(link.backlog for link in self.channels)

    @property
    def is_covered(self) -> bool:
        """Whether all the links that it wants stand."""
        wanted = self.mesh.wanted
        return bool(wanted) and wanted_links(self.mesh) >= len(wanted)

    def start(self) -> None:
        """Begin to dial."""
        self.tend_soon()

    def die(self) -> None:
        """End without a word."""
        self.is_alive = False
        for channel in self.channels.values():
            channel.connection.tear(by_host=False)

    # ---- links

    def tend_soon(self) -> None:
        """Look at the links once what happens just now is over."""
        self._tend_at(self.loop.time())

    def _tend_at(self, instant: float) -> None:
        if instant >= self._tends_at:
            return
        if self._tending is not None:
            self._tending.cancel()
        self._tends_at = instant
        self._tending = self.loop.call_at(instant, self._tend_all)

    def _tend_all(self) -> None:
        self._tending, self._tends_at = None, inf
        if not self.is_alive:
            return
        now = self.loop.time()
        if self.mesh.is_due(now):
            for link in self.mesh.plan(now):
                self._close(link)
        for link in list(self.mesh.links):
            self._tend(link, now)
        if self.covered_at is None and self.is_covered:
            self.covered_at, self.dials_when_covered = now, self.traffic.dials
        due = min((link.due for link in self.mesh.links), default=inf)
        self._tend_at(max(min(due, self.mesh.due), now))

    def _tend(self, link: Link, now: float) -> None:
        if link not in self.channels:
            if link.stage is Stage.WAITING and now >= link.due:
                self.channels[link] = Channel(self, link)
                link.dialled(now)
        elif link.is_finished:
            self._close(link)
            link.leave()
            self.mesh.stir()
        elif now >= link.due:
            self.lose(link)

    def take(self, link: Link, frames: list[bytes]) -> None:
        """Take a message of a frontend, or let it wait until this replica reads again."""
        if self.is_busy:
            self._unread.append((link, self.channels[link], frames))
            return
        self._read(link, frames)
        self.begin_next()

    def _read(self, link: Link, frames: list[bytes]) -> None:
        now = self.loop.time()
        news = link.take(frames, asked=now, read=now)
        if isinstance(news, Welcome):
            if not self.mesh.welcomed(link, now):
                self._release(link)
        elif isinstance(news, Reject):
            self.lose(link)
        elif news is not None:
            self.mesh.told(link, now)
        if news is not None or link.stage is Stage.LEAVING:
            self.tend_soon()

    def _release(self, link: Link) -> None:
        epoch, session = link.identity
        self.channels[link].connection.send_up(wire.encode_control(MessageType.DRAIN, epoch=epoch, session=session))
        link.released()

    def lose(self, link: Link) -> None:
        """Give up the connection of a link; mesh.py and link.py decide what follows."""
        was, now = link.stage, self.loop.time()
        self._close(link)
        link.lost(now)
        self.mesh.lost(link, was, now)
        self.tend_soon()

    def _close(self, link: Link) -> None:
        channel = self.channels.pop(link, None)
        if channel is not None:
            channel.connection.close()

    # ---- work

    def begin_next(self) -> None:
        """Begin the next batch of the link whose turn it is, if this replica rests and one waits."""
        if self.is_busy or not self.is_alive:
            return
        link = self.line.next(list(self.channels), self.loop.time())
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if link is not None:
            self._begin(link, link.batches.popleft())
        elif self.line.call_ends < inf:
            self._call = self.loop.call_at(self.line.call_ends, self.begin_next)

    def _begin(self, link: Link, batch: Batch) -> None:
        self.is_busy = True
        self.begun = batch.header
        speed = self.speed
        exec_s = (speed.start_s + speed.per_query_s * batch.header.count) * math.exp(self.chance.gauss(0.0, speed.jitter))
        self.loop.call_later(exec_s, self._finish, link, self.channels[link], batch, exec_s)

    def _finish(self, link: Link, channel: Channel, batch: Batch, exec_s: float) -> None:
        if not self.is_alive:
            return
        self.is_busy = False
        self.busy_s += exec_s
        self.executed += batch.header.count
        unread, self._unread = self._unread, []
        for each, on, frames in unread:
            if self.channels.get(each) is on:
                self._read(each, frames)
        ask_first = self.line.ended(list(self.channels), link, exec_s)
        result = wire.encode_result(
            answers=batch.header, output_type=OutputType.FLOAT64, backlog=self.backlog,
            exec_micros=round(exec_s * MICROS), lengths=None, data=batch.frames[-1],
            ask_first=ask_first,
        )  # fmt: skip
        if self.channels.get(link) is not channel or not channel.connection.send_up(result):
            self.unsent += 1
        if link.stage is Stage.LEAVING:
            self.tend_soon()
        self.begin_next()


def wanted_links(mesh: Mesh) -> int:
    """Return how many of the frontends that a replica wants it is linked to."""
    linked = {link.frontend for link in mesh.links if link.stage is Stage.OPEN and not link.is_surplus}
    return sum(frontend in linked for frontend in mesh.wanted)
