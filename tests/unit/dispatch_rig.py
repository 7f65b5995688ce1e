"""One VersionDispatch between a client's side and a replicas' side that a test plays by hand, with a clock that it moves.

The channel is a fake of our own seam: it notes what is sent. The client's side does what serving.py does with an answer.
Every replica computes the identity on the first number of its input.
"""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from clipper_nomad.protocol.mesh_messages import Fate, RelayedAnswer, Served
from clipper_nomad.protocol.wire import ASK_FIRST, ErrorKind, Header, Hello, MessageType, OutputError, OutputType, Result
from clipper_nomad.state.records import ModelVersion
from clipper_nomad_frontend.admission import QueueBounds
from clipper_nomad_frontend.answers import Answer
from clipper_nomad_frontend.dispatch import VersionDispatch
from clipper_nomad_frontend.endpoints import Endpoint, Query, expire
from clipper_nomad_frontend.sessions import Batch, Session, SessionTable
from tests.unit.queries import Inbox, endpoint

EPOCH = 7
DOUBLE = struct.Struct("<d")


class RecordingChannel:
    """Notes what is sent to whom. A session in `gone` takes nothing."""

    def __init__(self) -> None:
        self.sent: list[tuple[Session, Batch]] = []
        self.relayed: list[tuple[Session, Batch]] = []
        self.budgets: list[int] = []
        self.cancelled: list[tuple[Session, int]] = []
        self.asked: dict[Session, float] = {}
        self.passes: list[tuple[Session, int]] = []
        self.gone: set[Session] = set()
        self.sends: Counter[Query] = Counter()

    def send_batch(self, session: Session, batch: Batch, *, input_type: int, item_length: int, budget_micros: int) -> bool:
        """Note a batch."""
        assert batch.queries
        assert {query.item_length for query in batch.queries} == {item_length}
        if session in self.gone:
            return False
        self.sent.append((session, batch))
        self.budgets.append(budget_micros)
        self.sends.update(batch.queries)
        return True

    def send_ask(self, session: Session, waited_s: float) -> bool:
        """Note an ask."""
        assert waited_s >= 0
        if session in self.gone:
            return False
        self.asked[session] = waited_s
        return True

    def send_pass(self, session: Session, call: int = 0) -> bool:
        """Note a pass, or that an ask is withdrawn."""
        if session in self.gone:
            return False
        self.asked.pop(session, None)
        self.passes.append((session, call))
        return True

    def send_relay(self, session: Session, batch: Batch, *, uid: str, input_type: int, item_length: int, now: float) -> bool:
        """Note a batch for a peer."""
        assert batch.queries
        assert {query.item_length for query in batch.queries} == {item_length}
        assert not any(query.endpoint.is_relay for query in batch.queries), "a relayed query is never relayed again"
        assert uid == "u"
        if session in self.gone:
            return False
        self.relayed.append((session, batch))
        self.sends.update(batch.queries)
        return True

    def send_cancel(self, session: Session, batch_id: int) -> bool:
        """Note a cancellation."""
        if session in self.gone:
            return False
        self.cancelled.append((session, batch_id))
        return True


class Rig:
    """A dispatch with what surrounds it. Its methods are what may happen to it."""

    def __init__(
        self,
        *,
        replicas: int = 1,
        retry: bool = True,
        batch_size: int = -1,
        bounds: QueueBounds | None = None,
        apps: Sequence[Endpoint] = (),
        slo_s: float = 10.0,
    ) -> None:
        self.now = 1000.0
        self.channel = RecordingChannel()
        self.table = SessionTable(EPOCH)
        self.apps = list(apps) or [endpoint(slo_s=slo_s)]
        self.asked: list[Query] = []
        self.sessions: list[Session] = []
        self.peers: list[Session] = []
        self.asks_first = False  # whether the replicas say that they want to be asked first
        self.calls = 0
        self.guests = endpoint("guests", slo_s=slo_s, is_relay=True)
        self._peers = itertools.count()
        self.dispatch = VersionDispatch(
            ModelVersion(name="m", version="1", uid="u", input_type="doubles", retry=retry, batch_size=batch_size),
            sessions=self.table,
            channel=self.channel,
            bounds=bounds or QueueBounds(),
            answered=self._answered,
            slo_s=slo_s,
        )
        for _ in range(replicas):
            self.join()

    # ---- the clients' side

    def ask(self, count: int = 1, *, app: int = 0, shape: int = 1) -> list[Query]:
        """Ask for predictions of numbers never asked for before; nothing is sent yet."""
        at = self.apps[app]
        queries = []
        for _ in range(count):
            data = DOUBLE.pack(float(len(self.asked))) + bytes(8 * (shape - 1))
            queries.append(self.submit(Query(at, data, shape, self.now, Inbox(), len(self.asked))))
        return queries

    def submit(self, query: Query) -> Query:
        """Submit a query."""
        self.asked.append(query)
        query.endpoint.owed[query] = None
        query.dispatch = self.dispatch
        self.dispatch.submit(query)
        return query

    def ask_as_peer(self, count: int = 1, *, is_alone: bool = False) -> list[Query]:
        """A peer relays queries to this frontend."""
        queries = []
        for _ in range(count):
            query = Query(self.guests, DOUBLE.pack(float(len(self.asked))), 1, self.now, Inbox(), len(self.asked))
            self.asked.append(query)
            queries.append(query)
            self.guests.owed[query] = None
            query.dispatch = self.dispatch
            self.dispatch.submit_relayed(query, is_alone=is_alone)
        self.pump()
        return queries

    def _answered(self, query: Query, answer: Answer, now: float) -> None:
        assert now <= self.now
        if query.is_done:
            return
        self._finish(query)
        query.sink.take(query, answer)

    def _finish(self, query: Query) -> None:
        self.dispatch.forget(query)
        query.is_done = True
        del query.endpoint.owed[query]

    def leave(self, query: Query) -> None:
        """The client of `query` goes away."""
        if not query.is_done:
            self._finish(query)

    def answers(self, *queries: Query) -> list[Answer]:
        """What these queries, or all, got so far."""
        sinks = [query.sink for query in queries or self.asked]
        return [answer for sink in sinks if isinstance(sink, Inbox) for answer in sink.answers]

    def statuses(self, *queries: Query) -> list[int]:
        """The statuses that these queries, or all, got so far."""
        return [answer.status for answer in self.answers(*queries)]

    # ---- the replicas' side

    def join(self) -> Session:
        """A replica comes."""
        hello = Hello(model="m", version="1", uid="u", input_type="doubles", replica="r", python="3.11", toolkit="t")
        session = self.table.open(b"%d" % next(self._peers), hello)
        assert session is not None
        self.dispatch.join(session)
        self.sessions.append(session)
        return session

    def lose(self, session: Session) -> None:
        """A replica is gone, with whatever it had in hand."""
        self.sessions.remove(session)
        self.table.close(session.routing_id)
        self.channel.gone.add(session)
        self.dispatch.on_lost(session, self.now)
        self.pump()

    def result(self, session: Session, *errors: OutputError, took_s: float = 0.001) -> Batch:
        """A replica answers its oldest batch: with outputs, or with errors."""
        batch = next(iter(session.in_flight.values()))
        assert self.result_of(session, header_of(session, batch), batch, errors, took_s=took_s)
        return batch

    def result_of(
        self, session: Session, header: Header, batch: Batch, errors: Sequence[OutputError] = (), *, took_s: float = 0.001
    ) -> bool:
        """Any result comes in; return whether it answered a batch."""
        found = self.table.finish(session, header)
        if found is None:
            return False
        whole = any(error.index is None for error in errors)
        data = b"" if whole else b"".join(query.data[:8] for query in batch.queries)
        kind = OutputType.TEXT if whole else OutputType.FLOAT64
        header = replace(header, flags=ASK_FIRST if self.asks_first else 0)
        result = Result(header, kind, 0, round(took_s * 1e6), None, data, tuple(errors))
        self.dispatch.on_result(session, found, result, self.now)
        return True

    def call(self, session: Session) -> None:
        """A replica says that it is free."""
        self.calls += 1
        self.channel.asked.pop(session, None)
        self.dispatch.on_free(session, self.calls, self.now)

    # ---- the peers' side

    def join_peer(self, *, ready: int = 1, delay_micros: int = 0) -> Session:
        """A peer frontend says that it serves the version."""
        hello = Hello(model="m", version="1", uid="", input_type="", replica="f", python="", toolkit="t", role="peer")
        session = self.table.open_relay(b"f%d" % next(self._peers), hello)
        self.peers.append(session)
        self.announce(session, ready=ready, delay_micros=delay_micros)
        return session

    def announce(self, session: Session, *, ready: int = 1, delay_micros: int = 0) -> None:
        """A peer says anew how it serves the version."""
        self.dispatch.relays.announced(session, Served(ready, delay_micros))
        self.pump()

    def lose_peer(self, session: Session) -> None:
        """The link to a peer has ended."""
        self.peers.remove(session)
        self.channel.gone.add(session)
        self.dispatch.on_relay_lost(session, self.now)

    def relayed(self, session: Session, fate: Fate = Fate.ANSWERED, **row: str | int) -> Batch:
        """A peer tells what became of its oldest batch."""
        batch = next(iter(session.in_flight.values()))
        assert self.table.finish(session, header_of(session, batch)) is batch
        rows = [
            RelayedAnswer(fate=fate, replica="r", output=b"%d.0" % DOUBLE.unpack_from(query.data)[0], **row)  # type: ignore[arg-type]  # fields of many types
            for query in batch.queries
        ]
        if fate is Fate.REFUSED:
            self.channel.sends.subtract(batch.queries)  # nothing was executed
        self.dispatch.on_relayed(session, batch, rows, self.now)
        return batch

    def in_flight(self) -> list[int]:
        """Return the sizes of the batches in flight, by replica."""
        return [len(batch.queries) for session in self.sessions for batch in session.in_flight.values()]

    # ---- time

    def pump(self) -> None:
        """Let the dispatch send what it can."""
        self.dispatch.pump(self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass: timers go off."""
        self.now += seconds
        expire([*self.apps, self.guests], self.now, self._give_up)
        self.dispatch.check_progress(self.now)

    def _give_up(self, query: Query) -> None:
        self._answered(query, query.endpoint.out_of_patience(query, has_replica=True, model="m:1"), self.now)

    def work_off(self) -> None:
        """Let every replica answer, and call where it was asked to, until nothing is in flight."""
        while busy := [session for session in self.sessions if session.in_flight or session in self.channel.asked]:
            for session in busy:
                if session.in_flight:
                    self.result(session)
                elif session in self.channel.asked:
                    self.call(session)

    def teach(self, *, largest: int) -> None:
        """Let the dispatch learn that batches up to `largest` are quick."""
        for count in (1, 1, *(2**power for power in range(1, largest.bit_length()))):
            self.dispatch.limit.record(count, 0.00001 * count)


def header_of(session: Session, batch: Batch) -> Header:
    """The header of the result that answers `batch`."""
    return Header(MessageType.RESULT, 0, len(batch.queries), EPOCH, session.id, batch.id)


def raised(index: int | None = None) -> OutputError:
    """The predict function raised."""
    return OutputError(index, ErrorKind.RAISED, "ValueError: no", "t1")


def wrong_count() -> OutputError:
    """The predict function returned another number of outputs than it got inputs."""
    return OutputError(None, ErrorKind.WRONG_COUNT, "7 outputs for 8 inputs", "")


def output_of(answer: Answer) -> float | None:
    """The output of a true answer."""
    if answer.status != 200 or b'"default":false' not in answer.body:
        return None
    return float(answer.body.partition(b'"output":')[2].partition(b",")[0])
