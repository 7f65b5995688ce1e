"""What a plan of Nomad's says about one job, as a line and as a document. Pure; planning.py asks Nomad.

Names of what changes are told, values are not, but for counts: an operator's own environment may hold what is nobody's
business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from clipper_nomad.cluster.rollout.parsed_job import Json, acts_of, is_same_text

MOST_FIELDS = 6
# Nomad's words for what happens to allocations, and ours
_ACTS = {
    "Place": "new",
    "InPlaceUpdate": "updated in place",
    "DestructiveUpdate": "replaced",
    "Canary": "canaries",
    "Stop": "stopped",
    "Migrate": "moved",
    "Preemptions": "preempted",
}


class Change(StrEnum):
    """What becomes of a job."""

    CREATE = "create"
    UPDATE = "update"
    NONE = "none"


SIGNS = {Change.CREATE: "+", Change.UPDATE: "~", Change.NONE: "="}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobChange:
    """What registering one job would do. `problem`: why Nomad finds no place for it."""

    job: str
    change: Change
    count: int
    acts: dict[str, int] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def line(self) -> str:
        """For people."""
        allocs = "1 alloc" if self.count == 1 else f"{self.count} allocs"
        if self.change is Change.CREATE:
            said = allocs
        elif self.change is Change.NONE:
            said = f"unchanged, {allocs}"
        else:
            acts = ", ".join(f"{number} {_ACTS.get(act, act)}" for act, number in self.acts.items())
            more = len(self.fields) - MOST_FIELDS
            names = ", ".join(self.fields[:MOST_FIELDS]) + (f" and {more} more" if more > 0 else "")
            said = "; ".join(filter(None, [acts, f"changes {names}" if names else ""])) or "registered anew"
        return f"{SIGNS[self.change]} job {self.job}   {said}" + (f"   ! {self.problem}" if self.problem else "")

    @property
    def document(self) -> dict[str, object]:
        """For machines."""
        return {
            "job": self.job,
            "change": str(self.change),
            "count": self.count,
            "allocations": self.acts,
            "fields": list(self.fields),
            "problem": self.problem,
        }


def job_change(job: Json, plan: Json, *, exists: bool, problem: str | None = None) -> JobChange:
    """Return what `plan`, Nomad's answer for `job`, comes to."""
    count = sum(int(group.get("Count") or 0) for group in job.get("TaskGroups") or ())
    acts = acts_of(job, plan)
    is_same = is_same_text(plan) and not acts
    change = Change.CREATE if not exists else Change.NONE if is_same else Change.UPDATE
    names = tuple(dict.fromkeys(_changed(plan.get("Diff") or {}))) if change is Change.UPDATE else ()
    return JobChange(job=str(job["ID"]), change=change, count=count, acts=acts, fields=names, problem=problem)


def variable_lines(missing: Sequence[str]) -> list[str]:
    """Return the line about Nomad Variables that would be made."""
    if not missing:
        return ["= Nomad Variables   unchanged"]
    what = "1 Nomad Variable" if len(missing) == 1 else f"{len(missing)} Nomad Variables"
    return [f"+ {what}   passwords, tokens and keys, made once: {', '.join(missing)}"]


def _changed(diff: Json, within: str = "") -> Iterator[str]:
    """Yield the names of the changed fields of a diff, with what they stand in: "update.MinHealthyTime"."""
    for each in diff.get("Fields") or ():
        if each.get("Type") != "None":
            counts = f" {each.get('Old')} → {each.get('New')}" if each["Name"] == "Count" else ""
            yield f"{within}{each['Name']}{counts}"
    for each in diff.get("Objects") or ():
        if each.get("Type") != "None":
            yield from _changed(each, f"{within}{each['Name']}.")
    for inner in ("TaskGroups", "Tasks"):
        for each in diff.get(inner) or ():
            if each.get("Type") != "None":
                yield from _changed(each, within)
