"""What a real Nomad said when things failed (tests/data/nomad), and the job that each sample's excerpt stands for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from clipper_nomad.cluster.rollout.explain import Situation
from clipper_nomad.cluster.rollout.parsed_job import Json

FOLDER = Path(__file__).resolve().parents[1] / "data" / "nomad"


def sample(name: str) -> Json:
    found: Json = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def job_of(excerpt: list[str]) -> Json:
    """The parts of the job that an explanation names, from a sample's lines of HCL."""
    pairs = (re.search(r'(\w+) = "?\[?"?([^"\]]*)', line) for line in excerpt)
    values = {pair[1]: pair[2] for pair in pairs if pair}
    task: dict[str, Any] = {
        "Name": "t",
        "Driver": values.get("driver", "docker"),
        "Resources": {"CPU": int(values.get("cpu", 30)), "MemoryMB": int(values.get("memory", 40))},
    }
    group: dict[str, Any] = {"Name": "g", "Count": 1, "Tasks": [task]}
    if "source" in values:
        group["Volumes"] = {"data": {"Type": "host", "Source": values["source"]}}
    if "static" in values:
        group["Networks"] = [{"ReservedPorts": [{"Label": "p", "Value": int(values["static"])}]}]
    return {"ID": "job", "Datacenters": [values.get("datacenters", "dc1")], "TaskGroups": [group]}


def situation_of(name: str, *, log: str = "") -> Situation:
    """All that the sample says; `log` is that of its newest allocation's task."""
    said = sample(name)
    allocations = said["allocations"]
    return Situation(
        job=job_of(said["jobspec_excerpt"]),
        evaluations=said["evaluations"],
        deployment=said["deployment"],
        allocations=allocations,
        logs={(allocations[-1]["ID"], "t"): log} if log else {},
    )
