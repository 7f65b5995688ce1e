"""Whose batch a replica works on next: who waits longest is called, and nobody who does not answer holds up the others."""

from __future__ import annotations

from collections import Counter
from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clipper_nomad.protocol.links import BOUND_BELOW_S
from clipper_nomad.protocol.wire import (
    MessageType,
    Welcome,
    encode_ask,
    encode_control,
    encode_introduction,
    encode_predict,
    header_of,
)
from clipper_nomad_runtime.line import ALONE_AFTER, CALL_S, Line
from clipper_nomad_runtime.link import Link, Stage

EPOCH = 7
SLOW_S = 10 * BOUND_BELOW_S


class Replica:
    """A line with open links, whose frontends a test plays."""

    def __init__(self, links: int) -> None:
        self.now = 100.0
        self.dropped: Counter[str] = Counter()
        self.calls: list[tuple[Link, int]] = []
        self.line = Line(self._send, self.dropped)
        self.links = [self._open(session) for session in range(1, links + 1)]
        self._batches = 0

    def _open(self, session: int) -> Link:
        link = Link("ipc:///f", jitter=lambda: 1.0, dropped=self.dropped)
        self.reopen(link, session)
        return link

    def reopen(self, link: Link, session: int) -> None:
        link.dialled(self.now)
        link.greeted(self.now)
        welcome = encode_introduction(MessageType.WELCOME, Welcome(frontend="f", toolkit="0"), epoch=EPOCH, session=session)
        self._take(link, welcome)

    def _send(self, link: Link, frames: list[bytes]) -> None:
        header = header_of(frames[0])
        assert header.type is MessageType.FREE
        assert (header.epoch, header.session) == link.identity
        self.calls.append((link, header.batch))

    def _take(self, link: Link, frames: list[bytes]) -> None:
        link.take(frames, asked=self.now, read=self.now)

    def ask(self, link: Link, *, waited_s: float = 0.0) -> None:
        epoch, session = link.identity
        self._take(link, encode_ask(epoch=epoch, session=session, waited_micros=round(waited_s * 1e6)))

    def answer_pass(self, link: Link, call: int) -> None:
        epoch, session = link.identity
        self._take(link, encode_control(MessageType.PASS, epoch=epoch, session=session, batch=call))

    def predict(self, link: Link) -> None:
        epoch, session = link.identity
        self._batches += 1
        self._take(
            link,
            encode_predict(epoch=epoch, session=session, batch=self._batches, input_type=3, item_length=0, budget_micros=1,
                           inputs=[b""]),
        )  # fmt: skip

    def next(self) -> Link | None:
        return self.line.next(self.links, self.now)

    def begin(self) -> Link | None:
        """Take the next batch away, as the loop does."""
        link = self.next()
        if link is not None:
            link.batches.popleft()
        return link

    def work(self, link: Link, seconds: float = SLOW_S) -> bool:
        """Work on a batch; return whether its frontend is to ask first."""
        self.now += seconds
        return self.line.ended(self.links, link, seconds)

    def learn(self, seconds: float = SLOW_S) -> None:
        """Work for everyone in turn."""
        for _ in range(8):
            for link in self.links:
                self.work(link, seconds)


def test_uncalled_batches_take_turns_by_link() -> None:
    replica = Replica(3)
    first, second, third = replica.links
    for link in (first, first, second, third):
        replica.predict(link)

    assert [replica.begin() for _ in range(5)] == [first, second, third, first, None]


def test_who_asks_is_called_once_and_its_batch_is_next() -> None:
    replica = Replica(2)
    first, second = replica.links
    replica.ask(second)

    assert replica.next() is None
    assert replica.calls == [(second, 1)]
    assert replica.next() is None
    replica.predict(first)  # uncalled: the one who was called is not kept waiting for it
    assert replica.next() is None
    replica.predict(second)

    assert replica.begin() is second
    assert replica.line.call_ends == inf
    assert replica.begin() is first
    assert len(replica.calls) == 1


def test_the_one_whose_query_waits_longest_is_called_first() -> None:
    replica = Replica(3)
    first, second, third = replica.links
    replica.ask(first, waited_s=0.1)
    replica.ask(second, waited_s=0.3)
    replica.now += 0.5
    replica.ask(third, waited_s=0.7)

    order = []
    for _ in replica.links:
        replica.next()
        link, call = replica.calls[-1]
        order.append(link)
        replica.answer_pass(link, call)

    assert order == [second, third, first]


def test_an_ask_that_is_repeated_tells_what_waits_now() -> None:
    replica = Replica(2)
    first, second = replica.links
    replica.ask(first, waited_s=5.0)
    replica.ask(second, waited_s=1.0)
    replica.ask(first)

    replica.next()

    assert replica.calls == [(second, 1)]


def test_a_batch_that_came_before_the_query_of_an_ask_goes_first() -> None:
    replica = Replica(2)
    first, second = replica.links
    replica.predict(first)
    replica.now += 1.0
    replica.ask(second, waited_s=0.5)

    assert replica.begin() is first
    assert replica.next() is None
    assert replica.calls == [(second, 1)]


def test_after_a_pass_the_next_is_called_at_once() -> None:
    replica = Replica(2)
    first, second = replica.links
    replica.ask(first, waited_s=1.0)
    replica.ask(second)
    replica.next()

    replica.answer_pass(first, 1)

    assert not replica.line.is_calling
    assert replica.next() is None
    assert replica.calls == [(first, 1), (second, 2)]


def test_who_withdraws_is_not_called() -> None:
    replica = Replica(1)
    (link,) = replica.links
    replica.ask(link)

    replica.answer_pass(link, 0)

    assert replica.next() is None
    assert not replica.calls


def test_a_frontend_that_stands_still_loses_its_turn_and_its_late_batch_is_done_all_the_same() -> None:
    replica = Replica(2)
    stopped, other = replica.links
    replica.ask(stopped, waited_s=1.0)
    replica.ask(other)
    replica.next()
    replica.now += CALL_S / 2
    assert replica.next() is None
    assert replica.line.is_calling

    replica.now = replica.line.call_ends
    assert replica.next() is None
    assert replica.calls == [(stopped, 1), (other, 2)]
    assert replica.dropped == {"missed call": 1}
    replica.predict(other)
    assert replica.begin() is other

    replica.predict(stopped)
    assert replica.begin() is stopped


def test_a_pass_that_comes_late_answers_no_later_call() -> None:
    replica = Replica(1)
    (link,) = replica.links
    replica.ask(link)
    replica.next()
    replica.now += CALL_S
    replica.ask(link)
    replica.next()
    assert [call for _, call in replica.calls] == [1, 2]

    replica.answer_pass(link, 1)

    assert link.call == 2
    assert replica.dropped == {"missed call": 1, "late pass": 1}
    replica.answer_pass(link, 2)
    assert link.call == 0
    replica.answer_pass(link, 2)
    assert replica.dropped == {"missed call": 1, "late pass": 2}


def test_whoever_was_called_and_is_lost_is_not_waited_for() -> None:
    replica = Replica(2)
    lost, other = replica.links
    replica.ask(lost, waited_s=1.0)
    replica.ask(other)
    replica.next()

    lost.lost(replica.now)

    assert not replica.line.is_calling
    replica.next()
    assert replica.calls == [(lost, 1), (other, 2)]
    assert not replica.dropped
    replica.reopen(lost, 9)
    assert lost.waits_since is None


@pytest.mark.parametrize("kind", [MessageType.DRAIN, None])
def test_nobody_is_called_on_a_link_that_is_being_left(kind: MessageType | None) -> None:
    replica = Replica(1)
    (link,) = replica.links
    replica.ask(link)

    if kind is None:
        link.released()
    else:
        epoch, session = link.identity
        link.take(encode_control(kind, epoch=epoch, session=session), asked=0.0, read=0.0)
    replica.ask(link)

    assert replica.next() is None
    assert not replica.calls


def test_only_who_shares_a_slow_replica_is_to_ask_first() -> None:
    alone, shared, quick = Replica(1), Replica(2), Replica(2)
    alone.learn()
    shared.learn()
    quick.learn(BOUND_BELOW_S / 2)

    assert not alone.work(alone.links[0])
    assert shared.work(shared.links[0])
    assert not quick.work(quick.links[0], BOUND_BELOW_S / 2)


def test_a_frontend_that_is_the_only_one_with_work_need_not_ask() -> None:
    replica = Replica(2)
    first, second = replica.links
    replica.learn()

    said = [replica.work(first) for _ in range(ALONE_AFTER)]

    assert said == [True] * (ALONE_AFTER - 1) + [False]
    replica.ask(second)
    assert replica.work(first)


def test_a_link_that_gives_no_work_any_more_is_none_to_share_with() -> None:
    replica = Replica(2)
    replica.learn()

    replica.links[1].released()

    assert replica.links[1].stage is Stage.RELEASING
    assert not replica.work(replica.links[0])


class AnyOrder(RuleBasedStateMachine):
    """Asks, batches, passes true and forged, losses and time in any order: nobody waits for ever."""

    @initialize(links=st.integers(1, 4))
    def begin(self, links: int) -> None:
        self.replica = Replica(links)
        self.sessions = links
        self.sent = self.done = self.forgotten = 0

    def pick(self, pick: int) -> Link:
        return self.replica.links[pick % len(self.replica.links)]

    @rule(pick=st.integers(0, 3), waited_s=st.sampled_from([0.0, 0.01, 5.0]))
    def ask(self, pick: int, waited_s: float) -> None:
        self.replica.ask(self.pick(pick), waited_s=waited_s)

    @rule(pick=st.integers(0, 3), back=st.integers(-1, 3))
    def answer_pass(self, pick: int, back: int) -> None:
        self.replica.answer_pass(self.pick(pick), max(0, len(self.replica.calls) - back))

    @rule(pick=st.integers(0, 3))
    def predict(self, pick: int) -> None:
        self.sent += 1
        self.replica.predict(self.pick(pick))

    @rule(pick=st.integers(0, 3))
    def lose(self, pick: int) -> None:
        link = self.pick(pick)
        self.forgotten += link.lost(self.replica.now)
        self.sessions += 1
        self.replica.reopen(link, self.sessions)

    @rule()
    def turn(self) -> None:
        link = self.replica.begin()
        if link is not None:
            self.done += 1
            self.replica.work(link)

    @rule(seconds=st.sampled_from([0.001, CALL_S]))
    def wait(self, seconds: float) -> None:
        self.replica.now += seconds

    @precondition(lambda self: any(link.backlog for link in self.replica.links) and not self.replica.line.is_calling)
    @rule()
    def what_waits_is_begun_or_called_at_once(self) -> None:
        calls = len(self.replica.calls)
        link = self.replica.begin()
        self.done += link is not None
        assert (link is not None) + (len(self.replica.calls) - calls) == 1

    @invariant()
    def at_most_one_is_called(self) -> None:
        assert sum(link.call > 0 for link in self.replica.links) <= 1

    def teardown(self) -> None:
        """In the end every batch that was not forgotten is done, and everyone who asked was called."""
        if not hasattr(self, "replica"):
            return
        for _ in range(4 * (self.sent + 8)):
            if self.replica.begin() is not None:
                self.done += 1
            self.replica.now += CALL_S
        assert self.done == self.sent - self.forgotten
        assert not any(link.backlog for link in self.replica.links)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
