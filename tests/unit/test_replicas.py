"""Which replica gets the next batch."""

from __future__ import annotations

import pytest

from clipper_nomad.protocol.wire import Hello
from clipper_nomad_frontend.replicas import (
    MOST_ASKED,
    STALLED_AFTER_S,
    STALLED_AFTER_TIMES,
    Replica,
    ReplicaSet,
    ReplicaState,
)
from clipper_nomad_frontend.sessions import SessionTable
from tests.unit.queries import endpoint, query

APP = endpoint()


class Team:
    """Replicas with sessions of their own."""

    def __init__(self, count: int) -> None:
        self.sessions = SessionTable(7)
        self.set = ReplicaSet()
        self.members = [self.join(f"r{number}") for number in range(count)]

    def join(self, name: str, *, model: str = "m") -> Replica:
        hello = Hello(model=model, version="1", uid="u", input_type="doubles", replica=name, python="3.11", toolkit="t")
        session = self.sessions.open(b"%d" % len(self.sessions), hello)
        assert session is not None
        replica = Replica(len(self.sessions) - 1, session)
        self.set.add(replica)
        return replica

    def send(self, replica: Replica, *, count: int = 1, at: float = 0.0, expected_s: float = 0.0) -> None:
        self.sessions.begin(replica.session, [query(APP) for _ in range(count)], at, expected_s)
        self.set.used(replica)


def test_first_slots_are_filled_before_any_second_slot() -> None:
    team = Team(2)

    sent = []
    while (replica := team.set.next_idle()) is not None:
        team.send(replica)
        sent.append(replica)

    assert sent == team.members
    assert team.set.next_second_slot(1) is team.members[0]


def test_the_one_that_rested_longest_is_next() -> None:
    team = Team(3)
    for replica in (team.members[1], team.members[0], team.members[2]):
        team.set.used(replica)

    assert team.set.next_idle() is team.members[1]


def test_a_small_backlog_goes_before_a_long_rest() -> None:
    team = Team(2)
    team.set.used(team.members[1])
    team.members[0].backlog = 2  # of other frontends

    assert team.set.next_idle() is team.members[1]


def test_without_replicas_there_is_no_next() -> None:
    team = Team(0)

    assert team.set.next_idle() is None
    assert team.set.next_second_slot(1) is None
    assert team.set.idle_count() == 0


def test_a_second_slot_is_where_one_batch_is_in_hand() -> None:
    team = Team(1)
    assert team.set.next_second_slot(1) is None

    team.send(team.members[0])
    assert team.set.next_second_slot(1) is team.members[0]
    team.send(team.members[0])
    assert team.set.next_second_slot(1) is None


def test_a_backlog_of_other_frontends_takes_the_second_slot() -> None:
    team = Team(1)
    team.send(team.members[0])

    team.members[0].backlog = 2

    assert team.set.next_second_slot(1) is None
    assert team.set.next_second_slot(2) is team.members[0]


def test_the_second_slot_with_the_smallest_backlog_is_next() -> None:
    team = Team(3)
    for replica, backlog in zip(team.members, (1, 0, 1), strict=True):
        team.send(replica)
        replica.backlog = backlog

    assert team.set.next_second_slot(1) is team.members[1]


def test_a_replica_that_works_on_a_suspect_gets_nothing_else() -> None:
    team = Team(1)
    team.send(team.members[0])

    team.members[0].is_exclusive = True

    assert team.set.next_second_slot(1) is None


def test_a_replica_that_was_asked_to_call_gets_nothing_till_it_does() -> None:
    team = Team(2)

    team.members[0].asked_at = 5.0

    assert team.set.idle_count() == 1
    assert team.set.next_idle() is team.members[1]
    team.send(team.members[1])
    assert team.set.next_idle() is None
    team.send(team.members[0])
    assert team.set.next_second_slot(1) is team.members[1]


def test_who_was_asked_long_ago_may_hang_and_counts_no_more() -> None:
    team = Team(MOST_ASKED)
    team.members[0].asked_at = 5.0
    team.members[1].asked_at = 6.0

    assert team.set.asked() == team.members[:2]
    assert team.set.asked(1) == team.members[:1]
    for replica in team.members[2:]:
        replica.asked_at = 7.0
    assert [team.set.may_ask(1, since) for since in (4.0, 5.0, 6.0)] == [False, True, True]
    assert team.set.may_ask(2, 4.0)
    assert not team.set.may_ask(0, 6.0)


@pytest.mark.parametrize("state", [ReplicaState.STALLED, ReplicaState.DRAINING])
def test_only_ready_replicas_get_work(state: ReplicaState) -> None:
    team = Team(2)

    team.set.set_state(team.members[0], state)

    assert team.set.ready == [team.members[1]]
    assert team.set.idle_count() == 1
    assert team.set.next_idle() is team.members[1]
    team.set.set_state(team.members[0], ReplicaState.READY)
    assert team.set.idle_count() == 2


def test_a_replica_that_left_is_gone() -> None:
    team = Team(1)
    session = team.members[0].session.id

    assert team.set.remove(session) is team.members[0]
    assert team.set.remove(session) is None
    assert not team.set.all
    assert not team.set.ready


def test_the_oldest_batch_tells_its_size_and_when_it_is_overdue() -> None:
    team = Team(1)
    replica = team.members[0]
    assert replica.oldest_size() == 0
    assert replica.stalled_at() is None

    team.send(replica, count=3, at=5.0, expected_s=0.1)
    team.send(replica, count=9, at=5.1, expected_s=10.0)

    assert replica.oldest_size() == 3
    assert replica.stalled_at() == 5.0 + STALLED_AFTER_S
    assert len(replica.in_flight) == 2


def test_a_slow_batch_has_several_times_what_was_expected() -> None:
    team = Team(1)
    team.send(team.members[0], at=5.0, expected_s=3.0)

    assert team.members[0].stalled_at() == 5.0 + STALLED_AFTER_TIMES * 3.0


def test_the_headers_name_model_and_replica() -> None:
    assert Team(1).members[0].headers == b"X-Clipper-Model: m:1\r\nX-Clipper-Replica: r0\r\n"


@pytest.mark.parametrize("name", ["a\r\nSet-Cookie: b=c", "a\r\n\r\n{}", "Größe", "\ud800", "a b\x00\x85\u2028"])
def test_a_peer_cannot_write_headers_by_its_name(name: str) -> None:
    replica = Team(0).join(name, model=name)

    lines = replica.headers.decode("ascii").split("\r\n")

    assert [line.partition(":")[0] for line in lines] == ["X-Clipper-Model", "X-Clipper-Replica", ""]
    assert replica.name.isascii()
    assert replica.name.isprintable()
