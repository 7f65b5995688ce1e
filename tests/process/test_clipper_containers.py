"""Clipper's RPC version 3 at a real frontend, byte by byte: containers come, serve, are lost and come back.

The container's side is clipper_containers.py, which shares no code with ours.
"""

from __future__ import annotations

import base64
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from clipper_nomad.state.records import Record
from tests.process.clipper_containers import (
    INTRODUCE,
    KEEP_ALIVE,
    PATIENCE_S,
    TYPES,
    LegacyContainer,
    ServingContainer,
)
from tests.process.frontends import Frontend, a_version, an_app
from tests.process.peer_replicas import PeerReplica
from tests.waiting import wait_until

pytestmark = pytest.mark.process

ANY_PORT = "tcp://127.0.0.1:0"


@pytest.fixture(scope="module")
def frontend() -> Iterator[Frontend]:
    """For each input type an app and a model; `m` of the others, and some that a container cannot serve."""
    records: list[Record] = [
        *(an_app(kind, model=kind, input_type=kind) for kind in TYPES),
        *(a_version(kind, input_type=kind) for kind in TYPES),
        an_app("a"),
        a_version("m"),
        an_app("b", model="two"),
        a_version("two"),
        an_app("c", model="once"),
        a_version("once", retry=False),
        a_version("ours", image="bundle:sha256-1"),
        an_app("theirs", model="theirs"),
        a_version("theirs", image="clipper/sum-container:0.4.1", legacy=True),
    ]
    with Frontend(*records, LEGACY_RPC_ADDRESS=ANY_PORT) as running:
        yield running


def replicas(frontend: Frontend, model: str, state: str = "ready") -> list[str]:
    """Return the names of a model's replicas in this state."""
    rows = frontend.report()["replicas"]
    return [row["replica"] for row in rows if (row["model"], row["state"]) == (model, state)]


def gone(frontend: Frontend, model: str) -> bool:
    """Whether a model has no replica left."""
    return not replicas(frontend, model)


# ---- serving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("bytes", base64.b64encode(bytes([1, 2, 250])).decode(), -3),
        ("integers", [1, -2, 2**31 - 1], 2**31 - 2),
        ("floats", [0.5, 0.25], 0.75),
        ("doubles", [0.1, 0.2], 0.1 + 0.2),
        ("strings", "Grüße ☀", "Grüße ☀"),
    ],
)
def test_a_container_serves_each_input_type(frontend: Frontend, kind: str, value: object, expected: object) -> None:
    with ServingContainer(frontend.legacy_rpc, model=kind, kind=kind) as container:
        reply = frontend.predict(kind, value)

    assert reply.status == 200
    assert (reply.json["output"], reply.json["default"]) == (expected, False)
    assert (reply.header("x-clipper-replica") or "").startswith("rpc3-f1-")
    assert container.batches == [1]


def test_an_input_batch_arrives_whole_and_its_answers_in_order(frontend: Frontend) -> None:
    with ServingContainer(frontend.legacy_rpc) as container:
        with frontend.client() as client:
            reply = client.ask("POST", "/a/predict", b'{"input_batch": [[1.0], [2.0, 3.0], [4.0]]}')
        rows = reply.json["batch_predictions"]

    assert [row["output"] for row in rows] == [1.0, 5.0, 4.0]
    assert sum(container.batches) == 3


def test_an_output_is_read_as_json_where_it_is_json(frontend: Frontend) -> None:
    texts = ["[1, 2]", "NaN", "", "plain", '{"a": 1}']
    with ServingContainer(frontend.legacy_rpc, predict=lambda inputs: [texts[int(each[0])] for each in inputs]):
        outputs = [frontend.predict("a", [float(index)]).json["output"] for index in range(len(texts))]

    assert outputs == [[1, 2], "NaN", "", "plain", {"a": 1}]


def test_one_batch_at_a_time_is_in_flight(frontend: Frontend) -> None:
    with LegacyContainer(frontend.legacy_rpc) as container, ThreadPoolExecutor(20) as pool:
        container.join()
        asked = [pool.submit(frontend.predict, "a", [float(number)]) for number in range(20)]
        seen: list[bytes] = []
        answered = 0
        while answered < 20:
            request = container.request()
            assert container.receive(within_s=0.05) is None, "nothing comes before the answer"
            seen.append(request.message_id)
            container.respond(request.message_id, [str(each[0]) for each in container.inputs_of(request)])
            answered += len(request.inputs)

        assert sorted(each.result().json["output"] for each in asked) == [float(number) for number in range(20)]
        assert len(set(seen)) == len(seen)


def test_two_containers_share_the_work(frontend: Frontend) -> None:
    with (
        ServingContainer(frontend.legacy_rpc, model="two") as one,
        ServingContainer(frontend.legacy_rpc, model="two") as other,
        ThreadPoolExecutor(8) as pool,
    ):
        replies = list(pool.map(lambda number: frontend.predict("b", [float(number)]), range(64)))

    assert [reply.json["output"] for reply in replies] == [float(number) for number in range(64)]
    assert len({reply.header("x-clipper-replica") for reply in replies}) == 2
    assert one.batches
    assert other.batches
    assert sum(one.batches) + sum(other.batches) == len(replies)


def test_containers_of_both_protocols_serve_one_version(frontend: Frontend) -> None:
    with (
        ServingContainer(frontend.legacy_rpc, model="two") as container,
        PeerReplica(frontend.rpc, model="two") as ours,
        ThreadPoolExecutor(8) as pool,
    ):
        replies = list(pool.map(lambda number: frontend.predict("b", [float(number)]), range(64)))

    assert [reply.json["output"] for reply in replies] == [float(number) for number in range(64)]
    assert container.batches
    assert ours.sent


def test_a_version_deployed_from_an_image_of_clippers_is_served(frontend: Frontend) -> None:
    with ServingContainer(frontend.legacy_rpc, model="theirs"):
        assert frontend.predict("theirs", [2.0]).json["output"] == 2.0


# ---- introductions ---------------------------------------------------------------------------------------------------


def test_a_heartbeat_is_answered_until_the_container_leaves(frontend: Frontend) -> None:
    with LegacyContainer(frontend.legacy_rpc) as container:
        container.join()
        for _ in range(5):
            container.beat()
            assert container.receive() == KEEP_ALIVE
    wait_until(lambda: gone(frontend, "m"), "the container is gone")


def test_an_introduction_said_twice_is_taken_once(frontend: Frontend) -> None:
    with LegacyContainer(frontend.legacy_rpc) as container:
        container.beat()
        container.beat()
        assert [container.receive(), container.receive()] == [INTRODUCE, INTRODUCE]
        container.introduce()
        container.introduce()
        container.beat()

        assert container.receive() == KEEP_ALIVE
        assert len(replicas(frontend, "m")) == 1


@pytest.mark.parametrize(
    ("behind_the_type", "rpc_version"), [(b"\0\0\x7fgarbage", b"\x03\0\0\0"), (b"", b"\x03\0\0\0\0\0\0\0")]
)
def test_what_the_containers_of_c_and_the_jvm_say_otherwise_is_understood(
    frontend: Frontend, behind_the_type: bytes, rpc_version: bytes
) -> None:
    """C++ and R send more bytes than the input type has, the JVM sends eight of the version."""
    with LegacyContainer(frontend.legacy_rpc) as container:
        container.beat()
        container.receive()
        container.introduce(rpc_version=rpc_version, behind_the_type=behind_the_type)
        container.beat()

        assert container.receive() == KEEP_ALIVE


@pytest.mark.parametrize("rpc_version", [None, b"\x02\0\0\0", b"\x04\0\0\0", b"3", b""])
def test_another_rpc_version_is_never_taken_and_asked_again(frontend: Frontend, rpc_version: bytes | None) -> None:
    with LegacyContainer(frontend.legacy_rpc) as container:
        for _ in range(3):
            container.beat()
            assert container.receive() == INTRODUCE
            container.introduce(rpc_version=rpc_version)

        assert gone(frontend, "m")
        assert replicas(frontend, "m", "waiting") == ["rpc3-f1"]
    wait_until(lambda: "version 3 is served here" in frontend.log, "the log says why")


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ({"model": "unknown"}, "not in the catalog"),
        ({"model": "m", "version": "2"}, "not in the catalog"),
        ({"model": "m", "kind": "strings"}, "takes input type 4"),
        ({"model": "ours"}, "only its own replicas serve it"),
    ],
)
def test_who_may_not_serve_is_told_nothing_and_the_log_says_why(
    frontend: Frontend, who: dict[str, str], reason: str
) -> None:
    with LegacyContainer(frontend.legacy_rpc, **who) as container:
        container.beat()
        assert container.receive() == INTRODUCE
        container.introduce()
        container.beat()

        assert container.receive() == INTRODUCE
        assert reason in frontend.log
        assert gone(frontend, who["model"])


# ---- faults ----------------------------------------------------------------------------------------------------------


def test_what_a_dead_container_held_goes_to_another(frontend: Frontend) -> None:
    with ThreadPoolExecutor(1) as pool:
        with LegacyContainer(frontend.legacy_rpc) as dying:
            dying.join()
            asked = pool.submit(frontend.predict, "a", [7.0])
            dying.request()
        with ServingContainer(frontend.legacy_rpc):
            assert asked.result(PATIENCE_S).json["output"] == 7.0


def test_a_query_is_executed_at_most_twice(frontend: Frontend) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(frontend.predict, "a", [8.25])
        for _ in range(2):
            with LegacyContainer(frontend.legacy_rpc) as dying:
                dying.join()
                dying.request()
        assert asked.result(PATIENCE_S).status == 422


def test_without_retry_a_query_is_executed_once(frontend: Frontend) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(frontend.predict, "c", [1.0])
        with LegacyContainer(frontend.legacy_rpc, model="once") as dying:
            dying.join()
            dying.request()
        assert asked.result(PATIENCE_S).status >= 500


def test_a_late_result_of_an_earlier_connection_answers_nobody(frontend: Frontend) -> None:
    """A reconnected container has the message id of a request of before; its own request has another."""
    with ThreadPoolExecutor(1) as pool:
        with LegacyContainer(frontend.legacy_rpc) as first:
            first.join()
            asked = pool.submit(frontend.predict, "a", [9.0])
            old = first.request()
        with LegacyContainer(frontend.legacy_rpc) as second:
            second.respond(old.message_id, ["wrong: nobody introduced itself"])
            second.join()
            new = second.request()
            strays = frontend.metric("clipper_stray_results_total")
            second.respond(old.message_id, ["wrong: of another session"])
            wait_until(lambda: frontend.metric("clipper_stray_results_total") > strays, "the late result is dropped")
            second.respond(new.message_id, ["9"])
            second.respond(new.message_id, ["wrong: said twice"])

            assert asked.result(PATIENCE_S).json["output"] == 9


def test_a_wrong_number_of_outputs_is_an_error_that_names_both(frontend: Frontend) -> None:
    with LegacyContainer(frontend.legacy_rpc) as container, ThreadPoolExecutor(1) as pool:
        container.join()
        asked = pool.submit(frontend.predict, "a", [1.5])
        container.respond(container.request().message_id, ["1", "2"])

        reply = asked.result(PATIENCE_S)
        assert reply.status == 500
        assert "list has length 1, but the container returned 2 outputs" in reply.json["cause"]
        container.beat()
        assert container.receive() == KEEP_ALIVE


def test_a_batch_without_bytes_is_an_error_and_its_container_goes_on(frontend: Frontend) -> None:
    """In Clipper such a batch cost the replica its life: it never got work again."""
    with ServingContainer(frontend.legacy_rpc, model="strings", kind="strings") as container:
        empty = frontend.predict("strings", "")
        after = frontend.predict("strings", "text")

    assert empty.status == 500
    assert "without bytes" in empty.json["cause"]
    assert after.json["output"] == "text"
    assert container.batches == [1]


def test_a_container_that_breaks_the_protocol_loses_its_work_and_may_come_back(frontend: Frontend) -> None:
    with LegacyContainer(frontend.legacy_rpc) as container, ThreadPoolExecutor(1) as pool:
        container.join()
        asked = pool.submit(frontend.predict, "a", [3.0])
        container.request()
        container.socket.send_multipart([b"", b"\x01\0\0\0", b"abc"])
        container.beat()
        assert container.receive() == INTRODUCE
        container.introduce()

        again = container.request()
        container.respond(again.message_id, ["3"])
        assert asked.result(PATIENCE_S).json["output"] == 3


def test_a_name_that_the_port_of_another_protocol_is_given_harms_nobody(frontend: Frontend) -> None:
    """HTTP, and bytes without sense, on the port of RPC version 3."""
    host, _, port = frontend.legacy_rpc.rpartition(":")
    rng = random.Random(3)
    with ServingContainer(frontend.legacy_rpc):
        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\xff\0\0\0\0\0\0\0\1\x7f", *(rng.randbytes(200) for _ in range(20))):
            with socket.create_connection((host, int(port))) as stranger:
                stranger.sendall(noise)
        assert frontend.predict("a", [4.0]).json["output"] == 4.0


def test_ten_thousand_malformed_messages_change_nothing(frontend: Frontend) -> None:
    """Random frames, and true messages with something broken, on many connections, while another container serves."""
    rng = random.Random(20200730)
    before = frontend.rss_bytes()
    errors = frontend.metric("clipper_protocol_errors_total")
    sent = 0
    with ServingContainer(frontend.legacy_rpc) as honest:
        while sent < 10_000:
            with LegacyContainer(frontend.legacy_rpc) as liar:
                if rng.random() < 0.5:
                    liar.join()
                for _ in range(20):  # it is listened to until it has said ten that are none
                    liar.socket.send_multipart(_malformed(rng))
                    sent += 1
                liar.beat()
                liar.socket.poll(5)
            if not sent % 1000:
                number = float(sent)
                assert frontend.predict("a", [number]).json["output"] == number
        assert honest.error is None

    assert frontend.metric("clipper_protocol_errors_total") > errors + 2000
    assert frontend.rss_bytes() - before < 30 * 2**20


def _malformed(rng: random.Random) -> list[bytes]:
    """Return a message that is not of the protocol, or is of it by chance and harmless."""
    true = rng.choice(
        [
            [b"", b"\x02\0\0\0", b"more"],
            [b"", b"\0\0\0\0", b"m", b"1", b"3"],
            [b"", b"\0\0\0\0", b"m", b"1", b"3", b"\x03\0\0\0"],
            [b"", b"\x01\0\0\0", rng.randbytes(4), struct.pack("<Q", 16), struct.pack("<QQ", 1, 1), b"1"],
            [b"", b"\x01\0\0\0", rng.randbytes(4), struct.pack("<Q", 2**63), struct.pack("<Q", 2**64 - 1)],
        ]
    )
    match rng.randrange(5):
        case 0:
            return [rng.randbytes(rng.randrange(12)) for _ in range(rng.randrange(1, 12))]
        case 1:
            return true[: rng.randrange(1, len(true))]
        case 2:
            return [*true, rng.randbytes(rng.randrange(9))]
        case 3:
            place = rng.randrange(len(true))
            return [*true[:place], rng.randbytes(rng.randrange(20)), *true[place + 1 :]]
        case _:
            rng.shuffle(true)
            return true


def test_a_flood_of_heartbeats_that_nobody_reads_the_answers_of_costs_no_memory(frontend: Frontend) -> None:
    before = frontend.rss_bytes()
    with LegacyContainer(frontend.legacy_rpc) as flooding, ServingContainer(frontend.legacy_rpc):
        stop = threading.Event()

        def flood() -> None:
            while not stop.is_set():
                flooding.beat()

        thread = threading.Thread(target=flood)
        thread.start()
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert frontend.predict("a", [5.0]).json["output"] == 5.0
        stop.set()
        thread.join(PATIENCE_S)
    assert frontend.rss_bytes() - before < 30 * 2**20


# ---- the address -----------------------------------------------------------------------------------------------------


def test_frontends_can_share_one_inherited_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        one, other = (Frontend(an_app(), a_version(), LEGACY_RPC_ADDRESS=f"fd://{listening.fileno()}") for _ in "12")
        one.inherits = other.inherits = [listening.fileno()]
        with one, other, ExitStack() as containers:
            assert one.legacy_rpc == other.legacy_rpc == address
            wait_until(lambda: _comes_to_both(address, one, other, containers), "both frontends have a container")
            assert [each.predict("a", [6.0]).json["output"] for each in (one, other)] == [6.0, 6.0]


def _comes_to_both(address: str, one: Frontend, other: Frontend, containers: ExitStack) -> bool:
    containers.enter_context(ServingContainer(address))
    return bool(replicas(one, "m") and replicas(other, "m"))


def test_it_is_off_unless_an_address_is_given() -> None:
    with Frontend(an_app(), a_version()) as frontend:
        assert frontend.report()["legacy_rpc"] is None
