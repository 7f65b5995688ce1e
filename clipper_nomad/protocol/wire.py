"""Wire version 4: the messages between query frontend and model replica, as ZeroMQ frames. Pure.

A message is a list of frames. The first starts with HEADER, the same for all types:

    version u8 | type u8 | flags u16 | count u32 | epoch u64 | session u64 | batch u64        little-endian, 32 bytes

`epoch` is the frontend's start, `session` one connection to it, `batch` one piece of work: a result is taken only if all
three and the count match a batch in flight, so that no reconnect can hand an answer to another query. Times on the wire
are budgets (what is left), because two hosts share no clock.

    type      from      after the header, in the same frame            further frames
    HELLO     replica   -                                              JSON: who is calling (Hello)
    WELCOME   frontend  -                                              JSON: who answers (Welcome)
    PREDICT   frontend  input type u8, 3 × 0, item length u32,          [lengths u32 × count,] inputs
                        budget micros u64
    RESULT    replica   output type u8, 3 × 0, backlog u32,             [lengths u32 × count,] outputs [, JSON errors]
                        execution micros u32, 4 × 0
    CANCEL    frontend  -        forget this batch if it has not started
    DRAIN     both      -        "send me no more" (replica) · "finish and leave" (frontend)
    DRAINED   frontend  -        answer to a replica's DRAIN: nothing follows on this session
    REJECT    frontend  -                                              JSON: why this peer gets no work
    ASK       frontend  waited micros u64                               "call me when you are free for a batch of mine"
    FREE      replica   -        "now": a call, whose number stands for `batch`
    PASS      frontend  -        answer to FREE instead of a PREDICT, with its number; with 0: the ASK is withdrawn

A replica that works for several frontends says by the flag ASK_FIRST of its results that it wants to be asked before it is
sent a batch: docs/decisions/0011-late-binding.md
The types from 9 to 14 are those of the mesh: mesh_messages.py.

No frame is ever unpickled. Every length is checked here before anything is allocated for it.
Source: docs/decisions/0003-wire-format.md
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

VERSION = 4
MAX_BATCH_COUNT = 65_536  # far above any batch limit; bounds what a lying header can make us allocate
MAX_JSON_BYTES = 64 * 1024  # hello, welcome, reject
MAX_ERRORS_BYTES = 4 * 1024 * 1024
MAX_FRAME_BYTES = 64 * 1024 * 1024  # ZMQ_MAXMSGSIZE on every socket; four times the largest HTTP body

_HEADER = struct.Struct("<BBHIQQQ")
_PREDICT = struct.Struct("<BBHIQQQB3xIQ")
_RESULT = struct.Struct("<BBHIQQQB3xII4x")
_ASK = struct.Struct("<BBHIQQQQ")
_U32 = np.dtype("<u4")

HAS_LENGTHS = 1
HAS_ERRORS = 2
ASK_FIRST = 4  # of a RESULT: send nothing more before this replica calls


class WireError(ValueError):
    """A peer sent something that is not of this protocol."""


class MessageType(enum.IntEnum):
    """The second byte of every message."""

    HELLO = 1
    WELCOME = 2
    PREDICT = 3
    RESULT = 4
    CANCEL = 5
    DRAIN = 6
    DRAINED = 7
    REJECT = 8
    ROSTER = 9
    ANNOUNCE = 10
    WANT_CATALOG = 11
    CATALOG = 12
    RELAY = 13
    RELAYED = 14
    ASK = 15
    FREE = 16
    PASS = 17


class OutputType(enum.IntEnum):
    """How the outputs of a result lie in its block: fixed-width numbers, or texts with lengths."""

    TEXT = 0
    INT64 = 1
    FLOAT64 = 2
    FLOAT32 = 3
    FLOAT16 = 4
    BOOL = 5


OUTPUT_WIDTH: dict[OutputType, np.dtype[Any]] = {
    OutputType.INT64: np.dtype("<i8"),
    OutputType.FLOAT64: np.dtype("<f8"),
    OutputType.FLOAT32: np.dtype("<f4"),
    OutputType.FLOAT16: np.dtype("<f2"),
    OutputType.BOOL: np.dtype("?"),
}


class ErrorKind(enum.StrEnum):
    """Why an input has no output."""

    RAISED = "raised"  # the predict function raised
    WRONG_COUNT = "wrong_count"  # it returned another number of outputs than it got inputs
    WRONG_TYPE = "wrong_type"  # it returned something that is no output


@dataclass(frozen=True, slots=True)
class Header:
    """What every message starts with."""

    type: MessageType
    flags: int
    count: int
    epoch: int
    session: int
    batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """A replica introduces itself; it does so only when its model is loaded and warm."""

    model: str
    version: str
    uid: str
    input_type: str
    replica: str
    python: str
    toolkit: str
    role: str = "replica"


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The frontend's answer to a hello. The session and epoch to use are in the header."""

    frontend: str
    toolkit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """Why the frontend gives this peer no work. `final` says that asking again is pointless."""

    reason: str
    final: bool


@dataclass(frozen=True, slots=True)
class Predict:
    """A batch of inputs for one replica. `lengths` only for types of variable width."""

    header: Header
    input_type: int
    item_length: int
    budget_micros: int
    lengths: NDArray[np.uint32] | None
    data: bytes


@dataclass(frozen=True, slots=True)
class OutputError:
    """Why the input at `index` of its batch has no output; index None: the whole batch failed."""

    index: int | None
    kind: ErrorKind
    message: str
    traceback_id: str


@dataclass(frozen=True, slots=True)
class Result:
    """The outputs of one batch. `data` is empty when the whole batch failed."""

    header: Header
    output_type: OutputType
    backlog: int
    exec_micros: int
    lengths: NDArray[np.uint32] | None
    data: bytes
    errors: tuple[OutputError, ...]


class _Form(Protocol):
    """A dataclass of texts and flags."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


Introduction = TypeVar("Introduction", bound=_Form)


def header_of(frame: bytes) -> Header:
    """Return the header that `frame`, the first of a message, starts with.

    Raises: WireError: the frame is too short, of another version or of no known type.
    """
    if len(frame) < _HEADER.size:
        raise WireError(f"a first frame has {len(frame)} bytes; a header has {_HEADER.size}")
    version, kind, flags, count, epoch, session, batch = _HEADER.unpack_from(frame)
    if version != VERSION:
        raise WireError(f"the peer speaks wire version {version}; this side speaks {VERSION}")
    try:
        return Header(MessageType(kind), flags, count, epoch, session, batch)
    except ValueError:
        raise WireError(f"message type {kind} is not known") from None


def dump_json(value: object) -> bytes:
    """Return a value as a JSON frame."""
    return json.dumps(value, separators=(",", ":")).encode()


def header_frame(kind: MessageType, *, count: int = 0, epoch: int = 0, session: int = 0, batch: int = 0) -> bytes:
    """Return a first frame that is a header only."""
    return _HEADER.pack(VERSION, kind, 0, count, epoch, session, batch)


def encode_control(kind: MessageType, *, epoch: int = 0, session: int = 0, batch: int = 0) -> list[bytes]:
    """Return a message that is a header only: CANCEL, DRAIN, DRAINED, FREE, PASS."""
    return [header_frame(kind, epoch=epoch, session=session, batch=batch)]


def encode_ask(*, epoch: int, session: int, waited_micros: int) -> list[bytes]:
    """Return an ASK message. `waited_micros`: for how long the query waits that a batch would begin with."""
    return [_ASK.pack(VERSION, MessageType.ASK, 0, 0, epoch, session, 0, waited_micros)]


def decode_ask(frames: Sequence[bytes]) -> int:
    """Return for how many microseconds the query waits that an ASK is for. Raises: WireError: it is of another size."""
    if len(_only(frames)) != _ASK.size:
        raise WireError(f"an ask has {_ASK.size} bytes; this one has {len(frames[0])}")
    waited: int = _ASK.unpack(frames[0])[-1]
    return waited


def encode_introduction(kind: MessageType, body: _Form, *, epoch: int = 0, session: int = 0) -> list[bytes]:
    """Return a HELLO, WELCOME or REJECT message."""
    return [header_frame(kind, epoch=epoch, session=session), dump_json(asdict(body))]


def decode_introduction(frames: Sequence[bytes], form: type[Introduction]) -> Introduction:
    """Return the JSON body of a HELLO, WELCOME or REJECT. Unknown fields are ignored: newer peers may say more.

    Raises: WireError: not exactly two frames, too large, no JSON object, or a field missing or of another type.
    """
    if len(frames) != 2:
        raise WireError(f"a {form.__name__} has 2 frames; this one has {len(frames)}")
    fields = load_json(frames[1], MAX_JSON_BYTES)
    if not isinstance(fields, dict):
        raise WireError(f"a {form.__name__} is a JSON object")
    known: dict[str, Any] = {}
    for name, field in form.__dataclass_fields__.items():
        if name not in fields:
            continue
        wanted = bool if field.type in (bool, "bool") else str
        if not isinstance(fields[name], wanted):
            raise WireError(f"field {name!r} of a {form.__name__} must be {wanted.__name__}")
        known[name] = fields[name]
    try:
        return form(**known)
    except TypeError as exc:
        raise WireError(f"a {form.__name__} lacks a field: {exc}") from exc


def encode_predict(
    *,
    epoch: int,
    session: int,
    batch: int,
    input_type: int,
    item_length: int,
    budget_micros: int,
    inputs: Sequence[bytes],
) -> list[bytes]:
    """Return a PREDICT message. `item_length` counts elements, and is 0 for inputs of variable width."""
    flags = 0 if input_type in FIXED_INPUTS else HAS_LENGTHS
    first = _PREDICT.pack(
        VERSION, MessageType.PREDICT, flags, len(inputs), epoch, session, batch, input_type, item_length, budget_micros
    )
    if flags:
        return [first, np.fromiter(map(len, inputs), _U32, len(inputs)).tobytes(), b"".join(inputs)]
    return [first, b"".join(inputs)]


FIXED_INPUTS = {1: 4, 2: 4, 3: 8}  # input type → bytes per element; datatypes.FIXED_WIDTH, without importing it here


def decode_predict(header: Header, frames: Sequence[bytes]) -> Predict:
    """Return the batch in a PREDICT message.

    Raises: WireError: frames missing or too many, a count out of range, or sizes that do not add up.
    """
    if len(frames[0]) != _PREDICT.size:
        raise WireError(f"the first frame of a predict has {_PREDICT.size} bytes; this one has {len(frames[0])}")
    kind, item_length, budget = _PREDICT.unpack_from(frames[0])[7:]
    if not 1 <= header.count <= MAX_BATCH_COUNT:
        raise WireError(f"a batch has 1 to {MAX_BATCH_COUNT} inputs; this one says {header.count}")
    if kind not in FIXED_INPUTS and kind not in (0, 4):
        raise WireError(f"input type {kind} is not known")
    if bool(header.flags & HAS_LENGTHS) == (kind in FIXED_INPUTS):
        raise WireError("lengths come with inputs of variable width, and only with those")
    lengths, rest = _take_lengths(header, frames)
    data = _only(rest)
    wanted = int(lengths.sum(dtype=np.uint64)) if lengths is not None else None
    if wanted is None:
        wanted = header.count * item_length * FIXED_INPUTS[kind]
    if len(data) != wanted:
        raise WireError(f"{header.count} inputs take {wanted} bytes; {len(data)} came")
    return Predict(header, kind, item_length, budget, lengths, data)


def encode_result(
    *,
    answers: Header,
    output_type: OutputType,
    backlog: int,
    exec_micros: int,
    lengths: NDArray[np.uint32] | None,
    data: bytes,
    errors: Sequence[OutputError] = (),
    ask_first: bool = False,
) -> list[bytes]:
    """Return the RESULT message that answers the batch whose header is `answers`."""
    flags = (HAS_LENGTHS if lengths is not None else 0) | (HAS_ERRORS if errors else 0) | (ASK_FIRST if ask_first else 0)
    frames = [
        _RESULT.pack(
            VERSION,
            MessageType.RESULT,
            flags,
            answers.count,
            answers.epoch,
            answers.session,
            answers.batch,
            output_type,
            min(backlog, 0xFFFFFFFF),
            min(exec_micros, 0xFFFFFFFF),
        )
    ]
    if lengths is not None:
        frames.append(lengths.astype(_U32, copy=False).tobytes())
    frames.append(data)
    if errors:
        rows = [[error.index, error.kind, error.message, error.traceback_id] for error in errors]
        frames.append(dump_json(rows))
    return frames


def decode_result(header: Header, frames: Sequence[bytes]) -> Result:
    """Return the outputs in a RESULT message. The caller checks that they answer what it asked.

    Raises: WireError: frames missing or too many, sizes that do not add up, errors that are not of their form.
    """
    if len(frames[0]) != _RESULT.size:
        raise WireError(f"the first frame of a result has {_RESULT.size} bytes; this one has {len(frames[0])}")
    kind, backlog, exec_micros = _RESULT.unpack_from(frames[0])[7:]
    try:
        output_type = OutputType(kind)
    except ValueError:
        raise WireError(f"output type {kind} is not known") from None
    if header.count > MAX_BATCH_COUNT:
        raise WireError(f"a batch has at most {MAX_BATCH_COUNT} outputs; this one says {header.count}")
    errors: tuple[OutputError, ...] = ()
    lengths, rest = _take_lengths(header, frames)
    if header.flags & HAS_ERRORS:
        if len(rest) != 2:
            raise WireError("a result says that it has errors, and has no frame of them")
        errors = _errors(rest[1], header.count)
        rest = rest[:1]
    data = _only(rest)
    if any(error.index is None for error in errors):
        if data or lengths is not None:
            raise WireError("a batch that failed as a whole has no outputs")
    elif output_type is OutputType.TEXT:
        if lengths is None or int(lengths.sum(dtype=np.uint64)) != len(data):
            raise WireError("the lengths of the outputs do not add up to their bytes")
    elif lengths is not None or len(data) != header.count * OUTPUT_WIDTH[output_type].itemsize:
        raise WireError(f"{header.count} outputs of type {output_type.name} do not take {len(data)} bytes")
    return Result(header, output_type, backlog, exec_micros, lengths, data, errors)


def _take_lengths(header: Header, frames: Sequence[bytes]) -> tuple[NDArray[np.uint32] | None, Sequence[bytes]]:
    if not header.flags & HAS_LENGTHS:
        return None, frames[1:]
    if len(frames) < 2 or len(frames[1]) != header.count * _U32.itemsize:
        raise WireError(f"the lengths of {header.count} items are missing or of another number")
    return np.frombuffer(frames[1], _U32), frames[2:]


def _only(frames: Sequence[bytes]) -> bytes:
    if len(frames) != 1:
        raise WireError(f"one frame of data was expected; {len(frames)} came")
    return frames[0]


def _errors(frame: bytes, count: int) -> tuple[OutputError, ...]:
    rows = load_json(frame, MAX_ERRORS_BYTES)
    if not isinstance(rows, list) or not rows:
        raise WireError("the errors of a result are a JSON list that is not empty")
    errors = []
    for row in rows:
        match row:
            case [None | int() as index, str() as kind, str() as message, str() as traceback_id] if not isinstance(
                index, bool
            ) and (index is None or 0 <= index < count):
                try:
                    errors.append(OutputError(index, ErrorKind(kind), message, traceback_id))
                except ValueError:
                    raise WireError(f"error kind {kind!r} is not known") from None
            case _:
                raise WireError("an error of a result is [index, kind, message, traceback id]")
    return tuple(errors)


def load_json(frame: bytes, limit: int) -> Any:  # noqa: ANN401  # JSON: the callers check what they got
    """Return the value in a JSON frame. Raises: WireError: it is larger than `limit` bytes, or is no JSON in UTF-8."""
    if len(frame) > limit:
        raise WireError(f"a JSON frame has {len(frame)} bytes; at most {limit} are taken")
    try:
        value = json.loads(frame.decode())  # not the bytes: json takes UTF-16, and half of a surrogate pair
        if b"\\u" in frame:  # half of a surrogate pair is no text: whoever writes it out later would fail
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as exc:
        raise WireError(f"a JSON frame does not parse: {exc}") from exc
    return value
