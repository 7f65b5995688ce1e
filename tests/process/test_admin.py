"""A real admin service with real query frontends: propagation, outages, restarts, conflicts, restore."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import requests

from clipper_nomad.admin.client import NewVersion
from clipper_nomad.errors import AdminRefused, AdminUnreachable
from tests.process.admins import CLUSTER, AdminServer, FrontendServer
from tests.process.stores import StoreServer
from tests.waiting import wait_until

pytestmark = pytest.mark.process

APP = {"name": "app", "input_type": "doubles", "default_output": "-1.0", "latency_slo_micros": 100_000}
VERSION = NewVersion(name="m", version="1", input_type="doubles")


@pytest.fixture
def admin(one_store_server: StoreServer, tmp_path: Path) -> Iterator[AdminServer]:
    server = AdminServer(one_store_server, tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def frontend(one_store_server: StoreServer, admin: AdminServer, tmp_path: Path) -> Iterator[FrontendServer]:
    server = FrontendServer(one_store_server, tmp_path, "f1")
    try:
        server.start(admin)
        yield server
    finally:
        server.kill()


def revision_served(frontend: FrontendServer, admin: AdminServer) -> object:
    report = frontend.report(admin)
    return report and report["revision"]


def test_an_answered_write_is_served_by_the_frontend(admin: AdminServer, frontend: FrontendServer) -> None:
    for number in range(5):
        answer = admin.post("/admin/add_app", {**APP, "name": f"app{number}"})

        assert answer.status_code == 200
        assert "X-Clipper-Behind" not in answer.headers
        assert revision_served(frontend, admin) == number + 1


def test_a_write_names_the_frontend_that_does_not_serve_it(admin: AdminServer, frontend: FrontendServer) -> None:
    assert frontend.process is not None
    frontend.process.send_signal(signal.SIGSTOP)
    try:
        answer = admin.post("/admin/add_app", APP)
    finally:
        frontend.process.send_signal(signal.SIGCONT)

    assert answer.status_code == 200
    assert answer.headers["X-Clipper-Behind"] == "f1"
    wait_until(lambda: revision_served(frontend, admin) == 1, "the frontend catches up")


def test_a_probe_says_why_there_is_no_answer(admin: AdminServer, frontend: FrontendServer) -> None:
    staged = admin.client().add_version(VERSION)

    [probe] = admin.client().probe(staged, [1.0], within_s=5)

    assert (probe.frontend, probe.kind) == ("f1", "no_replica")


def test_a_probe_of_a_frontend_that_died_says_so(admin: AdminServer, frontend: FrontendServer) -> None:
    """Its connection is closed a moment before the store counts it out, so it may be asked and be silent."""
    staged = admin.client().add_version(VERSION)
    frontend.kill()

    wait_until(lambda: admin.client().frontends().live == 0, "the dead frontend is counted out")

    assert admin.client().probe(staged, [1.0], within_s=1) == []


def test_while_the_store_is_away_writes_are_refused_and_reads_are_marked(
    admin: AdminServer, one_store_server: StoreServer
) -> None:
    admin.post("/admin/add_app", APP)
    fresh = admin.post("/admin/get_all_applications", {"verbose": False})
    one_store_server.kill()

    written = admin.post("/admin/add_app", {**APP, "name": "another"})
    stale = admin.post("/admin/get_all_applications", {"verbose": False})

    assert (written.status_code, written.json()["error"], written.headers["Retry-After"]) == (503, "Store away", "1")
    assert "X-Clipper-Stale" not in fresh.headers
    assert float(stale.headers["X-Clipper-Stale"]) > 0
    assert stale.json() == ["app"]


def test_while_the_store_is_away_nobody_knows_which_images_are_in_use(
    one_store_server: StoreServer, admin: AdminServer
) -> None:
    client = admin.client()
    client.add_version(NewVersion(name="m", version="1", input_type="doubles", image="bundle:x", staged=True))
    known = client.images()

    one_store_server.kill()

    assert known == frozenset({"bundle:x"})
    assert client.images() is None


def test_a_client_waits_for_a_store_that_comes_back(admin: AdminServer, one_store_server: StoreServer) -> None:
    one_store_server.kill()
    restart = threading.Thread(target=one_store_server.start)
    restart.start()

    admin.client().add_app("app", input_type="doubles", default_output="", slo_micros=1)
    restart.join()

    assert admin.client().get("get_all_applications", verbose=False) == ["app"]


def test_a_client_gives_up_on_a_store_that_stays_away(admin: AdminServer, one_store_server: StoreServer) -> None:
    one_store_server.kill()

    with pytest.raises(AdminRefused, match=r"Received error status code: 503 and message: .*the store") as caught:
        admin.client(patience_s=0.5).call("add_app", **APP)

    assert caught.value.status == 503


def test_a_client_waits_for_an_admin_that_is_restarted(admin: AdminServer) -> None:
    client = admin.client()
    client.call("add_app", **APP)
    admin.kill()
    restart = threading.Thread(target=admin.launch)
    restart.start()

    apps = client.get("get_all_applications", verbose=False)
    restart.join()

    assert apps == ["app"]


def test_a_client_gives_up_on_an_admin_that_is_gone(admin: AdminServer) -> None:
    admin.close()

    with pytest.raises(AdminUnreachable, match="did not answer POST /admin/add_app"):
        admin.client(patience_s=0.3).call("add_app", **APP)


def test_answered_writes_survive_kill_9_of_admin_and_store(admin: AdminServer, one_store_server: StoreServer) -> None:
    names = [f"app{number}" for number in range(10)]
    for name in names:
        admin.client().call("add_app", **{**APP, "name": name})

    admin.kill()
    one_store_server.kill()
    one_store_server.start()
    admin.start()

    assert sorted(admin.client().get("get_all_applications", verbose=False)) == names


def test_an_admin_that_starts_before_its_store_becomes_ready_later(one_store_server: StoreServer, tmp_path: Path) -> None:
    one_store_server.kill()
    server = AdminServer(one_store_server, tmp_path)
    try:
        server.launch()
        wait_until(lambda: "store away, waiting for it" in server.log.read_text(), "the store is missed", within_s=20)
        early = server.get("/health")
        one_store_server.start()
        wait_until(lambda: server.get("/health").ok, "the admin service is ready")
    finally:
        server.close()

    assert (early.status_code, early.json()["error"]) == (503, "Starting")


def test_sigterm_ends_a_service_that_waits_for_its_store(one_store_server: StoreServer, tmp_path: Path) -> None:
    one_store_server.kill()
    server = AdminServer(one_store_server, tmp_path)
    try:
        server.launch()
        wait_until(lambda: "store away, waiting for it" in server.log.read_text(), "the store is missed", within_s=20)
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
    finally:
        server.close()


def test_a_store_that_lost_its_data_is_written_back_from_a_frontend(
    admin: AdminServer, frontend: FrontendServer, one_store_server: StoreServer
) -> None:
    client = admin.client(patience_s=2)
    client.call("add_app", **APP)
    before = client.catalog()
    one_store_server.kill()
    one_store_server.wipe()
    one_store_server.start()
    wait_until(lambda: (frontend.report(admin) or {}).get("conflict"), "the frontend sees the conflict", within_s=15)

    refused = admin.post("/admin/add_app", {**APP, "name": "another"})
    restored = admin.post("/admin/v1/store/restore")

    assert (refused.status_code, refused.json()["error"]) == (503, "Catalog conflict")
    assert restored.status_code == 200
    assert (restored.json()["mirror_of"], restored.json()["records"]) == ("f1", 1)
    after = client.catalog()
    assert (after["apps"], after["revision"]) == (before["apps"], 2)
    assert after["store_id"] != before["store_id"]
    assert (frontend.report(admin) or {})["conflict"] is False
    client.call("add_app", **{**APP, "name": "another"})
    assert revision_served(frontend, admin) == 3


def test_a_store_that_lost_its_data_can_be_accepted_as_it_is(
    admin: AdminServer, frontend: FrontendServer, one_store_server: StoreServer
) -> None:
    admin.client().call("add_app", **APP)
    one_store_server.kill()
    one_store_server.wipe()
    one_store_server.start()
    wait_until(lambda: (frontend.report(admin) or {}).get("conflict"), "the frontend sees the conflict", within_s=15)

    accepted = admin.post("/admin/v1/store/accept")

    assert accepted.json() == {"live": 1, "behind": []}
    assert admin.client().get("get_all_applications", verbose=False) == []
    assert revision_served(frontend, admin) == 0


def test_a_conflict_is_not_waited_out(admin: AdminServer, frontend: FrontendServer, one_store_server: StoreServer) -> None:
    admin.client().call("add_app", **APP)
    admin.kill()
    one_store_server.kill()
    one_store_server.wipe()
    one_store_server.start()
    admin.start()  # gives the empty store an id: another one than the frontend's

    wait_until(lambda: (frontend.report(admin) or {}).get("conflict"), "the frontend sees the conflict", within_s=15)
    with pytest.raises(AdminRefused, match="f1 serve another catalog"):
        admin.client().call("delete_app", name="app")


def test_sigterm_ends_the_service_with_0(admin: AdminServer) -> None:
    assert admin.process is not None

    admin.process.send_signal(signal.SIGTERM)

    assert admin.process.wait(10) == 0
    assert "admin stopped" in admin.log.read_text()


def test_an_unexpected_error_is_told_by_an_id_that_is_in_the_log(admin: AdminServer, one_store_server: StoreServer) -> None:
    """A frontend of some other toolkit sends a report that is not of the form that is expected."""
    answer: list[requests.Response] = []
    asking = threading.Thread(target=lambda: answer.append(admin.post("/admin/get_all_containers", {"verbose": True})))
    with redis.Redis.from_url(one_store_server.url) as stranger, stranger.pubsub(ignore_subscribe_messages=True) as orders:
        orders.subscribe(f"clipper:{CLUSTER}:changes")
        orders.get_message(timeout=5)
        asking.start()
        roll_call = wait_until(lambda: orders.get_message(timeout=1), "the roll is called")
        ack = {"frontend": "f", "store_id": "", "revision": 0, "conflict": False, "report": {"replicas": 7}}
        stranger.publish(f"clipper:{CLUSTER}:acks", json.dumps(ack | json.loads(roll_call["data"])))
        asking.join()

    said = answer[0].json()
    id_ = answer[0].headers["X-Request-Id"]
    assert (answer[0].status_code, said["error"]) == (500, "Internal error")
    assert said["cause"].endswith(f"request_id={id_}")
    assert "Traceback" not in answer[0].text
    assert id_ in admin.log.read_text()


@pytest.mark.parametrize(
    ("settings", "problems"),
    [
        ({}, ["neither CLIPPER_STORE_URL nor CLIPPER_STORE_URL_FILE is set", "CLIPPER_TOKEN_FILE is not set"]),
        (
            {
                "CLIPPER_STORE_URL": "redis://s",
                "CLIPPER_TOKEN_FILE": "/nowhere",
                "CLIPPER_ADMIN_ADDRESS": "1338",
                "CLIPPER_DEFAULT_SLO_POLICY": "never",
            },
            [
                "CLIPPER_TOKEN_FILE is '/nowhere'",
                "CLIPPER_ADMIN_ADDRESS is '1338'; expected host:port or fd://N",
                "CLIPPER_DEFAULT_SLO_POLICY is 'never'; expected one of late, default, error",
            ],
        ),
    ],
)
def test_wrong_settings_are_all_said_and_end_with_2(settings: dict[str, str], problems: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "clipper_nomad.admin"], env=settings, capture_output=True, text=True, timeout=30, check=False
    )

    assert ended.returncode == 2
    assert all(problem in ended.stderr for problem in problems)
    assert "Traceback" not in ended.stderr
