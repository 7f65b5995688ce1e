"""Wire version 4: what is not of the protocol is a WireError, whatever it is, and costs nothing."""

from __future__ import annotations

import json
import random
import struct
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from clipper_nomad.protocol import wire
from clipper_nomad.protocol.wire import (
    Hello,
    MessageType,
    OutputType,
    Reject,
    Welcome,
    WireError,
)

CASES = 100_000
HELLO = Hello(model="m", version="1", uid="u", input_type="doubles", replica="r", python="3.11", toolkit="0")


def read(frames: Sequence[bytes]) -> object:
    """Decode any message, as the two ends do between them."""
    header = wire.header_of(frames[0])
    decoders: dict[MessageType, Callable[[], object]] = {
        MessageType.HELLO: lambda: wire.decode_introduction(frames, Hello),
        MessageType.WELCOME: lambda: wire.decode_introduction(frames, Welcome),
        MessageType.REJECT: lambda: wire.decode_introduction(frames, Reject),
        MessageType.PREDICT: lambda: wire.decode_predict(header, frames),
        MessageType.RESULT: lambda: wire.decode_result(header, frames),
        MessageType.ASK: lambda: wire.decode_ask(frames),
    }
    return decoders.get(header.type, lambda: header)()


def header(kind: int, *, version: int = wire.VERSION, flags: int = 0, count: int = 0) -> bytes:
    return struct.pack("<BBHIQQQ", version, kind, flags, count, 1, 2, 3)


def predict_head(*, flags: int = 0, count: int = 1, kind: int = 3, length: int = 1) -> bytes:
    return header(MessageType.PREDICT, flags=flags, count=count) + struct.pack("<B3xIQ", kind, length, 5)


def result_head(*, flags: int = 0, count: int = 1, kind: int = OutputType.FLOAT64) -> bytes:
    return header(MessageType.RESULT, flags=flags, count=count) + struct.pack("<B3xII4x", kind, 0, 0)


def introduction(kind: MessageType, body: object) -> list[bytes]:
    return [header(kind), body if isinstance(body, bytes) else json.dumps(body).encode()]


def errors_frame(*rows: object) -> bytes:
    return json.dumps(rows).encode()


LENGTHS, ERRORS = wire.HAS_LENGTHS, wire.HAS_ERRORS
EIGHT = bytes(8)
TWO_LENGTHS = np.array([1, 2], "<u4").tobytes()
HUGE_LENGTHS = np.array([2**32 - 1, 2**32 - 1], "<u4").tobytes()
HELLO_FIELDS: dict[str, Any] = {name: "x" for name in Hello.__dataclass_fields__ if name != "role"}

BROKEN = {
    "an empty frame": [b""],
    "a short header": [header(5)[:-1]],
    "an older version": [header(5, version=3)],
    "an unknown type": [header(0)],
    "another unknown type": [header(200)],
    "a hello without a body": [header(1)],
    "a hello with three frames": [header(1), b"{}", b"{}"],
    "a hello that is no JSON": introduction(MessageType.HELLO, b"{"),
    "a hello that is not UTF-8": introduction(MessageType.HELLO, b'{"model": "\xff"}'),
    "a hello that is a list": introduction(MessageType.HELLO, []),
    "a hello that lacks a field": introduction(MessageType.HELLO, {"model": "m"}),
    "a hello with a number for a text": introduction(MessageType.HELLO, {**HELLO_FIELDS, "uid": 7}),
    "a hello with half of a surrogate pair": introduction(MessageType.HELLO, {**HELLO_FIELDS, "uid": "\ud800"}),
    "a hello nested without end": introduction(MessageType.HELLO, b"[" * 60_000),
    "a hello that is too long": introduction(MessageType.HELLO, b" " * (wire.MAX_JSON_BYTES + 1)),
    "a hello with an endless number": introduction(MessageType.HELLO, b"9" * 60_000),
    "a reject with a text for a bool": introduction(MessageType.REJECT, {"reason": "r", "final": "yes"}),
    "a predict of a header only": [header(3, count=1)],
    "a predict without data": [predict_head()],
    "a predict with too much after its head": [predict_head() + b"x", EIGHT],
    "a predict of nothing": [predict_head(count=0, length=0), b""],
    "a predict of too many": [predict_head(count=wire.MAX_BATCH_COUNT + 1, length=0), b""],
    "a predict of four thousand millions": [predict_head(count=2**32 - 1, length=2**32 - 1), EIGHT],
    "a predict of an unknown type": [predict_head(kind=5), EIGHT],
    "a predict with too little data": [predict_head(length=2), EIGHT],
    "a predict with too much data": [predict_head(), EIGHT * 2],
    "a predict with three frames": [predict_head(), EIGHT, EIGHT],
    "a predict of numbers with lengths": [predict_head(flags=LENGTHS), bytes(4), EIGHT],
    "a predict of texts without lengths": [predict_head(kind=4), EIGHT],
    "a predict with a length too few": [predict_head(kind=4, count=3, flags=LENGTHS), TWO_LENGTHS, bytes(3)],
    "a predict whose lengths do not add up": [predict_head(kind=4, count=2, flags=LENGTHS), TWO_LENGTHS, bytes(4)],
    "a predict of huge lengths": [predict_head(kind=0, count=2, flags=LENGTHS), HUGE_LENGTHS, bytes(4)],
    "a predict with lengths and no data": [predict_head(kind=0, count=2, flags=LENGTHS), TWO_LENGTHS],
    "an ask of a header only": [header(MessageType.ASK)],
    "an ask with too much after its head": [header(MessageType.ASK) + bytes(9)],
    "an ask with two frames": [header(MessageType.ASK) + EIGHT, b""],
    "a result of a header only": [header(4, count=1)],
    "a result without data": [result_head()],
    "a result of an unknown type": [result_head(kind=6), EIGHT],
    "a result of too many": [result_head(count=wire.MAX_BATCH_COUNT + 1), EIGHT],
    "a result with too little data": [result_head(count=2), EIGHT],
    "a result of numbers with lengths": [result_head(count=2, flags=LENGTHS), TWO_LENGTHS, EIGHT * 2],
    "a result of texts without lengths": [result_head(kind=0), EIGHT],
    "a result whose lengths do not add up": [result_head(kind=0, count=2, flags=LENGTHS), TWO_LENGTHS, bytes(4)],
    "a result of huge lengths": [result_head(kind=0, count=2, flags=LENGTHS), HUGE_LENGTHS, bytes(4)],
    "a result whose errors are missing": [result_head(flags=ERRORS), EIGHT],
    "a result whose errors are no JSON": [result_head(flags=ERRORS), EIGHT, b"["],
    "a result whose errors are none": [result_head(flags=ERRORS), EIGHT, errors_frame()],
    "a result whose errors are an object": [result_head(flags=ERRORS), EIGHT, b"{}"],
    "a result with an error of two fields": [result_head(flags=ERRORS), EIGHT, errors_frame([0, "raised"])],
    "a result with an error of an unknown kind": [result_head(flags=ERRORS), EIGHT, errors_frame([0, "x", "", ""])],
    "a result with an error past its end": [result_head(flags=ERRORS), EIGHT, errors_frame([1, "raised", "", ""])],
    "a result with an error before its start": [result_head(flags=ERRORS), EIGHT, errors_frame([-1, "raised", "", ""])],
    "a result with an error at true": [result_head(flags=ERRORS), EIGHT, errors_frame([True, "raised", "", ""])],
    "a result with an error that is no text": [
        result_head(flags=ERRORS),
        EIGHT,
        errors_frame([0, "raised", "\udfff", ""]),
    ],
    "a failed batch with outputs": [result_head(flags=ERRORS), EIGHT, errors_frame([None, "raised", "", ""])],
    "a result with too many errors": [result_head(flags=ERRORS), EIGHT, b" " * (wire.MAX_ERRORS_BYTES + 1)],
}


@pytest.mark.parametrize("frames", BROKEN.values(), ids=BROKEN.keys())
def test_what_breaks_the_protocol_is_a_wire_error(frames: list[bytes]) -> None:
    with pytest.raises(WireError):
        read(frames)


@pytest.mark.parametrize("frames", BROKEN.values(), ids=BROKEN.keys())
def test_no_claim_of_a_peer_makes_us_allocate_for_it(frames: list[bytes]) -> None:
    with pytest.raises(WireError):
        read(frames)  # once before: what is imported and cached at the first use does not count
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            read(frames)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 64 * 1024 + 10 * sum(map(len, frames))


def test_random_messages_and_damaged_ones_raise_nothing_else() -> None:
    rng = random.Random(20261123)
    good = [
        wire.encode_introduction(MessageType.HELLO, HELLO),
        wire.encode_introduction(MessageType.REJECT, Reject(reason="no", final=True)),
        wire.encode_control(MessageType.DRAIN, epoch=1),
        wire.encode_control(MessageType.FREE, epoch=1, session=2, batch=3),
        wire.encode_ask(epoch=1, session=2, waited_micros=3),
        wire.encode_predict(
            epoch=1, session=2, batch=3, input_type=3, item_length=2, budget_micros=9, inputs=[bytes(16), bytes(16)]
        ),
        wire.encode_predict(
            epoch=1, session=2, batch=3, input_type=4, item_length=0, budget_micros=9, inputs=[b"a", b"", b"ccc"]
        ),
        [result_head(count=2), bytes(16)],
        [result_head(kind=0, count=2, flags=LENGTHS), TWO_LENGTHS, bytes(3)],
        [result_head(count=2, flags=ERRORS), b"", errors_frame([None, "raised", "E: text", "t"])],
    ]
    understood = 0

    for case in range(CASES):
        frames = damaged(rng, rng.choice(good)) if case % 4 else [rng.randbytes(rng.randrange(60)) for _ in range(2)]
        try:
            read(frames)
        except WireError:
            continue
        understood += 1

    assert 0 < understood < CASES / 2  # the damage is neither always harmless nor always plain


def damaged(rng: random.Random, message: list[bytes]) -> list[bytes]:
    """Change one message in one to three of the ways in which a broken or hostile peer may."""
    frames = list(message)
    for _ in range(rng.randint(1, 3)):
        index = rng.randrange(len(frames))
        frame = frames[index]
        way = rng.randrange(6)
        if way == 0 and frame:  # another byte
            at = rng.randrange(len(frame))
            frames[index] = frame[:at] + rng.randbytes(1) + frame[at + 1 :]
        elif way == 1:  # cut
            frames[index] = frame[: rng.randrange(len(frame) + 1)]
        elif way == 2:  # longer
            frames[index] = frame + rng.randbytes(rng.randrange(1, 9))
        elif way == 3:  # a frame more
            frames.insert(rng.randrange(len(frames) + 1), rng.randbytes(rng.randrange(9)))
        elif way == 4 and len(frames) > 1:  # a frame less
            del frames[index]
        elif len(frames[0]) >= 8:  # another count, among them the largest
            count = rng.choice([0, 1, 2, 65_536, 65_537, 2**31, 2**32 - 1])
            frames[0] = frames[0][:4] + count.to_bytes(4, "little") + frames[0][8:]
    return frames
