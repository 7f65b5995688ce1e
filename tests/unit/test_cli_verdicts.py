"""What doctor says: well, a doubt or a problem, with why and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from clipper_nomad.cli.doctor import lines_of
from clipper_nomad.cli.on_nomad import verdicts
from clipper_nomad.cli.on_nomad.verdicts import Needs, Verdict
from clipper_nomad.cluster.rollout.capacity import Room
from clipper_nomad.cluster.route_claims import RouteClaim, RouteClash
from clipper_nomad.errors import ClipperException, FabioUnreachable

URL = "http://10.0.0.5:4646"
NEEDS = Needs(cpu_mhz=1500, memory_mib=768, largest_cpu_mhz=500, largest_memory_mib=256)


def room(cpu: int, memory: int) -> Room:
    return Room(
        client="c1", datacenter="dc1", node_pool="default", cpu_mhz=cpu, memory_mib=memory, all_cpu_mhz=9, all_memory_mib=9
    )


def node(**more: Any) -> dict[str, Any]:
    well = {"Status": "ready", "SchedulingEligibility": "eligible", "Datacenter": "dc1", "NodePool": "default"}
    return well | {"Drivers": {"docker": {"Healthy": True}}} | more


def test_nomad_is_well_with_a_leader_and_a_token_where_one_is_wanted() -> None:
    for has_token, needs_token in ((False, False), (True, True)):
        verdict = verdicts.nomad_verdict(URL, version="1.11", leader="a:1", has_token=has_token, needs_token=needs_token)
        assert verdict.level == "well"
        assert "1.11  http://10.0.0.5:4646  leader a:1" in verdict.text


def test_nomad_without_a_leader_or_without_the_token_it_wants_is_a_problem() -> None:
    leaderless = verdicts.nomad_verdict(URL, version="", leader="", has_token=True, needs_token=True)
    tokenless = verdicts.nomad_verdict(URL, version="1.11", leader="a:1", has_token=False, needs_token=True)

    assert (leaderless.level, "no leader" in leaderless.text) == ("problem", True)
    assert (tokenless.level, tokenless.fix) == ("problem", "Set NOMAD_TOKEN.")


def test_a_nomad_without_acls_is_a_doubt_but_on_loopback() -> None:
    opened = verdicts.open_nomad_verdict(URL, host="10.0.0.5")

    assert opened is not None
    assert opened.level == "doubt"
    assert verdicts.open_nomad_verdict("http://127.0.0.1:4646", host="127.0.0.1") is None


@pytest.mark.parametrize(
    ("nodes", "pool", "level", "said"),
    [
        ([node(), node(Status="down")], None, "well", "1 of 2 ready, with Docker, in dc1"),
        ([node(Drivers={})], None, "problem", "no client has a healthy Docker driver"),
        ([node(Datacenter="dc2")], None, "problem", "no client is in datacenter dc1"),
        ([node()], "gpu", "problem", "no client is in datacenter dc1, node pool gpu"),
        ([node(SchedulingEligibility="ineligible")], None, "problem", "none of 1 clients takes jobs"),
        ([], None, "problem", "none of 0 clients takes jobs"),
    ],
)
def test_clients_are_ready_have_docker_and_are_in_the_datacenter(
    nodes: list[dict[str, Any]], pool: str | None, level: str, said: str
) -> None:
    verdict = verdicts.clients_verdict(nodes, ("dc1",), pool)

    assert (verdict.level, verdict.text) == (level, said)


@pytest.mark.parametrize(
    ("rooms", "running", "level"),
    [
        ([room(2000, 1000)], 0, "well"),
        ([room(800, 1000), room(800, 1000)], 0, "well"),
        ([room(400, 1000)] * 4, 0, "problem"),  # enough in all, and none of them has room for one part
        ([room(1000, 1000)], 0, "problem"),
        ([room(0, 0)], 1, "well"),
        ([], 0, "problem"),
        (None, 0, "doubt"),
    ],
)
def test_room_is_judged_in_all_and_for_the_largest_part(rooms: list[Room] | None, running: int, level: str) -> None:
    assert verdicts.room_verdict(rooms, NEEDS, runs=running > 0).level == level


def test_a_missing_tcp_listener_is_named_with_the_option_that_fixes_it() -> None:
    verdict = verdicts.tcp_listener_verdict("10.0.0.5:7000", 7000, FabioUnreachable("no"))

    assert verdict.text == "no listener for TCP 7000 at 10.0.0.5:7000"
    assert verdict.why == "model containers reach the query frontends through it"
    assert "`,:7000;proto=tcp` to Fabio's -proxy.addr" in verdict.fix
    assert verdicts.tcp_listener_verdict("10.0.0.5:7000", 7000, None).level == "well"


def test_a_route_that_somebody_holds_is_named_with_its_holder() -> None:
    wanted = RouteClaim(source="/clipper/", service="ours")
    clash = RouteClash(wanted=wanted, holder=RouteClaim(source="/clipper/", service="theirs"))

    verdict = verdicts.routes_verdict([clash, clash])

    assert verdict.level == "problem"
    assert "'theirs' holds /clipper/" in verdict.text
    assert verdicts.routes_verdict([]).level == "well"


def test_dns_that_is_not_forwarded_is_a_doubt_as_nothing_here_needs_it() -> None:
    assert verdicts.dns_verdict(is_forwarded=True).level == "well"
    assert verdicts.dns_verdict(is_forwarded=False, error="timed out").why == "timed out"


def test_fabios_own_pages_are_a_doubt_but_on_loopback() -> None:
    assert verdicts.exposed_fabio_verdict("127.0.0.1", 9998) is None
    exposed = verdicts.exposed_fabio_verdict("10.0.0.5", 9998)
    assert exposed is not None
    assert "-ui.addr 127.0.0.1:9998" in exposed.fix


@pytest.mark.parametrize(
    ("registry", "missing", "clients", "level", "fix"),
    [
        ("r", {}, 3, "well", ""),
        ("", {}, 1, "well", ""),
        ("", {}, 2, "problem", "Name one: --registry"),
        ("r", {"admin": "not found"}, 1, "problem", "clipper-nomad images push --registry r"),
        ("", {"admin": "not found"}, 1, "problem", "clipper-nomad images build"),
    ],
)
def test_images_are_there_or_the_command_that_makes_them_is_told(
    registry: str, missing: dict[str, str], clients: int, level: str, fix: str
) -> None:
    verdict = verdicts.registry_verdict(registry, missing, clients=clients)

    assert verdict.level == level
    assert verdict.fix.startswith(fix)


@pytest.mark.parametrize(("instances", "level"), [(2, "well"), (None, "well"), (0, "problem")])
def test_an_address_that_only_replicas_dial_is_judged_by_what_consul_knows(instances: int | None, level: str) -> None:
    verdict = verdicts.inside_fabio_verdict("fabio.service.consul:7000", instances=instances)

    assert verdict.level == level
    assert ("CLIPPER_FABIO_TCP" in verdict.fix) == (level == "problem")


def test_consul_and_docker_are_judged() -> None:
    assert verdicts.consul_verdict(URL, version="1.21", leader="a").level == "well"
    assert verdicts.consul_verdict(URL, version="1.21", leader="").level == "problem"
    assert verdicts.docker_verdict(None).level == "well"
    assert verdicts.docker_verdict(ClipperException("no Docker", hint="old")).fix.startswith("Needed to build")
    assert verdicts.docker_verdict(ClipperException("no Docker"), is_needed=False).level == "doubt"


def test_a_verdict_is_shown_with_its_area_once_and_why_and_fix_below() -> None:
    verdict = Verdict(area="Fabio", level="problem", text="no listener", why="it is needed", fix="add it")

    first, why, fix = (line.plain for line in lines_of(verdict, is_same_area=False))

    assert (first, why, fix) == ("Fabio     ✖ no listener", "          why   it is needed", "          fix   add it")
    assert lines_of(verdict, is_same_area=True)[0].plain == "          ✖ no listener"
