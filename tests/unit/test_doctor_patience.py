"""`doctor --wait`: what it waits for, how long, and what it says."""

from __future__ import annotations

import pytest

from clipper_nomad.cli.on_nomad.patience import LOOK_EVERY_S, next_look, seconds_of, time_left, waited_for
from clipper_nomad.cli.on_nomad.verdicts import Verdict
from clipper_nomad.cli.options import WrongUsage


def problem(area: str) -> Verdict:
    return Verdict(area=area, level="problem", text="is not there")


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1.5m", 90), ("1h", 3600)])
def test_a_time_is_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "5 minutes", "-1", "0", "m", "5d"])
def test_what_is_no_time_is_wrong_usage(text: str) -> None:
    with pytest.raises(WrongUsage, match="--wait"):
        seconds_of(text)


def test_it_looks_again_while_something_that_comes_by_itself_is_missing() -> None:
    found = [problem("Nomad"), problem("Images")]

    assert next_look(found, now=10.0, deadline=300.0) == LOOK_EVERY_S
    assert next_look(found, now=299.0, deadline=300.0) == 1.0
    assert waited_for(found) == ("Nomad: is not there",)


@pytest.mark.parametrize("found", [[], [problem("Images")], [Verdict(area="Nomad", level="doubt", text="no ACLs")]])
def test_it_does_not_wait_for_what_only_somebody_can_mend(found: list[Verdict]) -> None:
    assert next_look(found, now=0.0, deadline=300.0) is None


def test_it_ends_at_its_deadline() -> None:
    assert next_look([problem("Consul")], now=300.0, deadline=300.0) is None


def test_the_time_left_is_in_minutes_and_seconds() -> None:
    assert time_left(now=55.0, deadline=300.0) == "4:05"
