"""The model channel of a real frontend against hostile and broken peers: the process lives, counts, and serves on.

PeerReplica is the other end of our own protocol. Replicas that end are in test_replica_ends.py.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial

import pytest
import zmq

from clipper_nomad.protocol.wire import (
    MAX_FRAME_BYTES,
    Header,
    Hello,
    MessageType,
    encode_control,
    encode_introduction,
)
from tests.process.frontends import Frontend, a_version, an_app, uid_of
from tests.process.http_clients import Client, predict_request
from tests.process.peer_replicas import PeerReplica
from tests.waiting import wait_until

pytestmark = pytest.mark.process

ERRORS = "clipper_protocol_errors_total"
STRAY = "clipper_stray_results_total"


@pytest.fixture(scope="module")
def frontend() -> Iterator[Frontend]:
    """App `a` has an honest replica; the replicas of apps `b` and `impatient` are each test's own."""
    apps = an_app("a", model="honest"), an_app("b"), an_app("impatient", slo_s=0.1, timeout_s=0.2)
    with (
        Frontend(*apps, a_version("honest"), a_version("m")) as running,
        PeerReplica(running.rpc, model="honest", name="honest-0"),
    ):
        yield running
        assert running.predict("a", [1.0, 2.0]).json["output"] == 3.0


@pytest.fixture
def peer(frontend: Frontend) -> Iterator[PeerReplica]:
    """A replica of `b` that waits to be told."""
    wait_until(lambda: not replicas_of(frontend, "m"), "the replicas of other tests have gone")
    with PeerReplica(frontend.rpc, holds=True) as connected:
        yield connected


@pytest.fixture
def client(frontend: Frontend) -> Iterator[Client]:
    with frontend.client() as connected:
        yield connected


def replicas_of(frontend: Frontend, model: str) -> list[str]:
    return [row["state"] for row in frontend.report()["replicas"] if row["model"] == model]


def header(kind: int, *, version: int = 4, flags: int = 0, count: int = 0, session: int = 0) -> bytes:
    head = bytearray(encode_control(MessageType.RESULT, epoch=1, session=session, batch=1)[0])
    head[0:2] = bytes([version, kind])
    head[2:4] = flags.to_bytes(2, "little")
    head[4:8] = count.to_bytes(4, "little")
    return bytes(head)


HELLO = Hello(model="m", version="1", uid=uid_of("m", "1"), input_type="doubles", replica="r", python="3.11", toolkit="t")
HELLO_FRAMES = encode_introduction(MessageType.HELLO, HELLO)


def hello_text(text: bytes) -> list[bytes]:
    return [HELLO_FRAMES[0], text]


# ---- messages that are not of the protocol ---------------------------------------------------------------------------

NO_MESSAGES: dict[str, Sequence[bytes]] = {
    "an empty frame": [b""],
    "empty frames": [b""] * 5,
    "one byte": [b"\x04"],
    "a short header": [header(MessageType.RESULT)[:31]],
    "noise": [bytes(range(256))],
    "RPC 3": [b"", (3).to_bytes(4, "little"), b"model", b"1"],
    "wire version 3": [header(MessageType.RESULT, version=3)],
    "wire version 255": [header(MessageType.RESULT, version=255)],
    "message type 0": [header(0)],
    "message type 99": [header(99)],
    "a welcome": [header(MessageType.WELCOME), b"{}"],
    "a predict": [header(MessageType.PREDICT)],
    "a cancel": [header(MessageType.CANCEL)],
    "a reject": [header(MessageType.REJECT), b"{}"],
    "a hello without a body": HELLO_FRAMES[:1],
    "a hello with a third frame": [*HELLO_FRAMES, b""],
    "a hello that is no JSON": hello_text(b"{"),
    "a hello that is a list": hello_text(b"[]"),
    "a hello that lacks a field": hello_text(b'{"model": "m"}'),
    "a hello with a number for a name": hello_text(json.dumps({**asdict(HELLO), "model": 7}).encode()),
    "a hello that is too large": hello_text(json.dumps({**asdict(HELLO), "more": "x" * 70_000}).encode()),
    "a hello that is too deep": hello_text(b"[" * 60_000),
    "a hello that is no UTF-8": hello_text(b'{"model": "\xff"}'),
    "a short result": [header(MessageType.RESULT)],
    "a result of 2^32 - 1 outputs": [header(MessageType.RESULT, count=2**32 - 1) + bytes(16), b""],
    "a result without its lengths": [header(MessageType.RESULT, flags=1, count=1) + bytes(16), b"x"],
    "a result without its errors": [header(MessageType.RESULT, flags=2) + bytes(16), b""],
    "a result of output type 99": [header(MessageType.RESULT) + b"\x63" + bytes(15), b""],
    "a result with too little": [header(MessageType.RESULT, count=3) + b"\x02" + bytes(15), bytes(23)],
    "a result with 50 frames": [header(MessageType.RESULT, count=1) + b"\x02" + bytes(15), *[bytes(8)] * 50],
    "errors that are no list": [header(MessageType.RESULT, flags=2, count=1) + b"\x02" + bytes(15), bytes(8), b"{}"],
    "an error of no known kind": [
        header(MessageType.RESULT, flags=2, count=1) + b"\x02" + bytes(15), bytes(8), b'[[0,"x","",""]]'
    ],
    "an error of another batch": [
        header(MessageType.RESULT, flags=2, count=1) + b"\x02" + bytes(15), bytes(8), b'[[1,"raised","",""]]'
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", NO_MESSAGES)
def test_a_stranger_that_does_not_speak_the_protocol_is_counted_and_gets_nothing(frontend: Frontend, name: str) -> None:
    before = frontend.metric(ERRORS)
    with PeerReplica(frontend.rpc, greets=False) as stranger:
        stranger.send(NO_MESSAGES[name])

        wait_until(lambda: frontend.metric(ERRORS) == before + 1, "it was counted")
        assert not stranger.is_welcome


@pytest.mark.parametrize("name", NO_MESSAGES)
def test_a_replica_that_breaks_the_protocol_is_rejected_and_its_work_goes_to_another(
    frontend: Frontend, client: Client, peer: PeerReplica, name: str
) -> None:
    before = frontend.metric(ERRORS)
    client.send(predict_request("b", [1.0, 2.0]))
    peer.wait_for_batches()

    peer.send(NO_MESSAGES[name])
    peer.wait_for(lambda: peer.rejects, "a reject")

    assert frontend.metric(ERRORS) == before + 1
    assert not peer.rejects[0].final
    with PeerReplica(frontend.rpc, name="r-1"):
        reply = client.reply()
    assert (reply.json["output"], reply.header("X-Clipper-Replica")) == (3.0, "r-1")


def test_a_peer_is_not_listened_to_after_ten_bad_messages(frontend: Frontend) -> None:
    before = frontend.metric(ERRORS)
    with PeerReplica(frontend.rpc, greets=False) as stranger:
        stranger.send_each([[b"?"]] * 50)
        wait_until(lambda: frontend.metric(ERRORS) == before + 10, "ten were counted")
        stranger.greet()
        with PeerReplica(frontend.rpc, greets=False) as other:
            other.send([b"?"])
            wait_until(lambda: frontend.metric(ERRORS) == before + 11, "what came after it was counted")

        assert not stranger.is_welcome


def test_messages_of_a_transport_without_a_handshake_leave_no_other_message_unread(
    frontend: Frontend, client: Client, peer: PeerReplica
) -> None:
    """A stream that begins in its middle looks so to libzmq: the exception which it raised ended the reading."""
    before = frontend.metric("clipper_protocol_errors_total")
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(frontend.rpc.removeprefix("ipc://"))
        stranger.sendall(b"\x01\x00" + b"\x06\x00hello" * 3)
        wait_until(lambda: frontend.metric("clipper_protocol_errors_total") == before + 3, "all three were counted")
        client.send(predict_request("b", [1.0]))
        peer.answer_all()

        assert client.reply().json["output"] == 1.0
    assert "Exception" not in frontend.log


def test_a_frame_beyond_the_limit_ends_the_connection_and_costs_no_memory(frontend: Frontend) -> None:
    before = frontend.rss_bytes()
    with PeerReplica(frontend.rpc, greets=False) as stranger:
        stranger.send([bytes(MAX_FRAME_BYTES + 1)])
        stranger.greet()

        assert frontend.predict("a", [1.0]).status == 200
        assert frontend.rss_bytes() < before + MAX_FRAME_BYTES // 2


# ---- results that answer nothing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        lambda right: replace(right, epoch=right.epoch ^ 1),
        lambda right: replace(right, epoch=0),
        lambda right: replace(right, session=right.session + 1),
        lambda right: replace(right, session=2**64 - 1),
        lambda right: replace(right, batch=right.batch + 1),
        lambda right: replace(right, batch=right.batch - 1),
        lambda right: replace(right, batch=2**64 - 1),
    ],
)
def test_a_result_of_another_epoch_session_or_batch_is_dropped_and_counted(
    frontend: Frontend, client: Client, peer: PeerReplica, other: Callable[[Header], Header]
) -> None:
    before = frontend.metric(STRAY)
    client.send(predict_request("b", [1.0, 2.0]))
    peer.wait_for_batches()
    batch = peer.waiting[0]

    peer.send(peer.result(batch, [666.0], header=other(batch.header)))
    wait_until(lambda: frontend.metric(STRAY) == before + 1, "it was counted")
    assert not client.has_data()
    peer.answer()

    assert client.reply().json["output"] == 3.0


@pytest.mark.parametrize("count", [0, 2, 1000])
def test_a_result_with_another_count_is_dropped_and_counted(
    frontend: Frontend, client: Client, peer: PeerReplica, count: int
) -> None:
    before = frontend.metric(STRAY) + frontend.metric(ERRORS)
    client.send(predict_request("b", [1.0, 2.0]))
    peer.wait_for_batches()
    batch = peer.waiting[0]

    peer.send(peer.result(batch, [666.0] * count, header=replace(batch.header, count=count)))
    wait_until(lambda: frontend.metric(STRAY) + frontend.metric(ERRORS) == before + 1, "it was counted")

    assert not client.has_data()
    with PeerReplica(frontend.rpc, name="r-1"):
        peer.close()
        assert client.reply().json["output"] == 3.0


def test_a_replayed_result_answers_nobody(frontend: Frontend, client: Client, peer: PeerReplica) -> None:
    client.send(predict_request("b", [1.0]) + predict_request("b", [2.0]))
    peer.wait_for_batches()
    first = peer.waiting[0]
    before = frontend.metric(STRAY)
    for _ in range(5):
        peer.send(peer.result(first, peer.inputs_of(first)[:, 0]))
    wait_until(lambda: frontend.metric(STRAY) == before + 4, "four of five were dropped")
    peer.waiting.remove(first)
    while not (client.has_data() and not peer.waiting and len(peer.sent) == 2):
        peer.wait_for_batches()
        peer.answer()

    assert [client.reply().json["output"] for _ in range(2)] == [1.0, 2.0]


def test_a_result_from_another_connection_answers_nobody(frontend: Frontend, client: Client, peer: PeerReplica) -> None:
    before = frontend.metric(STRAY)
    client.send(predict_request("b", [1.0, 2.0]))
    peer.wait_for_batches()
    batch = peer.waiting[0]
    with PeerReplica(frontend.rpc, name="thief", holds=True) as thief:
        thief.send(thief.result(batch, [666.0]))
        thief.send(thief.result(batch, [666.0], header=replace(batch.header, session=thief.session)))
        wait_until(lambda: frontend.metric(STRAY) == before + 2, "both were dropped")
        peer.answer()

        assert client.reply().json["output"] == 3.0


def test_a_result_after_the_timeout_answers_nobody_and_the_replica_goes_on(
    frontend: Frontend, client: Client, peer: PeerReplica
) -> None:
    assert client.predict("impatient", [1.0]).status == 504
    client.send(predict_request("b", [2.0]))
    peer.answer_all()

    assert client.reply().json["output"] == 2.0


# ---- hellos ----------------------------------------------------------------------------------------------------------


def test_a_second_hello_ends_the_session(frontend: Frontend, client: Client, peer: PeerReplica) -> None:
    client.send(predict_request("b", [1.0]))
    peer.wait_for_batches()
    peer.greet()
    peer.wait_for(lambda: peer.rejects, "a reject")

    with PeerReplica(frontend.rpc, name="r-1"):
        assert client.reply().json["output"] == 1.0


@pytest.mark.parametrize(
    "lie", [{"model": "honest"}, {"version": "2"}, {"input_type": "strings"}, {"model": ""}, {"input_type": "?"}]
)
def test_a_replica_whose_uid_is_another_version_s_is_rejected_with_the_reason(
    frontend: Frontend, lie: dict[str, str]
) -> None:
    with PeerReplica(frontend.rpc, greets=False) as liar:
        liar.hello = replace(HELLO, **lie)
        liar.greet()
        liar.wait_for(lambda: liar.rejects, "a reject")

        assert not liar.is_welcome
        assert "m:1" in liar.rejects[0].reason
        assert not liar.rejects[0].final


def test_a_replica_of_an_unknown_version_waits(frontend: Frontend) -> None:
    with PeerReplica(frontend.rpc, greets=False) as early:
        early.hello = replace(HELLO, uid="uid-of-tomorrow")
        early.greet()
        wait_until(lambda: replicas_of(frontend, "m") == ["waiting"], "it waits")

        assert frontend.metric("clipper_waiting_replicas") == 1
        assert not early.is_welcome
        assert not early.rejects
    wait_until(lambda: frontend.metric("clipper_waiting_replicas") == 0, "it is forgotten when it leaves")


TOO_LONG = pytest.param("x" * 10_000, id="long")


@pytest.mark.parametrize("name", ["r\r\nSet-Cookie: stolen=1", "r\n", "\ud800", "r\u00e9", "", "r\0", TOO_LONG])
def test_a_name_of_a_replica_adds_no_header_and_stops_nothing(frontend: Frontend, client: Client, name: str) -> None:
    """A hello is not to be trusted: its name goes into a header of every reply."""
    before = frontend.metric(ERRORS)
    with PeerReplica(frontend.rpc, greets=False) as peer:
        peer.hello = replace(HELLO, replica=name)
        peer.greet()
        peer.wait_for(lambda: peer.is_welcome or frontend.metric(ERRORS) > before, "it is welcome, or counted")
        if peer.is_welcome:
            reply = client.predict("b", [1.0])
            assert reply.header("Set-Cookie") is None
            assert len(reply.header("X-Clipper-Replica") or "") <= 128

    assert frontend.predict("a", [1.0]).status == 200


# ---- fuzz ------------------------------------------------------------------------------------------------------------


def fuzzed(rng: random.Random, session: int) -> list[bytes]:
    """Return a message that is wrong somewhere: noise, or one of the protocol with something changed."""
    good = [
        HELLO_FRAMES,
        [header(MessageType.RESULT, count=1, session=session) + b"\x02" + bytes(15), bytes(8)],
        [header(MessageType.RESULT, flags=1, count=2, session=session) + bytes(16), bytes([1, 0, 0, 0] * 2), b"ab"],
        [
            header(MessageType.RESULT, flags=2, count=1, session=session) + b"\x02" + bytes(15),
            bytes(8),
            b'[[0,"raised","",""]]',
        ],
        [header(MessageType.DRAIN, session=session)],
        [header(MessageType.FREE, session=session)],
        [header(MessageType.PASS, session=session)],
    ]
    frames = [bytearray(frame) for frame in rng.choice(good)]
    for _ in range(rng.randint(1, 4)):
        match rng.randrange(6):
            case 0:
                frames.append(bytearray(rng.randbytes(rng.randrange(64))))
            case 1:
                frames.insert(0, bytearray(rng.randbytes(rng.randrange(64))))
            case 2 if len(frames) > 1:
                frames.pop(rng.randrange(len(frames)))
            case 3:
                frame = rng.choice(frames)
                del frame[rng.randrange(len(frame) + 1) :]
            case _:
                frame = rng.choice(frames)
                for _ in range(min(len(frame), 8)):
                    frame[rng.randrange(len(frame))] = rng.choice((0, 1, 2, 4, 127, 255, rng.randrange(256)))
    return [bytes(frame) for frame in frames]


MESSAGES = 20  # from each stranger, and ten that are surely bad, after which nobody listens
TOGETHER = 100
ROUNDS = 4


def has_counted(frontend: Frontend, errors: float) -> bool:
    return frontend.metric(ERRORS) >= errors  # more: what strangers sent who had gone before it was read


def fuzz(frontend: Frontend, count: int, *, seed: int) -> None:
    """Send `count` messages from strangers, and return when all were read."""
    rng = random.Random(seed)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    for _ in range(0, count, MESSAGES * TOGETHER):
        errors = frontend.metric(ERRORS)
        with ExitStack() as stack:
            for number in range(TOGETHER):
                stranger = stack.enter_context(context.socket(zmq.DEALER))
                stranger.linger = 0
                stranger.connect(frontend.rpc)
                if number % 2:
                    stranger.send_multipart(HELLO_FRAMES)
                for _ in range(MESSAGES):
                    stranger.send_multipart(fuzzed(rng, rng.randrange(1000)))
                for _ in range(10):
                    stranger.send_multipart([b"?"])
            wait_until(partial(has_counted, frontend, errors + 10 * TOGETHER), "all were counted")
    context.term()
    wait_until(lambda: not replicas_of(frontend, "m"), "the strangers have gone")


def lowest_rss_bytes(frontend: Frontend, count: int, *, seed: int) -> int:
    """Fuzz in five turns; return the least memory after one: what the allocator keeps for a while comes and goes by 5 %."""
    low = []
    for turn in range(5):
        fuzz(frontend, count // 5, seed=5 * seed + turn)
        low.append(frontend.rss_bytes())
    return min(low)


def assert_survives(count: int) -> None:
    """Fuzz in rounds until memory stands still, which it does once the allocator has what such a load needs, or never."""
    with (
        Frontend(an_app("a", model="honest"), an_app("b", model="m"), a_version("honest"), a_version("m")) as frontend,
        PeerReplica(frontend.rpc, model="honest"),
    ):
        lows = [lowest_rss_bytes(frontend, count // ROUNDS, seed=number) for number in range(ROUNDS)]
        while lows[-1] > 1.01 * lows[-2] and len(lows) < 2 * ROUNDS:
            lows.append(lowest_rss_bytes(frontend, count // ROUNDS, seed=len(lows)))

        assert frontend.predict("a", [1.0, 2.0]).json["output"] == 3.0
        assert lows[-1] <= 1.01 * lows[-2], lows


def test_ten_thousand_fuzzed_messages_change_nothing() -> None:
    assert_survives(10_000)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_million_fuzzed_messages_change_nothing() -> None:
    assert_survives(1_000_000)
