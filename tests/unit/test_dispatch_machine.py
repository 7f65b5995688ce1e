"""Whatever happens in whatever order: every query is answered once, with its own output, and executed twice at most."""

from __future__ import annotations

import struct

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clipper_nomad.protocol.mesh_messages import Fate
from clipper_nomad_frontend.admission import QueueBounds
from clipper_nomad_frontend.dispatch import MAX_TRIES
from clipper_nomad_frontend.endpoints import Query
from clipper_nomad_frontend.sessions import Batch, Session
from tests.unit.dispatch_rig import Rig, header_of, output_of, raised, wrong_count
from tests.unit.queries import endpoint


class AnyInterleaving(RuleBasedStateMachine):
    """Results, losses, stalls, cancellations, failing sends and peers in any order."""

    @initialize(
        retry=st.booleans(),
        batch_size=st.sampled_from([-1, -1, 1, 3]),
        replicas=st.integers(0, 3),
        learnt=st.booleans(),
        is_shared=st.booleans(),
    )
    def begin(self, *, retry: bool, batch_size: int, replicas: int, learnt: bool, is_shared: bool) -> None:
        apps = [endpoint("a", slo_s=0.5, timeout_s=20.0), endpoint("b", slo_s=5.0, policy="default")]
        bounds = QueueBounds(queries=25)
        self.retry = retry
        self.rig = Rig(replicas=replicas, retry=retry, batch_size=batch_size, apps=apps, bounds=bounds)
        self.finished: list[tuple[Session, Batch]] = []
        self.left: set[Query] = set()
        if learnt:
            self.rig.teach(largest=8)
        if is_shared:
            self.rig.asks_first = True
            self.rig.dispatch.frontends = 3

    def busy(self) -> list[Session]:
        return [session for session in self.rig.sessions if session.in_flight]

    @rule(count=st.integers(1, 12), app=st.integers(0, 1), shape=st.integers(1, 2))
    def ask(self, count: int, app: int, shape: int) -> None:
        self.rig.ask(count, app=app, shape=shape)
        self.rig.pump()

    @precondition(lambda self: len(self.rig.sessions) < 4)
    @rule()
    def join(self) -> None:
        self.rig.join()
        self.rig.pump()

    @precondition(lambda self: self.busy())
    @rule(pick=st.integers(0, 3), how=st.sampled_from(["well", "well", "raised", "one raised", "wrong count"]))
    def answer(self, pick: int, how: str) -> None:
        session = self.busy()[pick % len(self.busy())]
        errors = {"raised": [raised()], "one raised": [raised(0)], "wrong count": [wrong_count()]}.get(how, [])
        self.finished.append((session, self.rig.result(session, *errors)))

    @precondition(lambda self: self.finished and self.rig.sessions)
    @rule(pick=st.integers(0, 100), over=st.integers(0, 3))
    def answer_again(self, pick: int, over: int) -> None:
        session, batch = self.finished[pick % len(self.finished)]
        other = self.rig.sessions[over % len(self.rig.sessions)]

        assert not self.rig.result_of(other, header_of(session, batch), batch)

    @precondition(lambda self: len(self.busy()) > 1)
    @rule()
    def answer_for_another(self) -> None:
        one, other = self.busy()[:2]
        batch = next(iter(one.in_flight.values()))

        assert not self.rig.result_of(other, header_of(one, batch), batch)

    @precondition(lambda self: self.rig.sessions)
    @rule(pick=st.integers(0, 3))
    def lose(self, pick: int) -> None:
        self.rig.lose(self.rig.sessions[pick % len(self.rig.sessions)])

    @precondition(lambda self: self.rig.sessions)
    @rule(pick=st.integers(0, 3))
    def fail_sends(self, pick: int) -> None:
        self.rig.channel.gone.add(self.rig.sessions[pick % len(self.rig.sessions)])

    @precondition(lambda self: self.rig.sessions)
    @rule(pick=st.integers(0, 3))
    def drain(self, pick: int) -> None:
        self.rig.dispatch.drain(self.rig.sessions[pick % len(self.rig.sessions)])

    @precondition(lambda self: self.rig.sessions)
    @rule(pick=st.integers(0, 3))
    def call(self, pick: int) -> None:
        """A replica calls, whether it was asked to or not, and gets a batch or a pass."""
        session = self.rig.sessions[pick % len(self.rig.sessions)]
        channel = self.rig.channel
        sent, passes = len(channel.sent), len(channel.passes)

        self.rig.call(session)

        is_passed = (session, self.rig.calls) in channel.passes[passes:]
        is_served = any(to is session for to, _ in channel.sent[sent:])
        assert is_passed + is_served == (session not in channel.gone)

    # ---- peers

    def busy_peers(self) -> list[Session]:
        return [session for session in self.rig.peers if session.in_flight]

    @precondition(lambda self: len(self.rig.peers) < 3)
    @rule(ready=st.integers(0, 3))
    def join_peer(self, ready: int) -> None:
        self.rig.join_peer(ready=ready)

    @precondition(lambda self: self.rig.peers)
    @rule(pick=st.integers(0, 2), ready=st.integers(0, 3))
    def announce(self, pick: int, ready: int) -> None:
        self.rig.announce(self.rig.peers[pick % len(self.rig.peers)], ready=ready)

    @precondition(lambda self: self.busy_peers())
    @rule(pick=st.integers(0, 2), fate=st.sampled_from(Fate))
    def peer_answers(self, pick: int, fate: Fate) -> None:
        busy = self.busy_peers()
        if fate is Fate.FAILED:
            self.rig.relayed(busy[pick % len(busy)], fate, status=500, error="Model error", cause="no")
        else:
            self.rig.relayed(busy[pick % len(busy)], fate)

    @precondition(lambda self: self.rig.peers)
    @rule(pick=st.integers(0, 2))
    def lose_peer(self, pick: int) -> None:
        self.rig.lose_peer(self.rig.peers[pick % len(self.rig.peers)])

    @precondition(lambda self: self.rig.peers)
    @rule(pick=st.integers(0, 2))
    def fail_relays(self, pick: int) -> None:
        self.rig.channel.gone.add(self.rig.peers[pick % len(self.rig.peers)])

    @rule(count=st.integers(1, 5), is_alone=st.booleans())
    def ask_as_peer(self, count: int, *, is_alone: bool) -> None:
        self.rig.ask_as_peer(count, is_alone=is_alone)

    # ---- clients and time

    @precondition(lambda self: self.rig.asked)
    @rule(pick=st.integers(0, 1000))
    def leave(self, pick: int) -> None:
        query = self.rig.asked[-1 - pick % len(self.rig.asked)]
        if not query.is_done:
            self.left.add(query)
        self.rig.leave(query)

    @rule(seconds=st.sampled_from([0.01, 0.3, 2.1, 6.0]))
    def wait(self, seconds: float) -> None:
        self.rig.wait(seconds)

    @invariant()
    def no_query_is_answered_twice_or_with_another_s_output(self) -> None:
        for query in self.rig.asked:
            answers = self.rig.answers(query)
            assert len(answers) == (query.is_done and query not in self.left)
            for answer in answers:
                number = output_of(answer)
                assert number is None or number == struct.unpack_from("<d", query.data)[0]

    @invariant()
    def no_query_is_executed_more_often_than_it_may(self) -> None:
        most = MAX_TRIES if self.retry else 1
        assert max(self.rig.channel.sends.values(), default=0) <= most

    @invariant()
    def what_a_peer_asked_is_executed_once(self) -> None:
        sends = self.rig.channel.sends
        assert all(sends[query] <= 1 for query in self.rig.asked if query.endpoint.is_relay)

    @invariant()
    def no_query_is_in_two_hands(self) -> None:
        sessions = self.rig.sessions + self.rig.peers
        held = [query for session in sessions for batch in session.in_flight.values() for query in batch.queries]
        held += [query for query in self.rig.asked if query.is_queued]
        assert len(held) == len(set(held))

    @invariant()
    def the_queue_counts_what_waits(self) -> None:
        waiting = [query for query in self.rig.asked if query.is_queued]
        assert not any(query.is_done for query in waiting)
        assert self.rig.dispatch.queue.count == len(waiting)
        assert self.rig.dispatch.queue.input_bytes == sum(len(query.data) for query in waiting)

    @invariant()
    def no_replica_has_more_than_two_batches_or_a_suspect_and_another(self) -> None:
        for session in self.rig.sessions:
            batches = session.in_flight.values()
            assert len(batches) <= 2
            assert len(batches) <= 1 or not any(batch.is_alone for batch in batches)

    def teardown(self) -> None:
        """With good replicas again, everyone who still waits is answered."""
        if not hasattr(self, "rig"):
            return
        for session in list(self.rig.sessions):
            self.rig.lose(session)
        for peer in list(self.rig.peers):
            self.rig.lose_peer(peer)
        self.rig.join()
        self.rig.pump()
        self.rig.work_off()

        assert all(query.is_done for query in self.rig.asked)
        assert not any(app.owed for app in [*self.rig.apps, self.rig.guests])
        assert self.rig.dispatch.queue.count == 0
        self.no_query_is_answered_twice_or_with_another_s_output()


class Often(AnyInterleaving):
    """The same, for longer."""


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = settings(max_examples=8, stateful_step_count=25, deadline=None)
TestManyInterleavings = pytest.mark.slow(pytest.mark.timeout(240)(Often.TestCase))
TestManyInterleavings.settings = settings(max_examples=400, stateful_step_count=60, deadline=None)
