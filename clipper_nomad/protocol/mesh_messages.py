"""What frontends tell replicas and one another so that every model can be reached from every frontend. Pure.

A frontend dials every other frontend as a replica would, with a hello of its own (`PeerHello`), and is for the one that it
dialled a replica of last resort. All messages start with the header of wire.py.

    type          from               after the header, in the same frame      further frames
    ROSTER        frontend           -                                        JSON: every live frontend (Roster)
    ANNOUNCE      peer that dialled  -                                        JSON: what it serves and knows (Announcement)
    WANT_CATALOG  frontend           -
    CATALOG       peer that dialled  -                                        the catalog, as a mirror file holds it
    RELAY         frontend           input type u8, alone u8, 2 × 0,          uid, terms 3 × u64 × count,
                                     item length u32                          [lengths u32 × count,] inputs
    RELAYED       peer that dialled  -                                        JSON rows, lengths u32 × count, outputs
    DRAIN         peer that dialled  -        goodbye: it answers what it has and takes no more

A relayed query is executed at most once by whoever took it, and never relayed again; the frontend it came to decides
whether it is tried once more. Source: docs/decisions/0009-mesh.md
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from clipper_nomad.protocol.wire import (
    FIXED_INPUTS,
    HAS_LENGTHS,
    MAX_BATCH_COUNT,
    MAX_FRAME_BYTES,
    MAX_JSON_BYTES,
    VERSION,
    Header,
    Hello,
    MessageType,
    WireError,
    decode_introduction,
    dump_json,
    header_frame,
    load_json,
)

MAX_ROSTER = 1000  # frontends
MAX_NAME = 128  # letters of a frontend's name
MAX_ADDRESS = 256  # letters
MAX_TEXT = 512  # letters of a uid, of a store's id
MAX_ROSTER_BYTES = 5 * 1024 * 1024  # MAX_ROSTER entries, a letter being at most 12 bytes of escaped JSON
MAX_ANNOUNCE_BYTES = 16 * 1024 * 1024
MAX_UIDS = 20_000

_RELAY = struct.Struct("<BBHIQQQB?2xI")
_U32 = np.dtype("<u4")
_U64 = np.dtype("<u8")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerHello:
    """A frontend introduces itself to another. `address`: where its own model channel can be dialled."""

    frontend: str
    address: str
    toolkit: str
    role: str = "peer"


@dataclass(frozen=True, slots=True)
class RosterEntry:
    """One live frontend, and where its model channel can be dialled."""

    frontend: str
    address: str


@dataclass(frozen=True, slots=True)
class Known:
    """What a frontend says of another in its roster. `unlinked_s`: for how long nobody, as far as it knows, had a link."""

    entry: RosterEntry
    unlinked_s: float


@dataclass(frozen=True, slots=True)
class Served:
    """How one version is served by a frontend's own replicas: how many are ready, how long a query waits for one."""

    ready: int
    delay_micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What a peer serves (by uid; versions without a ready replica are left out), which catalog it has, whom it knows.

    `confirmed`: the store said that the catalog counts, or a peer to which the store said so; it is not just a mirror's.
    """

    served: Mapping[str, Served] = field(default_factory=dict)
    store_id: str = ""
    revision: int = -1
    confirmed: bool = False
    roster: tuple[Known, ...] = ()


class Fate(enum.StrEnum):
    """What became of a relayed query."""

    ANSWERED = "answered"  # there is an output
    FAILED = "failed"  # a final error: status, error and cause are the client's answer
    REFUSED = "refused"  # not executed: no slot, no room, no replica any more
    LOST = "lost"  # its replica died while it worked on it
    SPLIT = "split"  # its batch raised: whoever owns it may send it once more, alone


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayedAnswer:
    """The end of one relayed query. `output` is JSON text; `kind` as in answers.Answer."""

    fate: Fate
    replica: str = ""
    output: bytes = b""
    status: int = 0
    error: str = ""
    cause: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a relayed query was promised, in microseconds: how long it waits already, its SLO, its timeout."""

    waited: int
    slo: int
    timeout: int


@dataclass(frozen=True, slots=True)
class Relay:
    """A batch of queries for the version `uid`. `is_alone`: a suspect, to be run with nothing else."""

    header: Header
    uid: str
    input_type: int
    item_length: int
    is_alone: bool
    terms: tuple[Terms, ...]
    inputs: tuple[bytes, ...]


def can_be_told(entry: RosterEntry) -> bool:
    """Return whether an entry may stand in a roster. One that may not would break the links of whoever passes it on."""
    is_dialled = entry.address == "" or entry.address.startswith(("tcp://", "ipc://"))
    is_text = (entry.frontend + entry.address).isprintable()  # half of a surrogate pair is not
    return is_dialled and is_text and 0 < len(entry.frontend) <= MAX_NAME and len(entry.address) <= MAX_ADDRESS


def decode_hello(frames: Sequence[bytes]) -> Hello | PeerHello:
    """Return the body of a HELLO message, a replica's or a peer's. Raises: WireError."""
    fields = load_json(_only(frames, MessageType.HELLO), MAX_JSON_BYTES)
    if isinstance(fields, dict) and fields.get("role") == "peer":
        hello = decode_introduction(frames, PeerHello)
        if not can_be_told(RosterEntry(hello.frontend, hello.address)):
            raise WireError(
                f"a peer has a printable name of 1 to {MAX_NAME} letters, and a tcp:// or ipc:// address or none"
            )
        return hello
    return decode_introduction(frames, Hello)


def encode_roster(entries: Sequence[RosterEntry], *, epoch: int, session: int) -> list[bytes]:
    """Return a ROSTER message."""
    rows = [[entry.frontend, entry.address] for entry in entries]
    return [header_frame(MessageType.ROSTER, epoch=epoch, session=session), dump_json(rows)]


def decode_roster(frames: Sequence[bytes]) -> tuple[RosterEntry, ...]:
    """Return the frontends in a ROSTER message. Raises: WireError."""
    rows = load_json(_only(frames, MessageType.ROSTER), MAX_ROSTER_BYTES)
    if not isinstance(rows, list) or len(rows) > MAX_ROSTER:
        raise WireError(f"a roster is a list of at most {MAX_ROSTER} frontends")
    return tuple(_entry(row) for row in rows)


def encode_announcement(said: Announcement, *, epoch: int, session: int) -> list[bytes]:
    """Return an ANNOUNCE message."""
    body = {
        "served": {uid: [served.ready, served.delay_micros] for uid, served in said.served.items()},
        "store_id": said.store_id,
        "revision": said.revision,
        "confirmed": said.confirmed,
        "roster": [[known.entry.frontend, known.entry.address, round(known.unlinked_s, 3)] for known in said.roster],
    }
    return [header_frame(MessageType.ANNOUNCE, epoch=epoch, session=session), dump_json(body)]


def decode_announcement(frames: Sequence[bytes]) -> Announcement:
    """Return the body of an ANNOUNCE message; unknown fields are ignored. Raises: WireError."""
    match load_json(_only(frames, MessageType.ANNOUNCE), MAX_ANNOUNCE_BYTES):
        case {
            "served": dict() as served,
            "store_id": str() as store_id,
            "revision": int() as revision,
            "roster": list() as roster,
            **rest,
        } if len(served) <= MAX_UIDS and len(roster) <= MAX_ROSTER:
            return Announcement(
                served={uid: _served(uid, row) for uid, row in served.items()},
                store_id=store_id[:MAX_TEXT],
                revision=revision,
                confirmed=rest.get("confirmed") is True,
                roster=tuple(_known(row) for row in roster),
            )
    raise WireError("an announcement lacks a field, or holds too much")


def encode_catalog(mirror: bytes, *, epoch: int, session: int) -> list[bytes]:
    """Return a CATALOG message."""
    return [header_frame(MessageType.CATALOG, epoch=epoch, session=session), mirror]


def decode_catalog(frames: Sequence[bytes]) -> bytes:
    """Return the mirror file in a CATALOG message. Raises: WireError."""
    return _only(frames, MessageType.CATALOG)


def encode_relay(
    *,
    epoch: int,
    session: int,
    batch: int,
    uid: str,
    input_type: int,
    item_length: int,
    is_alone: bool,
    terms: Sequence[Terms],
    inputs: Sequence[bytes],
) -> list[bytes]:
    """Return a RELAY message. `item_length` counts elements, and is 0 for inputs of variable width."""
    flags = 0 if input_type in FIXED_INPUTS else HAS_LENGTHS
    first = _RELAY.pack(
        VERSION, MessageType.RELAY, flags, len(inputs), epoch, session, batch, input_type, is_alone, item_length
    )
    table = np.array([[each.waited, each.slo, each.timeout] for each in terms], _U64).tobytes()
    frames = [first, uid.encode(), table]
    if flags:
        frames.append(np.fromiter(map(len, inputs), _U32, len(inputs)).tobytes())
    frames.append(b"".join(inputs))
    return frames


def decode_relay(header: Header, frames: Sequence[bytes]) -> Relay:
    """Return the queries in a RELAY message.

    Raises: WireError: frames missing or too many, a count out of range, or sizes that do not add up.
    """
    if len(frames[0]) != _RELAY.size:
        raise WireError(f"the first frame of a relay has {_RELAY.size} bytes; this one has {len(frames[0])}")
    kind, is_alone, item_length = _RELAY.unpack_from(frames[0])[7:]
    count = header.count
    if not 1 <= count <= MAX_BATCH_COUNT:
        raise WireError(f"a relay has 1 to {MAX_BATCH_COUNT} inputs; this one says {count}")
    if kind not in FIXED_INPUTS and kind not in (0, 4):
        raise WireError(f"input type {kind} is not known")
    is_fixed = kind in FIXED_INPUTS
    if item_length and not is_fixed:
        raise WireError("inputs of variable width have no item length")
    if bool(header.flags & HAS_LENGTHS) == is_fixed or len(frames) != 5 - is_fixed:
        raise WireError("lengths come with inputs of variable width, and only with those")
    uid = _text(frames[1])
    if len(frames[2]) != 3 * _U64.itemsize * count:
        raise WireError(f"the terms of {count} queries do not take {len(frames[2])} bytes")
    terms = tuple(Terms(*row) for row in np.frombuffer(frames[2], _U64).reshape(-1, 3).tolist())
    sizes = [item_length * FIXED_INPUTS[kind]] * count if is_fixed else _lengths(frames[3], count)
    return Relay(header, uid, kind, item_length, is_alone, terms, _cut(frames[-1], sizes))


def encode_relayed(answers: Header, rows: Sequence[RelayedAnswer]) -> list[bytes]:
    """Return the RELAYED message that answers the RELAY whose header is `answers`, a row for each input."""
    said = [[row.fate, row.replica, row.status, row.error, row.cause, row.kind] for row in rows]
    outputs = [row.output for row in rows]
    return [
        header_frame(
            MessageType.RELAYED,
            count=len(rows),
            epoch=answers.epoch,
            session=answers.session,
            batch=answers.batch,
        ),
        dump_json(said),
        np.fromiter(map(len, outputs), _U32, len(outputs)).tobytes(),
        b"".join(outputs),
    ]


def decode_relayed(header: Header, frames: Sequence[bytes]) -> list[RelayedAnswer]:
    """Return the rows of a RELAYED message. The caller checks that they answer what it asked. Raises: WireError."""
    if len(frames) != 4 or header.count > MAX_BATCH_COUNT:
        raise WireError("a relayed answer has 4 frames and as many rows as a batch may have")
    rows = load_json(frames[1], MAX_FRAME_BYTES)
    if not isinstance(rows, list) or len(rows) != header.count:
        raise WireError(f"a relayed answer says {header.count} rows and has another number")
    outputs = _cut(frames[3], _lengths(frames[2], header.count))
    return [_relayed(row, output) for row, output in zip(rows, outputs, strict=True)]


def _relayed(row: object, output: bytes) -> RelayedAnswer:
    match row:
        case [str() as fate, str() as replica, int() as status, str() as error, str() as cause, str() as kind]:
            try:
                named = Fate(fate)
            except ValueError:
                raise WireError(f"fate {fate!r} of a relayed query is not known") from None
            if named is Fate.FAILED and not 400 <= status <= 599:
                raise WireError(f"a relayed query failed with status {status}")
            return RelayedAnswer(
                fate=named, replica=replica[:MAX_TEXT], output=output, status=status, error=error, cause=cause, kind=kind
            )
    raise WireError("a row of a relayed answer is [fate, replica, status, error, cause, kind]")


def _entry(row: object) -> RosterEntry:
    match row:
        case [str() as frontend, str() as address] if can_be_told(RosterEntry(frontend, address)):
            return RosterEntry(frontend, address)
    raise WireError(f"an entry of a roster is [frontend, address], of at most {MAX_NAME} and {MAX_ADDRESS} letters")


def _known(row: object) -> Known:
    match row:
        case [frontend, address, int() | float() as unlinked_s] if 0 <= unlinked_s < 1e9:
            return Known(_entry([frontend, address]), float(unlinked_s))
    raise WireError("an entry of an announced roster is [frontend, address, seconds without a link]")


def _served(uid: str, row: object) -> Served:
    match row:
        case [int() as ready, int() as delay_micros] if len(uid) <= MAX_TEXT and ready >= 0 and delay_micros >= 0:
            return Served(ready, delay_micros)
    raise WireError("what is served is uid: [ready replicas, delay in microseconds]")


def _only(frames: Sequence[bytes], kind: MessageType) -> bytes:
    if len(frames) != 2:
        raise WireError(f"a {kind.name} has 2 frames; this one has {len(frames)}")
    return frames[1]


def _text(frame: bytes) -> str:
    try:
        text = frame.decode()
    except UnicodeDecodeError as exc:
        raise WireError("a uid is not UTF-8") from exc
    if len(text) > MAX_TEXT:
        raise WireError(f"a uid has at most {MAX_TEXT} letters")
    return text


def _lengths(frame: bytes, count: int) -> list[int]:
    if len(frame) != count * _U32.itemsize:
        raise WireError(f"the lengths of {count} items are missing or of another number")
    lengths: list[int] = np.frombuffer(frame, _U32).tolist()
    return lengths


def _cut(data: bytes, sizes: Sequence[int]) -> tuple[bytes, ...]:
    if sum(sizes) != len(data):
        raise WireError(f"{len(sizes)} items take {sum(sizes)} bytes; {len(data)} came")
    items, start = [], 0
    for size in sizes:
        items.append(data[start : start + size])
        start += size
    return tuple(items)
