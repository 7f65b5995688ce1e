"""What a frontend says of itself has the form that admin and the command line read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipper_nomad.admin.openapi_schemas import ANSWERS, ref
from clipper_nomad_frontend.catalog import Catalog
from clipper_nomad_frontend.config import read_settings
from clipper_nomad_frontend.report import frontend_report
from tests.process.openapi_checks import problems_of
from tests.unit.simulation import SimulatedFrontend, Speed, current, identity_app, identity_version

PEERS = ({"frontend": "f-2", "address": "ipc:///run/2", "linked": True, "links_here": False},)
QUICK = Speed(start_s=0.001, per_query_s=0.0001)


def report(frontend: SimulatedFrontend, catalog: Catalog) -> dict[str, Any]:
    """The report as its readers get it."""
    settings = read_settings(
        {
            "CLIPPER_FRONTEND_ID": "f-1",
            "CLIPPER_MIRROR_PATH": "/tmp/mirror.json",  # noqa: S108  # never opened
            "CLIPPER_INTERNAL_ADDRESS": "unix:///run/f.sock",
        }
    )
    said = frontend_report(
        settings, frontend.serving, catalog, toolkit="0.1", http="127.0.0.1:9999", is_draining=False, peers=PEERS
    )
    return json.loads(json.dumps(said))  # type: ignore[no-any-return]  # JSON


def test_a_frontend_that_serves_nothing_says_so(tmp_path: Path) -> None:
    said = report(SimulatedFrontend(), Catalog(tmp_path / "m", lambda _: None))

    assert (said["frontend"], said["toolkit"], said["http"]) == ("f-1", "0.1", "127.0.0.1:9999")
    assert (said["internal"], said["rpc"]) == ("unix:///run/f.sock", "simulated")
    assert (said["store_id"], said["revision"], said["conflict"], said["draining"]) == (None, -1, False, False)
    assert said["replicas"] == said["versions"] == said["apps"] == []
    assert said["peers"] == list(PEERS)


def test_replicas_versions_and_apps_are_listed() -> None:
    frontend, version = SimulatedFrontend(), identity_version()
    frontend.serve(identity_app(), version, current(version))
    catalog = Catalog(None, lambda _: None)
    assert frontend.serving.snapshot is not None
    catalog.accept(frontend.serving.snapshot)
    frontend.start_replica(version, QUICK)
    frontend.start_replica(identity_version("9"), QUICK)
    for _ in range(3):
        frontend.ask()
        frontend.run_for(0.1)

    said = report(frontend, catalog)

    assert (said["store_id"], said["revision"]) == ("store", 1)
    ready, waiting = said["replicas"]
    assert ready.pop("exec_ms_per_input") == pytest.approx(1.1)
    assert ready == {
        "model": "identity", "version": "1", "uid": "uid-1", "replica": "identity-1-0", "id": 0, "state": "ready",
        "in_flight": 0, "answered": 3,
    }  # fmt: skip
    assert (waiting["version"], waiting["state"], waiting["id"]) == ("9", "waiting", -1)
    assert said["versions"] == [
        {
            "model": "identity", "version": "1", "uid": "uid-1", "legacy": False, "queued": 0, "ready": 1, "via_peers": 0,
            "relayed": 0, "last_error": None, "batch_limit": 2, "cache_hits": 0, "cache_lookups": 0,
        }
    ]  # fmt: skip
    ready["exec_ms_per_input"] = 1.1
    assert problems_of({"live": 1, "frontends": [said]}, ref("Frontends")) == []
    form = ANSWERS["Report"]["properties"]
    assert set(said) == set(form)
    for part in ("replicas", "versions", "apps", "peers"):
        assert all(set(each) == set(form[part]["items"]["properties"]) for each in said[part]), part
    (app,) = said["apps"]
    assert (app["app"], app["queries"], app["late"], app["defaults"], app["errors"]) == ("app", 3, 0, 0, 0)
    assert app["p50_ms"] == 1.5
