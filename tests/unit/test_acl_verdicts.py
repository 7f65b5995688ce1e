"""What doctor says of tokens: what they lack, what they have too much, when they end; and the commands that mend it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clipper_nomad.cli.on_nomad import acl_verdicts
from clipper_nomad.cli.on_nomad.verdicts import Verdict
from clipper_nomad.cluster.rights import Lack

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TOKEN = {"Type": "client", "AccessorID": "a-1", "Policies": ["devs"]}
READS = {"AccessorID": "c-1", "Policies": [{"ID": "p", "Name": "reads"}]}


def of_nomad(token: dict[str, Any], *lacks: Lack) -> list[Verdict]:
    return list(
        acl_verdicts.nomad_token_verdicts(
            token, lacks, policy_command="clipper-nomad policy nomad-toolkit", policy_name="clipper-b", now=NOW
        )
    )


def test_a_token_with_every_right_is_well() -> None:
    assert [each.level for each in of_nomad(TOKEN)] == ["well"]


def test_each_right_that_is_missing_is_a_line_with_what_fails_and_what_mends_it() -> None:
    found = of_nomad(TOKEN, Lack("write on X", "`up` fails"), Lack("node read", "room is not seen", is_tolerable=True))

    assert [(each.level, each.text, each.why) for each in found] == [
        ("problem", "NOMAD_TOKEN lacks: write on X", "`up` fails"),
        ("doubt", "NOMAD_TOKEN lacks: node read", "room is not seen"),
    ]
    assert found[0].fix == (
        "clipper-nomad policy nomad-toolkit | nomad acl policy apply clipper-b - && "
        "nomad acl token update -policy devs -policy clipper-b a-1"
    )


def test_a_token_that_has_the_policy_already_only_needs_the_policy_anew() -> None:
    (found,) = of_nomad(TOKEN | {"Policies": ["clipper-b"]}, Lack("write on X", "`up` fails"))

    assert found.fix == "clipper-nomad policy nomad-toolkit | nomad acl policy apply clipper-b -"


def test_a_management_token_is_a_hint_and_no_failure() -> None:
    (nomads,) = of_nomad({"Type": "management"})
    (consuls,) = acl_verdicts.consul_token_verdicts(
        {"Policies": [{"ID": acl_verdicts.CONSUL_MANAGEMENT}]}, ["services"], now=NOW
    )

    assert (nomads.level, consuls.level) == ("doubt", "doubt")
    assert "nomad acl token create" in nomads.fix
    assert "consul acl token create" in consuls.fix


@pytest.mark.parametrize(("hidden", "level"), [([], "well"), (["services"], "problem"), (["services", "nodes"], "problem")])
def test_a_token_of_consuls_must_show_everything(hidden: list[str], level: str) -> None:
    (found,) = acl_verdicts.consul_token_verdicts(READS, hidden, now=NOW)

    assert found.level == level
    assert all(each in found.text for each in hidden)
    assert ("-id c-1" in found.fix) is bool(hidden)


def test_what_who_has_no_token_may_not_read_is_a_doubt() -> None:
    well = acl_verdicts.anonymous_verdict([])
    found = acl_verdicts.anonymous_verdict(["clipper-b-redis", "nodes"])

    assert well.level == "well"
    assert (found.level, found.text) == ("doubt", "who has no token may not read clipper-b-redis and nodes")
    assert "consul acl token update -id anonymous" in found.fix


@pytest.mark.parametrize(
    ("left", "level", "said"),
    [
        (timedelta(days=3), None, ""),
        (timedelta(hours=3, minutes=5), "doubt", "2026-11-23 15:05 UTC, in 3 h 5 min"),
        (timedelta(seconds=-5), "problem", "in 0 h 0 min"),
    ],
)
def test_a_token_that_ends_within_a_day_is_told(left: timedelta, level: str | None, said: str) -> None:
    token = {"ExpirationTime": (NOW + left).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")}

    found = list(acl_verdicts.expiry_verdicts("Nomad", "NOMAD_TOKEN", token, now=NOW))

    assert [each.level for each in found] == ([] if level is None else [level])
    assert all(said in each.text for each in found)


def test_a_token_that_never_ends_and_a_service_that_is_routed_give_no_line() -> None:
    assert list(acl_verdicts.expiry_verdicts("Nomad", "NOMAD_TOKEN", {}, now=NOW)) == []
    assert acl_verdicts.unrouted_verdict([], routes=1) is None


def test_a_service_without_a_route_is_fabios_problem() -> None:
    found = acl_verdicts.unrouted_verdict(["clipper-b-mgmt"], routes=0)

    assert found is not None
    assert (found.area, found.level) == ("Fabio", "problem")
    assert "its table is empty" in found.text
    assert "clipper-nomad policy consul-fabio" in found.fix
