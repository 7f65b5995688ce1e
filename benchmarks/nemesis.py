"""Carries out what befalls a system under test: signals to its processes, orders to its proxy, clients that vanish.

What is done, and when, is decided in acts.py. The Nemesis does it at its time, ends what lasts, and tells of each act
before it is felt.
"""

import asyncio
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from benchmarks.acts import KILLS, RESTARTS, STOPS, Act, Done, Kind, deeds_of
from benchmarks.rig import Rig
from benchmarks.supervised import Supervised
from benchmarks.tcp_proxy import UNDONE_BY, Deed

_VANISHING = 8  # clients at a time
_CONNECT_S = 0.5
_RESET = struct.pack("ii", 1, 0)


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
        self._stopped: Counter[int] = Counter()  # by pid: how many stops last

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
        if self._is_out_of_place(act):
            return
        began_at = time.monotonic()
        self._told(Done(act, began_at, began_at + act.for_s))  # before it is felt
        self.counts[act.kind] += 1
        if act.kind is Kind.VANISH:
            self._vanish(list(self._rig.frontends).index(act.target))
        elif act.links:
            self._order(act)
        else:
            self._signal(act)

    def _is_out_of_place(self, act: Act) -> bool:
        """Whether an end in good order would be made another by this: asked for twice, or while nothing can go on."""
        if act.kind not in RESTARTS | STOPS:
            return False
        process = self._rig.process(act.target)
        return process.is_ending or bool(process.pid is not None and self._stopped[process.pid])

    def _order(self, act: Act) -> None:
        for link in act.links:
            for deed in deeds_of(act.kind):
                self._rig.order(link, deed, act.sides)
        undoings = [UNDONE_BY[deed] for deed in deeds_of(act.kind) if deed in UNDONE_BY]
        if undoings:
            self._end_after(act.for_s, lambda: self._order_all(act.links, undoings))

    def _order_all(self, links: Sequence[str], deeds: Sequence[Deed]) -> None:
        for link in links:
            for deed in deeds:
                self._rig.order(link, deed)

    def _signal(self, act: Act) -> None:
        process = self._rig.process(act.target)
        if act.kind in STOPS:
            self._stop(process, act.for_s)
        else:
            process.send(signal.SIGKILL if act.kind in KILLS else signal.SIGTERM)

    def _stop(self, process: Supervised, for_s: float) -> None:
        pid = process.send(signal.SIGSTOP)
        if pid is None:
            return
        self._stopped[pid] += 1

        def go_on() -> None:
            self._stopped[pid] -= 1
            process.send(signal.SIGCONT, only=pid)

        self._end_after(for_s, go_on)

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
