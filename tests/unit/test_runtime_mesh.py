"""Which frontends a replica links to, and how it gets there: on a clock that the test moves, against frontends of paper."""

from __future__ import annotations

import itertools
from collections import Counter
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipper_nomad.protocol.links import MOST_LINKS
from clipper_nomad.protocol.wire import MessageType
from clipper_nomad_runtime.link import Way
from clipper_nomad_runtime.mesh import (
    DIRECT_AGAIN_S,
    DIRECT_PATIENCE,
    SEED_PAUSE_S,
    WORKED_PATIENCE,
    Mode,
    wanted_of,
)
from clipper_nomad_runtime.search_pace import SEARCH_EVERY_S, SEARCHES_PER_LINK, SearchPace
from tests.unit.mesh_world import PROXY, World, address_of, names

SEARCHES_AT_ONCE = SEARCHES_PER_LINK * MOST_LINKS

# ---- who is wanted ---------------------------------------------------------------------------------------------------


def test_with_few_frontends_all_are_wanted_and_with_many_eight() -> None:
    assert sorted(wanted_of("r0", names(3))) == names(3)
    assert len(set(wanted_of("r0", names(100)))) == MOST_LINKS


def test_every_frontend_gets_its_share_of_the_replicas() -> None:
    frontends = names(20)

    shares = Counter(each for number in range(500) for each in wanted_of(f"r{number}", frontends))

    fair = 500 * MOST_LINKS / len(frontends)
    assert set(shares) == set(frontends)
    assert 0.75 * fair < min(shares.values())
    assert max(shares.values()) < 1.25 * fair


def test_one_frontend_more_takes_at_most_one_place_of_each_replica() -> None:
    moved = 0
    for number in range(200):
        before = set(wanted_of(f"r{number}", names(20)))
        after = set(wanted_of(f"r{number}", [*names(20), "new"]))
        assert after - before <= {"new"}
        moved += bool(after - before)

    assert moved == pytest.approx(200 * MOST_LINKS / 21, rel=0.25)


def test_the_order_of_a_roster_does_not_matter() -> None:
    assert wanted_of("r0", names(30)) == wanted_of("r0", names(30)[::-1])


# ---- direct ----------------------------------------------------------------------------------------------------------


def test_one_seed_is_enough_to_be_linked_to_all_with_one_dial_each() -> None:
    world = World(address_of("f1"))
    world.start(*names(3))

    world.run(0.0)

    assert world.linked == names(3)
    assert len(world.dials) == 3


def test_seeds_that_are_the_frontends_of_the_roster_are_not_dialled_twice() -> None:
    world = World(*map(address_of, names(3)))
    world.start(*names(3))

    world.run(60.0)

    assert world.linked == names(3)
    assert len(world.dials) == 3


def test_with_many_frontends_a_replica_links_to_its_eight_and_keeps_its_seed() -> None:
    world = World(address_of("f0"))
    world.start(*names(30))

    world.run(60.0)

    assert world.linked == sorted({"f0", *wanted_of("r0", names(30))})
    assert len(world.dials) <= MOST_LINKS + 1


def test_a_new_frontend_is_dialled_at_once() -> None:
    world = World(address_of("f0"))
    world.start("f0")
    world.run(60.0)

    world.start("f1")
    world.run(0.0)

    assert world.linked == ["f0", "f1"]


def test_a_frontend_in_no_roster_any_more_keeps_its_link() -> None:
    world = World(address_of("f0"))
    world.start(*names(3))
    world.run(1.0)

    del world.roster["f1"]
    world.tell()
    world.run(60.0)

    assert world.linked == names(3)


def test_a_lost_frontend_that_a_roster_names_is_dialled_for_ever_and_linked_when_it_is_back() -> None:
    world = World(address_of("f0"), mode=Mode.DIRECT)
    world.start(*names(2))
    world.run(1.0)

    world.kill("f1")
    world.run(600.0)
    assert len(world.dialled(Way.DIRECT, since=2.0)) >= 300
    world.start("f1")
    world.run(2.0)

    assert world.linked == names(2)


def test_a_lost_frontend_that_no_roster_names_is_given_up() -> None:
    world = World(address_of("f0"))
    world.start(*names(2))
    world.run(1.0)

    world.kill("f1", is_forgotten=True)
    world.run(0.0)
    dials = len(world.dials)
    world.run(600.0)

    assert len(world.dials) == dials
    assert world.linked == ["f0"]
    assert len(world.mesh.links) == 1


def test_a_seed_is_dialled_for_ever_though_no_roster_names_it() -> None:
    world = World(address_of("f0"), address_of("f1"))
    world.start("f0")
    world.run(600.0)
    assert max(gap(world.dialled(Way.SEED, since=300.0))) <= SEED_PAUSE_S

    world.start("f1")
    world.run(0.1)

    assert world.linked == names(2)  # its news hasten the seed


def test_cut_off_from_all_every_seed_is_dialled_often() -> None:
    world = World(address_of("f0"), address_of("gone"))
    world.start("f0")
    world.run(600.0)

    world.kill("f0")
    world.run(600.0)

    for seed in (address_of("f0"), address_of("gone")):
        dials = [at for at, address, _ in world.dials if address == seed and at > 610.0]
        assert max(gap(dials)) <= 2.0
    world.start("f0")
    world.run(2.0)
    assert world.linked == ["f0"]


def test_all_frontends_may_be_replaced_behind_a_proxy() -> None:
    world = World(PROXY)
    world.start("a", "b")
    world.run(1.0)

    world.kill("a", is_forgotten=True)
    world.kill("b", is_forgotten=True)
    world.run(10.0)
    world.start("c", "d")
    world.run(3.0)

    assert world.linked == ["c", "d"]


def test_an_address_that_another_frontend_took_is_no_reason_to_storm() -> None:
    world = World(address_of("f0"), mode=Mode.DIRECT)
    world.start(*names(2))
    world.roster["old"] = address_of("f1")

    world.run(60.0)

    assert world.linked == names(2)
    assert len(world.dials) <= 2 + 60


def test_an_alias_of_a_linked_frontend_is_released_and_dialled_when_that_is_lost() -> None:
    world = World(address_of("f0"), PROXY)
    world.start("f0", is_routed=False)
    world.start("f1", is_reachable=False)
    world.routes = ["f0"]
    world.run(0.0)
    assert world.linked == ["f0"]
    dials = world.dialled(Way.SEED)
    world.run(10.0)
    assert world.dialled(Way.SEED) == dials

    world.kill("f0")
    world.routes = ["f1"]
    world.run(1.0)

    assert world.linked == ["f1"]


def gap(times: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


# ---- proxy -----------------------------------------------------------------------------------------------------------


def test_a_proxy_is_dialled_until_all_are_met_and_no_longer() -> None:
    world = World(PROXY, mode=Mode.PROXY)
    world.start(*names(3), is_reachable=False)

    world.run(600.0)

    assert world.linked == names(3)
    assert len(world.dials) <= 6
    assert world.dials[-1][0] < 1.0
    assert {way for _, _, way in world.dials} == {Way.SEED, Way.PROXY}


def test_a_frontend_that_a_proxy_does_not_reach_is_looked_for_within_limits() -> None:
    world = World(PROXY, mode=Mode.PROXY)
    world.start(*names(2), is_reachable=False)
    world.start("hidden", is_reachable=False, is_routed=False)

    world.run(1000.0)

    searches = world.dialled(Way.PROXY)
    assert world.linked == names(2)
    assert len([at for at in searches if at == 0.0]) >= MOST_LINKS
    assert len([at for at in searches if at < 10.0]) <= SEARCHES_AT_ONCE + 10.0 / SEARCH_EVERY_S
    assert len(searches) == pytest.approx(SEARCHES_AT_ONCE + 1000.0 / SEARCH_EVERY_S, abs=2)
    world.routes.append("hidden")
    world.run(2.0 * SEARCH_EVERY_S * 3)
    assert world.linked == ["f0", "f1", "hidden"]


@pytest.mark.parametrize("mode", [Mode.PROXY, Mode.DIRECT])
def test_a_frontend_that_comes_back_under_its_name_is_linked_soon_after_its_peers_say_so(mode: Mode) -> None:
    world = World(PROXY, mode=mode)
    world.start(*names(3), is_reachable=mode is Mode.DIRECT)
    world.run(60.0)
    world.kill("f1")
    world.run(25.0)

    world.start("f1", is_reachable=mode is Mode.DIRECT)  # its peers have a link to it again: the same roster, once more
    world.run(0.5)

    assert world.linked == names(3)


def test_doubles_that_tell_their_roster_are_no_reason_to_hurry() -> None:
    world = World(PROXY, mode=Mode.PROXY)
    world.start("f0", is_reachable=False)
    world.start("hidden", is_reachable=False, is_routed=False)

    world.run(0.5)

    assert len(world.dialled(Way.PROXY)) < SEARCHES_AT_ONCE


def test_frontends_that_come_and_go_do_not_lift_the_limit() -> None:
    world = World(PROXY, mode=Mode.PROXY)
    world.start("f0", is_reachable=False)

    for number in range(100):
        world.start(f"brief{number}", is_reachable=False, is_routed=False)
        world.run(5.0)
        world.kill(f"brief{number}", is_forgotten=True)

    assert len(world.dialled(Way.PROXY)) <= SEARCHES_AT_ONCE + 500.0 / SEARCH_EVERY_S + 1


def test_a_search_in_vain_can_go_on_for_days() -> None:
    pace = SearchPace(MOST_LINKS, jitter=lambda: 0.5)
    now = 0.0
    for _ in range(10_000):
        now = max(now, pace.ready_at(now))
        pace.dialled(now)
        pace.met(is_new=False)

    assert now == pytest.approx((10_000 - SEARCHES_AT_ONCE) * SEARCH_EVERY_S, rel=0.01)
    pace.hurry()
    assert pace.ready_at(now + 3600.0) == -inf


def test_a_proxy_that_learns_its_route_late_is_met_soon_after() -> None:
    world = World(PROXY, mode=Mode.PROXY)
    world.start(*names(2), is_reachable=False)
    world.run(100.0)

    world.start("late", is_reachable=False, is_routed=False)
    world.run(1.0)
    world.routes.append("late")
    world.run(2.0)

    assert "late" in world.linked


def test_a_proxy_without_a_route_is_dialled_ever_less() -> None:
    world = World(PROXY, mode=Mode.PROXY)
    world.start("f0", is_reachable=False)
    world.run(1.0)
    world.routes.clear()

    world.start("f1", is_reachable=False, is_routed=False)
    world.run(1000.0)

    assert min(gap(world.dialled(Way.PROXY, since=200.0))) >= SEED_PAUSE_S / 2
    assert len(world.dialled(Way.PROXY, since=200.0)) >= 800.0 / SEED_PAUSE_S - 1


def test_many_frontends_behind_a_proxy_give_eight_links_soon_and_the_wanted_ones_in_time() -> None:
    world = World(PROXY, mode=Mode.PROXY)
    world.start(*names(40), is_reachable=False)

    world.run(5.0)
    assert MOST_LINKS <= len(world.linked) <= 2 * MOST_LINKS
    world.run(400.0)

    assert set(wanted_of("r0", names(40))) <= set(world.linked)
    assert len(world.linked) <= 2 * MOST_LINKS


# ---- auto ------------------------------------------------------------------------------------------------------------


def test_auto_takes_the_proxy_after_two_failed_dials_and_tries_again_once_a_minute() -> None:
    world = World(PROXY)
    world.start("f0", "f1", is_reachable=False)
    world.start("hidden", is_reachable=False, is_routed=False)

    world.run(1.0)
    assert world.linked == ["f0", "f1"]
    assert {"hidden"} < set(world.mesh.by_proxy)
    direct = [at for at, address, way in world.dials if way is Way.DIRECT and address == address_of("hidden")]
    assert len(direct) == DIRECT_PATIENCE
    world.run(10 * DIRECT_AGAIN_S)
    tries = world.dialled(Way.DIRECT, since=1.0)
    assert 9 <= len(tries) <= 20
    world.alive["hidden"] = address_of("hidden")
    world.run(DIRECT_AGAIN_S)

    assert world.linked == ["f0", "f1", "hidden"]


def test_auto_dials_nobody_through_a_proxy_while_direct_works() -> None:
    world = World(PROXY)
    world.start(*names(5))

    world.run(600.0)

    assert world.linked == names(5)
    assert world.dialled(Way.PROXY) == []
    assert world.mesh.by_proxy == []


def test_an_address_that_worked_is_not_given_up_so_soon() -> None:
    world = World(PROXY)
    world.start(*names(3))
    world.run(1.0)
    lost = next(link.frontend for link in world.mesh.links if link.way is Way.DIRECT)

    world.kill(lost)
    world.run(1.0)
    assert world.dialled(Way.PROXY) == []
    world.run(60.0)

    assert world.dialled(Way.PROXY) != []
    assert WORKED_PATIENCE <= len(world.dialled(Way.DIRECT, since=1.0)) <= WORKED_PATIENCE + 2


def test_a_seed_that_is_a_frontend_is_no_proxy() -> None:
    world = World(address_of("f0"))
    world.start("f0")
    world.start("f1", is_reachable=False)

    world.run(600.0)

    assert world.linked == ["f0"]
    assert world.dialled(Way.PROXY) == []


@pytest.mark.parametrize("mode", Mode)
def test_frontends_that_all_give_the_proxys_address_are_found_too(mode: Mode) -> None:
    world = World(PROXY, mode=mode)
    world.start(*names(5), is_reachable=False)
    world.roster = dict.fromkeys(names(5), PROXY)

    world.run(30.0)

    assert world.linked == names(5)
    assert len(world.dials) <= SEARCHES_AT_ONCE


def test_an_address_that_is_none_is_not_dialled() -> None:
    world = World(PROXY)
    world.start(*names(2))
    world.roster["f0"] = world.roster["f1"] = ""

    world.run(5.0)

    assert world.linked == names(2)
    assert world.dialled(Way.DIRECT) == []


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_it_is_over_when_every_frontend_refused_for_good() -> None:
    world = World(address_of("f0"), address_of("f1"))
    world.start(*names(2))
    world.refuses = set(names(2))

    world.run(0.0)

    assert world.mesh.is_over
    assert (world.mesh.refusal, world.mesh.was_sent_away) == ("no such version", False)


def test_one_refusal_is_not_the_end_and_that_frontend_is_left_alone() -> None:
    world = World(address_of("f0"))
    world.start(*names(2))
    world.refuses = {"f1"}

    world.run(600.0)

    assert world.linked == ["f0"]
    assert not world.mesh.is_over
    assert len(world.dials) == 2


def test_it_is_over_when_every_frontend_sent_the_replica_away() -> None:
    world = World(PROXY)
    world.start(*names(3))
    world.run(1.0)

    for frontend in names(3):
        assert not world.mesh.is_over
        world.finish(world.links_to(frontend)[0], MessageType.DRAIN)
        world.run(1.0)

    assert world.mesh.is_over
    assert world.mesh.was_sent_away
    assert world.mesh.due == inf


# ---- whatever happens ------------------------------------------------------------------------------------------------

EVENTS = st.one_of(
    st.tuples(st.just("start"), st.integers(0, 11), st.booleans()),
    st.tuples(st.just("kill"), st.integers(0, 11), st.booleans()),
    st.tuples(st.just("wait"), st.integers(0, 20), st.just(value=True)),
)


@settings(max_examples=60, deadline=None)
@given(mode=st.sampled_from(Mode), events=st.lists(EVENTS, max_size=15), most=st.sampled_from([2, 3, MOST_LINKS]))
def test_whatever_happens_no_working_link_is_closed_and_the_mesh_becomes_whole(
    mode: Mode, events: list[tuple[str, int, bool]], most: int
) -> None:
    world = World(PROXY, mode=mode, most=most)
    world.start("f0")
    for kind, number, flag in events:
        frontend = f"f{number}"
        if kind == "wait":
            world.run(number / 4)
        elif kind == "start" and frontend not in world.alive:
            world.start(frontend, is_reachable=flag or mode is Mode.DIRECT)
        elif kind == "kill" and frontend in world.alive and len(world.alive) > 1:
            world.kill(frontend, is_forgotten=flag)

    world.roster = {frontend: address_of(frontend) for frontend in world.alive}
    world.tell()
    world.run(300.0)

    assert set(wanted_of("r0", list(world.alive), most=most)) <= set(world.linked)
    assert len(set(world.linked)) == len(world.linked)
    assert len(world.dialled(Way.PROXY)) <= SEARCHES_AT_ONCE + world.now / SEARCH_EVERY_S + 1
