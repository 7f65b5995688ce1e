"""What a plan of Nomad's comes to: a line for people, a document for machines, and no values."""

from __future__ import annotations

from typing import Any

from clipper_nomad.cli.on_nomad.changes import Change, JobChange, job_change, variable_lines
from clipper_nomad.cli.on_nomad.planning import Plan

JOB: dict[str, Any] = {"ID": "clipper-c-mgmt", "TaskGroups": [{"Name": "g", "Count": 2}]}


def planned(diff: dict[str, Any], **acts: int) -> dict[str, Any]:
    return {"Diff": diff, "Annotations": {"DesiredTGUpdates": {"g": acts}}}


def test_a_new_job_is_created() -> None:
    change = job_change(JOB, planned({"Type": "Added"}, Place=2), exists=False)

    assert change.line == "+ job clipper-c-mgmt   2 allocs"
    assert change.document["change"] == "create"


def test_a_job_that_is_as_wanted_is_left() -> None:
    change = job_change(JOB, planned({"Type": "None"}, Ignore=2), exists=True)

    assert change.change is Change.NONE
    assert change.line == "= job clipper-c-mgmt   unchanged, 2 allocs"


def test_a_change_tells_what_becomes_of_allocations_and_which_fields_without_their_values() -> None:
    env = {"Type": "Edited", "Name": "Env", "Fields": [{"Type": "Edited", "Name": "KEY", "Old": "secret", "New": "new"}]}
    task = {"Type": "Edited", "Name": "t", "Objects": [env], "Fields": [{"Type": "None", "Name": "Driver"}]}
    count = {"Type": "Edited", "Name": "Count", "Old": "2", "New": "3"}
    group = {"Type": "Edited", "Name": "g", "Fields": [count], "Tasks": [task]}

    change = job_change(JOB, planned({"Type": "Edited", "TaskGroups": [group]}, DestructiveUpdate=2, Place=1), exists=True)

    assert change.line == "~ job clipper-c-mgmt   2 replaced, 1 new; changes Count 2 → 3, Env.KEY"
    assert "secret" not in str(change.document)


def test_many_fields_are_counted_and_a_missing_place_is_told() -> None:
    fields = [{"Type": "Edited", "Name": f"F{number}"} for number in range(9)]

    change = job_change(JOB, planned({"Type": "Edited", "Fields": fields}), exists=True, problem="no client takes it")

    assert change.line.endswith("changes F0, F1, F2, F3, F4, F5 and 3 more   ! no client takes it")


def test_a_plan_has_changes_if_a_job_or_a_variable_does() -> None:
    same = JobChange(job="j", change=Change.NONE, count=1)

    assert not Plan(jobs=(same,), variables=()).has_changes
    assert Plan(jobs=(same,), variables=("nomad/jobs/j",)).has_changes
    assert Plan(jobs=(JobChange(job="j", change=Change.UPDATE, count=1),), variables=()).has_changes
    assert variable_lines([]) == ["= Nomad Variables   unchanged"]
    assert variable_lines(["nomad/jobs/j"])[0].startswith("+ 1 Nomad Variable ")
