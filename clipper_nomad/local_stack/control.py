"""What the user's process and the supervisor say to each other: one JSON line each way, typed on both sides. Pure.

    {"Attach": {"pid": 4242, "toolkit": "0.1.0", …}}   →   {"StackStatus": {…}}   or   {"Refused": {"message": …}}

The kind is the class's name. A line that does not fit its class is a ControlError, so that neither side acts on half a
message. Both sides are of one version of the toolkit (`Attach` is checked), so there is no room for other fields.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import TypeVar

MAX_LINE_BYTES = 1 << 20


class ControlError(ValueError):
    """A line is no message of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attach:
    """Wait until the stack is up and make process `pid` one of its owners. `port`, `frontends`, `cache_size`: what
    the user named."""

    pid: int
    toolkit: str
    port: int | None
    frontends: int | None
    keep: bool
    cache_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Detach:
    """Process `pid` owns the stack no longer."""

    pid: int


@dataclass(frozen=True, slots=True)
class Status:
    """How are the parts?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploy:
    """Run `count` replicas of a version from the bundle `digest`; answered when they are started, not ready.

    `env`: what they get besides what they inherit. `environment`: what they run in, "" for the stack's own.
    """

    name: str
    version: str
    uid: str
    input_type: str
    digest: str
    count: int
    env: Mapping[str, str]
    environment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Run `count` replicas of a version deployed before; answered when what is too many has drained."""

    name: str
    version: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StopModels:
    """Drain the replicas of these versions (None: of all); answered when they have ended."""

    models: Mapping[str, tuple[str, ...]] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """These versions are registered no longer. Those of which replicas are wanted again stay as they are."""

    models: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskFailure:
    """Why do the replicas of a version not become ready?"""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Run on when the last owner has ended, and keep the data over a stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Stop everything. Answered at once; done when the runtime directory is gone. `purge`: remove kept data too."""

    graceful: bool
    purge: bool


@dataclass(frozen=True, slots=True)
class Done:
    """It is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """It cannot be done. `kind`: "stopping", "version", "port", "frontends", "cache", "failed" or "request"."""

    kind: str
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureReply:
    """Why the replicas of a version do not become ready; `cause` is None while they still may."""

    cause: str | None
    log_tail: str = ""
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStatus:
    """One process. `state`: "running", "ready" (replicas), "waiting" (for its restart), "failed", "stopping"."""

    name: str
    kind: str
    state: str
    pid: int | None
    deaths: int
    age_s: float
    log: str
    last_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStatus:
    """One model version's replicas."""

    name: str
    version: str
    wanted: int
    ready: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StackStatus:
    """The whole stack. Addresses are "host:port", `rpc_addr` that of RPC version 3 if it is served. `state`: "starting",
    "up" or "stopping". `note`: what its user should know about the start.
    """

    cluster: str
    toolkit: str
    state: str
    pid: int
    age_s: float
    query_addr: str
    admin_addr: str
    data: str
    python: str
    keep: bool
    note: str | None
    owners: tuple[int, ...]
    parts: tuple[PartStatus, ...]
    versions: tuple[VersionStatus, ...]
    rpc_addr: str | None = None


Request = Attach | Detach | Status | Deploy | Scale | StopModels | Forget | AskFailure | Keep | Stop
Reply = Done | Refused | FailureReply | StackStatus

Form = TypeVar("Form")

_REQUESTS: dict[str, type[Request]] = {form.__name__: form for form in typing.get_args(Request)}
_REPLIES: dict[str, type[Reply]] = {form.__name__: form for form in typing.get_args(Reply)}


def encode(message: Request | Reply) -> bytes:
    """Return the line that says `message`."""
    return json.dumps({type(message).__name__: asdict(message)}).encode() + b"\n"


def decode_request(line: bytes) -> Request:
    """Return the request that `line` says. Raises: ControlError."""
    return _decode(line, _REQUESTS)


def decode_reply(line: bytes) -> Reply:
    """Return the reply that `line` says. Raises: ControlError."""
    return _decode(line, _REPLIES)


def _decode(line: bytes, forms: Mapping[str, type[Form]]) -> Form:
    try:
        ((kind, fields),) = _checked(dict, json.loads(line)).items()
        return _build(forms[kind], fields)
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        raise ControlError(f"a line of {len(line)} bytes is none of {', '.join(forms)}: {exc!r}") from exc


def _build(form: type[Form], fields: object) -> Form:
    hints = typing.get_type_hints(form)
    return form(**{name: _value(hints[name], value) for name, value in _checked(dict, fields).items()})


def _value(hint: object, value: object) -> object:
    """Return what JSON's `value` is where a field's type is `hint`; the unions here are "… | None"."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType or origin is typing.Union:
        return None if value is None else _value(inner[0], value)
    if origin is tuple:
        return tuple(_value(inner[0], item) for item in _checked(list, value))
    if origin is not None:  # a Mapping of texts
        return {_checked(str, key): _value(inner[1], item) for key, item in _checked(dict, value).items()}
    if hint is float and type(value) is int:
        return float(value)  # JSON's 1.0 may come as 1
    kind = typing.cast("type[object]", hint)  # a plain class: all other hints are dealt with above
    return _build(kind, value) if is_dataclass(kind) else _checked(kind, value)


def _checked(kind: type[Form], value: object) -> Form:
    if type(value) is not kind:  # not isinstance: a bool is no int
        raise TypeError(f"{value!r} is not of type {kind.__name__}")
    return value
