"""A TCP proxy that breaks what passes through it: a process of its own between replicas and frontends, and between these.

Each door has a name, a port, and upstreams, to which it hands its connections by turns, as a proxy that balances does. Each
line on stdin is one Order as JSON, for the connections to one upstream or to all of them; each line on stdout, a list, is an
Event: a connection began or ended. SIGTERM or the end of stdin ends the proxy, which prints as a JSON object what it did.
rig.py starts it and talks to it; acts.py decides what to break and when.

    break     connections end now, by a reset
    cut       the next piece of data in one direction is passed in part, then the connection ends: a message torn in two
    freeze    nothing passes in the given directions, both ends stay connected: a partition, which delays and loses nothing
    thaw      what waited passes: late, after all
    refuse    connections end now, and new ones at once: a partition that is seen
    admit     they do not any more
    splice    a new connection to the upstream behind the back of the old one's other end, in the middle of its stream
    remove    the upstream gets no new connections
    add       it does again

Run: python -m benchmarks.tcp_proxy --seed 7 iris-1-0@20001=127.0.0.1:7000,127.0.0.1:7001
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import cast

_HOST = "127.0.0.1"
_numbers = itertools.count(1)
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing resets


class Deed(StrEnum):
    """What can be done to connections."""

    BREAK = "break"
    CUT = "cut"
    FREEZE = "freeze"
    THAW = "thaw"
    REFUSE = "refuse"
    ADMIT = "admit"
    SPLICE = "splice"
    REMOVE = "remove"
    ADD = "add"


UNDONE_BY = {Deed.FREEZE: Deed.THAW, Deed.REFUSE: Deed.ADMIT, Deed.REMOVE: Deed.ADD}


class Side(StrEnum):
    """Where data comes from: the end that dials, or the upstream's."""

    DOWN = "down"
    UP = "up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One line on stdin."""

    door: str
    deed: Deed
    sides: tuple[Side, ...] = tuple(Side)  # cut and freeze: data from where
    upstream: str = ""  # host:port; all of the door's without it

    def to_json(self) -> str:
        """Return the order as one line."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_json(cls, line: str) -> "Order":
        """Return the order in `line`. Raises: ValueError, TypeError, KeyError."""
        values = json.loads(line)
        return cls(
            door=values["door"],
            deed=Deed(values["deed"]),
            sides=tuple(Side(side) for side in values["sides"]),
            upstream=values["upstream"],
        )


@dataclass(frozen=True, slots=True)
class Event:
    """One line on stdout: a connection through the proxy began to pass, or ended."""

    door: str
    upstream: str
    number: int  # of the connection, in this life of the proxy
    is_end: bool
    at: float  # on the monotonic clock, which all processes share

    def to_json(self) -> str:
        """Return the event as one line."""
        return json.dumps([self.door, self.upstream, self.number, self.is_end, self.at])

    @classmethod
    def from_json(cls, line: str) -> "Event | None":
        """Return the event in `line`, if it is one."""
        try:
            values = json.loads(line)
        except ValueError:
            return None
        return cls(*values) if isinstance(values, list) else None


class _End(asyncio.Protocol):
    """One of the two connections of a pair."""

    def __init__(self, pair: "_Pair", side: Side) -> None:
        self._pair = pair
        self._side = side
        self.transport: asyncio.Transport | None = None
        self.is_blocked = False  # its peer does not read
        self.is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._pair.made(self._side, self)

    def data_received(self, data: bytes) -> None:
        self._pair.forward(self._side, data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._pair.lost(self)

    def pause_writing(self) -> None:
        self.is_blocked = True
        self._pair.settle()

    def resume_writing(self) -> None:
        self.is_blocked = False
        self._pair.settle()

    def read(self, *, wanted: bool) -> None:
        """Read from now on, or do not."""
        if self.transport is None or self.transport.is_closing() or wanted != self.is_paused:
            return
        self.is_paused = not wanted
        if wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def reset(self) -> None:
        """End this connection so that its peer gets an error, and not what is still on its way."""
        if self.transport is not None and not self.transport.is_closing():
            with contextlib.suppress(OSError):
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()


class _Pair:
    """A connection of whoever dialled, and the one to an upstream."""

    def __init__(self, door: "Door") -> None:
        self._door = door
        self.upstream = ""  # chosen when it is dialled first
        self._ends: dict[Side, _End] = {}
        self._number = 0  # since it passes
        self._is_over = False
        self.cuts: set[Side] = set()
        self.down = _End(self, Side.DOWN)

    def made(self, side: Side, end: _End) -> None:
        if self._is_over:
            end.reset()
            return
        self._ends[side] = end
        if side is Side.DOWN:
            self._door.pairs.add(self)
            self._door.dial(self)
        elif not self._number:
            self._number = next(_numbers)
            self._tell(is_end=False)
        self.settle()

    def lost(self, end: _End) -> None:
        if end in self._ends.values():  # else it was replaced by a splice
            self.end()

    def end(self) -> None:
        """End both connections in good order: what was read is written first."""
        self._finish()
        ends, self._ends = self._ends, {}
        for end in ends.values():
            if end.transport is not None:
                end.transport.close()

    def reset(self) -> None:
        """End both connections at once."""
        self._finish()
        ends, self._ends = self._ends, {}
        for end in ends.values():
            end.reset()

    def _finish(self) -> None:
        if self._number and not self._is_over:
            self._tell(is_end=True)
        self._is_over = True
        self._door.pairs.discard(self)

    def _tell(self, *, is_end: bool) -> None:
        print(Event(self._door.name, self.upstream, self._number, is_end, time.monotonic()).to_json(), flush=True)

    def splice(self) -> None:
        """Go on with another connection to the upstream."""
        up = self._ends.pop(Side.UP, None)
        if up is not None:
            up.reset()
            self.settle()
            self._door.dial(self)

    def forward(self, side: Side, data: bytes) -> None:
        other = self._ends.get(Side.UP if side is Side.DOWN else Side.DOWN)
        if other is None or other.transport is None:
            return  # it was being lost, or spliced, while this came
        self._door.counts["bytes"] += len(data)
        if side in self.cuts:
            self._door.counts["cut"] += 1
            other.transport.write(data[: self._door.random.randrange(len(data))])
            self.end()
            return
        other.transport.write(data)

    def settle(self) -> None:
        """Read on each side only if what is read can go on."""
        for side, end in self._ends.items():
            other = self._ends.get(Side.UP if side is Side.DOWN else Side.DOWN)
            is_frozen = side in self._door.frozen.get(self.upstream, ())
            end.read(wanted=other is not None and not other.is_blocked and not is_frozen)


class Door:
    """One port, its upstreams, and the pairs between them."""

    def __init__(self, name: str, port: int, upstreams: Sequence[str], *, seed: str, turns: Iterator[int]) -> None:
        """`turns`: common to all doors, as those of one balancer are."""
        self.name = name
        self.pairs: set[_Pair] = set()
        self.frozen: dict[str, frozenset[Side]] = {}  # by upstream
        self.counts: Counter[str] = Counter()
        self.random = random.Random(seed)
        self._port = port
        self._all = tuple(upstreams)
        self._in_use = list(upstreams)
        self._refused: set[str] = set()
        self._turns = turns
        self._dials: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Take connections from now on."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Pair(self).down, _HOST, self._port)

    def close(self) -> None:
        """End everything."""
        if self._server is not None:
            self._server.close()
        for task in self._dials:
            task.cancel()
        for pair in list(self.pairs):
            pair.reset()

    def dial(self, pair: _Pair) -> None:
        """Connect `pair` to the upstream whose turn it is, or to its own again."""
        if not pair.upstream and self._in_use:
            pair.upstream = self._in_use[next(self._turns) % len(self._in_use)]
        if not pair.upstream or pair.upstream in self._refused:
            self.counts["refused"] += 1
            pair.reset()
            return
        self.counts["dials"] += 1
        task = asyncio.create_task(self._dial(pair))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _dial(self, pair: _Pair) -> None:
        host, _, port = pair.upstream.rpartition(":")
        try:
            await asyncio.get_running_loop().create_connection(lambda: _End(pair, Side.UP), host, int(port))
        except OSError:
            self.counts["refused"] += 1
            pair.reset()

    def obey(self, order: Order) -> None:
        """Do what `order` says, to the connections of its upstream and to those to come."""
        self.counts[order.deed] += 1
        for upstream in (order.upstream,) if order.upstream else self._all:
            self._change(upstream, order)
        for pair in list(self.pairs):
            if not order.upstream or pair.upstream == order.upstream:
                self._do(pair, order)

    def _change(self, upstream: str, order: Order) -> None:
        match order.deed:
            case Deed.FREEZE:
                self.frozen[upstream] = frozenset(order.sides)
            case Deed.THAW:
                self.frozen.pop(upstream, None)
            case Deed.REFUSE:
                self._refused.add(upstream)
            case Deed.ADMIT:
                self._refused.discard(upstream)
            case Deed.REMOVE if upstream in self._in_use:
                self._in_use.remove(upstream)
            case Deed.ADD if upstream not in self._in_use:
                self._in_use.append(upstream)

    @staticmethod
    def _do(pair: _Pair, order: Order) -> None:
        match order.deed:
            case Deed.BREAK | Deed.REFUSE:
                pair.reset()
            case Deed.CUT:
                pair.cuts |= set(order.sides)
            case Deed.FREEZE | Deed.THAW:
                pair.settle()
            case Deed.SPLICE:
                pair.splice()


async def _serve(doors: dict[str, Door]) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    loop.add_signal_handler(signal.SIGTERM, reader.feed_eof)
    for door in doors.values():
        await door.listen()
    while line := await reader.readline():
        order = Order.from_json(line.decode())
        doors[order.door].obey(order)
    for door in doors.values():
        door.close()
    await asyncio.sleep(0)  # the loop closes the sockets in its next round
    print(json.dumps({name: dict(door.counts) for name, door in doors.items()}), flush=True)


def parse_door(text: str) -> tuple[str, int, list[str]]:
    """Return name, port and upstreams of NAME@PORT=HOST:PORT,… ."""
    name, _, upstreams = text.partition("=")
    name, _, port = name.rpartition("@")
    return name, int(port), upstreams.split(",")


def main() -> None:
    """Run the proxy until stdin ends."""
    parser = argparse.ArgumentParser(description="A TCP proxy that breaks what passes through it; orders come on stdin.")
    parser.add_argument("--seed", default="0", help="of where messages are torn")
    parser.add_argument("doors", nargs="+", metavar="NAME@PORT=HOST:PORT,...")
    arguments = parser.parse_args()
    turns = itertools.count()
    doors = {
        name: Door(name, port, upstreams, seed=f"{arguments.seed} {name}", turns=turns)
        for name, port, upstreams in map(parse_door, arguments.doors)
    }
    asyncio.run(_serve(doors))


if __name__ == "__main__":
    main()
