"""Queries → batches → replicas → answers: the one place where queue, replicas and sessions meet.

One VersionDispatch per model version. Policy is next door and pure (model_queue, batching, replicas, admission, sessions,
poison); frames go out through the Channel it is given (router.py) and come back as `on_result` and `on_lost`.

A query is executed at most twice, and a second time only if its first replica was lost, or raised for a batch of more
than one: docs/behaviour.md, "Retries".
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from zlib import crc32

from clipper_nomad.protocol.mesh_messages import Fate, RelayedAnswer
from clipper_nomad.protocol.wire import ASK_FIRST, MAX_BATCH_COUNT, ErrorKind, OutputError, Result
from clipper_nomad.state.records import MICROS, ModelVersion
from clipper_nomad_frontend import answers
from clipper_nomad_frontend.admission import QueueBounds, refusal
from clipper_nomad_frontend.answers import Answer
from clipper_nomad_frontend.batching import BatchLimit
from clipper_nomad_frontend.channel import Channel, LegacyChannel
from clipper_nomad_frontend.endpoints import Query
from clipper_nomad_frontend.flights import Flights
from clipper_nomad_frontend.metrics import VersionCounters
from clipper_nomad_frontend.model_queue import ModelQueue
from clipper_nomad_frontend.output_text import output_texts, text_as_json
from clipper_nomad_frontend.poison import PoisonList
from clipper_nomad_frontend.relays import RelaySlot, RelaySlots
from clipper_nomad_frontend.replicas import MOST_ASKED, Replica, ReplicaSet, ReplicaState, patience_s, replica_headers
from clipper_nomad_frontend.sessions import Batch, Session, SessionTable
from clipper_nomad_frontend.suspects import Suspects

log = logging.getLogger(__name__)

MAX_TRIES = 2  # a query is executed at most twice, whatever happens: docs/behaviour.md, "Retries"
MAX_BATCH_BYTES = 16 * 1024 * 1024  # as the largest HTTP body: one input always fits
_UNDECIDED = frozenset({Fate.REFUSED, Fate.LOST, Fate.SPLIT})
MAX_RELAYED = 256  # queries in a batch for a peer, which makes batches of its own from them


class VersionDispatch:
    """The queue of one model version, and the replicas that work it off."""

    def __init__(
        self,
        record: ModelVersion,
        *,
        sessions: SessionTable,
        channel: Channel,
        bounds: QueueBounds,
        answered: Callable[[Query, Answer, float], None],
        slo_s: float,
        flights: Callable[[VersionCounters], Flights] | None = None,
    ) -> None:
        """`flights`: makes what stands before the queue where there is a cache."""
        self.record = record
        self.replicas = ReplicaSet()
        self.relays = RelaySlots()
        self.frontends = 1  # how many share the slots of a replica
        self.counters = VersionCounters()
        self.queue = ModelQueue()
        fixed = min(record.batch_size, MAX_BATCH_COUNT) if record.batch_size > 0 else None
        self.limit = BatchLimit(fixed=fixed, slo_s=slo_s)
        self.last_error: str | None = None
        self.last_batch_size = 0
        self._kind = int(record.kind)
        self._sessions = sessions
        self._channel = channel
        self._bounds = bounds
        self.flights = flights(self.counters) if flights is not None else None
        self._answered = self.flights.answered if self.flights is not None else answered
        self._suspects = Suspects()
        self._poison = PoisonList()
        self._last_replica_id = -1
        self._is_removed = False
        self._is_suspects_turn = True  # by turns with ordinary batches: many suspects must not make all others late
        self._wait_per_query_s = 0.0  # how much longer the queue gets by one query
        self._holds_relayed = False  # whether queries of peers may wait here
        self._asks_first: int | None = None  # what the last result said of sharing: not 0, ask first; None: there is none

    @property
    def key(self) -> str:
        """The model version, as name:version."""
        return self.record.key

    @property
    def has_replicas(self) -> bool:
        """Whether any replica of it can be reached from here."""
        return bool(self.replicas.all) or self.relays.ready > 0

    @property
    def delay_s(self) -> float:
        """How long a query that came now would wait."""
        return self.queue.count * self._wait_per_query_s

    # ---- queries in ------------------------------------------------------------------------------------------------

    def submit(self, query: Query) -> None:
        """Queue `query`, or answer it with why not. The caller pumps afterwards."""
        queue = self.queue
        if self._poison and self._poison.refuses(query.data, query.item_length, query.arrived):
            self._answered(query, answers.poison(self.record.key), query.arrived)
            return
        # a look that costs nothing; `refusal` decides
        wait_s = queue.count * self._wait_per_query_s
        if (
            wait_s > query.endpoint.timeout_s
            or queue.count >= self._bounds.queries
            or queue.input_bytes >= self._bounds.input_bytes
        ):
            no = refusal(
                self._bounds,
                queued=queue.count,
                queued_bytes=queue.input_bytes,
                per_query_s=self.limit.full_per_query_s,
                ready=len(self.replicas.ready),
                timeout_s=query.endpoint.timeout_s,
            )
            if no is not None:
                self.counters.refused += 1
                answer = answers.queue_full(self.record.key, no.reason, no.retry_after_s)
                self._answered(query, answer, query.arrived)
                return
        queue.add(query)

    def submit_relayed(self, query: Query, *, is_alone: bool) -> None:
        """Queue a query of a peer, or answer it with why not. The caller pumps afterwards."""
        if not self.replicas.ready:
            self._answered(query, answers.not_taken(self.record.key), query.arrived)
            return
        self._holds_relayed = True
        if not is_alone:
            self.submit(query)
        elif self._poison and self._poison.refuses(query.data, query.item_length, query.arrived):
            self._answered(query, answers.poison(self.record.key), query.arrived)
        elif len(self._suspects) >= self._bounds.queries:
            self._answered(query, answers.not_taken(self.record.key), query.arrived)
        else:
            self._suspects.add(query)

    def _estimate_wait(self) -> None:
        self._wait_per_query_s = self.limit.per_query_s / max(1, len(self.replicas.ready))

    def forget(self, query: Query) -> None:
        """Note that `query` was answered or cancelled; if it still waits in the queue its place is free."""
        if query.is_queued:
            self.queue.forget(query)

    def holds(self, query: Query) -> bool:
        """Whether `query` waits here, and is not at a replica or a peer."""
        return query.is_queued or query in self._suspects

    def take_waiting(self) -> list[Query]:
        """Return every query that waits here, and forget them: the version was removed, nothing is tried again here."""
        self._is_removed = True
        waiting = [*self._suspects.drain(), *self.queue.drain()]
        return waiting if self.flights is None else self.flights.disband(waiting)

    def pump(self, now: float) -> None:
        """Give waiting queries to replicas that have a slot."""
        if not self.replicas.ready:
            self._pump_relays(now)
            return
        asks_first = self.frontends > 1 if self._asks_first is None else self._asks_first
        while self.queue.count or self._suspects:
            replica = self.replicas.next_idle()
            if replica is not None and asks_first and replica.legacy is None:
                batches = len(self._suspects) - (-self.queue.count // self.limit.limit)
                if not self.replicas.may_ask(batches, now - patience_s(self.limit.expected_s(self.limit.limit))):
                    return
                self._ask(replica, now)
            elif replica is not None:
                share = 1 if len(self.replicas.ready) == 1 else self.replicas.idle_count()  # the others rest too
                self._give(replica, now, share)
            elif self.queue.count and not self._suspects and self.limit.allows_second_slot:
                replica = self.replicas.next_second_slot(self.frontends)
                if replica is None or self.queue.count < replica.oldest_size():
                    return  # a batch behind another starts no sooner for being sent now: let it grow to that one's size
                self._send(replica, self._next_batch(self.limit.limit, now), now)
            else:
                return

    def _give(self, replica: Replica, now: float, share: int) -> None:
        """Send a batch to a replica that rests. Something waits; `share`: how many replicas should get some of it."""
        if self._suspects and (self._is_suspects_turn or not self.queue.count):
            self._is_suspects_turn = False
            self._send(replica, [self._suspects.take()], now, is_alone=True)
        else:
            self._is_suspects_turn = True
            limit = self.limit.limit if share == 1 else min(self.limit.limit, -(-self.queue.count // share))
            self._send(replica, self._next_batch(limit, now), now)

    def _ask(self, replica: Replica, now: float) -> None:
        """Ask a replica to call when it is free, or tell one that was asked what waits by now."""
        since = self._suspects.waits_since() if self._suspects else self.queue.waits_since()
        if since is None:
            replica.asked_at = None
            self._channel.send_pass(replica.session)
        elif not self._channel.send_ask(replica.session, now - since):
            self.replicas.set_state(replica, ReplicaState.DRAINING)  # it is gone; on_lost follows from the monitor
        elif replica.asked_at is None:
            replica.asked_at = now
            self.replicas.used(replica)

    def _pump_relays(self, now: float) -> None:
        """No replica is ready here: give what waits to peers that have some, and back what came from peers."""
        if self._holds_relayed:
            self._refuse_relayed(now)
        while (slot := self.relays.next()) is not None:
            if self._suspects:
                self._relay(slot, [self._suspects.take()], now, is_alone=True)
            elif self.queue.count:
                self._relay(slot, self._next_batch(MAX_RELAYED, now), now, is_alone=False)
            else:
                return

    def _refuse_relayed(self, now: float) -> None:
        self._holds_relayed = False
        for again, waiting in ((self._suspects.add, self._suspects.drain()), (self.queue.add, self.queue.drain())):
            for query in waiting:
                if query.endpoint.is_relay and not query.is_done:
                    self._answered(query, answers.not_taken(self.record.key), now)
                elif not query.is_done:
                    again(query)

    def _relay(self, slot: RelaySlot, queries: list[Query], now: float, *, is_alone: bool) -> None:
        batch = self._sessions.begin(slot.session, queries, now, 0.0, is_alone=is_alone)
        for query in queries:
            query.tries += 1
        sent = self._channel.send_relay(
            slot.session,
            batch,
            uid=self.record.uid,
            input_type=self._kind,
            item_length=queries[0].item_length,
            now=now,
        )
        if sent:
            self.counters.relayed += len(queries)
            return
        del slot.session.in_flight[batch.id]
        self.relays.remove(slot.session.id)
        self._return(queries, is_alone=is_alone)

    def _next_batch(self, limit: int, now: float) -> list[Query]:
        expected_s = self.limit.expected_s(min(limit, self.queue.count))
        batch = self.queue.take(limit, now, expected_s, self.limit.slack_s)
        total = 0
        for position, query in enumerate(batch):
            total += len(query.data)
            if total > MAX_BATCH_BYTES and position:
                for rest in reversed(batch[position:]):
                    self.queue.put_back(rest)
                return batch[:position]
        return batch

    def _send(self, replica: Replica, queries: list[Query], now: float, *, is_alone: bool = False) -> None:
        expected_s = self.limit.expected_s(len(queries))
        batch = self._sessions.begin(replica.session, queries, now, expected_s, is_alone=is_alone)
        self.last_batch_size = len(queries)
        for query in queries:
            query.tries += 1
        sent = (replica.legacy or self._channel).send_batch(
            replica.session,
            batch,
            input_type=self._kind,
            item_length=queries[0].item_length,
            budget_micros=max(0, int((queries[0].timeout_at - now) * MICROS)),
        )
        if sent:
            replica.is_exclusive = is_alone
            self.replicas.used(replica)
            return
        # the peer is gone and nothing was executed; on_lost follows from the monitor, this replica is out at once
        del replica.session.in_flight[batch.id]
        self.replicas.set_state(replica, ReplicaState.DRAINING)
        self._return(queries, is_alone=is_alone)

    def _return(self, queries: list[Query], *, is_alone: bool) -> None:
        for query in reversed(queries):
            query.tries -= 1
            if is_alone:
                self._suspects.put_back(query)
            else:
                self.queue.put_back(query)

    # ---- replicas come and go --------------------------------------------------------------------------------------

    def join(self, session: Session, legacy: LegacyChannel | None = None) -> Replica:
        """Take in the replica of a new session. `legacy`: the way to one that speaks RPC version 3."""
        self._last_replica_id += 1
        replica = Replica(self._last_replica_id, session, legacy)
        if self.frontends > 1:  # in order of arrival, the same everywhere, all would go from one to the next in step
            replica.last_used = -crc32(b"%d %d" % (self._sessions.epoch, session.id))
        self.replicas.add(replica)
        self._estimate_wait()
        return replica

    def drain(self, session: Session) -> None:
        """Send a replica nothing more."""
        replica = self.replicas.all.get(session.id)
        if replica is not None:
            self.replicas.set_state(replica, ReplicaState.DRAINING)

    def on_lost(self, session: Session, now: float) -> None:
        """A session ended: whatever was in flight on it is lost."""
        self.replicas.remove(session.id)
        self._estimate_wait()
        if session.in_flight:
            self.counters.lost += 1
        for batch in session.in_flight.values():
            for query in batch.queries:
                if not query.is_done:
                    self._retry_lost(query, now, was_alone=batch.is_alone)
        session.in_flight.clear()

    def _retry_lost(self, query: Query, now: float, *, was_alone: bool) -> None:
        if self._may_retry(query):
            self._retry_alone(query)
        elif was_alone:
            self.counters.poisoned += 1
            self._poison.add(query.data, query.item_length, now)
            self._answered(query, answers.poison(self.record.key), now)
        else:
            self._answered(query, answers.lost(self.record.key, query.tries), now)

    def _may_retry(self, query: Query) -> bool:
        may = self.record.retry and query.tries < MAX_TRIES and not self._is_removed and not query.endpoint.is_relay
        return may and query.is_wanted

    def _retry_alone(self, query: Query) -> None:
        self.counters.resent += 1
        self._suspects.add(query)

    def check_progress(self, now: float) -> None:
        """Take replicas whose oldest batch is overdue out of rotation, and give what waits behind it to others."""
        for replica in list(self.replicas.ready):
            stalled_at = replica.stalled_at()
            if stalled_at is None or stalled_at > now:
                continue
            log.warning("replica stalled", extra={"model": self.record.key, "replica": replica.name})
            self.replicas.set_state(replica, ReplicaState.STALLED)
            for batch in list(replica.session.in_flight.values())[1:]:  # not started: the one before is not answered
                if self._channel.send_cancel(replica.session, batch.id):
                    del replica.session.in_flight[batch.id]
                    self._requeue_cancelled(batch, now)
        self.pump(now)

    def _requeue_cancelled(self, batch: Batch, now: float) -> None:
        for query in batch.queries:
            if not query.is_done:
                self._retry_elsewhere(query, now)

    def on_free(self, session: Session, call: int, now: float) -> None:
        """A replica calls: it gets the best batch there is, or hears that nothing waits."""
        replica = self.replicas.all[session.id]
        replica.asked_at = None
        if not (self.queue.count or self._suspects) or replica.state is not ReplicaState.READY or session.in_flight:
            self.counters.passed += 1
            self._channel.send_pass(session, call)
            return
        self._give(replica, now, 1)
        for other in self.replicas.asked(MOST_ASKED if self.queue.count else None):  # few: what waits changes often
            self._ask(other, now)
        self.pump(now)

    # ---- answers out -----------------------------------------------------------------------------------------------

    def on_result(self, session: Session, batch: Batch, result: Result, now: float) -> None:
        """Answer the queries of `batch`, and give the replica more."""
        replica = self.replicas.all.get(session.id)
        if replica is None:
            return
        replica.backlog = result.backlog
        self._asks_first = result.header.flags & ASK_FIRST
        replica.is_exclusive = False
        if replica.state is ReplicaState.STALLED:
            log.info("replica goes on", extra={"model": self.record.key, "replica": replica.name})
            self.replicas.set_state(replica, ReplicaState.READY)
        count = len(batch.queries)
        seconds = result.exec_micros / MICROS
        self.counters.batch_size.observe(count)
        self.counters.batch_exec.observe(seconds)
        if result.errors:
            self._answer_with_errors(replica, batch, result, now)
        else:
            self._learn(batch, seconds, now)
            replica.answered += count
            self._answer_all(replica.headers, batch.queries, output_texts(result), now)
        self.pump(now)

    def _learn(self, batch: Batch, seconds: float, now: float) -> None:
        self.limit.record(len(batch.queries), seconds, now - batch.sent_at - batch.expected_s if batch.expected_s else 0.0)
        self._estimate_wait()

    def on_relayed(self, session: Session, batch: Batch, rows: list[RelayedAnswer], now: float) -> None:
        """Answer the queries that a peer was given, or see to those that it did not execute."""
        slot = self.relays.all.get(session.id)
        refused: list[Query] = []
        for query, row in zip(batch.queries, rows, strict=True):
            if query.is_done:
                continue
            is_over = now > query.arrived + query.endpoint.patience_s  # and its timer did not come first
            if row.fate in _UNDECIDED and (is_over or not query.is_wanted):
                answer = query.endpoint.out_of_patience(query, has_replica=True, model=self.record.key)
                self._answered(query, answer, now)
                continue
            match row.fate:
                case Fate.ANSWERED:
                    self._answer_all(replica_headers(self.record.key, row.replica), [query], [text_as_json(row.output)], now)
                case Fate.FAILED:
                    if row.kind == answers.POISON and batch.is_alone:
                        self._poison.add(query.data, query.item_length, now)
                    answer = answers.relayed_failure(row.status, row.error, row.cause, row.kind)
                    self._answered(query, answer, now)
                case Fate.REFUSED if self._is_removed:  # nothing waits here any more
                    self._answered(query, answers.not_taken(self.record.key), now)
                case Fate.REFUSED:
                    refused.append(query)
                case Fate.LOST | Fate.SPLIT:
                    self._retry_elsewhere(query, now)
        if refused:
            self._return(refused, is_alone=batch.is_alone)
            if slot is not None:
                slot.has_refused = True
        self.pump(now)

    def on_relay_lost(self, session: Session, now: float) -> None:
        """The link to a peer ended: what it had in hand may have been executed."""
        self.relays.remove(session.id)
        for batch in session.in_flight.values():
            for query in batch.queries:
                if not query.is_done:
                    self._retry_elsewhere(query, now)
        session.in_flight.clear()
        self.pump(now)

    def _retry_elsewhere(self, query: Query, now: float) -> None:
        if self._may_retry(query):
            self._retry_alone(query)
        else:
            self._answered(query, answers.lost(self.record.key, query.tries), now)

    def _answer_all(self, headers: bytes, queries: list[Query], outputs: list[bytes], now: float) -> None:
        answered = self._answered
        if self.flights is not None:
            queries, outputs = self.flights.land(headers, queries, outputs, now)
        for query, output in zip(queries, outputs, strict=True):
            if not query.is_done:
                is_late = now > query.slo_at
                if is_late and now > query.arrived + query.endpoint.patience_s:  # its timer did not come first
                    answered(query, query.endpoint.out_of_patience(query, has_replica=True, model=self.record.key), now)
                else:
                    answered(query, answers.prediction(query.query_id, output, headers, is_late=is_late), now)

    def _answer_with_errors(self, replica: Replica, batch: Batch, result: Result, now: float) -> None:
        whole = next((error for error in result.errors if error.index is None), None)
        if whole is not None:
            self._batch_failed(replica, batch, whole, now)
            return
        self._learn(batch, result.exec_micros / MICROS, now)  # one bad input does not make the time of its mates untrue
        by_index = {error.index: error for error in result.errors}
        replica.answered += len(batch.queries) - len(by_index)
        outputs = output_texts(result)
        for index, query in enumerate(batch.queries):
            error = by_index.get(index)
            if query.is_done:
                continue
            if error is not None:
                self._failed(replica, query, error, now)
            else:
                self._answer_all(replica.headers, [query], [outputs[index]], now)

    def _batch_failed(self, replica: Replica, batch: Batch, error: OutputError, now: float) -> None:
        splits = error.kind is ErrorKind.RAISED and len(batch.queries) > 1
        for query in batch.queries:
            if query.is_done:
                continue
            if splits and self._may_retry(query):
                self._retry_alone(query)
            elif splits and query.endpoint.is_relay and self.record.retry:
                self._answered(query, answers.split(self.record.key), now)
            else:
                self._failed(replica, query, error, now)

    def _failed(self, replica: Replica, query: Query, error: OutputError, now: float) -> None:
        self.counters.errors += 1
        self.last_error = error.message
        answer = answers.model_failed(self.record.key, replica.name, error)
        self._answered(query, answer, now)
