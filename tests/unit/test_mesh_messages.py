"""What frontends tell one another: every value arrives as it was sent; what is broken is a WireError and nothing else."""

from __future__ import annotations

import contextlib
import json
import random
import struct
import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipper_nomad.protocol import mesh_messages, wire
from clipper_nomad.protocol.mesh_messages import (
    MAX_ADDRESS,
    MAX_NAME,
    MAX_ROSTER,
    MAX_ROSTER_BYTES,
    Announcement,
    Fate,
    Known,
    PeerHello,
    RelayedAnswer,
    RosterEntry,
    Served,
    Terms,
)
from clipper_nomad.protocol.wire import Header, Hello, MessageType, WireError, header_of
from tests.unit.test_wire_broken import damaged

CASES = 30_000
HELLO = PeerHello(frontend="f1", address="ipc:///f1", toolkit="0")
U64 = st.integers(0, 2**64 - 1)
PRINTABLE = st.characters(codec="utf-8", exclude_categories=["C", "Z"])
ENTRIES = st.builds(
    RosterEntry,
    frontend=st.text(PRINTABLE, min_size=1, max_size=MAX_NAME),
    address=st.one_of(st.just(""), st.text(PRINTABLE, max_size=MAX_ADDRESS - 6).map("ipc://".__add__)),
)
KNOWN = st.builds(Known, entry=ENTRIES, unlinked_s=st.integers(0, 60_000).map(lambda ms: ms / 1000))
SERVED = st.builds(Served, ready=st.integers(0, 10_000), delay_micros=st.integers(0, 2**63))
ANNOUNCEMENTS = st.builds(
    Announcement,
    served=st.dictionaries(st.text(max_size=100), SERVED, max_size=5),
    store_id=st.text(max_size=100),
    revision=st.integers(-1, 2**53),
    confirmed=st.booleans(),
    roster=st.lists(KNOWN, max_size=5).map(tuple),
)
TERMS = st.builds(Terms, waited=U64, slo=U64, timeout=U64)
TEXT = st.text(max_size=30)
ROWS = st.builds(
    RelayedAnswer,
    fate=st.sampled_from(Fate),
    replica=TEXT,
    output=st.binary(max_size=30),
    status=st.integers(400, 599),
    error=TEXT,
    cause=TEXT,
    kind=TEXT,
)


def header(kind: int, *, flags: int = 0, count: int = 0) -> bytes:
    return struct.pack("<BBHIQQQ", wire.VERSION, kind, flags, count, 1, 2, 3)


def relay_head(*, flags: int = 0, count: int = 1, kind: int = 3, length: int = 1) -> bytes:
    return header(MessageType.RELAY, flags=flags, count=count) + struct.pack("<B?2xI", kind, 0, length)


def read(frames: Sequence[bytes]) -> object:
    """Decode any message, as the two ends do between them."""
    head = header_of(frames[0])
    decoders: dict[MessageType, Callable[[], object]] = {
        MessageType.HELLO: lambda: mesh_messages.decode_hello(frames),
        MessageType.ROSTER: lambda: mesh_messages.decode_roster(frames),
        MessageType.ANNOUNCE: lambda: mesh_messages.decode_announcement(frames),
        MessageType.CATALOG: lambda: mesh_messages.decode_catalog(frames),
        MessageType.RELAY: lambda: mesh_messages.decode_relay(head, frames),
        MessageType.RELAYED: lambda: mesh_messages.decode_relayed(head, frames),
    }
    return decoders.get(head.type, lambda: head)()


# ---- there and back


@given(ENTRIES, TEXT)
def test_a_peer_s_hello_arrives_as_it_was_sent_and_a_replica_s_too(entry: RosterEntry, toolkit: str) -> None:
    peer = PeerHello(frontend=entry.frontend, address=entry.address, toolkit=toolkit)
    replica = Hello(model="m", version="1", uid="u", input_type="doubles", replica="r", python="3.11", toolkit=toolkit)

    assert mesh_messages.decode_hello(wire.encode_introduction(MessageType.HELLO, peer)) == peer
    assert mesh_messages.decode_hello(wire.encode_introduction(MessageType.HELLO, replica)) == replica


@given(st.lists(ENTRIES, max_size=10), U64, U64)
def test_a_roster_arrives_as_it_was_sent(entries: list[RosterEntry], epoch: int, session: int) -> None:
    frames = mesh_messages.encode_roster(entries, epoch=epoch, session=session)

    assert mesh_messages.decode_roster(frames) == tuple(entries)
    assert (header_of(frames[0]).epoch, header_of(frames[0]).session) == (epoch, session)


@given(ANNOUNCEMENTS)
def test_an_announcement_arrives_as_it_was_sent(said: Announcement) -> None:
    assert mesh_messages.decode_announcement(mesh_messages.encode_announcement(said, epoch=1, session=2)) == said


@given(st.binary(max_size=100))
def test_a_catalog_arrives_as_it_was_sent(mirror: bytes) -> None:
    assert mesh_messages.decode_catalog(mesh_messages.encode_catalog(mirror, epoch=1, session=2)) == mirror


@given(st.data(), st.sampled_from([0, 1, 2, 3, 4]), st.integers(1, 6), st.booleans(), st.text(max_size=50))
def test_a_relay_arrives_as_it_was_sent(data: st.DataObject, kind: int, count: int, is_alone: bool, uid: str) -> None:  # noqa: FBT001  # hypothesis
    width = {1: 4, 2: 4, 3: 8}.get(kind, 0)
    length = data.draw(st.integers(0, 4)) if width else 0
    size = {"min_size": width * length, "max_size": width * length} if width else {"max_size": 9}
    inputs = data.draw(st.lists(st.binary(**size), min_size=count, max_size=count))
    terms = data.draw(st.lists(TERMS, min_size=count, max_size=count))

    frames = mesh_messages.encode_relay(
        epoch=1,
        session=2,
        batch=3,
        uid=uid,
        input_type=kind,
        item_length=length,
        is_alone=is_alone,
        terms=terms,
        inputs=inputs,
    )
    relay = mesh_messages.decode_relay(header_of(frames[0]), frames)

    assert (relay.uid, relay.input_type, relay.item_length, relay.is_alone) == (uid, kind, length, is_alone)
    assert (list(relay.terms), list(relay.inputs)) == (terms, inputs)


@given(st.lists(ROWS, max_size=6))
def test_the_answer_to_a_relay_arrives_as_it_was_sent(rows: list[RelayedAnswer]) -> None:
    frames = mesh_messages.encode_relayed(Header(MessageType.RELAY, 0, len(rows), 1, 2, 3), rows)

    assert mesh_messages.decode_relayed(header_of(frames[0]), frames) == rows
    assert header_of(frames[0]) == Header(MessageType.RELAYED, 0, len(rows), 1, 2, 3)


def test_the_longest_roster_there_can_be_is_taken() -> None:
    entries = [RosterEntry("\U0001f600" * MAX_NAME, "ipc://" + "\U0001f600" * (MAX_ADDRESS - 6))] * MAX_ROSTER
    frames = mesh_messages.encode_roster(entries, epoch=1, session=2)
    known = tuple(Known(entry, 29.999) for entry in entries)
    said = mesh_messages.encode_announcement(Announcement(roster=known), epoch=1, session=2)

    assert len(mesh_messages.decode_roster(frames)) == MAX_ROSTER
    assert len(mesh_messages.decode_announcement(said).roster) == MAX_ROSTER


def test_a_newer_peer_may_say_more() -> None:
    frames = mesh_messages.encode_announcement(Announcement(store_id="s"), epoch=1, session=2)
    body = json.loads(frames[1]) | {"weather": "fine"}
    del body["confirmed"]

    assert mesh_messages.decode_announcement([frames[0], json.dumps(body).encode()]) == Announcement(store_id="s")


# ---- what is broken


def announced(**fields: object) -> list[bytes]:
    body = {"served": {}, "store_id": "s", "revision": 1, "roster": [], **fields}
    return [header(MessageType.ANNOUNCE), json.dumps(body).encode()]


def hello(body: bytes | dict[str, object]) -> list[bytes]:
    return [header(MessageType.HELLO), body if isinstance(body, bytes) else json.dumps({"role": "peer", **body}).encode()]


def roster(*rows: object) -> list[bytes]:
    return [header(MessageType.ROSTER), json.dumps(rows).encode()]


def relayed(row: object, *, count: int = 1, lengths: bytes = bytes(4), data: bytes = b"") -> list[bytes]:
    return [header(MessageType.RELAYED, count=count), json.dumps([row]).encode(), lengths, data]


ROW = ["answered", "r", 0, "", "", ""]
TERMS_OF_ONE, EIGHT = bytes(24), bytes(8)
HALF_A_PAIR = b'["\xed\xa0\x80", ""]'
BROKEN = {
    "a hello of half a surrogate pair": hello(b'{"role": "peer", "frontend": "\xed\xa0\x80", "address": "", "toolkit": ""}'),
    "a hello in UTF-16": hello('{"role": "peer", "frontend": "f", "address": "", "toolkit": ""}'.encode("utf-16")),
    "a hello without a name": hello({"frontend": "", "address": "", "toolkit": ""}),
    "a hello of a long name": hello({"frontend": "x" * (MAX_NAME + 1), "address": "", "toolkit": ""}),
    "a hello of a long address": hello({"frontend": "x", "address": "ipc://" + "x" * MAX_ADDRESS, "toolkit": ""}),
    "a hello of an unprintable name": hello({"frontend": "x\r\n", "address": "", "toolkit": ""}),
    "a hello of a strange address": hello({"frontend": "x", "address": "inproc://peer-monitor-0", "toolkit": ""}),
    "a hello that lacks a field": hello({"frontend": "x"}),
    "a roster without a body": [header(MessageType.ROSTER)],
    "a roster that is no list": [header(MessageType.ROSTER), b"{}"],
    "a roster of half a surrogate pair": [header(MessageType.ROSTER), b"[" + HALF_A_PAIR + b"]"],
    "a roster of texts": roster("f1"),
    "a roster of three": roster(["a", "", ""]),
    "a roster with no name": roster(["", ""]),
    "a roster of too many": roster(*([["a", ""]] * (MAX_ROSTER + 1))),
    "a roster that is too long": [header(MessageType.ROSTER), b" " * (MAX_ROSTER_BYTES + 1)],
    "an announcement that is a list": [header(MessageType.ANNOUNCE), b"[]"],
    "an announcement of nothing": [header(MessageType.ANNOUNCE), b"{}"],
    "an announcement of minus one replica": announced(served={"u": [-1, 0]}),
    "an announcement of half a replica": announced(served={"u": [0.5, 0]}),
    "an announcement of one number": announced(served={"u": [1]}),
    "an announcement of a long uid": announced(served={"u" * 1000: [1, 0]}),
    "an announcement of a future link": announced(roster=[["a", "", -1]]),
    "an announcement of no time": announced(roster=[["a", "", float("nan")]]),
    "an announcement of an endless time": announced(roster=[["a", "", float("inf")]]),
    "a catalog of two": [header(MessageType.CATALOG), b"", b""],
    "a relay of a header only": [header(MessageType.RELAY, count=1)],
    "a relay without terms": [relay_head(), b"u", EIGHT],
    "a relay of nothing": [relay_head(count=0), b"u", b"", b""],
    "a relay of too many": [relay_head(count=wire.MAX_BATCH_COUNT + 1), b"u", TERMS_OF_ONE, EIGHT],
    "a relay of an unknown type": [relay_head(kind=5), b"u", TERMS_OF_ONE, EIGHT],
    "a relay of too little": [relay_head(count=2), b"u", TERMS_OF_ONE * 2, EIGHT],
    "a relay of half the terms": [relay_head(count=2), b"u", TERMS_OF_ONE, EIGHT * 2],
    "a relay of numbers with lengths": [relay_head(flags=1), b"u", TERMS_OF_ONE, bytes(4), EIGHT],
    "a relay of texts without lengths": [relay_head(kind=4, length=0), b"u", TERMS_OF_ONE, EIGHT],
    "a relay of texts of one length": [relay_head(kind=4, flags=1), b"u", TERMS_OF_ONE, bytes(4), b""],
    "a relay of huge texts": [relay_head(kind=4, flags=1, length=0), b"u", TERMS_OF_ONE, b"\xff" * 4, b"a"],
    "a relay of no uid": [relay_head(), b"\xff", TERMS_OF_ONE, EIGHT],
    "a relay of a long uid": [relay_head(), b"u" * 1000, TERMS_OF_ONE, EIGHT],
    "answers of three frames": [header(MessageType.RELAYED), b"[]", b""],
    "answers of another number": relayed(ROW, count=2, lengths=bytes(8)),
    "answers of an unknown fate": relayed(["eaten", *ROW[1:]]),
    "answers of five fields": relayed(ROW[:5]),
    "answers of a failure that is none": relayed(["failed", "", 200, "", "", ""]),
    "answers without lengths": relayed(ROW, lengths=b""),
    "answers of too little": relayed(ROW, lengths=np.array([5], "<u4").tobytes()),
    "answers of too many": [header(MessageType.RELAYED, count=wire.MAX_BATCH_COUNT + 1), b"[]", b"", b""],
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

    assert peak < 64 * 1024 + 40 * sum(map(len, frames))


def test_random_messages_and_damaged_ones_raise_nothing_else() -> None:
    rng = random.Random(20261123)
    terms = [Terms(1, 2, 3), Terms(4, 5, 6)]
    known = (Known(RosterEntry("b", "tcp://1.2.3.4:5"), 1.5),)
    said = Announcement(served={"u": Served(1, 2)}, store_id="s", revision=3, confirmed=True, roster=known)
    ids = {"epoch": 1, "session": 2}
    numbers = mesh_messages.encode_relay(
        epoch=1, session=2, batch=3, uid="u", input_type=3, item_length=1, is_alone=False, terms=terms, inputs=[EIGHT, EIGHT]
    )
    texts = mesh_messages.encode_relay(
        epoch=1, session=2, batch=3, uid="u", input_type=4, item_length=0, is_alone=True, terms=terms, inputs=[b"a", b"bc"]
    )
    rows = [RelayedAnswer(fate=Fate.ANSWERED, replica="r", output=b"1.0"), RelayedAnswer(fate=Fate.FAILED, status=500)]
    good = [
        wire.encode_introduction(MessageType.HELLO, HELLO),
        mesh_messages.encode_roster([RosterEntry("a", "ipc:///a")], **ids),
        mesh_messages.encode_announcement(said, **ids),
        mesh_messages.encode_catalog(b"mirror", **ids),
        numbers,
        texts,
        mesh_messages.encode_relayed(header_of(numbers[0]), rows),
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


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(["", "answered"])),
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=12,
)
BODIES = st.one_of(
    JSON,
    st.fixed_dictionaries({"served": JSON, "store_id": JSON, "revision": JSON, "roster": JSON}),
    st.fixed_dictionaries({"role": st.just("peer"), "frontend": JSON, "address": JSON, "toolkit": JSON}),
    st.lists(st.lists(JSON, min_size=2, max_size=6), max_size=3),
)


@settings(max_examples=60)
@given(st.sampled_from([MessageType.HELLO, MessageType.ROSTER, MessageType.ANNOUNCE, MessageType.RELAYED]), BODIES)
def test_json_of_any_form_raises_nothing_else(kind: MessageType, body: object) -> None:
    frames = [header(kind, count=1), json.dumps(body).encode()]
    if kind is MessageType.RELAYED:
        frames += [bytes(4), b""]

    with contextlib.suppress(WireError):
        read(frames)
