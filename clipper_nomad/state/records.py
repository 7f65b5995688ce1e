"""The records of the catalog: apps, models, model versions, and all of them at one revision. Pure values.

Written by admin through store.py, read by query frontends. JSON forms are stable: a newer reader ignores fields it does
not know, an older one gets defaults.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args

from clipper_nomad.protocol.datatypes import InputType, input_type

SloPolicy = Literal["late", "default", "error"]
SLO_POLICIES: dict[str, SloPolicy] = {word: word for word in get_args(SloPolicy)}

MICROS = 1_000_000
LONGEST_DEFAULT_TIMEOUT_MICROS = 60 * MICROS
SHORTEST_DEFAULT_TIMEOUT_MICROS = 10 * MICROS
TIMEOUT_PER_SLO = 10

ADAPTIVE_BATCH_SIZE = -1  # Clipper's word for "you choose"
NO_CONTAINER = "NO_CONTAINER"  # Clipper's mark of a model registered without an image


def default_timeout_micros(slo_micros: int) -> int:
    """Return how long a query is waited for when its app does not say. Never shorter than the SLO."""
    tenfold = max(SHORTEST_DEFAULT_TIMEOUT_MICROS, TIMEOUT_PER_SLO * slo_micros)
    return max(slo_micros, min(LONGEST_DEFAULT_TIMEOUT_MICROS, tenfold))


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A named endpoint: what it takes, what it promises, and the models it is linked to."""

    name: str
    input_type: str
    default_output: str
    slo_micros: int
    slo_policy: SloPolicy = "late"
    timeout_micros: int | None = None
    linked_models: tuple[str, ...] = ()

    @property
    def kind(self) -> InputType:
        """The input type as the protocol names it."""
        return input_type(self.input_type)

    @property
    def effective_timeout_micros(self) -> int:
        """The timeout in force, given or derived."""
        return self.timeout_micros if self.timeout_micros is not None else default_timeout_micros(self.slo_micros)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model name and which of its versions is current (None: none was activated yet)."""

    name: str
    current_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One immutable build of a model. `uid` is random: a version registered anew is another one."""

    name: str
    version: str
    uid: str
    input_type: str
    image: str = NO_CONTAINER
    labels: tuple[str, ...] = ()
    batch_size: int = ADAPTIVE_BATCH_SIZE
    replicas: int = 1
    retry: bool = True
    sample: str | None = None
    public_key: str = ""  # CURVE, of its replicas; "" where the model channel is not encrypted
    legacy: bool = False  # containers of RPC version 3 may serve it: nothing of ours was started, or its image is one
    staged: bool = False  # deployed and not yet activated: never current, not listed by Clipper's calls

    @property
    def key(self) -> str:
        """`name:version`, as Clipper writes it."""
        return f"{self.name}:{self.version}"

    @property
    def kind(self) -> InputType:
        """The input type as the protocol names it."""
        return input_type(self.input_type)

    @property
    def takes_legacy(self) -> bool:
        """Whether a container of RPC version 3, which can prove nothing, may serve it: no image of ours does."""
        return self.legacy or self.image == NO_CONTAINER


Record = App | Model | ModelVersion
_FORMS: dict[str, type[App | Model | ModelVersion]] = {"app": App, "model": Model, "version": ModelVersion}
Form = TypeVar("Form", App, Model, ModelVersion)


def field_of(record: Record) -> str:
    """Return the field of the catalog hash under which a record is kept: "app/digits", "version/digits:1"."""
    match record:
        case App(name=name):
            return f"app/{name}"
        case Model(name=name):
            return f"model/{name}"
        case ModelVersion():
            return f"version/{record.key}"


def to_json(record: Record) -> str:
    """Return a record as JSON text."""
    return json.dumps(asdict(record), separators=(",", ":"), sort_keys=True)


def from_json(field_name: str, text: str | bytes) -> Record:
    """Return the record that stands under `field_name` of the catalog hash.

    Raises: ValueError: not a record of that kind.
    """
    form = _FORMS.get(field_name.partition("/")[0])
    values: Any = json.loads(text)
    if form is None or not isinstance(values, dict):
        raise ValueError(f"catalog field {field_name!r} is no record")
    known = {f.name for f in fields(form)}
    kept: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if name in known
    }
    try:
        record = form(**kept)
    except TypeError as exc:
        raise ValueError(f"catalog field {field_name!r} is no record: {exc}") from exc
    if field_of(record) != field_name:
        raise ValueError(f"catalog field {field_name!r} holds the record of {field_of(record)!r}")
    return record


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The whole catalog at one revision of one store.

    `parent_store_id`: the store whose mirror this one was restored from, if it was.
    """

    store_id: str
    revision: int
    parent_store_id: str | None = None
    apps: Mapping[str, App] = field(default_factory=lambda: MappingProxyType({}))
    models: Mapping[str, Model] = field(default_factory=lambda: MappingProxyType({}))
    versions: Mapping[str, ModelVersion] = field(default_factory=lambda: MappingProxyType({}))  # by "name:version"

    @property
    def records(self) -> list[Record]:
        """Every record, apps first."""
        return [*self.apps.values(), *self.models.values(), *self.versions.values()]

    def current_version(self, model: str) -> ModelVersion | None:
        """Return the version of `model` that answers queries, or None."""
        found = self.models.get(model)
        if found is None or found.current_version is None:
            return None
        return self.versions.get(f"{model}:{found.current_version}")

    def versions_of(self, model: str) -> list[ModelVersion]:
        """Return every version of `model`, staged ones too."""
        return [version for version in self.versions.values() if version.name == model]


def snapshot(
    store_id: str, revision: int, values: Mapping[str, str | bytes], *, parent_store_id: str | None = None
) -> Snapshot:
    """Return the snapshot that a catalog hash holds. Raises: ValueError: a field is no record."""
    records = [from_json(name, text) for name, text in values.items()]
    return Snapshot(
        store_id=store_id,
        revision=revision,
        parent_store_id=parent_store_id,
        apps=MappingProxyType({r.name: r for r in records if isinstance(r, App)}),
        models=MappingProxyType({r.name: r for r in records if isinstance(r, Model)}),
        versions=MappingProxyType({r.key: r for r in records if isinstance(r, ModelVersion)}),
    )


def to_mirror(snapshot_: Snapshot) -> bytes:
    """Return a snapshot as the text of a mirror file, with a checksum of itself."""
    body = json.dumps(
        {
            "store_id": snapshot_.store_id,
            "revision": snapshot_.revision,
            "catalog": {field_of(record): to_json(record) for record in snapshot_.records},
        },
        sort_keys=True,
    )
    return json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "body": body}).encode()


def from_mirror(raw: bytes) -> Snapshot:
    """Return the snapshot in a mirror file. Raises: ValueError: damaged, or not a mirror."""
    try:
        outer: Any = json.loads(raw)
        body = outer["body"]
        if hashlib.sha256(body.encode()).hexdigest() != outer["sha256"]:
            raise ValueError("its checksum is wrong")
        values = json.loads(body)
        return snapshot(values["store_id"], values["revision"], values["catalog"])
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as exc:
        raise ValueError(f"it is no mirror of a catalog: {exc}") from exc
