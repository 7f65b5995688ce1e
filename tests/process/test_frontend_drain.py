"""How a frontend ends: SIGTERM under load, with work under way, with too much of it, and twice."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.process.frontends import Frontend, a_version, an_app, mirror_of
from tests.process.http_clients import predict_request
from tests.process.peer_replicas import PeerReplica
from tests.waiting import wait_until

pytestmark = pytest.mark.process


class SteadyClient(threading.Thread):
    """Asks again and again on one connection, with no retry, until it is told to close."""

    def __init__(self, frontend: Frontend) -> None:
        super().__init__(daemon=True)
        self.statuses: list[int] = []
        self.failure: BaseException | None = None
        self._client = frontend.client()

    def run(self) -> None:
        try:
            with self._client as client:
                is_told = False
                while not is_told:
                    reply = client.predict("a", [1.0])
                    self.statuses.append(reply.status)
                    is_told = reply.header("Connection") == "close"
                client.expect_end()
        except BaseException as exc:  # noqa: BLE001  # the test looks at it
            self.failure = exc


def test_a_frontend_that_is_stopped_under_load_fails_no_request() -> None:
    with Frontend(an_app(), a_version()) as frontend, PeerReplica(frontend.rpc), PeerReplica(frontend.rpc, name="r-1"):
        steady = [SteadyClient(frontend) for _ in range(16)]
        for each in steady:
            each.start()
        wait_until(lambda: all(len(each.statuses) > 20 for each in steady), "all are at work")
        frontend.terminate()
        for each in steady:
            each.join(20)

        assert frontend.exit_code() == 0
        assert [each.failure for each in steady] == [None] * 16
        assert {status for each in steady for status in each.statuses} == {200}


def test_a_frontend_that_is_stopped_takes_new_connections_for_a_while() -> None:
    own = Frontend(an_app(), a_version())
    own.inherits_port = False
    with own as frontend, PeerReplica(frontend.rpc) as peer:
        peer.wait_for(lambda: peer.is_welcome, "its welcome")
        frontend.terminate()
        wait_until(lambda: "draining" in frontend.log, "it drains")
        until = time.monotonic() + 1.2
        replies = []
        while time.monotonic() < until:
            with frontend.client() as client:  # as a proxy that has not heard of it yet
                replies.append(client.predict("a", [1.0]))

        assert {(reply.status, reply.header("Connection")) for reply in replies} == {(200, "close")}
        assert frontend.exit_code() == 0


def test_what_is_under_way_when_a_frontend_is_stopped_is_answered() -> None:
    with (
        Frontend(an_app(), a_version()) as frontend,
        PeerReplica(frontend.rpc, holds=True) as peer,
        frontend.client() as client,
        frontend.client() as idle,
    ):
        client.send(predict_request("a", [1.0]) + predict_request("a", [2.0]))
        wait_until(lambda: frontend.outstanding() == 2, "both are under way")
        frontend.terminate()
        wait_until(lambda: frontend.ask("GET", "/health/ready").status == 503, "it drains")
        idle.expect_end()
        assert frontend.process is not None
        assert frontend.process.poll() is None
        peer.answer_all()

        replies = [client.reply() for _ in range(2)]
        assert [reply.json["output"] for reply in replies] == [1.0, 2.0]
        assert [reply.header("Connection") for reply in replies] == [None, "close"]
        assert frontend.exit_code() == 0


def test_a_drain_ends_when_its_time_is_up() -> None:
    with (
        Frontend(an_app(), a_version(), DRAIN_S=0.7) as frontend,
        PeerReplica(frontend.rpc, holds=True) as peer,
        frontend.client() as client,
    ):
        client.send(predict_request("a", [1.0]))
        peer.wait_for_batches()
        frontend.terminate()

        assert frontend.exit_code() == 0
        assert "drain ended with open connections" in frontend.log


def test_a_second_signal_ends_a_frontend_at_once() -> None:
    with (
        Frontend(an_app(), a_version()) as frontend,
        PeerReplica(frontend.rpc, holds=True) as peer,
        frontend.client() as client,
    ):
        client.send(predict_request("a", [1.0]))
        peer.wait_for_batches()
        frontend.terminate()
        wait_until(lambda: "draining" in frontend.log, "it drains")
        frontend.terminate()

        frontend.ends_with = 130
        assert frontend.exit_code() == 130


@pytest.mark.parametrize("name", ["HTTP_ADDRESS", "RPC_ADDRESS"])
def test_a_frontend_that_finds_its_port_taken_says_so_and_ends(name: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = "{}:{}".format(*holder.getsockname())
        (tmp_path / "mirror").write_bytes(mirror_of([an_app()]))
        addresses = {
            "HTTP_ADDRESS": "127.0.0.1:0",
            "RPC_ADDRESS": f"ipc://{tmp_path}/rpc",
            "MIRROR_PATH": f"{tmp_path}/mirror",
        }
        addresses[name] = f"tcp://{taken}" if name == "RPC_ADDRESS" else taken
        clean = {key: value for key, value in os.environ.items() if not key.startswith("CLIPPER_")}
        ended = subprocess.run(
            [sys.executable, "-m", "clipper_nomad_frontend"],
            env=clean | {f"CLIPPER_{key}": value for key, value in addresses.items()},
            capture_output=True,
            timeout=30,
            check=False,
            text=True,
        )

    assert ended.returncode == 1
    assert "in use" in ended.stderr
    assert taken.rpartition(":")[2] in ended.stderr
    assert "Traceback" not in ended.stderr
