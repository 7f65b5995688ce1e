"""RPC version 3 as bytes: both directions against frames that are put together here by hand, and what is none of it."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipper_nomad.protocol import rpc3
from clipper_nomad.protocol.rpc3 import (
    FrontendHeartbeat,
    Heartbeat,
    HeartbeatType,
    NewContainer,
    OtherVersion,
    Request,
    Response,
    decode_from_container,
    decode_from_frontend,
)
from clipper_nomad.protocol.wire import WireError

u32 = st.integers(0, 2**32 - 1)
items = st.lists(st.binary(max_size=40), max_size=20)
names = st.text(max_size=40)


def le32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def le64(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)


# ---- both ways -------------------------------------------------------------------------------------------------------


def test_heartbeats_are_these_bytes() -> None:
    assert rpc3.encode_heartbeat() == [b"", b"\x02\0\0\0"]
    assert rpc3.encode_frontend_heartbeat(HeartbeatType.KEEP_ALIVE) == [b"", b"\x03\0\0\0", b"\x02\0\0\0", b"\0\0\0\0"]
    assert rpc3.encode_frontend_heartbeat(HeartbeatType.INTRODUCE) == [b"", b"\x03\0\0\0", b"\x02\0\0\0", b"\x01\0\0\0"]
    assert decode_from_container([b"", b"\x02\0\0\0"]) == Heartbeat()
    for kind in HeartbeatType:
        assert decode_from_frontend(rpc3.encode_frontend_heartbeat(kind)) == FrontendHeartbeat(kind)


@given(names, names, st.integers(0, 4))
def test_an_introduction(model: str, version: str, kind: int) -> None:
    frames = [b"", le32(0), model.encode(), version.encode(), str(kind).encode(), le32(3)]

    assert rpc3.encode_new_container(model, version, kind) == frames
    assert decode_from_container(frames) == NewContainer(model, version, kind, 3)
    assert decode_from_container(frames[:-1]) == NewContainer(model, version, kind, None)


@given(st.sampled_from(["1", "10", "2026-07-30", "a-long-one" * 4]), st.integers(0, 4), st.binary(max_size=40))
def test_the_introduction_of_a_c_or_r_container(version: str, kind: int, garbage: bytes) -> None:
    """They send as many bytes of the input type as the version has: a zero ends it, and anything may follow."""
    said = (str(kind).encode() + b"\0" + garbage)[: len(version)]

    assert decode_from_container([b"", le32(0), b"m", version.encode(), said, le32(3)]) == NewContainer(
        "m", version, kind, 3
    )


def test_the_introduction_of_a_jvm_container() -> None:
    """Its RPC version has eight bytes."""
    assert decode_from_container([b"", le32(0), b"m", b"1", b"3", le64(3)]) == NewContainer("m", "1", 3, 3)


@given(st.binary(max_size=9).filter(lambda frame: frame not in (le32(3), le64(3))))
def test_an_introduction_of_another_version_is_told_apart(version: bytes) -> None:
    said = decode_from_container([b"", le32(0), b"m", b"1", b"3", version])

    assert isinstance(said, NewContainer)
    assert said.rpc_version != 3


@given(u32, st.integers(0, 4), items)
def test_a_request(message_id: int, kind: int, inputs: list[bytes]) -> None:
    header = le64(kind, len(inputs), *map(len, inputs))
    frames = [b"", le32(3), le32(1), le32(message_id), le32(0), le64(len(header)), header, *inputs]

    assert rpc3.encode_request(message_id, kind, inputs) == frames
    assert decode_from_frontend(frames) == Request(message_id, kind, inputs)


@given(u32, items)
def test_a_response(message_id: int, outputs: list[bytes]) -> None:
    header = le64(len(outputs), *map(len, outputs))
    frames = [b"", le32(1), le32(message_id), le64(len(header)), header, *outputs]

    assert rpc3.encode_response(message_id, outputs) == frames
    assert decode_from_container(frames) == Response(message_id, outputs)


# ---- what is none of it ----------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=24), max_size=12))
def test_any_frames_are_taken_or_refused(frames: list[bytes]) -> None:
    for decode in (decode_from_container, decode_from_frontend):
        try:
            decode(frames)
        except WireError:
            continue


def test_twenty_thousand_broken_messages_are_taken_or_refused() -> None:
    rng = random.Random(3)
    true = [
        [b"", le32(2)],
        [b"", le32(0), b"m", b"1", b"3", le32(3)],
        rpc3.encode_response(7, [b"1", b"", b"text"]),
        rpc3.encode_frontend_heartbeat(HeartbeatType.INTRODUCE),
        rpc3.encode_request(7, 3, [bytes(8), bytes(16), b""]),
    ]
    refused = 0
    for _ in range(10_000):
        frames = _broken(rng, list(rng.choice(true)))
        for decode in (decode_from_container, decode_from_frontend):
            try:
                decode(frames)
            except WireError:
                refused += 1

    assert refused > 10_000


def _broken(rng: random.Random, frames: list[bytes]) -> list[bytes]:
    place = rng.randrange(len(frames))
    match rng.randrange(5):
        case 0:
            del frames[place]
        case 1:
            frames.insert(place, rng.randbytes(rng.randrange(10)))
        case 2:
            frames[place] = rng.randbytes(rng.randrange(40))
        case 3:
            flipped = bytearray(frames[place] or b"\0")
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
            frames[place] = bytes(flipped)
        case _:
            frames[place] = frames[place][: rng.randrange(len(frames[place]) + 1)]
    return frames


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ([], "begins with"),
        ([b"x", le32(2)], "begins with"),
        ([b"", b"\x02"], "4 were expected"),
        ([b"", le32(3)], "not known"),
        ([b"", le32(2), b""], "nothing after its type"),
        ([b"", le32(0), b"m", b"1"], "3 or 4 things"),
        ([b"", le32(0), b"m", b"1", b"doubles", le32(3)], "digits"),
        ([b"", le32(0), b"m", b"1", b"3doubles", le32(3)], "digits"),
        ([b"", le32(0), b"m", b"1", b"\0", le32(3)], "digits"),
        ([b"", le32(0), b"\xff", b"1", b"3", le32(3)], "not UTF-8"),
        ([b"", le32(0), b"m" * 1025, b"1", b"3", le32(3)], "at most 1024"),
        ([b"", le32(1), le32(7), le64(8)], "3 frames and its outputs"),
        ([b"", le32(1), le32(7), le64(9), le64(0)], "not that of the header"),
        ([b"", le32(1), le32(7), b"", le64(0)], "not that of the header"),
        ([b"", le32(1), le32(7), le64(8), le64(1), b"1"], "does not go with"),
        ([b"", le32(1), le32(7), le64(16), le64(2**64 - 1, 1), b"1"], "does not go with"),
        ([b"", le32(1), le32(7), le64(16), le64(1, 2), b"1"], "not those of the items"),
    ],
)
def test_what_a_container_cannot_say(frames: list[bytes], why: str) -> None:
    with pytest.raises(WireError, match=why):
        decode_from_container(frames)


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ([b"", le32(3)], "without a type"),
        ([b"", le32(3), le32(0)], "does not come from a frontend"),
        ([b"", le32(3), le32(2)], "one frame after its type"),
        ([b"", le32(3), le32(2), le32(2)], "heartbeat type 2"),
        ([b"", le32(3), le32(1), le32(7), le32(0), le64(0)], "5 frames and its inputs"),
        ([b"", le32(3), le32(1), le32(7), le32(1), le64(16), le64(3, 0)], "request type 1 is not served"),
        ([b"", le32(3), le32(1), le32(7), le32(0), le64(16), le64(3, 1)], "does not go with"),
        ([b"", le32(3), le32(1), le32(7), le32(0), le64(8), le64(3)], "does not go with"),
    ],
)
def test_what_a_frontend_cannot_say(frames: list[bytes], why: str) -> None:
    with pytest.raises(WireError, match=why):
        decode_from_frontend(frames)


def test_a_frontend_of_another_version_is_told_apart() -> None:
    with pytest.raises(OtherVersion, match="version 2"):
        decode_from_frontend([b"", le32(2), le32(2), le32(0)])


def test_a_giant_count_allocates_nothing() -> None:
    header = struct.pack("<QQ", 3, 2**63)

    with pytest.raises(WireError):
        decode_from_frontend([b"", le32(3), le32(1), le32(7), le32(0), le64(len(header)), header])
