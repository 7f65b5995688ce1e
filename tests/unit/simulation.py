"""A query frontend on simulated time: the real serving.py with its queues, batches, dispatch and endpoints, on a loop whose
clock jumps from event to event, in front of replicas that take a + b·n seconds for a batch of n.

Nothing here sleeps or reads a clock, so a run with the same seed is the same run. Every replica computes the identity on
one double, so a wrong answer shows. Not simulated: HTTP, ZeroMQ, the processor time of the frontend itself.
"""

from __future__ import annotations

import io
import itertools
import math
import random
import struct
from collections import deque
from dataclasses import dataclass, field
from typing import cast

from benchmarks.mesh_simulation_loop import SimulatedLoop
from clipper_nomad.protocol import wire
from clipper_nomad.protocol.wire import ErrorKind, Header, Hello, MessageType, OutputError, OutputType, Reject, Welcome
from clipper_nomad.state.records import MICROS, App, Model, ModelVersion, Record, SloPolicy, Snapshot
from clipper_nomad_frontend.access_log import AccessLog, AccessLogMode
from clipper_nomad_frontend.admission import QueueBounds
from clipper_nomad_frontend.answers import Answer
from clipper_nomad_frontend.endpoints import Query
from clipper_nomad_frontend.router import Router
from clipper_nomad_frontend.serving import Serving
from clipper_nomad_frontend.sessions import Batch, Session

NETWORK_S = 0.0001  # one way, frontend to replica
NOTICED_S = 0.003  # from the end of a replica to the disconnect that the socket monitor tells of, as measured
EPOCH = 7
DOUBLE = struct.Struct("<d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How long a batch takes: `start_s` and `per_query_s` for each input, give or take a share of about `jitter`."""

    start_s: float
    per_query_s: float
    jitter: float = 0.0

    def batch_s(self, count: int) -> float:
        """Return the execution time of a batch of `count`, without jitter."""
        return self.start_s + self.per_query_s * count

    def capacity(self, batch_s: float) -> float:
        """Return how many queries one replica answers in a second, in batches that take `batch_s`."""
        return (batch_s - self.start_s) / self.per_query_s / batch_s


@dataclass(frozen=True, slots=True)
class Work:
    """A batch at a replica: the header of its result, and its inputs."""

    header: Header
    inputs: list[bytes]


@dataclass(eq=False)
class SimulatedReplica:
    """One model container: takes its batches in order, one at a time.

    `deadly` inputs end it, `bad` ones make it raise. With `restart_s` another takes its place so long after its end.
    """

    frontend: SimulatedFrontend
    routing_id: bytes
    version: ModelVersion
    speed: Speed
    deadly: frozenset[float] = frozenset()
    bad: frozenset[float] = frozenset()
    restart_s: float | None = None
    is_alive: bool = True
    is_welcome: bool = False
    rejections: list[Reject] = field(default_factory=list)
    executed: list[float] = field(default_factory=list)  # every input that a batch was begun with
    in_hand: int = 0  # inputs of the batch that it works on
    _chance: random.Random = field(default_factory=lambda: random.Random(1))
    _waiting: deque[Work] = field(default_factory=deque)
    _rests_until: float = 0.0
    _owed_s: float = 0.0  # of a pause that came while a batch was running

    def take(self, work: Work) -> None:
        """Queue a batch that arrived."""
        if self.is_alive:
            self._waiting.append(work)
            self._begin_next()

    def cancel(self, batch: int) -> None:
        """Forget a batch that has not begun."""
        self._waiting = deque(work for work in self._waiting if work.header.batch != batch)

    def pause(self, seconds: float) -> None:
        """Stand still for a while: a SIGSTOP, a pause of the machine."""
        self._rests_until = self.frontend.loop.time() + seconds
        if self.in_hand:
            self._owed_s += seconds

    def die(self) -> None:
        """End without a word; the frontend hears of it when the socket monitor does."""
        self.is_alive = False
        self._waiting.clear()
        self.frontend.deaths += 1
        self.frontend.loop.call_later(NOTICED_S, self.frontend.serving.on_disconnect, self.routing_id)
        if self.restart_s is not None:
            self.frontend.loop.call_later(self.restart_s, self._restart)

    def _restart(self) -> None:
        self.frontend.start_replica(self.version, self.speed, deadly=self.deadly, bad=self.bad, restart_s=self.restart_s)

    def _begin_next(self) -> None:
        if self.in_hand or not self._waiting:
            return
        work = self._waiting.popleft()
        self.in_hand = len(work.inputs)
        self.executed += (DOUBLE.unpack(data)[0] for data in work.inputs)
        loop = self.frontend.loop
        begun = max(loop.time(), self._rests_until)
        exec_s = self.speed.batch_s(len(work.inputs)) * math.exp(self._chance.gauss(0.0, self.speed.jitter))
        loop.call_at(begun + exec_s, self._finish, work, begun)

    def _finish(self, work: Work, begun: float) -> None:
        loop = self.frontend.loop
        if not self.is_alive:
            return
        if self._owed_s:
            loop.call_later(self._owed_s, self._finish, work, begun)
            self._owed_s = 0.0
            return
        self.in_hand = 0
        numbers = {DOUBLE.unpack(data)[0] for data in work.inputs}
        if self.deadly & numbers:
            self.die()
            return
        errors = [OutputError(None, ErrorKind.RAISED, "ValueError: bad input", "t1")] if self.bad & numbers else []
        frames = wire.encode_result(
            answers=work.header,
            output_type=OutputType.FLOAT64,
            backlog=len(self._waiting),
            exec_micros=round((loop.time() - begun) * MICROS),
            lengths=None,
            data=b"" if errors else b"".join(work.inputs),
            errors=errors,
        )
        loop.call_later(NETWORK_S, self._deliver, frames)
        self._begin_next()

    def _deliver(self, frames: list[bytes]) -> None:
        if self.is_alive:
            self.frontend.serving.on_message(self.routing_id, wire.header_of(frames[0]), frames)


class SimulatedRouter:
    """What serving.py asks of its router. Messages take NETWORK_S; False: the peer is gone."""

    address = "simulated"

    def __init__(self, frontend: SimulatedFrontend) -> None:
        self._frontend = frontend
        self.controls: list[tuple[bytes, MessageType]] = []

    def _peer(self, routing_id: bytes) -> SimulatedReplica | None:
        replica = self._frontend.replicas.get(routing_id)
        return replica if replica is not None and replica.is_alive else None

    def send_batch(self, session: Session, batch: Batch, *, input_type: int, item_length: int, budget_micros: int) -> bool:
        """Send the inputs of a batch."""
        replica = self._peer(session.routing_id)
        if replica is None:
            return False
        header = Header(MessageType.RESULT, 0, len(batch.queries), EPOCH, session.id, batch.id)
        self._frontend.loop.call_later(NETWORK_S, replica.take, Work(header, [query.data for query in batch.queries]))
        return True

    def send_cancel(self, session: Session, batch_id: int) -> bool:
        """Ask a replica to forget a batch."""
        replica = self._peer(session.routing_id)
        if replica is not None:
            self._frontend.loop.call_later(NETWORK_S, replica.cancel, batch_id)
        return replica is not None

    def send_ask(self, session: Session, waited_s: float) -> bool:
        """Note an ask: these replicas never want to be asked, and do not call."""
        del waited_s
        return self.send_control(session, MessageType.ASK)

    def send_pass(self, session: Session, call: int = 0) -> bool:
        """Note a pass."""
        del call
        return self.send_control(session, MessageType.PASS)

    def send_control(self, session: Session, kind: MessageType, batch_id: int = 0) -> bool:
        """Note a message that is a header only."""
        self.controls.append((session.routing_id, kind))
        return self._peer(session.routing_id) is not None

    def send_welcome(self, session: Session, welcome: Welcome) -> bool:
        """Open a session at the replica."""
        replica = self._peer(session.routing_id)
        if replica is not None:
            replica.is_welcome = True
        return replica is not None

    def send_reject(self, routing_id: bytes, reject: Reject) -> bool:
        """Tell a peer that it gets no work."""
        replica = self._peer(routing_id)
        if replica is not None:
            replica.rejections.append(reject)
        return replica is not None


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer, and when it came."""

    query: Query
    answer: Answer
    at: float

    @property
    def output(self) -> float | None:
        """The output of a true answer, None for a default or an error."""
        before, _, after = self.answer.body.partition(b'"output":')
        if self.answer.status != 200 or not before or b'"default":true' in after:
            return None
        return float(after.partition(b",")[0])

    @property
    def model(self) -> str:
        """The version that answered, as its header has it."""
        return self.answer.headers.decode().partition("X-Clipper-Model: ")[2].partition("\r\n")[0]

    @property
    def is_on_time(self) -> bool:
        """Whether it is a true answer within the SLO."""
        return self.at <= self.query.slo_at and self.output is not None


class SimulatedFrontend:
    """One frontend, its replicas and its clients. It is the sink of every query: `answered` holds all answers in order."""

    def __init__(self, *, bounds: QueueBounds | None = None, cache_bytes: int = 0) -> None:
        self.loop = SimulatedLoop()
        self.replicas: dict[bytes, SimulatedReplica] = {}
        self.router = SimulatedRouter(self)
        self.answered: list[Answered] = []
        self.deaths = 0
        self._revision = 0
        self._numbers = itertools.count()
        with self.loop.running():
            self.serving = Serving(
                frontend_id="frontend-1",
                toolkit="test",
                epoch=EPOCH,
                bounds=bounds or QueueBounds(),
                access_log=AccessLog(AccessLogMode("off"), io.StringIO(), self.loop.time),
                path_prefix="/clipper",
                cache_bytes=cache_bytes,
                clock=self.loop.time,
            )
        self.serving.router = cast("Router", self.router)  # it has all that serving.py calls

    def serve(self, *records: Record) -> None:
        """Let the catalog consist of these records from now on."""
        self._revision += 1
        with self.loop.running():
            self.serving.apply(
                Snapshot(
                    store_id="store",
                    revision=self._revision,
                    apps={record.name: record for record in records if isinstance(record, App)},
                    models={record.name: record for record in records if isinstance(record, Model)},
                    versions={record.key: record for record in records if isinstance(record, ModelVersion)},
                )
            )

    def start_replica(
        self,
        version: ModelVersion,
        speed: Speed,
        *,
        deadly: frozenset[float] = frozenset(),
        bad: frozenset[float] = frozenset(),
        restart_s: float | None = None,
    ) -> SimulatedReplica:
        """Let a new replica of `version` say hello."""
        number = len(self.replicas)
        replica = SimulatedReplica(self, b"peer-%d" % number, version, speed, deadly, bad, restart_s)
        self.replicas[replica.routing_id] = replica
        hello = Hello(
            model=version.name,
            version=version.version,
            uid=version.uid,
            input_type=version.input_type,
            replica=f"{version.name}-{version.version}-{number}",
            python="3.11",
            toolkit="test",
        )
        with self.loop.running():
            self.serving.on_hello(replica.routing_id, hello)
        return replica

    def ask(self, app: str = "app", version: str | None = None, *, number: float | None = None) -> Query:
        """Ask for the prediction of `number`, by default one that was not asked for yet."""
        value = float(next(self._numbers)) if number is None else number
        with self.loop.running():
            query = self.serving.query(self.serving.endpoints[app], (DOUBLE.pack(value), 1), self.loop.time(), self)
            self.serving.submit(query, version)
        return query

    def take(self, query: Query, answer: Answer) -> None:
        """Note an answer."""
        self.answered.append(Answered(query, answer, self.loop.time()))

    def answer_of(self, query: Query) -> Answered:
        """Return the one answer of `query`."""
        (answered,) = [each for each in self.answered if each.query is query]
        return answered

    def load(self, app: str = "app", *, per_s: float, seconds: float, seed: int) -> None:
        """Let clients ask at random instants, independently of one another, for `seconds` from now on."""
        chance = random.Random(seed)
        end = self.loop.time() + seconds

        def arrive() -> None:
            if self.loop.time() < end:
                self.ask(app)
                self.loop.call_later(chance.expovariate(per_s), arrive)

        self.loop.call_later(chance.expovariate(per_s), arrive)

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.run_until(self.loop.time() + seconds)


def identity_app(
    *, slo_s: float = 10.0, policy: SloPolicy = "late", timeout_s: float | None = None, linked: bool = True
) -> App:
    """Return an app of doubles that is linked to the model `identity`."""
    return App(
        name="app",
        input_type="doubles",
        default_output="-1.0",
        slo_micros=round(slo_s * MICROS),
        slo_policy=policy,
        timeout_micros=None if timeout_s is None else round(timeout_s * MICROS),
        linked_models=("identity",) if linked else (),
    )


def identity_version(version: str = "1", *, uid: str = "", batch_size: int = -1, retry: bool = True) -> ModelVersion:
    """Return a version of the model `identity`."""
    return ModelVersion(
        name="identity",
        version=version,
        uid=uid or f"uid-{version}",
        input_type="doubles",
        batch_size=batch_size,
        retry=retry,
    )


def current(version: ModelVersion) -> Model:
    """Return the record that makes `version` the one that answers."""
    return Model(name=version.name, current_version=version.version)
