"""What comes next while the frontends' key is changed: each step from what is there, whoever did the one before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clipper_nomad.cluster.key_rotation import with_round
from clipper_nomad.cluster.rotation_policy import (
    REPLACED_WITHIN_S,
    TOLD_WITHIN_S,
    GivenUp,
    RotationPolicy,
    Step,
    View,
    Wait,
)

OLD, NEW = "old", "new"
BOTH = (OLD, NEW)
BEFORE = View(
    known={"frontends": [OLD], "model": [OLD]},
    starting=OLD,
    told={"frontends/a": [OLD], "frontends/b": [OLD], "model/c": [OLD]},
    frontends={"frontend-a": OLD, "frontend-b": OLD},
)
WRITTEN = replace(BEFORE, known={"frontends": BOTH, "model": BOTH})
TOLD = replace(WRITTEN, told=dict.fromkeys(WRITTEN.told, BOTH))
MADE = replace(TOLD, starting=NEW)
REPLACED = replace(MADE, frontends={"frontend-d": NEW, "frontend-e": NEW})
RETIRED = replace(REPLACED, known={"frontends": [NEW], "model": [NEW]})


def judged(view: View, now: float = 0.0, policy: RotationPolicy | None = None) -> object:
    return (policy or RotationPolicy(new=NEW)).judge(view, now=now)


@pytest.mark.parametrize(
    ("view", "step"),
    [
        (BEFORE, Step.TELL),
        (replace(BEFORE, known={"frontends": [OLD], "model": BOTH}), Step.TELL),  # interrupted amid the telling
        (replace(MADE, known={"frontends": BOTH, "model": [OLD]}), Step.TELL),  # a model that was deployed meanwhile
        (TOLD, Step.MAKE),
        (MADE, Step.REPLACE),
        (replace(MADE, frontends={}), Step.REPLACE),
        (replace(MADE, frontends={"frontend-a": OLD, "frontend-d": NEW}), Step.REPLACE),
        (REPLACED, Step.RETIRE),
        (replace(REPLACED, known={"frontends": BOTH, "model": [NEW]}), Step.RETIRE),  # interrupted amid the retiring
        (RETIRED, Step.DONE),
    ],
)
def test_a_call_goes_on_from_what_it_finds(view: View, step: Step) -> None:
    assert judged(view) is step


def test_nobody_gets_the_new_key_before_everybody_was_told_and_it_is_said_who_was_not() -> None:
    policy = RotationPolicy(new=NEW)
    assert judged(WRITTEN, 100.0, policy) == Wait(
        waiting_for="3 of 3 allocations were not told of the new key, the first is frontends/a."
    )
    one_left = replace(TOLD, told={**TOLD.told, "model/c": [OLD]})
    assert isinstance(judged(one_left, 100.0 + TOLD_WITHIN_S - 0.1, policy), Wait)

    given_up = judged(one_left, 100.0 + TOLD_WITHIN_S, policy)

    assert isinstance(given_up, GivenUp)
    assert given_up.reason == ("Gave up after 120 s: 1 of 3 allocations were not told of the new key, the first is model/c.")
    assert judged(TOLD, 300.0, policy) is Step.MAKE


def test_a_replica_that_starts_untold_holds_the_replacing_up_too() -> None:
    starting = replace(MADE, told={**MADE.told, "model/z": []})
    assert isinstance(judged(starting), Wait)


@pytest.mark.parametrize("state", [OLD, None])
def test_the_old_key_stays_while_a_frontend_that_runs_has_it_or_has_not_said(state: str | None) -> None:
    policy = RotationPolicy(new=NEW)
    assert judged(MADE, 0.0, policy) is Step.REPLACE
    ending = replace(REPLACED, frontends={**REPLACED.frontends, "frontend-a": state})

    assert judged(ending, 0.0, policy) == Wait(
        waiting_for="2 of the 3 query frontends that run have the new key. Both are known to everybody."
    )
    given_up = judged(ending, REPLACED_WITHIN_S, policy)
    assert isinstance(given_up, GivenUp)
    assert given_up.reason.startswith("Gave up after 120 s: 2 of the 3")
    assert judged(REPLACED, REPLACED_WITHIN_S, policy) is Step.RETIRE


def test_frontends_are_replaced_once_by_a_call() -> None:
    policy = RotationPolicy(new=NEW)
    assert judged(MADE, 0.0, policy) is Step.REPLACE
    assert isinstance(judged(MADE, 1.0, policy), Wait)


@pytest.mark.parametrize("view", [BEFORE, MADE])
def test_a_frontend_that_says_no_key_is_of_another_build_and_ends_it_at_once(view: View) -> None:
    given_up = judged(replace(view, frontends={**view.frontends, "frontend-d": ""}))
    assert isinstance(given_up, GivenUp)
    assert given_up.reason == "frontend-d does not say which key it has, so its image is of another clipper-nomad."


def test_the_round_of_a_jobspec_is_the_only_thing_that_changes() -> None:
    source = 'job "a" {\n  meta {\n    clipper_kind    = "query-frontend"\n    clipper_toolkit = "1"\n  }\n}\n'

    first, tenth = with_round(source, 1), with_round(with_round(source, 9), 10)

    assert 'clipper_key_round = "1"' in first
    assert tenth.count("clipper_key_round") == 1
    assert 'clipper_key_round = "10"' in tenth
    changed = [line for line in tenth.splitlines() if "clipper_key_round" not in line]
    assert [line.split() for line in changed] == [line.split() for line in source.splitlines()]
