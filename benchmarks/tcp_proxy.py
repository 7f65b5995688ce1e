"""A TCP proxy that breaks what passes through it: a process of its own between replicas and frontends.

Each link has a name, a port of its own and an upstream. The first line on stdout is JSON, link → port; then each line on
stdin is one Order as JSON; the end of stdin ends the proxy, which prints as JSON what it did. rig.py starts it and talks to
it; nemesis.py decides what to break and when.

    break     the link's connections end now, by a reset
    cut       the next piece of data in one direction is passed in part, then the connection ends: a message torn in two
    freeze    nothing passes in the given directions, both ends stay connected: a partition, which delays and loses nothing
    thaw      what waited passes: late, after all
    splice    a new connection to the upstream behind the back of the old one's other end, in the middle of its stream
    upstream  connections made from now on go elsewhere

Run: python -m benchmarks.tcp_proxy --seed 7 iris-1-0=127.0.0.1:7000
"""

import argparse
import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import cast

_HOST = "127.0.0.1"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing resets


class Deed(StrEnum):
    """What can be done to a link."""

    BREAK = "break"
    CUT = "cut"
    FREEZE = "freeze"
    THAW = "thaw"
    SPLICE = "splice"
    UPSTREAM = "upstream"


class Side(StrEnum):
    """Where data comes from: the replica's end, which dials, or the frontend's."""

    DOWN = "down"
    UP = "up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One line on stdin."""

    link: str
    deed: Deed
    sides: tuple[Side, ...] = tuple(Side)  # cut and freeze: data from where
    upstream: str = ""  # upstream: the new host:port

    def to_json(self) -> str:
        """Return the order as one line."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_json(cls, line: str) -> "Order":
        """Return the order in `line`. Raises: ValueError, TypeError, KeyError."""
        values = json.loads(line)
        return cls(
            link=values["link"],
            deed=Deed(values["deed"]),
            sides=tuple(Side(side) for side in values["sides"]),
            upstream=values["upstream"],
        )


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
    """A connection of a replica, and the one to its frontend."""

    def __init__(self, link: "Link") -> None:
        self._link = link
        self._ends: dict[Side, _End] = {}
        self._is_over = False
        self.cuts: set[Side] = set()
        self.down = _End(self, Side.DOWN)

    def made(self, side: Side, end: _End) -> None:
        if self._is_over:
            end.reset()
            return
        self._ends[side] = end
        if side is Side.DOWN:
            self._link.pairs.add(self)
            self._link.dial(self)
        self.settle()

    def lost(self, end: _End) -> None:
        if end in self._ends.values():  # else it was replaced by a splice
            self.end()

    def end(self) -> None:
        """End both connections in good order: what was read is written first."""
        self._is_over = True
        self._link.pairs.discard(self)
        ends, self._ends = self._ends, {}
        for end in ends.values():
            if end.transport is not None:
                end.transport.close()

    def reset(self) -> None:
        """End both connections at once."""
        self._is_over = True
        self._link.pairs.discard(self)
        ends, self._ends = self._ends, {}
        for end in ends.values():
            end.reset()

    def splice(self) -> None:
        """Go on with another connection to the upstream."""
        up = self._ends.pop(Side.UP, None)
        if up is not None:
            up.reset()
            self.settle()
            self._link.dial(self)

    def forward(self, side: Side, data: bytes) -> None:
        other = self._ends.get(Side.UP if side is Side.DOWN else Side.DOWN)
        if other is None or other.transport is None:
            return  # it was being lost, or spliced, while this came
        self._link.counts["bytes"] += len(data)
        if side in self.cuts:
            self._link.counts["cut"] += 1
            other.transport.write(data[: self._link.random.randrange(len(data))])
            self.end()
            return
        other.transport.write(data)

    def settle(self) -> None:
        """Read on each side only if what is read can go on."""
        for side, end in self._ends.items():
            other = self._ends.get(Side.UP if side is Side.DOWN else Side.DOWN)
            end.read(wanted=other is not None and not other.is_blocked and side not in self._link.frozen)


class Link:
    """One port, one upstream, and the pairs between them."""

    def __init__(self, upstream: str, seed: str) -> None:
        self.upstream = upstream
        self.pairs: set[_Pair] = set()
        self.frozen: frozenset[Side] = frozenset()
        self.counts: Counter[str] = Counter()
        self.random = random.Random(seed)
        self._dials: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def listen(self) -> int:
        """Take connections from now on, and return the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Pair(self).down, _HOST, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """End everything."""
        if self._server is not None:
            self._server.close()
        for task in self._dials:
            task.cancel()
        for pair in list(self.pairs):
            pair.reset()

    def dial(self, pair: _Pair) -> None:
        """Connect `pair` to the upstream."""
        self.counts["dials"] += 1
        task = asyncio.create_task(self._dial(pair))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _dial(self, pair: _Pair) -> None:
        host, _, port = self.upstream.rpartition(":")
        try:
            await asyncio.get_running_loop().create_connection(lambda: _End(pair, Side.UP), host, int(port))
        except OSError:
            self.counts["refused"] += 1
            pair.reset()

    def obey(self, order: Order) -> None:
        """Do what `order` says to every connection of this link."""
        self.counts[order.deed] += 1
        match order.deed:
            case Deed.FREEZE:
                self.frozen = frozenset(order.sides)
            case Deed.THAW:
                self.frozen = frozenset()
            case Deed.UPSTREAM:
                self.upstream = order.upstream
        for pair in list(self.pairs):
            match order.deed:
                case Deed.BREAK:
                    pair.reset()
                case Deed.CUT:
                    pair.cuts |= set(order.sides)
                case Deed.FREEZE | Deed.THAW:
                    pair.settle()
                case Deed.SPLICE:
                    pair.splice()


async def _serve(links: dict[str, Link]) -> None:
    print(json.dumps({name: await link.listen() for name, link in links.items()}), flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        order = Order.from_json(line.decode())
        links[order.link].obey(order)
    for link in links.values():
        link.close()
    await asyncio.sleep(0)  # the loop closes the sockets in its next round
    print(json.dumps({name: dict(link.counts) for name, link in links.items()}), flush=True)


def main() -> None:
    """Run the proxy until stdin ends."""
    parser = argparse.ArgumentParser(description="A TCP proxy that breaks what passes through it; orders come on stdin.")
    parser.add_argument("--seed", default="0", help="of where messages are torn")
    parser.add_argument("links", nargs="+", metavar="NAME=HOST:PORT")
    arguments = parser.parse_args()
    links = {}
    for text in arguments.links:
        name, _, upstream = text.partition("=")
        links[name] = Link(upstream, f"{arguments.seed} {name}")
    asyncio.run(_serve(links))


if __name__ == "__main__":
    main()
