"""Load in which every answer is checked: the client of the truth test and of the second run of the figures.

`CheckingClient` holds N keep-alive connections, some of which pipeline, and sends queries with numbers of their own,
as fast as answers come (`run_closed`) or at a steady rate whatever comes (`run_open`). A check given by the caller
judges each answer. It never sends a query twice: what a connection takes with it is recorded as such, and the
connection is made anew. checked_connection.py is one connection, checked_answers.py what is recorded,
checked_diabetes.py a use of it.
"""

import asyncio
import itertools
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.checked_answers import Answer, Check, Query, Record, Tally, Verdict
from benchmarks.checked_connection import CheckedConnection, Owed

_SWEEP_S = 0.02  # how finely timeouts are seen
_PACE_S = 0.001  # how finely the open loop sends: at 10,000 a second, ten queries at a time
_REDIAL_S = (0.01, 0.02, 0.05, 0.1, 0.2)  # a restarted server is met again within a fifth of a second
_CONNECT_S = 2.0
_ROAM_BY = 8  # of so many connections in a row, the same share roams


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Shape:
    """How a client loads: connection i goes to address i modulo their number, if it does not roam."""

    connections: int = 64
    pipelining_share: float = 0.5  # of the connections
    max_pipeline: int = 8  # a pipelining connection owes 1 to this many answers, chosen anew for each burst
    timeout_s: float = 10.0  # after it was sent, a query without answer is recorded as unanswered
    linger_s: float = 1.0  # a connection that owes only such answers is kept this long: they are checked if they do come
    roaming_share: float = 0.0  # of the connections: those go to another address when theirs breaks or refuses them
    seed: int = 1


class CheckingClient:
    """Made once for each run; `tally` can be looked at meanwhile, and `on_record` gets every record as it is made."""

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        make_query: Callable[[int], Query],
        check: Check,
        shape: Shape | None = None,
        on_record: Callable[[Record], None] | None = None,
        first_number: int = 0,
    ) -> None:
        self.tally = Tally()
        self._addresses = tuple(addresses)
        self._make_query = make_query
        self._check = check
        self._shape = shape or Shape()
        self._on_record = on_record
        self._numbers = itertools.count(first_number)
        self._random = random.Random(self._shape.seed)
        self._open: dict[int, CheckedConnection] = {}
        self._allowed = 0.0  # closed loop: queries that may still be sent (infinity without a count)
        self._waiting: deque[tuple[Query, float]] = deque()  # open loop: due, not sent
        self._is_open_loop = False
        self._is_sending = False
        self._is_stopped = False
        self._next_connection = 0  # open loop: round robin
        self._failure: Exception | None = None  # the check's own: ends the run, and is raised from it

    async def run_closed(self, *, count: int | None = None, seconds: float | None = None) -> Tally:
        """Send as answers come, until `count` queries are sent or `seconds` are over, whichever is first, and await
        the rest.

        At least one of the two is needed; with a server that may be gone for good, `seconds`.
        """
        if count is None and seconds is None:
            raise ValueError("run_closed needs a count or seconds: without either it would not end")
        self._allowed = float("inf") if count is None else count
        ends_at = float("inf") if seconds is None else time.monotonic() + seconds

        async def send() -> None:
            # Not this loop sends but the answers that come in: see has_room.
            while self._allowed > 0 and time.monotonic() < ends_at and self._failure is None:  # noqa: ASYNC110
                await asyncio.sleep(_SWEEP_S)

        return await self._run(send)

    async def run_open(self, *, rate_per_s: float, seconds: float) -> Tally:
        """Send at a steady rate for `seconds` or until `stop`, whatever the server does. Latency counts from when a query
        was due."""
        self._is_open_loop = True
        starts_at = time.monotonic()

        async def send() -> None:
            due = 0
            while (now := time.monotonic()) < starts_at + seconds and self._failure is None and not self._is_stopped:
                while (due_at := starts_at + due / rate_per_s) <= now:
                    self._waiting.append((self._make_query(next(self._numbers)), due_at))
                    due += 1
                self._send_waiting()
                await asyncio.sleep(_PACE_S)

        return await self._run(send)

    def stop(self) -> None:
        """Let a run send nothing more, and end when what it sent is answered. Callable from any thread."""
        self._allowed = 0.0
        self._is_stopped = True

    # -- Listener -----------------------------------------------------------------------------------------------------

    def answered(self, owed: Owed, answer: Answer) -> None:
        """See `Listener`."""
        now = time.monotonic()
        try:
            verdict = self._check(owed.query, answer)
        except Exception as exc:  # noqa: BLE001  # the check is the caller's; raised again at the end of the run
            self._failure = self._failure or exc
            return
        detail = "" if verdict is Verdict.RIGHT else answer.body[:200].decode("utf-8", "replace")
        record = Record(
            owed.query.number,
            verdict,
            answer.status,
            answer.is_late,
            owed.started_at,
            now - owed.started_at,
            detail,
            place=owed.place,
        )
        if owed.is_timed_out:
            self.tally.add_after_timeout(record)
        else:
            self._record(record)

    def ended(self, owed: Owed, verdict: Verdict, detail: str) -> None:
        """See `Listener`."""
        self._record_unanswered(owed.query, owed.started_at, verdict, detail, place=owed.place, is_unmet=owed.is_unmet)

    def strayed(self) -> None:
        """See `Listener`."""
        self.tally.stray_answers += 1

    def has_room(self, connection: CheckedConnection) -> None:
        """See `Listener`."""
        room = self._room_on(connection)
        if room == 0:
            return
        now = time.monotonic()
        if self._is_open_loop:
            taken = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
            for _, due_at in taken:
                self.tally.note_send(now - due_at)
            connection.send(taken, now=now)
        elif self._is_sending:
            room = int(min(room, self._allowed))
            self._allowed -= room
            connection.send([(self._make_query(next(self._numbers)), now) for _ in range(room)], now=now)

    # -- Inside -------------------------------------------------------------------------------------------------------

    async def _run(self, send: Callable[[], Awaitable[None]]) -> Tally:
        started_at = time.monotonic()
        self._is_sending = True
        tasks = [asyncio.create_task(self._keep_connected(index)) for index in range(self._shape.connections)]
        tasks.append(asyncio.create_task(self._sweep()))
        try:
            await send()
            self._is_sending = False
            await self._drain()
        finally:
            self._is_sending = False
            connections = list(self._open.values())
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            for connection in connections:
                connection.end("the run is over")
            await asyncio.sleep(0)  # the loop closes the sockets in its next round
            self.tally.seconds = time.monotonic() - started_at
        failures = [self._failure, *(end for end in ends if not isinstance(end, asyncio.CancelledError))]
        for failure in failures:
            if failure is not None:
                raise failure
        return self.tally

    async def _drain(self) -> None:
        """Wait until nothing is owed; each query's timeout bounds it."""
        shape = self._shape
        gives_up_at = time.monotonic() + 2 * shape.timeout_s + shape.linger_s + 1
        while time.monotonic() < gives_up_at and self._failure is None:
            if not self._waiting and not any(connection.owed for connection in self._open.values()):
                return
            self._send_waiting()
            await asyncio.sleep(_SWEEP_S)

    async def _keep_connected(self, index: int) -> None:
        place = index % len(self._addresses)
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            address = self._addresses[place]
            connection = CheckedConnection(self, host=f"{address.host}:{address.port}", index=index, place=place)
            try:
                async with asyncio.timeout(_CONNECT_S):
                    await loop.create_connection(partial(_same, connection), address.host, address.port)
            except OSError:  # TimeoutError is one
                self.tally.failed_connects += 1
                await asyncio.sleep(_REDIAL_S[min(failures, len(_REDIAL_S) - 1)])
                failures += 1
                place = self._next_place(index, place)
                continue
            failures = 0
            self.tally.connects += 1
            self._open[index] = connection
            self.has_room(connection)
            try:
                await connection.closed
            finally:
                del self._open[index]
            place = self._next_place(index, place)
            await asyncio.sleep(_REDIAL_S[0])  # a server that accepts and closes must not make this a busy loop

    def _next_place(self, index: int, place: int) -> int:
        """Return where a connection is made anew: by turns roams one here and one there, so that each place keeps some."""
        if len(self._addresses) == 1 or index % _ROAM_BY >= self._shape.roaming_share * _ROAM_BY:
            return place
        return (place + self._random.randrange(1, len(self._addresses))) % len(self._addresses)

    async def _sweep(self) -> None:
        shape = self._shape
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = time.monotonic()
            for connection in list(self._open.values()):
                connection.expire(now=now, timeout_s=shape.timeout_s, linger_s=shape.linger_s)
            while self._waiting and now - self._waiting[0][1] > shape.timeout_s:
                query, due_at = self._waiting.popleft()
                self._record_unanswered(query, due_at, Verdict.UNSENT, "no connection had room")

    def _send_waiting(self) -> None:
        connections = list(self._open.values())
        for step in range(len(connections)):
            if not self._waiting:
                break
            self.has_room(connections[(self._next_connection + step) % len(connections)])
        self._next_connection += 1

    def _room_on(self, connection: CheckedConnection) -> int:
        """Return how many queries may be sent now, and draw anew how many may be owed if that is any."""
        if connection.is_ending or connection.is_stuck or len(connection.owed) >= connection.refill_below:
            return 0
        if connection.index < self._shape.pipelining_share * self._shape.connections:
            connection.depth = self._random.randint(1, self._shape.max_pipeline)
            connection.refill_below = self._random.randint(1, connection.depth)
        return max(0, connection.depth - len(connection.owed))

    def _record(self, record: Record) -> None:
        self.tally.add(record)
        if self._on_record is not None:
            self._on_record(record)

    def _record_unanswered(
        self, query: Query, started_at: float, verdict: Verdict, detail: str, *, place: int = -1, is_unmet: bool = False
    ) -> None:
        latency_s = time.monotonic() - started_at
        self._record(
            Record(
                query.number,
                verdict,
                None,
                is_late=False,
                started_at=started_at,
                latency_s=latency_s,
                detail=detail,
                is_unmet=is_unmet,
                place=place,
            )
        )


def _same(connection: CheckedConnection) -> CheckedConnection:
    """What asyncio wants is a factory; the connection is made before, to be at hand when dialling fails."""
    return connection
