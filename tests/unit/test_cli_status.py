"""What `status` makes of what it is told: the document of --json, its warnings, and what people see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clipper_nomad.cli.output import Output
from clipper_nomad.cli.overview import Served, document, memory_bytes, stopped_document
from clipper_nomad.cli.status import show
from clipper_nomad.local_stack.control import PartStatus, StackStatus, VersionStatus


def part(name: str, kind: str, **more: Any) -> PartStatus:
    known: dict[str, Any] = {"state": "running", "pid": 100, "deaths": 0, "age_s": 60.0, "log": f"/logs/{name}.log"}
    return PartStatus(name=name, kind=kind, **(known | more))


STACK = StackStatus(
    cluster="team-a",
    toolkit="0.1.0",
    state="up",
    pid=99,
    age_s=200.04,
    query_addr="127.0.0.1:9999",
    admin_addr="127.0.0.1:4242",
    data="/state/team-a",
    python="/venv/bin/python",
    keep=True,
    owners=(),
    parts=(
        part("store", "store", pid=101),
        part("frontend-0", "frontend", pid=102),
        part("model-digits-1-0", "replica", pid=103, state="ready"),
    ),
    versions=(VersionStatus(name="digits", version="1", wanted=1, ready=1, failed=0),),
    note=None,
)
CATALOG: dict[str, Any] = {
    "store_id": "s1",
    "revision": 7,
    "apps": [
        {
            "name": "digits",
            "input_type": "doubles",
            "default_output": "-1.0",
            "slo_micros": 100_000,
            "slo_policy": "late",
            "timeout_micros": None,
            "linked_models": ["digits"],
        }
    ],
    "models": [{"name": "digits", "current_version": "1"}],
    "versions": [
        {"name": "digits", "version": "1", "uid": "u1", "input_type": "doubles", "staged": False},
        {"name": "digits", "version": "2", "uid": "u2", "input_type": "doubles", "staged": True},
    ],
}


def version(uid: str = "u1", **more: Any) -> dict[str, Any]:
    return {"uid": uid, "ready": 0, "queued": 0, "relayed": 0, "via_peers": 0, "last_error": None} | more


def replica(name: str, state: str = "ready") -> dict[str, Any]:
    return {"uid": "u1", "replica": name, "state": state}


def report(frontend: str, **more: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "frontend": frontend,
        "revision": 7,
        "conflict": False,
        "conflict_cause": None,
        "draining": False,
        "versions": [version(ready=1, queued=3)],
        "replicas": [replica("digits-1-0")],
        "peers": [],
        "apps": [
            {"app": "digits", "queries": 10, "late": 1, "defaults": 2, "errors": 3, "p50_ms": 0.5, "p99_ms": 4.25},
        ],
    }
    return known | more


def found(served: Served | None = None, stack: StackStatus = STACK) -> dict[str, Any]:
    served = served or Served(catalog=CATALOG, reports=[report("frontend-0")])
    return document(stack, served, {"store": 12_000_000, "frontend-0": None})


def test_the_document_joins_processes_catalog_and_reports() -> None:
    said = found()

    assert said["state"] == "up"
    assert [(one["name"], one["memory_bytes"]) for one in said["parts"]][:2] == [("store", 12_000_000), ("frontend-0", None)]
    assert said["apps"][0] == {
        "name": "digits",
        "input_type": "doubles",
        "default_output": "-1.0",
        "slo_micros": 100_000,
        "slo_policy": "late",
        "linked_models": ["digits"],
        "serves": ["digits:1"],
        "predict_url": "http://127.0.0.1:9999/clipper/digits/predict",
        "queries": 10,
        "late": 1,
        "defaults": 2,
        "errors": 3,
        "p50_ms": 0.5,
        "p99_ms": 4.25,
    }
    assert [(one["version"], one["current"], one["staged"]) for one in said["versions"]] == [
        ("1", True, False),
        ("2", False, True),
    ]
    assert said["warnings"] == []


def test_counts_of_several_frontends_are_added_up_and_the_slowest_is_shown() -> None:
    slow = {"app": "digits", "queries": 5, "late": 0, "defaults": 0, "errors": 0, "p50_ms": 9.0, "p99_ms": None}
    served = Served(catalog=CATALOG, reports=[report("frontend-0"), report("frontend-1", apps=[slow])])

    (app,) = found(served)["apps"]

    assert (app["queries"], app["p50_ms"], app["p99_ms"]) == (15, 9.0, 4.25)


def test_a_replica_that_one_frontend_does_not_have_is_not_ready() -> None:
    without = report("frontend-1", versions=[version(last_error="ValueError: no")], replicas=[])
    served = Served(catalog=CATALOG, reports=[report("frontend-0"), without])

    said = found(served)

    assert (said["versions"][0]["replicas_ready"], said["versions"][0]["last_error"]) == (0, "ValueError: no")
    assert said["warnings"][0].startswith("frontend-1 has no link to a replica of digits:1")


def test_a_replica_that_no_frontend_has_is_the_versions_trouble() -> None:
    served = Served(catalog=CATALOG, reports=[report("frontend-0", versions=[version()], replicas=[])])

    assert found(served)["warnings"] == ["digits:1: 0 of 1 replicas are ready"]


def mesh(frontends: int, replicas: int, *reports: dict[str, Any]) -> dict[str, Any]:
    """The document of a cluster in which so many frontends and replicas are to run."""
    parts = tuple(part(f"frontend-{index}", "frontend", pid=200 + index) for index in range(frontends))
    versions = (VersionStatus(name="digits", version="1", wanted=replicas, ready=replicas, failed=0),)
    return found(Served(catalog=CATALOG, reports=reports), replace(STACK, parts=parts, versions=versions))


def member(index: int, replicas: Sequence[str], peers: Sequence[int], **more: Any) -> dict[str, Any]:
    """The report of a frontend with links to these replicas and peers."""
    linked = [{"frontend": f"frontend-{peer}", "linked": True} for peer in peers]
    own = version(ready=len(replicas), **more)
    return report(f"frontend-{index}", versions=[own], replicas=[replica(name) for name in replicas], peers=linked)


def test_every_link_that_stands_is_counted_among_those_that_are_wanted() -> None:
    said = mesh(2, 3, member(0, ["r0", "r1", "r2"], [1]), member(1, ["r0", "r1", "r2"], [0]))

    assert said["mesh"] == {"links": 8, "wanted": 8, "silent": [], "lacks": [], "unlinked_peers": []}
    assert said["warnings"] == []


def test_who_lacks_what_is_told() -> None:
    said = mesh(3, 2, member(0, ["r0", "r1"], [1]), member(1, ["r0"], [0], via_peers=2), member(2, [], [0, 1], via_peers=3))

    assert (said["mesh"]["links"], said["mesh"]["wanted"]) == (3 + 4, 6 + 6)
    assert [(one["frontend"], one["replicas_ready"], one["via_peers"]) for one in said["mesh"]["lacks"]] == [
        ("frontend-1", 1, 2),
        ("frontend-2", 0, 3),
    ]
    assert said["warnings"] == [
        "frontend-1 has links to 1 of 2 replicas of digits:1",
        "frontend-2 has no link to a replica of digits:1; it relays to other frontends",
        "frontend-0 has no link to frontend-2",
        "frontend-1 has no link to frontend-2",
    ]


def test_a_frontend_that_runs_and_says_nothing_is_told() -> None:
    said = mesh(2, 1, member(0, ["r0"], []))

    assert (said["mesh"]["links"], said["mesh"]["wanted"]) == (1, 4)
    assert said["mesh"]["silent"] == ["frontend-1"]
    assert said["warnings"] == ["frontend-1 runs and does not answer"]


def test_beyond_eight_frontends_a_replica_has_eight_links_and_the_others_relay() -> None:
    eight = [member(index, ["r0"], [peer for peer in range(10) if peer != index]) for index in range(8)]
    relaying = [member(index, [], [peer for peer in range(10) if peer != index], via_peers=8) for index in (8, 9)]

    said = mesh(10, 1, *eight, *relaying)

    assert (said["mesh"]["links"], said["mesh"]["wanted"]) == (8 + 90, 8 + 90)
    assert [one["frontend"] for one in said["mesh"]["lacks"]] == ["frontend-8", "frontend-9"]
    assert said["versions"][0]["replicas_ready"] == 1
    assert said["warnings"] == []


def test_a_link_too_many_does_not_hide_one_that_is_missing() -> None:
    nine = [member(index, ["r0"], []) for index in range(9)]

    assert mesh(10, 2, *nine)["mesh"]["links"] == 8


def test_relayed_queries_are_added_up_and_shown_where_there_is_a_mesh(capsys: pytest.CaptureFixture[str]) -> None:
    said = mesh(2, 1, member(0, ["r0"], [1], relayed=1200), member(1, ["r0"], [0], relayed=34))

    show(Output(), said)

    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert said["versions"][0]["relayed"] == 1234
    assert any(line.split() == ["digits:1", "doubles", "1/1", "0", "1,234", "–"] for line in lines)
    assert "  mesh      4/4 links" in lines
    assert "  catalog   revision 7; all 2 frontends serve it" in lines


def test_a_policy_that_answers_defaults_is_warned_of() -> None:
    app = CATALOG["apps"][0] | {"slo_policy": "default"}

    (warning,) = found(Served(catalog=CATALOG | {"apps": [app]}, reports=[report("frontend-0")]))["warnings"]

    assert warning.startswith("digits has the policy `default`: past its SLO it answers '-1.0'")


def test_a_catalog_conflict_and_a_frontend_behind_are_warned_of() -> None:
    reports = [report("frontend-0", conflict=True, conflict_cause="another store"), report("frontend-1", revision=6)]

    assert found(Served(catalog=CATALOG, reports=reports))["warnings"] == [
        "catalog conflict on frontend-0: another store",
        "frontend-1 serves revision 6 of the catalog, which is at 7",
    ]


@pytest.mark.parametrize(("state", "told"), [("waiting", "died and is started again"), ("failed", "was given up")])
def test_a_part_in_trouble_is_warned_of_with_what_it_said_last(state: str, told: str) -> None:
    parts = (part("admin", "admin", state=state, pid=None, deaths=3, last_error="OSError: disk full"),)

    (warning,) = found(stack=replace(STACK, parts=parts))["warnings"]

    assert warning.startswith("admin ")
    assert told in warning
    assert warning.endswith("OSError: disk full")


def test_without_admin_the_processes_are_shown_and_why_there_is_no_more() -> None:
    nothing: dict[str, Any] = {"apps": [], "models": [], "versions": []}

    said = found(Served(catalog=nothing, reports=[], problem="it did not answer"))

    assert len(said["parts"]) == 3
    assert said["warnings"] == ["apps and models cannot be shown, queries are not affected: it did not answer"]


def test_a_stopped_cluster_has_the_same_keys_as_a_running_one() -> None:
    assert set(stopped_document("team-a", Path("/nowhere"))) == set(found())


def test_people_see_everything_in_80_columns_the_warnings_last(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    app = CATALOG["apps"][0] | {"slo_policy": "default"}

    show(Output(), found(Served(catalog=CATALOG | {"apps": [app]}, reports=[report("frontend-0")])))

    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "✔ cluster 'team-a' is up on this machine, for 3 min"
    assert lines[1:3] == [
        "  predict   POST http://127.0.0.1:9999/clipper/APP/predict",
        "  state     /state/team-a, kept when it is stopped",
    ]
    assert "store             101  running         0   12 MB  –" in lines
    assert "digits:1           doubles       1/1      3  –" in lines
    assert "digits:2 (staged)  doubles       0/0      0  –" in lines
    assert "digits  doubles → digits:1   SLO 100 ms, policy default" in lines
    assert "  10 queries · 1 late · 2 defaults · 3 errors · p50 0.5 ms · p99 4.25 ms" in lines
    assert lines[-3] == "  mesh      1/1 links"
    assert lines[-2] == "  catalog   revision 7; frontend-0 serves 7"
    assert lines[-1].startswith("! digits has the policy `default`")


def test_the_memory_of_a_process_that_is_gone_is_not_told() -> None:
    assert memory_bytes(None) is None
    assert memory_bytes(2**22 + 1) is None  # above what Linux gives out
