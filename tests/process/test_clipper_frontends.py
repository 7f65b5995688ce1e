"""Our runtime at a frontend of Clipper's RPC version 3, byte by byte: CLIPPER_RPC_VERSION=3.

The frontend's side is clipper_frontends.py, which shares no code with ours.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.process.bundles import pack, pack_model
from tests.process.clipper_containers import ServingContainer
from tests.process.clipper_frontends import HEARTBEAT, ClipperFrontend, ContainerResponse, Introduction
from tests.process.frontends import Frontend, a_version, an_app
from tests.process.replicas import Replica
from tests.waiting import wait_until

pytestmark = pytest.mark.process

TYPES = {"bytes": 0, "integers": 1, "floats": 2, "doubles": 3, "strings": 4}


@pytest.fixture
def frontend() -> Iterator[ClipperFrontend]:
    with ClipperFrontend() as running:
        yield running


Function = Callable[[Any], object]


def replica(folder: Path, function: Function, port: int, kind: str = "doubles") -> Replica:
    """Start a replica that knows its frontend by Clipper's two variables."""
    bundle = folder / "bundle"
    pack(bundle, function, input_type=kind)
    return Replica(folder, bundle, RPC_VERSION=3, IP="127.0.0.1", PORT=port)


def doubles(*vectors: list[float]) -> list[bytes]:
    return [struct.pack(f"<{len(vector)}d", *vector) for vector in vectors]


def test_it_calls_and_says_who_it_is_when_it_is_asked(tmp_path: Path, frontend: ClipperFrontend) -> None:
    with replica(tmp_path, lambda inputs: [float(each.sum()) for each in inputs], frontend.port):
        assert frontend.meet() == Introduction("iris", "3", "3", 3)
        assert frontend.predict(3, doubles([0.1, 0.2], [1.0, 2.0])) == ["0.30000000000000004", "3.0"]


@pytest.mark.parametrize(
    ("kind", "inputs", "expected"),
    [
        ("bytes", [b"\x01\xfe", b"\x03\x04"], ["-1", "7"]),
        ("integers", [struct.pack("<2i", 1, -(2**31))], [str(1 - 2**31)]),
        ("floats", [struct.pack("<2f", 0.5, 0.25)], ["0.75"]),
        ("doubles", doubles([1e300, 1e300]), ["2e+300"]),
    ],
)
def test_inputs_of_each_type_arrive(
    tmp_path: Path, frontend: ClipperFrontend, kind: str, inputs: list[bytes], expected: list[str]
) -> None:
    with replica(tmp_path, lambda batch: [each.sum().item() for each in batch], frontend.port, kind):
        assert frontend.meet().data_type == str(TYPES[kind])
        assert frontend.predict(TYPES[kind], inputs) == expected


def test_texts_arrive_and_leave_as_they_are(tmp_path: Path, frontend: ClipperFrontend) -> None:
    with replica(tmp_path, lambda texts: [text + "!" for text in texts], frontend.port, "strings"):
        frontend.meet()
        assert frontend.predict(4, ["Grüße ☀".encode(), b""]) == ["Grüße ☀!", "!"]


def test_vectors_of_unequal_lengths_come_in_one_batch(tmp_path: Path, frontend: ClipperFrontend) -> None:
    with replica(tmp_path, lambda inputs: [len(each) for each in inputs], frontend.port):
        frontend.meet()
        assert frontend.predict(3, doubles([1.0], [], [1.0, 2.0])) == ["1", "0", "2"]


def test_outputs_are_written_as_our_frontend_would_write_them(tmp_path: Path, frontend: ClipperFrontend) -> None:
    outputs: list[Sequence[Any] | NDArray[Any]] = [
        [True, False],
        [1, 2**70],
        [float("nan"), float("-inf")],
        np.array([0.1], np.float32),
        np.array([float("nan"), 1.5], np.float32),
        [[1, 2.5], {"a": True}],
        ["1", "text"],
    ]
    with replica(tmp_path, lambda inputs: outputs[int(inputs[0][0])], frontend.port):
        frontend.meet()
        written = [frontend.predict(3, doubles(*[[float(number)]] * len(each))) for number, each in enumerate(outputs)]

    assert written == [
        ["true", "false"],
        ["1", "1180591620717411303424"],
        ["NaN", "-Infinity"],
        ["0.1"],
        ["NaN", "1.5"],
        ["[1,2.5]", '{"a":true}'],
        ["1", "text"],
    ]


def test_it_sends_a_heartbeat_when_it_hears_nothing_and_calls_anew_after_half_a_minute(
    tmp_path: Path, frontend: ClipperFrontend
) -> None:
    with replica(tmp_path, lambda inputs: [1 for _ in inputs], frontend.port):
        frontend.meet()
        first = frontend.container
        heartbeats = 0
        while frontend.container == first:
            assert frontend.receive(within_s=15) == HEARTBEAT
            heartbeats += frontend.container == first

        assert 4 <= heartbeats <= 6, "one in five seconds, for thirty"
        frontend.answer_heartbeat(asks=True)
        assert isinstance(frontend.receive(), Introduction)


def test_before_the_first_answer_it_calls_once(tmp_path: Path, frontend: ClipperFrontend) -> None:
    with replica(tmp_path, lambda inputs: [1 for _ in inputs], frontend.port):
        assert frontend.receive() == HEARTBEAT
        assert frontend.receive(within_s=7) is None


def test_it_comes_back_to_a_frontend_that_was_restarted_with_nothing_of_before(tmp_path: Path) -> None:
    with ClipperFrontend() as first:
        port = first.port
        held = replica(tmp_path, _waits_for_a_file, port)
        first.meet()
        first.send_inputs(3, [struct.pack("<d", 1.0)] * 1)
        first.send_inputs(3, [struct.pack("<d", 2.0)] * 1)
        wait_until((tmp_path / "bundle" / "begun").exists, "the model works")
    with held, ClipperFrontend(port) as second:
        (tmp_path / "bundle" / "go").touch()
        second.meet()
        assert second.predict(3, doubles([3.0]), message_id=b"\0\0\0\0") == ["3.0"]


def _waits_for_a_file(inputs: NDArray[Any]) -> list[float]:
    import os  # noqa: PLC0415  # runs in the replica
    import time  # noqa: PLC0415
    from pathlib import Path as _Path  # noqa: PLC0415

    bundle = _Path(os.environ["CLIPPER_MODEL_PATH"])
    (bundle / "begun").touch()
    while not (bundle / "go").exists():
        time.sleep(0.01)
    return [float(each[0]) for each in inputs]


@pytest.mark.parametrize("model", ["raises", "wrong_count", "wrong_types"])
def test_a_failed_batch_has_no_outputs_and_the_process_calls_anew(
    tmp_path: Path, frontend: ClipperFrontend, model: str
) -> None:
    pack_model(tmp_path / "bundle", model)
    with Replica(tmp_path, tmp_path / "bundle", RPC_VERSION=3, PORT=frontend.port) as failing:
        frontend.meet()
        frontend.send_inputs(3, doubles([-1.0], [1.0]))
        assert frontend.meet() == Introduction("iris", "3", "3", 3)
        failing.wait_for_log("RPC version 3 has no way to tell of an error")


def test_what_is_not_of_the_protocol_is_survived(tmp_path: Path, frontend: ClipperFrontend) -> None:
    rng = random.Random(7)
    with replica(tmp_path, lambda inputs: [float(each.sum()) for each in inputs], frontend.port):
        for _ in range(100):
            frontend.meet()
            broken = [b"\x01\0\0\0", rng.randbytes(4), b"\0\0\0\0", struct.pack("<Q", 24), rng.randbytes(24), b"\0" * 8]
            place = rng.randrange(len(broken) + 1)
            frontend.say(*broken[:place], *([rng.randbytes(rng.randrange(12))] if rng.random() < 0.5 else []))
        frontend.meet()
        assert frontend.predict(3, doubles([4.0])) == ["4.0"]


def test_another_version_of_the_frontend_is_noted_and_nothing_more(tmp_path: Path, frontend: ClipperFrontend) -> None:
    with replica(tmp_path, lambda inputs: [float(each.sum()) for each in inputs], frontend.port) as running:
        frontend.meet()
        frontend.say(b"\x02\0\0\0", b"\0\0\0\0", rpc_version=b"\x02\0\0\0")
        running.wait_for_log("the frontend speaks another RPC version")
        assert frontend.predict(3, doubles([4.0])) == ["4.0"]


def test_asked_to_stop_it_answers_what_it_has(tmp_path: Path, frontend: ClipperFrontend) -> None:
    with replica(tmp_path, _waits_for_a_file, frontend.port) as running:
        frontend.meet()
        frontend.send_inputs(3, doubles([5.0]))
        wait_until((tmp_path / "bundle" / "begun").exists, "the model works")
        running.terminate()
        (tmp_path / "bundle" / "go").touch()

        assert frontend.next_response() == ContainerResponse(b"\x07\0\0\0", ["5.0"])
        assert running.exit_code() == 0


def test_it_serves_our_own_frontend_by_version_3(tmp_path: Path) -> None:
    with Frontend(an_app(model="iris"), a_version("iris", "3"), LEGACY_RPC_ADDRESS="tcp://127.0.0.1:0") as ours:
        port = int(ours.legacy_rpc.rpartition(":")[2])
        with (
            replica(tmp_path, lambda inputs: [float(each.sum()) for each in inputs], port),
            ServingContainer(ours.legacy_rpc, model="iris", version="3"),
        ):
            wait_until(lambda: sum(row["state"] == "ready" for row in ours.report()["replicas"]) == 2, "both are there")
            assert [ours.predict("a", [float(number), 1.0]).json["output"] for number in range(50)] == [
                number + 1.0 for number in range(50)
            ]
