"""What is compared and carried over in a job's JSON."""

from __future__ import annotations

from clipper_nomad.cluster.rollout.parsed_job import (
    Json,
    acts_of,
    changed_strings,
    checks_of,
    count_of,
    services_of,
    with_counts_of,
)

CHECK = {"Name": "answers", "Type": "http"}
JOB: Json = {
    "ID": "clipper-c-model-m-1",
    "TaskGroups": [
        {
            "Name": "g",
            "Count": 1,
            "Services": [{"Name": "s", "Provider": "consul", "Checks": [CHECK]}, {"Name": "n", "Provider": "nomad"}],
            "Tasks": [{"Name": "t", "Env": {"WORD": 'say "hi" ${x}'}, "Templates": [{"EmbeddedTmpl": "K=v1"}]}],
        },
        {"Name": "h", "Count": 2, "Tasks": []},
    ],
}


def test_strings_that_came_out_as_they_were_put_in_are_found() -> None:
    assert changed_strings(JOB, whole=['say "hi" ${x}', "WORD", "g"], within=["v1"]) == []


def test_a_string_that_was_changed_on_the_way_is_returned() -> None:
    assert changed_strings(JOB, whole=['say "hi" $${x}', "v1"], within=["v2"]) == ['say "hi" $${x}', "v1", "v2"]


def test_a_scaled_count_is_kept_for_the_plan_and_the_job_stays_as_it_was() -> None:
    running: Json = {"TaskGroups": [{"Name": "g", "Count": 4}]}

    kept = with_counts_of(JOB, running)

    assert [group["Count"] for group in kept["TaskGroups"]] == [4, 2]
    assert count_of(JOB) == 3


def test_a_stopped_job_has_no_count_to_keep() -> None:
    assert with_counts_of(JOB, {"Stop": True, "TaskGroups": [{"Name": "g", "Count": 4}]}) is JOB
    assert with_counts_of(JOB, None) is JOB


def test_services_of_consul_and_their_checks_are_listed() -> None:
    assert services_of(JOB) == ["s"]
    assert checks_of(JOB, "s") == [CHECK]


def test_an_update_in_place_of_the_same_text_is_no_change_and_any_other_act_is() -> None:
    acts = {"g": {"Ignore": 1, "InPlaceUpdate": 2, "Place": 0}, "h": {"Place": 1}}

    same = acts_of({"Type": "service"}, {"Diff": {"Type": "None"}, "Annotations": {"DesiredTGUpdates": acts}})
    edited = acts_of({"Type": "service"}, {"Diff": {"Type": "Edited"}, "Annotations": {"DesiredTGUpdates": acts}})

    assert same == {"Place": 1}
    assert edited == {"InPlaceUpdate": 2, "Place": 1}


def test_an_allocation_of_a_system_job_that_is_left_alone_is_not_placed_again() -> None:
    plan = {"Annotations": {"DesiredTGUpdates": {"g": {"Place": 3, "Ignore": 2, "Stop": 0}}}}

    assert acts_of({"Type": "system"}, plan) == {"Place": 1}
    assert acts_of({"Type": "service"}, plan) == {"Place": 3}
