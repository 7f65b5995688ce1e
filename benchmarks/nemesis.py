"""What befalls a system under test: a schedule of faults, made from a seed (pure), and the Nemesis that carries it out.

`schedule` yields Acts without end; the same seed yields the same ones. The Nemesis does them at their time, ends those that
last, keeps what it did and when, and measures how long the system took to be whole again.
"""

import asyncio
import random
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.rig import Rig
from benchmarks.supervised import Supervised
from benchmarks.tcp_proxy import Deed, Order, Side


class Kind(StrEnum):
    """What can be done."""

    KILL_REPLICA = "kill -9 of a replica"
    STOP_REPLICA = "SIGSTOP of a replica"
    RESTART_REPLICA = "SIGTERM of a replica"
    KILL_FRONTEND = "kill -9 of a frontend"
    STOP_FRONTEND = "SIGSTOP of a frontend"
    RESTART_FRONTEND = "SIGTERM of a frontend"
    BREAK_LINK = "link broken"
    CUT_LINK = "link cut in the middle of a message"
    FREEZE_LINK = "link frozen"
    SPLICE_LINK = "link spliced"
    VANISH = "clients vanish"


# How often each is done, of their sum. What ends a frontend is seldom: nothing else can happen while there is none.
WEIGHTS = {
    Kind.KILL_REPLICA: 5,
    Kind.STOP_REPLICA: 4,
    Kind.RESTART_REPLICA: 2,
    Kind.KILL_FRONTEND: 2,
    Kind.STOP_FRONTEND: 2,
    Kind.RESTART_FRONTEND: 1,
    Kind.BREAK_LINK: 4,
    Kind.CUT_LINK: 6,
    Kind.FREEZE_LINK: 4,
    Kind.SPLICE_LINK: 4,
    Kind.VANISH: 4,
}
LONGEST_STOP_S = {Kind.STOP_REPLICA: 4.0, Kind.STOP_FRONTEND: 1.0, Kind.FREEZE_LINK: 4.0}  # links are lost after 2.5 s
_ON_REPLICAS = (Kind.KILL_REPLICA, Kind.STOP_REPLICA, Kind.RESTART_REPLICA)
_ON_FRONTENDS = (Kind.KILL_FRONTEND, Kind.STOP_FRONTEND, Kind.RESTART_FRONTEND)
_RESTARTS = (Kind.RESTART_REPLICA, Kind.RESTART_FRONTEND)
_SIGNALS = {
    Kind.KILL_REPLICA: signal.SIGKILL,
    Kind.KILL_FRONTEND: signal.SIGKILL,
    Kind.RESTART_REPLICA: signal.SIGTERM,
    Kind.RESTART_FRONTEND: signal.SIGTERM,
    Kind.STOP_REPLICA: signal.SIGSTOP,
    Kind.STOP_FRONTEND: signal.SIGSTOP,
}
_DEEDS = {
    Kind.BREAK_LINK: Deed.BREAK,
    Kind.CUT_LINK: Deed.CUT,
    Kind.FREEZE_LINK: Deed.FREEZE,
    Kind.SPLICE_LINK: Deed.SPLICE,
}
_VANISHING = 8  # clients at a time
_CONNECT_S = 0.5
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What there is to do it to, by name."""

    frontends: Sequence[str]
    replicas: Sequence[str]
    links: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One fault. `at_s` counts from the start; `for_s` is how long it lasts, 0 if it is over at once."""

    at_s: float
    kind: Kind
    target: str
    for_s: float = 0.0
    sides: tuple[Side, ...] = tuple(Side)


@dataclass(frozen=True, slots=True)
class Done:
    """An act that was carried out. Times are of the monotonic clock."""

    act: Act
    began_at: float
    ends_at: float


def schedule(seed: int, targets: Targets, *, mean_gap_s: float, only: Collection[Kind] = ()) -> Iterator[Act]:
    """Yield acts in the order of their times, without end; `only` of these kinds, if any are named."""
    chance = random.Random(seed)
    kinds, weights = zip(*((kind, weight) for kind, weight in WEIGHTS.items() if not only or kind in only), strict=True)
    at_s = 0.0
    while True:
        at_s += chance.expovariate(1 / mean_gap_s)
        kind = chance.choices(kinds, weights)[0]
        if kind in _ON_REPLICAS:
            target = chance.choice(targets.replicas)
        elif kind in _ON_FRONTENDS or kind is Kind.VANISH:
            target = chance.choice(targets.frontends)
        else:
            target = chance.choice(targets.links)
        longest_s = LONGEST_STOP_S.get(kind, 0.0)
        for_s = longest_s * chance.random() ** 2  # short ones more often
        sides = chance.choice([(Side.UP,), (Side.DOWN,), tuple(Side)])
        yield Act(at_s=at_s, kind=kind, target=target, for_s=for_s, sides=sides)


class Nemesis:
    """Carries out acts on a rig. `told` hears of each as it is done; `vanishing` makes a request that nobody waits for."""

    def __init__(
        self, rig: Rig, acts: Iterator[Act], *, told: Callable[[Done], None], vanishing: Callable[[], bytes]
    ) -> None:
        self.counts: Counter[Kind] = Counter()
        self._rig = rig
        self._acts = acts
        self._told = told
        self._vanishing = vanishing
        self._lasting: dict[asyncio.TimerHandle, Callable[[], object]] = {}  # what ends the acts that last

    async def run(self) -> None:
        """Do one act after the other until cancelled; what lasts is ended then."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            for act in self._acts:
                await asyncio.sleep(began + act.at_s - loop.time())
                self._do(act)
        finally:
            for handle, end in self._lasting.items():
                handle.cancel()
                end()
            self._lasting.clear()

    def answered(self) -> None:
        """Nothing: it keeps to its schedule, whatever is answered."""

    def _do(self, act: Act) -> None:
        if act.kind in _RESTARTS and self._process(act.target).is_ending:
            return
        began_at = time.monotonic()
        self._told(Done(act, began_at, began_at + act.for_s))  # before it is felt
        self.counts[act.kind] += 1
        if act.kind in _SIGNALS:
            self._signal(act, _SIGNALS[act.kind])
        elif act.kind in _DEEDS:
            deed = _DEEDS[act.kind]
            self._rig.order(Order(link=act.target, deed=deed, sides=act.sides))
            if deed is Deed.FREEZE:
                self._end_after(act.for_s, lambda: self._rig.order(Order(link=act.target, deed=Deed.THAW)))
        else:
            self._vanish(list(self._rig.frontends).index(act.target))

    def _signal(self, act: Act, number: signal.Signals) -> None:
        process = self._process(act.target)
        pid = process.send(number)
        if number is signal.SIGSTOP and pid is not None:
            self._end_after(act.for_s, lambda: process.send(signal.SIGCONT, only=pid))

    def _process(self, name: str) -> Supervised:
        return (self._rig.frontends | self._rig.replicas)[name]

    def _end_after(self, seconds: float, end: Callable[[], object]) -> None:
        def ended() -> None:
            del self._lasting[handle]
            end()

        handle = asyncio.get_running_loop().call_later(seconds, ended)
        self._lasting[handle] = end

    def _vanish(self, frontend: int) -> None:
        """Send requests and go: some in good order, some by a reset, some in the middle of a request."""
        address = self._rig.addresses[frontend]
        for number in range(_VANISHING):
            # Plain sockets: on loopback a connection is there at once, or refused at once.
            try:
                with socket.create_connection((address.host, address.port), timeout=_CONNECT_S) as client:
                    request = self._vanishing()
                    client.sendall(request if number % 4 else request + request[: len(request) // 2])
                    if number % 2:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            except OSError:
                return  # there is no frontend just now
