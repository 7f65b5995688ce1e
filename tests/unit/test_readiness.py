"""Whether a new version can serve, from reports and probes."""

from __future__ import annotations

from typing import Any

import pytest

from clipper_nomad.admin.client import Frontends, Probe
from clipper_nomad.connection.readiness import Again, Answered, Broken, judge, missing, ready_replicas


def report(name: str, **ready: int) -> dict[str, Any]:
    return {"frontend": name, "versions": [{"uid": uid, "ready": count} for uid, count in ready.items()]}


def probe(kind: str = "", *, frontend: str = "f1", cause: str = "the cause") -> Probe:
    return Probe(frontend=frontend, kind=kind, cause=cause, output=None if kind else 7, exec_micros=0 if kind else 500)


@pytest.mark.parametrize(
    ("frontends", "lack"),
    [
        (Frontends(live=0, reports=()), "no query frontend runs"),
        (Frontends(live=2, reports=(report("f1", u=2),)), "1 of 2 query frontends answer"),
        (Frontends(live=1, reports=(report("f1"),)), "query frontend f1 has 0 of 2 replicas ready"),
        (Frontends(live=1, reports=(report("f1", other=2, u=1),)), "query frontend f1 has 1 of 2 replicas ready"),
        (Frontends(live=2, reports=(report("f1", u=2), report("f2", u=1))), "query frontend f2 has 1 of 2 replicas ready"),
        (Frontends(live=2, reports=(report("f1", u=2), report("f2", u=2))), None),
        (Frontends(live=2, reports=(report("f1", u=2), report("f2") | {"draining": True})), None),
    ],
)
def test_a_version_serves_when_every_frontend_has_all_its_replicas(frontends: Frontends, lack: str | None) -> None:
    assert missing(frontends, "u", 2) == lack


def linked(name: str, *replicas: str, via_peers: int = 0) -> dict[str, Any]:
    version = {"uid": "u", "ready": len(replicas), "via_peers": via_peers}
    rows = [{"uid": "u", "replica": replica, "state": "ready"} for replica in replicas]
    return {"frontend": name, "versions": [version], "replicas": rows}


@pytest.mark.parametrize(
    ("others", "lack"),
    [
        ([linked("f9", "r1", "r2"), linked("f10", "r2")], None),
        ([linked("f9", "r2"), linked("f10", via_peers=1)], None),
        ([linked("f9", "r2"), linked("f10")], "query frontend f10 reaches no replica, nor a frontend that does"),
        ([linked("f9", "r1"), linked("f10", "r1")], "1 of 2 replicas are ready"),
        ([linked("f9", "r2"), report("f10")], "query frontend f10 reaches no replica, nor a frontend that does"),
        ([linked("f9", "r2"), report("f10") | {"draining": True}], None),
    ],
)
def test_with_more_frontends_than_links_a_replica_or_a_peer_that_has_one_will_do(
    others: list[dict[str, Any]], lack: str | None
) -> None:
    reports = [*(linked(f"f{number}", "r1") for number in range(1, 9)), *others]

    assert missing(Frontends(live=10, reports=tuple(reports)), "u", 2) == lack


@pytest.mark.parametrize("is_made_up", [True, False])
def test_an_answer_from_every_frontend_passes(*, is_made_up: bool) -> None:
    assert judge([probe(), probe(frontend="f2")], is_made_up=is_made_up) == Answered(output=7, exec_micros=500)


@pytest.mark.parametrize("kind", ["no_replica", "unknown_version", "unreachable", "busy"])
def test_trouble_that_may_pass_is_asked_again(kind: str) -> None:
    assert judge([probe(), probe(kind)], is_made_up=False) == Again(reason="query frontend f1: the cause")


@pytest.mark.parametrize("kind", ["died", "wrong_count", "wrong_type", "timeout", "refused"])
@pytest.mark.parametrize("is_made_up", [True, False])
def test_what_no_sample_excuses_never_passes(*, kind: str, is_made_up: bool) -> None:
    verdict = judge([probe(), probe(kind), probe("no_replica")], is_made_up=is_made_up)

    assert isinstance(verdict, Broken)
    assert verdict.cause == f"a prediction failed ({kind}): the cause"


def test_a_function_that_raises_on_its_own_sample_does_not_pass() -> None:
    assert judge([probe("raised")], is_made_up=False) == Broken(cause="a prediction failed (raised): the cause")


def test_a_function_that_raises_on_a_made_up_input_passes_with_a_warning() -> None:
    verdict = judge([probe("raised"), probe("raised")], is_made_up=True)

    assert isinstance(verdict, Answered)
    assert verdict.warning is not None
    assert verdict.warning.startswith("loaded, not tested: give sample=")


def test_a_package_that_the_replica_lacks_is_no_fault_of_a_made_up_input() -> None:
    verdict = judge([probe("raised", cause="ModuleNotFoundError: No module named 'six'")], is_made_up=True)

    assert isinstance(verdict, Broken)
    assert verdict.cause == "a prediction failed (raised): ModuleNotFoundError: No module named 'six'"
    assert verdict.hint is not None
    assert verdict.hint.startswith("Name the package in pkgs_to_install=")


def test_no_frontend_is_no_answer() -> None:
    assert judge([], is_made_up=True) == Again(reason="no query frontend runs")


def of_rpc_3(name: str, *replicas: str, via_peers: int = 0) -> dict[str, Any]:
    found = linked(name, *replicas, via_peers=via_peers)
    found["versions"][0]["legacy"] = True
    return found


@pytest.mark.parametrize(
    ("reports", "lack"),
    [
        ([of_rpc_3("f1", "rpc3-f1-1", "rpc3-f1-2"), of_rpc_3("f2", via_peers=2)], None),
        ([of_rpc_3("f1", "rpc3-f1-1"), of_rpc_3("f2", "rpc3-f2-1")], None),
        ([of_rpc_3("f1", "rpc3-f1-1"), of_rpc_3("f2", via_peers=1)], "1 of 2 replicas are ready"),
        ([of_rpc_3("f1", "a", "b"), of_rpc_3("f2")], "query frontend f2 reaches no replica, nor a frontend that does"),
    ],
)
def test_a_container_of_rpc_version_3_has_one_link(reports: list[dict[str, Any]], lack: str | None) -> None:
    assert missing(Frontends(live=2, reports=tuple(reports)), "u", 2) == lack
    assert ready_replicas("u", 2, reports) == (1 if lack and "1 of 2" in lack else 2)
