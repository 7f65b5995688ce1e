"""How a replica ends when its model, its bundle or its settings are at fault, and what others see of a running one."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import cloudpickle
import pytest

from clipper_nomad.protocol.bundle import CLOSURE_NAME, MANIFEST_NAME
from tests.process.bundles import load_model, pack, pack_model
from tests.process.replicas import Bench, Replica, first_number, numbers
from tests.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


NO_FILES = '{"input_type": "doubles", "python": "3.11", "packages": {}, "files": [1]}'


@pytest.mark.parametrize("model", ["hangs", "hangs_in_c"])
def test_a_predict_that_hangs_ends_the_process_with_a_traceback(bench: Bench, model: str) -> None:
    with bench.frontend() as frontend, bench.replica(model, HANG_AFTER_S=0.5) as replica:
        frontend.welcome()
        frontend.predict([[-1.0]])
        begin = time.monotonic()

        code = replica.exit_code(within_s=5.0)

        assert code == 1
        assert 0.5 <= time.monotonic() - begin < 0.5 + 1.0 + 2.5  # the slack of the watch, and of a loaded machine
        assert f"{model}.py" in replica.log


def test_a_slow_predict_and_an_idle_replica_are_no_hangs(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("slow", HANG_AFTER_S=0.6) as replica:
        frontend.welcome()
        for batch in range(5):
            frontend.ask([[0.4]], batch=batch)

        with pytest.raises(subprocess.TimeoutExpired):
            replica.process.wait(2.0)

        frontend.ask([[0.0]], batch=9)


@pytest.mark.parametrize(
    ("model", "code", "trace"),
    [("exits", 9, "about to exit"), ("segfaults", -signal.SIGSEGV, "segfaults.py")],
)
def test_a_model_that_kills_its_process_leaves_a_trace_of_it(bench: Bench, model: str, code: int, trace: str) -> None:
    with bench.frontend() as frontend, bench.replica(model) as replica:
        frontend.welcome()
        frontend.predict([[1.0]])

        assert replica.exit_code() == code
        assert trace in replica.log


def test_poison_kills_only_with_its_own_input(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("poison") as replica:
        frontend.welcome()

        assert numbers(frontend.ask([[665.0], [667.0]])) == [665.0, 667.0]
        frontend.predict([[1.0], [666.0]], batch=2)

        assert replica.exit_code() == 1


def test_a_model_that_fails_on_its_sample_never_becomes_ready(bench: Bench) -> None:
    ready = bench.folder / "ready"

    with bench.frontend() as frontend, bench.replica("raises", sample=[-1.0], READY_FILE=ready) as replica:
        assert replica.exit_code() == 1

        assert "raises.py" in replica.log  # the line of the user's code
        assert 'reason="ValueError: a number below 0"' in replica.log
        assert not ready.exists()
        frontend.expect_silence(for_s=0.0)


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("exits_on_load", 7, ()),
        ("raises_on_load", 1, ("FileNotFoundError", "/no/such/file/of/the/model", "Traceback")),
        ("needs_missing_module", 3, ("a_module_that_is_nowhere", "pkgs_to_install")),
    ],
)
def test_a_model_that_cannot_be_loaded_ends_with_the_reason(
    bench: Bench, model: str, code: int, words: tuple[str, ...]
) -> None:
    with bench.replica(model) as replica:
        assert replica.exit_code() == code
        assert all(word in replica.log for word in words)


def test_what_is_no_function_is_refused(bench: Bench) -> None:
    pack(bench.bundle, "not a function")

    with bench.replica(None) as replica:
        assert replica.exit_code() == 1
        assert "cannot be called" in replica.log


def test_a_changed_bundle_is_refused_before_anything_of_it_runs(bench: Bench) -> None:
    pack_model(bench.bundle, "echo_sum")
    (bench.bundle / CLOSURE_NAME).write_bytes(cloudpickle.dumps(load_model("exits_on_load").predict))

    with bench.replica(None) as replica:
        assert replica.exit_code() == 4  # 7 if it had been unpickled
        assert CLOSURE_NAME in replica.log


def test_another_bundle_than_the_deployed_one_is_refused(bench: Bench) -> None:
    digest = pack_model(bench.bundle, "echo_sum")
    pack_model(bench.bundle, "identity")

    with bench.replica(None, MODEL_DIGEST=digest) as replica:
        assert replica.exit_code() == 4
        assert digest in replica.log


def test_a_bundle_of_another_python_is_refused_with_what_to_do(bench: Bench) -> None:
    pack(bench.bundle, load_model("echo_sum").predict, python="3.6")

    with bench.replica(None) as replica:
        assert replica.exit_code() == 4
        assert "Run it with Python 3.6" in replica.log


@pytest.mark.parametrize("manifest", ["", "{}", "[1]", '{"input_type": 7}', NO_FILES])
def test_a_bundle_without_a_readable_manifest_is_refused(bench: Bench, manifest: str) -> None:
    pack_model(bench.bundle, "echo_sum")
    (bench.bundle / MANIFEST_NAME).write_text(manifest)

    with bench.replica(None) as replica:
        assert replica.exit_code() == 4
        assert "Traceback" not in replica.log


def test_a_sample_of_another_type_is_a_damaged_bundle(bench: Bench) -> None:
    with bench.replica("echo_sum", sample="text") as replica:
        assert replica.exit_code() == 4
        assert "doubles" in replica.log


def test_every_wrong_setting_is_named_at_once(bench: Bench) -> None:
    wrong = {"MODEL_NAME": "", "MODEL_PATH": "", "HANG_AFTER_S": "soon", "INPUT_TYPE": "complex", "PORT": 0}

    with Replica(bench.folder, bench.bundle, frontends=["http://x"], METRICS_ADDRESS="nowhere", **wrong) as replica:
        assert replica.exit_code() == 2
        names = [*wrong, "RPC_ADDRESSES", "METRICS_ADDRESS"]
        assert [name for name in names if f"CLIPPER_{name} is" not in replica.log] == []


def test_metrics_are_served_on_a_unix_socket(bench: Bench) -> None:
    path = bench.folder / "metrics"
    with (
        bench.frontend() as frontend,
        bench.replica("raises", METRICS_ADDRESS=f"unix://{path}") as replica,
    ):
        frontend.welcome()
        frontend.ask([[1.0], [2.0]], batch=1)
        frontend.ask([[-1.0]], batch=2)
        frontend.predict([[1.0]], batch=3, epoch=1)
        frontend.ask([[1.0]], batch=4)

        # a batch is counted after its result was sent
        wait_until(lambda: first_number(scrape_unix(path), "clipper_mc_pred_total") == 3, "three batches counted")
        text = scrape_unix(path)

        assert first_number(text, "clipper_mc_inputs_total") == 4
        assert 'clipper_mc_errors_total{kind="raised"} 1.0' in text
        assert 'clipper_mc_dropped_total{reason="stale"} 1.0' in text
        assert 'clipper_mc_dials_total{way="seed"}' in text
        assert first_number(text, "clipper_mc_links_open") == 1
        for name in ("recv_time", "parse_time", "handle_time", "end_to_end_latency"):
            assert first_number(text, f"clipper_mc_{name}_ms_count") == 3
        assert 'clipper_mc_handle_time_ms_bucket{le="500.0"} 3.0' in text
        assert 'clipper_mc_parse_time_ms_bucket{le="0.1"}' in text
        assert replica.process.poll() is None


def scrape_unix(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5.0)
        client.connect(str(path))
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        reply = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200")
    return body.decode()


def test_metrics_are_served_on_a_port_while_a_batch_runs(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with bench.frontend() as frontend, bench.replica("slow", METRICS_ADDRESS=f"127.0.0.1:{port}"):
        frontend.welcome()
        frontend.predict([[1.0]])

        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5.0) as reply:
            text = reply.read().decode()

        assert first_number(text, "clipper_mc_pred_total") == 0
        with pytest.raises(urllib.request.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/else", timeout=5.0)
        caught.value.close()
        assert caught.value.code == 404


def test_a_taken_metrics_port_is_a_wrong_setting(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with bench.replica("echo_sum", METRICS_ADDRESS=address) as replica:
            assert replica.exit_code() == 2
            assert "CLIPPER_METRICS_ADDRESS" in replica.log


def test_every_line_of_the_log_is_one_event(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("echo_sum", sample=[1.0]) as replica:
        frontend.welcome()
        frontend.ask([[1.0]])
        replica.terminate()
        frontend.close()
        replica.exit_code()

        lines = replica.log.splitlines()
        assert all(line[:4].isdigit() and line[23] == "Z" for line in lines), json.dumps(lines, indent=1)
        wait_until(lambda: "replica ends" in replica.log, "the last line")
        assert 5 <= len(lines) <= 10
