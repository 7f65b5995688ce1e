"""The outside judge knows who was healthy from what was done alone, and can convict."""

from __future__ import annotations

import pytest

from benchmarks.acts import Act, Done, Kind
from benchmarks.truth_health import LINKED_S, PROXY, PROXY_STARTUP_S, SEEN_S, STANDS_S, STARTUP_S, TOLD_S, Health

UID = "uid"
ENOUGH_S = LINKED_S + TOLD_S + SEEN_S + 0.1


def a_mesh(*, replicas: int = 1) -> Health:
    """Return three frontends and replicas of one version, all up since long ago at time 100."""
    names = [f"r{number}" for number in range(replicas)]
    health = Health(replicas=dict.fromkeys(names, UID), frontends=["f0", "f1", "f2"])
    for name in ("f0", "f1", "f2", PROXY, *names):
        health.started(name, 0.0)
    return health


def act(health: Health, kind: Kind, target: str, *links: str, at: float, for_s: float = 0.0) -> None:
    health.acted(Done(Act(at_s=0.0, kind=kind, target=target, for_s=for_s, links=links), at, at + for_s))


def parted(health: Health, *links: str, at: float, for_s: float) -> None:
    act(health, Kind.CUT_OFF, "f0", *links, at=at, for_s=for_s)


PEERS = ("f0>f1", "f1>f0", "f0>f2", "f2>f0")


def test_a_replica_that_nothing_was_done_to_is_healthy_for_every_frontend() -> None:
    health = a_mesh()

    for frontend in ("f0", "f1", "f2"):
        assert health.witness(UID, frontend, 100.0) == "r0 was at one of f0, f1, f2"
        assert health.is_open(UID, frontend, 100.0)


def test_of_another_version_nobody_is_healthy() -> None:
    assert a_mesh().witness("another", "f0", 100.0) is None


@pytest.mark.parametrize("kind", [Kind.KILL_REPLICA, Kind.RESTART_REPLICA])
def test_a_replica_that_was_ended_is_healthy_again_once_it_has_started_and_linked(kind: Kind) -> None:
    health = a_mesh()
    act(health, kind, "r0", at=100.0)

    assert health.witness(UID, "f0", 99.9)
    assert health.witness(UID, "f0", 500.0) is None, "it was not started again"

    health.started("r0", 101.0)
    assert health.witness(UID, "f0", 101.0 + STARTUP_S + LINKED_S) is None
    assert health.witness(UID, "f0", 101.0 + STARTUP_S + ENOUGH_S)


def test_a_replica_that_ended_by_itself_was_not_healthy_just_before_that_was_seen() -> None:
    health = a_mesh()
    health.ended("r0", 100.0)

    assert health.witness(UID, "f0", 99.9) is None


def test_a_start_does_not_undo_an_end_that_came_after_it() -> None:
    health = a_mesh()
    act(health, Kind.KILL_REPLICA, "r0", at=100.2)
    health.started("r0", 100.1)  # noticed later than done

    assert health.witness(UID, "f0", 200.0) is None


def test_another_replica_of_the_version_is_as_good() -> None:
    health = a_mesh(replicas=2)
    act(health, Kind.KILL_REPLICA, "r0", at=100.0)

    assert health.witness(UID, "f0", 100.1) == "r1 was at one of f0, f1, f2"


@pytest.mark.parametrize("target", ["r0", "f0"])
def test_who_was_stopped_is_healthy_some_time_after_it_goes_on(target: str) -> None:
    health = a_mesh()
    act(health, Kind.STOP_REPLICA if target == "r0" else Kind.STOP_FRONTEND, target, at=100.0, for_s=2.0)

    assert health.witness(UID, "f0", 101.0) is None
    assert health.witness(UID, "f0", 102.0 + LINKED_S) is None
    assert health.witness(UID, "f0", 102.0 + ENOUGH_S)


def test_a_frontend_that_is_parted_from_a_replica_has_it_by_a_peer() -> None:
    health = a_mesh()
    parted(health, "r0>f0", at=100.0, for_s=10.0)

    assert health.witness(UID, "f0", 105.0) == "r0 was at one of f1, f2"
    assert not health.is_open(UID, "f0", 105.0)


def test_a_frontend_that_is_parted_from_replicas_and_peers_has_nobody() -> None:
    health = a_mesh()
    parted(health, "r0>f0", *PEERS, at=100.0, for_s=10.0)

    assert health.witness(UID, "f0", 105.0) is None
    assert health.witness(UID, "f1", 105.0), "the others still have it"
    assert health.witness(UID, "f0", 110.0 + ENOUGH_S)


@pytest.mark.parametrize("link", ["f0>f1", "f1>f0"])
def test_both_directions_to_wherever_the_replica_may_be_must_be_open(link: str) -> None:
    health = a_mesh()
    parted(health, "r0>f0", link, at=100.0, for_s=10.0)

    assert health.witness(UID, "f0", 105.0) is None
    assert health.witness(UID, "f2", 105.0) == "r0 was at one of f1, f2"


def test_a_replica_that_most_frontends_refuse_may_be_nowhere() -> None:
    health = a_mesh()
    parted(health, "r0>f1", "r0>f2", at=100.0, for_s=10.0)

    assert health.witness(UID, "f0", 105.0) is None
    assert health.is_open(UID, "f0", 105.0)


def test_a_replica_whose_dials_may_wait_in_a_black_hole_may_be_nowhere() -> None:
    health = a_mesh()
    act(health, Kind.BLACK_HOLE, "f1", "r0>f1", at=100.0, for_s=10.0)

    assert health.witness(UID, "f0", 105.0) is None


def test_a_replica_whose_connection_stands_is_there_whatever_befell_its_other_ways() -> None:
    health = a_mesh()
    health.connected("r0>f1", 7, 50.0)
    act(health, Kind.BLACK_HOLE, "f0", "r0>f0", "r0>f2", at=100.0, for_s=20.0)

    assert health.witness(UID, "f0", 110.0) == "r0 was at f1"
    assert health.witness(UID, "f1", 110.0) == "r0 was at f1"
    parted(health, *PEERS, at=111.0, for_s=5.0)
    assert health.witness(UID, "f0", 112.0) is None
    assert health.witness(UID, "f1", 112.0) == "r0 was at f1"

    health.disconnected("r0>f1", 7, 118.0)
    assert health.witness(UID, "f1", 119.0) is None


def test_a_connection_that_was_just_made_or_whose_way_is_in_trouble_does_not_count() -> None:
    health = a_mesh()
    act(health, Kind.BLACK_HOLE, "f2", "r0>f2", at=90.0, for_s=50.0)
    health.connected("r0>f0", 1, 100.0)

    assert health.witness(UID, "f0", 100.0 + STANDS_S - 0.1) is None
    assert health.witness(UID, "f0", 100.0 + STANDS_S) == "r0 was at f0"

    act(health, Kind.FREEZE_LINK, "r0>f0", "r0>f0", at=110.0, for_s=1.0)
    assert health.witness(UID, "f0", 110.1) is None


def test_with_the_proxy_its_connections_end() -> None:
    health = a_mesh()
    act(health, Kind.BLACK_HOLE, "f2", "r0>f2", at=90.0, for_s=50.0)
    health.connected("r0>f0", 1, 95.0)
    act(health, Kind.KILL_PROXY, PROXY, at=110.0)
    health.started(PROXY, 111.0)

    assert health.witness(UID, "f0", 130.0) is None


def test_a_frontend_that_is_away_keeps_no_replica_from_the_others() -> None:
    health = a_mesh()
    act(health, Kind.KILL_FRONTEND, "f1", at=100.0)

    assert health.witness(UID, "f0", 100.1) is None, "the replica may have been there"
    assert health.witness(UID, "f0", 100.0 + ENOUGH_S) == "r0 was at one of f0, f2"

    health.started("f1", 110.0)
    assert health.witness(UID, "f0", 110.1) is None, "it may be met now, and then lost"
    assert health.witness(UID, "f1", 110.0 + STARTUP_S + ENOUGH_S)


@pytest.mark.parametrize("kind", [Kind.KILL_PROXY, Kind.RESTART_PROXY])
def test_without_the_proxy_nobody_is_linked(kind: Kind) -> None:
    health = a_mesh()
    act(health, kind, PROXY, at=100.0)
    assert health.witness(UID, "f0", 100.1) is None

    health.started(PROXY, 101.0)
    assert health.witness(UID, "f0", 101.0 + PROXY_STARTUP_S + ENOUGH_S)


@pytest.mark.parametrize("kind", [Kind.BREAK_LINK, Kind.CUT_LINK, Kind.SPLICE_LINK])
def test_a_link_that_was_broken_needs_time_to_be_made_again(kind: Kind) -> None:
    health = a_mesh()
    for frontend in ("f0", "f1", "f2"):
        act(health, kind, f"r0>{frontend}", f"r0>{frontend}", at=100.0)

    assert health.witness(UID, "f0", 100.1) is None
    assert health.witness(UID, "f0", 100.0 + LINKED_S) is None
    assert health.witness(UID, "f0", 111.0)


def test_an_upstream_that_the_proxy_does_not_lead_to_has_replicas_only_by_peers() -> None:
    health = a_mesh()
    act(health, Kind.MOVE_UPSTREAM, "f0", "r0>f0", at=100.0, for_s=20.0)
    assert health.witness(UID, "f0", 110.0) == "r0 was at one of f1, f2"

    parted(health, *PEERS, at=111.0, for_s=9.0)
    assert health.witness(UID, "f0", 115.0) is None


def test_nothing_is_held_against_anybody_while_the_machine_stood_still() -> None:
    health = a_mesh()
    health.stood_still(100.0, 101.0)

    assert health.witness(UID, "f0", 102.0) is None
    assert health.witness(UID, "f0", 101.0 + ENOUGH_S)
    assert health.stood_still_s == 1.0


def test_what_is_long_past_is_forgotten_and_what_lasts_is_not() -> None:
    health = a_mesh(replicas=2)
    act(health, Kind.KILL_REPLICA, "r0", at=100.0)
    for number in range(1000):
        act(health, Kind.BREAK_LINK, "r1>f0", "r1>f0", at=200.0 + number)
        act(health, Kind.STOP_REPLICA, "r0", at=200.0 + number)

    assert health.witness(UID, "f1", 1300.0) == "r1 was at one of f0, f1, f2"
