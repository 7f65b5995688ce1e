"""The network of the simulated mesh: connections, proxies that balance dials, and what each process sends and receives.

Messages are the real frames, but for the two that every frontend sends to everyone, rosters and announcements: those travel
as the values themselves, and count as many bytes as the real encoder writes for them. Not simulated: bandwidth, loss,
packets that arrive late. A connection delivers in order.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

from benchmarks.mesh_simulation_loop import SimulatedLoop
from clipper_nomad.protocol import mesh_messages
from clipper_nomad.protocol.mesh_messages import Announcement, RosterEntry
from clipper_nomad.protocol.wire import MessageType, header_frame

LATENCY_S = 0.0001  # one way
CONNECT_S = 0.0005  # TCP's and ZMTP's handshakes
NOTICED_S = 0.003  # from the end of a process to the disconnect that the socket monitor tells of, as measured
LONG_FRAME = 255  # a frame of ZMTP has 2 bytes before it, a longer one 9


class Parcel(bytes):
    """A frame that stands for one of `weight` bytes with `content` in it."""

    content: Any
    weight: int


def parcel(content: object, weight: int) -> Parcel:
    """Return a frame with `content`."""
    made = Parcel()
    made.content, made.weight = content, weight
    return made


@dataclass(slots=True)
class Tally:
    """Messages and their bytes, as ZMTP writes them."""

    messages: int = 0
    octets: int = 0


class Traffic:
    """What one process has sent and received, by type of message."""

    __slots__ = ("dials", "received", "sent")

    def __init__(self) -> None:
        self.sent: dict[MessageType, Tally] = {}
        self.received: dict[MessageType, Tally] = {}
        self.dials = 0

    @staticmethod
    def note(tallies: dict[MessageType, Tally], kind: MessageType, octets: int) -> None:
        """Count one message."""
        tally = tallies.get(kind)
        if tally is None:
            tally = tallies[kind] = Tally()
        tally.messages += 1
        tally.octets += octets

    def total(self) -> Tally:
        """Return the sum of everything sent and received."""
        tallies = [*self.sent.values(), *self.received.values()]
        return Tally(sum(each.messages for each in tallies), sum(each.octets for each in tallies))


def size_of(frames: Sequence[bytes]) -> int:
    """Return how many bytes ZMTP writes for a message."""
    total = 0
    for frame in frames:
        length = frame.weight if type(frame) is Parcel else len(frame)
        total += length + (2 if length <= LONG_FRAME else 9)
    return total


class Dialer(Protocol):
    """Whoever dials: a replica's link, a frontend's link to a peer."""

    traffic: Traffic

    def on_connected(self) -> None:
        """The connection stands."""

    def on_frames(self, frames: list[bytes]) -> None:
        """A message came."""

    def on_ended(self) -> None:
        """The connection has ended, or never stood."""


class Host(Protocol):
    """Whoever is dialled: a frontend."""

    traffic: Traffic
    address: str
    is_alive: bool

    def on_frames(self, routing_id: bytes, frames: list[bytes]) -> None:
        """A message came on a connection."""

    def on_ended(self, routing_id: bytes) -> None:
        """A connection has ended."""


class Connection:
    """One connection, from its dialing to its end."""

    __slots__ = ("_dialer", "_has_spoken", "_loop", "_network", "host", "is_open", "routing_id")

    def __init__(self, network: Network, dialer: Dialer, host: Host | None, routing_id: bytes) -> None:
        self.host = host
        self.routing_id = routing_id
        self.is_open = False
        self._network = network
        self._loop = network.loop
        self._dialer = dialer
        self._has_spoken = False
        dialer.traffic.dials += 1
        self._loop.call_later(CONNECT_S, self._establish)

    def _establish(self) -> None:
        if self._network.is_closed(self):
            return
        host = self.host
        if host is None or not host.is_alive:
            self.host = None
            self._dialer.on_ended()
            return
        self.is_open = True
        self._network.opened(self)
        self._dialer.on_connected()

    def send_up(self, frames: list[bytes]) -> bool:
        """Send to the host; False if the connection does not stand."""
        if not self.is_open:
            return False
        self._has_spoken = True
        self._count(self._dialer.traffic.sent, frames)
        self._loop.call_later(LATENCY_S, self._arrive_up, frames)
        return True

    def send_down(self, frames: list[bytes]) -> bool:
        """Send to whoever dialled; False if the connection does not stand."""
        if not self.is_open or self.host is None:
            return False
        self._count(self.host.traffic.sent, frames)
        self._loop.call_later(LATENCY_S, self._arrive_down, frames)
        return True

    def _arrive_up(self, frames: list[bytes]) -> None:
        host = self.host
        if host is not None and host.is_alive and (self.is_open or not self._network.is_torn(self)):
            self._count(host.traffic.received, frames)
            host.on_frames(self.routing_id, frames)

    def _arrive_down(self, frames: list[bytes]) -> None:
        if self.is_open:
            self._count(self._dialer.traffic.received, frames)
            self._dialer.on_frames(frames)

    def close(self) -> None:
        """End it from the side that dialled; what was sent still arrives."""
        was_open = self.is_open
        self.is_open = False
        self._network.closed(self)
        if was_open and self._has_spoken and self.host is not None:
            self._loop.call_later(NOTICED_S, self._end_up)

    def tear(self, *, by_host: bool) -> None:
        """End it because one side is gone: the other notices, what was under way is lost."""
        if not self.is_open:
            return
        self.is_open = False
        self._network.torn(self)
        self._loop.call_later(NOTICED_S, self._dialer.on_ended if by_host else self._end_up)

    def _end_up(self) -> None:
        if self.host is not None and self.host.is_alive:
            self.host.on_ended(self.routing_id)

    @staticmethod
    def _count(tallies: dict[MessageType, Tally], frames: list[bytes]) -> None:
        Traffic.note(tallies, MessageType(frames[0][1]), size_of(frames))


class Network:
    """Who listens where, and every connection that stands."""

    def __init__(self, loop: SimulatedLoop, *, seed: int) -> None:
        self.loop = loop
        self.hosts: dict[str, Host] = {}  # by address
        self.proxies: dict[str, list[Host]] = {}  # an address that leads to another host at each dial
        self.direct_works = True  # False: only proxies can be reached from where the replicas are
        self._chance = random.Random(seed)
        self._numbers = 0
        self._open: dict[bytes, dict[Connection, None]] = {}
        self._of_host: dict[str, dict[bytes, Connection]] = {}
        self._closed: set[Connection] = set()
        self._torn: set[Connection] = set()

    def dial(self, address: str, dialer: Dialer, *, from_afar: bool = False) -> Connection:
        """Begin a connection. `from_afar`: by someone who may reach nothing but proxies."""
        behind = self.proxies.get(address)
        host: Host | None
        if behind is not None:
            live = [each for each in behind if each.is_alive]
            host = self._chance.choice(live) if live else None
        elif from_afar and not self.direct_works:
            host = None
        else:
            host = self.hosts.get(address)
        self._numbers += 1
        return Connection(self, dialer, host, b"\0" + self._numbers.to_bytes(4))

    def at(self, address: str, routing_id: bytes) -> Connection | None:
        """Return the connection that a host knows by `routing_id`, if it stands."""
        return self._of_host.get(address, {}).get(routing_id)

    def count(self, address: str) -> int:
        """Return how many connections a host has."""
        return len(self._of_host.get(address, {}))

    def kill(self, host: Host) -> None:
        """End a host without a word."""
        host.is_alive = False
        for connection in list(self._of_host.get(host.address, {}).values()):
            connection.tear(by_host=True)

    # ---- told by connections

    def opened(self, connection: Connection) -> None:
        """A connection stands."""
        assert connection.host is not None
        self._of_host.setdefault(connection.host.address, {})[connection.routing_id] = connection

    def closed(self, connection: Connection) -> None:
        """A connection was closed by who dialled."""
        if not self._forget(connection):
            self._closed.add(connection)  # it is still being made

    def torn(self, connection: Connection) -> None:
        """One side of a connection has ended."""
        self._forget(connection)
        self._torn.add(connection)

    def is_closed(self, connection: Connection) -> bool:
        """Whether a connection was given up before it stood."""
        if connection in self._closed:
            self._closed.discard(connection)
            return True
        return False

    def is_torn(self, connection: Connection) -> bool:
        """Whether one side of a connection has ended without a word."""
        return connection in self._torn

    def _forget(self, connection: Connection) -> bool:
        if connection.host is None:
            return False
        return self._of_host.get(connection.host.address, {}).pop(connection.routing_id, None) is not None


class LightMessages(SimpleNamespace):
    """mesh_messages, with rosters and announcements that travel as values."""

    def __init__(self) -> None:
        super().__init__(**vars(mesh_messages))
        self._weights: dict[int, int] = {}  # of rosters, by number of entries: ids are equally long
        self._same: dict[RosterEntry, RosterEntry] = {}
        self._announced: dict[int, tuple[Announcement, Parcel]] = {}
        self.encode_roster = self._encode_roster
        self.decode_roster = self._content
        self.encode_announcement = self._encode_announcement
        self.decode_announcement = self._content
        self.encoded: Counter[str] = Counter()  # how often a real process would have encoded

    def _encode_roster(self, entries: tuple[RosterEntry, ...], *, epoch: int, session: int) -> list[bytes]:
        self.encoded["roster"] += 1
        entries = tuple(self._same.setdefault(entry, entry) for entry in entries)  # quick to compare
        weight = self._weights.get(len(entries))
        if weight is None:
            weight = self._weights[len(entries)] = len(mesh_messages.encode_roster(entries, epoch=0, session=0)[1])
        return [_header(MessageType.ROSTER, epoch, session), parcel(entries, weight)]

    def _encode_announcement(self, said: Announcement, *, epoch: int, session: int) -> list[bytes]:
        self.encoded["announcement"] += 1
        known = self._announced.get(id(said))
        if known is None or known[0] is not said:
            if len(self._announced) > 1000:
                self._announced.clear()
            weight = len(mesh_messages.encode_announcement(said, epoch=0, session=0)[1])
            known = self._announced[id(said)] = (said, parcel(said, weight))
        return [_header(MessageType.ANNOUNCE, epoch, session), known[1]]

    @staticmethod
    def _content(frames: Sequence[bytes]) -> Any:  # noqa: ANN401  # what was put in
        frame = frames[1]
        assert isinstance(frame, Parcel)
        return frame.content


def _header(kind: MessageType, epoch: int, session: int) -> bytes:
    return header_frame(kind, epoch=epoch, session=session)
