"""RPC version 3: what Clipper's query frontend and its model containers say to each other, as ZeroMQ frames. Pure.

Every message begins with an empty frame. Numbers are u32, little-endian, unless said; those of a header are u64.

    container → frontend
    heartbeat      [] [2]
    new container  [] [0] [model] [version] [input type, as digits] [RPC version]
    response       [] [1] [message id] [size of header, u64] [header: n, n × size] [output 1] … [output n]

    frontend → container, with the version first
    heartbeat      [] [3] [2] [0 keep-alive, 1 introduce yourself]
    request        [] [3] [1] [message id] [0 predict] [size of header, u64] [header: input type, n, n × size] [input 1] …

A container calls first, with a heartbeat; whom the frontend does not know is asked to introduce itself. A container that
hears nothing for POLL_S sends a heartbeat, and after LOST_AFTER_S of silence it connects anew; so does the frontend forget
a container that it hears nothing from. Our own protocol is wire.py; every length is checked here, as there.
Source: docs/decisions/0014-clipper-rpc.md
"""

from __future__ import annotations

import enum
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from clipper_nomad.protocol.wire import MAX_BATCH_COUNT, WireError

VERSION = 3
POLL_S = 5.0  # a container that heard nothing for so long sends a heartbeat
LOST_AFTER_S = 30.0  # of silence: for either side the other is gone
MAX_NAME_BYTES = 1024  # of a model's name and version: nothing registered is longer
MAX_FRAMES = MAX_BATCH_COUNT + 8

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
# Clipper's C++ and R containers send as many bytes of it as the version has, so a zero and what lies behind may follow
_NUMBER = re.compile(rb"(-?[0-9]{1,9})(?:\0.*)?", re.DOTALL)
_VERSION_BYTES = (4, 8)  # Clipper's JVM containers send eight


class MessageType(enum.IntEnum):
    """What a message is."""

    NEW_CONTAINER = 0
    CONTENT = 1
    HEARTBEAT = 2


class HeartbeatType(enum.IntEnum):
    """What a frontend's heartbeat asks for."""

    KEEP_ALIVE = 0
    INTRODUCE = 1


class RequestType(enum.IntEnum):
    """What a frontend's content is. No frontend ever sent feedback."""

    PREDICT = 0
    FEEDBACK = 1


class OtherVersion(WireError):
    """The peer speaks another version of this protocol."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A container is there."""


@dataclass(frozen=True, slots=True)
class NewContainer:
    """A container introduces itself. `input_type` as it came, known or not; `rpc_version`: None where it said none."""

    model: str
    version: str
    input_type: int
    rpc_version: int | None


@dataclass(frozen=True, slots=True)
class Response:
    """The outputs of one request."""

    message_id: int
    outputs: list[bytes]


@dataclass(frozen=True, slots=True)
class FrontendHeartbeat:
    """The frontend is there, and perhaps asks."""

    kind: HeartbeatType


@dataclass(frozen=True, slots=True)
class Request:
    """A batch of inputs."""

    message_id: int
    input_type: int
    inputs: list[bytes]


FromContainer = Heartbeat | NewContainer | Response
FromFrontend = FrontendHeartbeat | Request

_HEARTBEAT = [b"", _U32.pack(MessageType.HEARTBEAT)]
_KEEP_ALIVE = [b"", _U32.pack(VERSION), _U32.pack(MessageType.HEARTBEAT), _U32.pack(HeartbeatType.KEEP_ALIVE)]
_INTRODUCE = [b"", _U32.pack(VERSION), _U32.pack(MessageType.HEARTBEAT), _U32.pack(HeartbeatType.INTRODUCE)]
_PREDICT = [b"", _U32.pack(VERSION), _U32.pack(MessageType.CONTENT)]
_PREDICT_TYPE = _U32.pack(RequestType.PREDICT)
_CONTENT = [b"", _U32.pack(MessageType.CONTENT)]


# ---- the frontend's side ---------------------------------------------------------------------------------------------


def encode_frontend_heartbeat(kind: HeartbeatType) -> list[bytes]:
    """Return a frontend's answer to a heartbeat."""
    return _KEEP_ALIVE if kind is HeartbeatType.KEEP_ALIVE else _INTRODUCE


def encode_request(message_id: int, input_type: int, inputs: Sequence[bytes]) -> list[bytes]:
    """Return a request to predict `inputs`."""
    header = struct.pack(f"<QQ{len(inputs)}Q", input_type, len(inputs), *map(len, inputs))
    return [*_PREDICT, _U32.pack(message_id), _PREDICT_TYPE, _U64.pack(len(header)), header, *inputs]


def decode_from_container(frames: Sequence[bytes]) -> FromContainer:
    """Return what a container said. Raises: WireError: it is not of this protocol."""
    kind, rest = _begin(frames)
    if kind == MessageType.HEARTBEAT:
        if rest:
            raise WireError(f"a container's heartbeat has nothing after its type; {len(rest)} frames came")
        return Heartbeat()
    if kind == MessageType.NEW_CONTAINER:
        return _new_container(rest)
    if kind == MessageType.CONTENT:
        if len(rest) < 3:
            raise WireError(f"a response has 3 frames and its outputs; {len(rest)} frames came")
        return Response(_u32(rest[0], "message id"), _items(rest[1], rest[2], rest[3:], fields=0))
    raise WireError(f"message type {kind} is not known")


def _new_container(rest: Sequence[bytes]) -> NewContainer:
    if len(rest) not in (3, 4):
        raise WireError(f"a new container says 3 or 4 things of itself; {len(rest)} frames came")
    number = _NUMBER.fullmatch(rest[2][:MAX_NAME_BYTES])
    if number is None:
        raise WireError("the input type of a new container is written in digits")
    version = rest[3] if len(rest) == 4 else b""  # another version may well write it otherwise
    return NewContainer(
        model=_text(rest[0], "the model"),
        version=_text(rest[1], "the version"),
        input_type=int(number[1]),
        rpc_version=int.from_bytes(version, "little") if len(version) in _VERSION_BYTES else None,
    )


# ---- the container's side --------------------------------------------------------------------------------------------


def encode_heartbeat() -> list[bytes]:
    """Return a container's heartbeat."""
    return _HEARTBEAT


def encode_new_container(model: str, version: str, input_type: int) -> list[bytes]:
    """Return a container's introduction."""
    kind = _U32.pack(MessageType.NEW_CONTAINER)
    return [b"", kind, model.encode(), version.encode(), str(int(input_type)).encode(), _U32.pack(VERSION)]


def encode_response(message_id: int, outputs: Sequence[bytes]) -> list[bytes]:
    """Return the outputs of the request with that id."""
    header = struct.pack(f"<{len(outputs) + 1}Q", len(outputs), *map(len, outputs))
    return [*_CONTENT, _U32.pack(message_id), _U64.pack(len(header)), header, *outputs]


def decode_from_frontend(frames: Sequence[bytes]) -> FromFrontend:
    """Return what a frontend said. Raises: OtherVersion. WireError: it is not of this protocol."""
    version, rest = _begin(frames)
    if version != VERSION:
        raise OtherVersion(f"the frontend speaks RPC version {version}; this side speaks {VERSION}")
    if not rest:
        raise WireError("a message without a type")
    kind = _u32(rest[0], "type")
    if kind == MessageType.HEARTBEAT:
        if len(rest) != 2:
            raise WireError("a frontend's heartbeat has one frame after its type")
        asks = _u32(rest[1], "heartbeat type")
        if asks not in tuple(HeartbeatType):
            raise WireError(f"heartbeat type {asks} is not known")
        return FrontendHeartbeat(HeartbeatType(asks))
    if kind != MessageType.CONTENT:
        raise WireError(f"message type {kind} does not come from a frontend")
    if len(rest) < 5:
        raise WireError(f"a request has 5 frames and its inputs; {len(rest)} frames came")
    asked = _u32(rest[2], "request type")
    if asked != RequestType.PREDICT:
        raise WireError(f"request type {asked} is not served")
    inputs = _items(rest[3], rest[4], rest[5:], fields=1)
    return Request(_u32(rest[1], "message id"), _U64.unpack_from(rest[4])[0], inputs)


# ---- both ------------------------------------------------------------------------------------------------------------


def _begin(frames: Sequence[bytes]) -> tuple[int, Sequence[bytes]]:
    """Return the first number of a message, and the frames after it."""
    if len(frames) < 2 or frames[0]:
        raise WireError("a message begins with an empty frame and a number")
    if len(frames) > MAX_FRAMES:
        raise WireError(f"a message has at most {MAX_FRAMES} frames")
    return _u32(frames[1], "first number"), frames[2:]


def _u32(frame: bytes, what: str) -> int:
    if len(frame) != _U32.size:
        raise WireError(f"the {what} has {len(frame)} bytes; {_U32.size} were expected")
    number: int = _U32.unpack(frame)[0]
    return number


def _text(frame: bytes, what: str) -> str:
    if len(frame) > MAX_NAME_BYTES:
        raise WireError(f"{what} has {len(frame)} bytes; at most {MAX_NAME_BYTES} are taken")
    try:
        return frame.decode()
    except UnicodeDecodeError as exc:
        raise WireError(f"{what} is not UTF-8: {exc}") from exc


def _items(size: bytes, header: bytes, items: Sequence[bytes], *, fields: int) -> list[bytes]:
    """Return the inputs or outputs of a content, checked against its header, in which the count follows `fields` others."""
    if len(size) != _U64.size or _U64.unpack(size)[0] != len(header):
        raise WireError("the size of a header is not that of the header")
    before = _U64.size * (fields + 1)
    if len(header) != before + _U64.size * len(items) or _U64.unpack_from(header, before - _U64.size)[0] != len(items):
        raise WireError(f"a header of {len(header)} bytes does not go with {len(items)} items")
    if len(items) > MAX_BATCH_COUNT:
        raise WireError(f"a batch has at most {MAX_BATCH_COUNT} items; {len(items)} came")
    sizes = struct.unpack_from(f"<{len(items)}Q", header, before)
    if any(said != len(item) for said, item in zip(sizes, items, strict=True)):
        raise WireError("the sizes in a header are not those of the items")
    return list(items)
