"""A relay of the model channel that replays old results: what a network that reconnects by itself would do, on purpose.

It stands where tcp_proxy.py stands, but speaks ZeroMQ. Messages pass both ways. It keeps the last results of each replica,
and when a batch passes whose number and count an older result has, from another life of the frontend or another session,
that result is sent first, on the open session: it fits in all but epoch and session. Each true result passes twice. A
frontend must drop and count every replayed one.

Doors and counts as in tcp_proxy.py, each door with one upstream; there are no orders.

Run: python -m benchmarks.replayer iris-1-0@20001=127.0.0.1:7000
"""

import argparse
import contextlib
import json
import sys
from collections import Counter, deque
from dataclasses import dataclass

import zmq

from benchmarks.tcp_proxy import parse_door
from clipper_nomad.protocol.wire import MessageType, header_of

_HOST = "127.0.0.1"
_KEPT = 200  # results of a link
_HEARTBEAT = {zmq.HEARTBEAT_IVL: 500, zmq.HEARTBEAT_TIMEOUT: 2000, zmq.HEARTBEAT_TTL: 2500, zmq.LINGER: 0}


@dataclass(frozen=True, slots=True)
class Kept:
    """A result that has passed."""

    life: tuple[int, int]  # epoch and session
    batch: int
    count: int
    frames: list[bytes]


class Relay:
    """One link: a ROUTER for its replica, a DEALER to its frontend. Both end with the frontend's connection."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], port: int, upstream: str, poller: zmq.Poller) -> None:
        self.counts: Counter[str] = Counter()
        self.kept: deque[Kept] = deque(maxlen=_KEPT)
        self.others: list[Relay] = []
        self._context = context
        self._upstream = upstream
        self._poller = poller
        self._peer = b""
        self._dealer: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._port = port
        self._router = self._listen()

    def sockets(self) -> list[zmq.Socket[bytes]]:
        """Return what this link waits for."""
        return [each for each in (self._router, self._dealer, self._monitor) if each is not None]

    def _listen(self) -> zmq.Socket[bytes]:
        router = self._context.socket(zmq.ROUTER)
        for option, value in _HEARTBEAT.items():
            router.setsockopt(option, value)
        router.bind(f"tcp://{_HOST}:{self._port}")
        self._poller.register(router, zmq.POLLIN)
        return router

    def _dial(self) -> None:
        dealer = self._dealer = self._context.socket(zmq.DEALER)
        for option, value in _HEARTBEAT.items():
            dealer.setsockopt(option, value)
        dealer.setsockopt(zmq.RECONNECT_IVL, -1)
        ended = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        self.counts["dials"] += 1
        self._monitor = dealer.get_monitor_socket(ended, addr=f"inproc://{id(self)}-{self.counts['dials']}")
        dealer.connect(f"tcp://{self._upstream}")
        for each in (dealer, self._monitor):
            self._poller.register(each, zmq.POLLIN)

    def _start_anew(self) -> None:
        """End both connections: the replica has to dial again, as it would have without this relay."""
        self.counts["ends"] += 1
        for each in self.sockets():
            self._poller.unregister(each)
        if self._dealer is not None and self._monitor is not None:
            self._dealer.disable_monitor()
            self._monitor.close(0)
            self._dealer.close(0)
        self._dealer = self._monitor = None
        self._router.close(0)
        while True:
            try:
                self._router = self._listen()
            except zmq.ZMQError:  # the old one is still being closed
                continue
            return

    def take(self, socket: zmq.Socket[bytes]) -> None:
        """Pass on one message."""
        if socket is self._monitor:
            self._start_anew()
        elif socket is self._router:
            self._peer, *frames = socket.recv_multipart()
            if self._dealer is None:
                self._dial()
            self._from_replica(frames)
        elif socket is self._dealer:
            self._from_frontend(socket.recv_multipart())

    def _from_replica(self, frames: list[bytes]) -> None:
        self._up(frames)
        header = header_of(frames[0])
        if header.type is MessageType.RESULT:
            self.kept.append(Kept((header.epoch, header.session), header.batch, header.count, frames))
            self.counts["doubled"] += 1
            self._up(frames)

    def _from_frontend(self, frames: list[bytes]) -> None:
        header = header_of(frames[0])
        self._router.send_multipart([self._peer, *frames])
        if header.type is not MessageType.PREDICT:
            return
        life = (header.epoch, header.session)
        for relay in (self, *self.others):
            for kept in list(relay.kept):
                if (kept.batch, kept.count) == (header.batch, header.count) and kept.life != life:
                    self.counts["replayed"] += 1
                    self._up(kept.frames)

    def _up(self, frames: list[bytes]) -> None:
        if self._dealer is not None:
            with contextlib.suppress(zmq.Again):  # its connection has ended: the monitor is about to say so
                self._dealer.send_multipart(frames, zmq.NOBLOCK)


def main() -> None:
    """Relay until stdin ends."""
    parser = argparse.ArgumentParser(description="A relay of the model channel that replays old results.")
    parser.add_argument("--seed", default="0", help="not used: as tcp_proxy.py")
    parser.add_argument("doors", nargs="+", metavar="NAME@PORT=HOST:PORT")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    poller = zmq.Poller()
    doors = map(parse_door, parser.parse_args().doors)
    relays = {name: Relay(context, port, upstreams[0], poller) for name, port, upstreams in doors}
    for relay in relays.values():
        relay.others = [other for other in relays.values() if other is not relay]
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    while True:
        ready = dict(poller.poll())
        if sys.stdin.fileno() in ready and not sys.stdin.readline():
            break
        for relay in relays.values():
            for socket in relay.sockets():
                if socket in ready:
                    relay.take(socket)
    print(json.dumps({name: dict(relay.counts) for name, relay in relays.items()}), flush=True)
    context.destroy(linger=0)


if __name__ == "__main__":
    main()
