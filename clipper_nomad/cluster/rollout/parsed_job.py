"""What is compared and carried over in a job's JSON before it is registered. Pure. Called by nomad_api.py and rollout.py.

A jobspec is text, and a value that breaks out of its quotes would be another job. So the strings that were put in are looked
for in what Nomad understood: the parsed job (docs/decisions; see `NomadApi.parse`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from typing import Any

Json = dict[str, Any]  # Any: what Nomad answers, with Nomad's own names; checked where it is read


def strings_of(value: object) -> Iterator[str]:
    """Every string of a JSON value, keys of its objects included."""
    match value:
        case str():
            yield value
        case Mapping():
            for key, inner in value.items():
                yield str(key)
                yield from strings_of(inner)
        case list() | tuple():
            for inner in value:
                yield from strings_of(inner)


def changed_strings(job: Json, *, whole: Collection[str], within: Collection[str] = ()) -> list[str]:
    """Return the strings that did not come out as they were put in.

    `whole` were put in as values of their own, `within` as pieces of longer texts, such as a template's."""
    found = frozenset(strings_of(job))
    changed = [text for text in whole if text not in found]
    changed += [text for text in within if not any(text in longer for longer in found)]
    return list(dict.fromkeys(changed))


def with_counts_of(job: Json, running: Json | None) -> Json:
    """Return `job` with the counts of the same groups in the running job, as PreserveCounts will register it.

    A plan ignores PreserveCounts; without this it would ask for room that the job will not take, or miss some of it."""
    if running is None or running.get("Stop"):
        return job
    counts = {group["Name"]: group.get("Count") for group in running.get("TaskGroups") or ()}
    kept = deepcopy(job)
    for group in kept.get("TaskGroups") or ():
        if counts.get(group["Name"]) is not None:
            group["Count"] = counts[group["Name"]]
    return kept


def services_of(job: Json) -> list[str]:
    """Return the names of the Consul services of a job, without those that Nomad keeps itself."""
    named = [service["Name"] for service in _services(job) if (service.get("Provider") or "consul") == "consul"]
    return list(dict.fromkeys(named))


def checks_of(job: Json | None, service: str) -> list[Json]:
    """Return the checks of one service of a job."""
    return [check for each in _services(job or {}) if each["Name"] == service for check in each.get("Checks") or ()]


def _services(job: Json) -> list[Json]:
    groups = job.get("TaskGroups") or ()
    holders = [holder for group in groups for holder in (group, *(group.get("Tasks") or ()))]
    return [service for holder in holders for service in holder.get("Services") or ()]


def acts_of(job: Json, plan: Json) -> dict[str, int]:
    """Return what Nomad's plan for `job` would do to allocations: act → how many, without those that are left alone.

    Of a system job each allocation that is left alone is planned a second time as one to place (seen on 1.11.3). With ACLs
    Nomad plans to update in place whatever a token registered, as a plan has none; if the job's text is the same, that is
    nothing.
    """
    acts: dict[str, int] = {}
    for group in ((plan.get("Annotations") or {}).get("DesiredTGUpdates") or {}).values():
        kept = int(group.get("Ignore") or 0) if job.get("Type") == "system" else 0
        for act, number in group.items():
            more = max(0, int(number or 0) - kept) if act == "Place" else int(number or 0)
            if act != "Ignore" and more:
                acts[act] = acts.get(act, 0) + more
    if is_same_text(plan):
        acts.pop("InPlaceUpdate", None)
    return acts


def count_of(job: Json) -> int:
    """Return how many allocations a job wants in all."""
    return sum(int(group.get("Count") or 0) for group in job.get("TaskGroups") or ())


def is_same_text(plan: Json) -> bool:
    """Return whether the job of a plan is registered just so."""
    return (plan.get("Diff") or {}).get("Type") == "None"
