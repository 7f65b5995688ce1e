"""What a request about model versions changes in the catalog, or why it is refused. Pure: (snapshot, request) → Commit.

A version is registered as current, or staged: then it has replicas and is probed, and becomes current when activated.
Clipper's calls see no staged version. `uid` tells a version from an earlier one of the same name and number.
Texts and the order of checks are Clipper's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from clipper_nomad.admin.catalog_rules import Refused, known_input_type
from clipper_nomad.protocol.bundle_store import parse_reference
from clipper_nomad.protocol.keys import parse_key
from clipper_nomad.protocol.names import registered_problem
from clipper_nomad.state.commit import Commit
from clipper_nomad.state.records import (
    ADAPTIVE_BATCH_SIZE,
    NO_CONTAINER,
    Model,
    ModelVersion,
    Record,
    Snapshot,
    field_of,
)

MAX_REPLICAS = 10_000
LONGEST_PROBE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class AddVersion:
    """Register a version. `uid`: random, made by the caller. `sample`: one input as JSON text."""

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
    public_key: str = ""
    legacy: bool = False
    staged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WhichVersion:
    """Name a version, and with `uid` one registration of it."""

    name: str
    version: str
    uid: str | None = None

    @property
    def key(self) -> str:
        """`name:version`, as the catalog has it."""
        return f"{self.name}:{self.version}"


def add_version(catalog: Snapshot, request: AddVersion) -> Commit:
    """Put the version; it becomes current unless staged. A staged one of the same number, left over, is replaced.

    Raises: Refused: it exists, a value is out of its range, or an app that is linked to the model has another type.
    """
    kind = known_input_type(request.input_type)
    if request.batch_size <= 0 and request.batch_size != ADAPTIVE_BATCH_SIZE:
        raise Refused("The batch size must be positive or DEFAULT_BATCH_SIZE, which is -1")
    texts = [("model name", request.name), ("model version", request.version)]
    for what, text in [*texts, *(("label", label) for label in request.labels)]:
        if problem := registered_problem(what, text):
            raise Refused(problem)
    if request.public_key:
        try:
            parse_key(request.public_key)
        except ValueError as exc:
            raise Refused(f"Invalid public key supplied: {exc}") from None
    which = f"model with name '{request.name}' and version '{request.version}'"
    present = catalog.versions.get(f"{request.name}:{request.version}")
    if present is not None and not present.staged:
        raise Refused(f"{which} already exists")
    _check_linked_apps(catalog, request.name, kind.word)
    if not 0 <= request.replicas <= MAX_REPLICAS:
        raise Refused(f"replicas is {request.replicas}; expected 0 to {MAX_REPLICAS}")
    version = ModelVersion(
        name=request.name,
        version=request.version,
        uid=request.uid,
        input_type=kind.word,
        image=request.image,
        labels=request.labels,
        batch_size=request.batch_size,
        replicas=request.replicas,
        retry=request.retry,
        sample=request.sample,
        public_key=request.public_key,
        legacy=request.legacy,
        staged=request.staged,
    )
    put: tuple[Record, ...] = (version,)
    if not request.staged:
        put = (version, Model(name=request.name, current_version=request.version))
    return Commit(put=put, reply=f"Successfully added model with name '{request.name}' and input type '{kind.word}'")


def activate(catalog: Snapshot, request: WhichVersion) -> Commit:
    """Make a version current, staged or not. Raises: Refused: there is none, or it was registered anew meanwhile."""
    version = find(catalog, request)
    _check_linked_apps(catalog, version.name, version.input_type)
    reply = f"Successfully set model with name '{version.name}' to version '{version.version}'"
    if not version.staged and catalog.current_version(version.name) == version:
        return Commit(reply=reply)
    return Commit(
        put=(replace(version, staged=False), Model(name=version.name, current_version=version.version)), reply=reply
    )


def set_model_version(catalog: Snapshot, request: WhichVersion) -> Commit:
    """Make a registered version current. Raises: Refused: unknown, staged, or of another type than a linked app."""
    known = [version for version in catalog.versions_of(request.name) if not version.staged]
    if not known:
        raise Refused(f"Cannot set version for nonexistent model '{request.name}'")
    if request.key not in {version.key for version in known}:
        raise Refused(f"Cannot set non-existent version '{request.version}' for model with name '{request.name}'")
    return activate(catalog, request)


def delete_versioned_model(catalog: Snapshot, request: WhichVersion) -> Commit:
    """Delete a version for Clipper's call, which sees no staged one. Raises: Refused: there is none."""
    present = catalog.versions.get(request.key)
    if present is None or present.staged:
        raise Refused(f"model with name '{request.name}' and version '{request.version}' does not exist")
    return delete_version(catalog, request)


def delete_version(catalog: Snapshot, request: WhichVersion, *, only_staged: bool = False) -> Commit:
    """Delete a version, staged or not. Links of apps to the model's name stay, for its next version.

    Raises: Refused: there is none, it was registered anew meanwhile, or it serves and `only_staged` was asked.
    """
    version = find(catalog, request)
    if only_staged and not version.staged:
        raise Refused(f"{_named(request)} is not staged any more: it was activated", status=409)
    delete = [field_of(version)]
    put: list[Record] = []
    model = catalog.models.get(version.name)
    if model is not None and not any(other.key != version.key for other in catalog.versions_of(version.name)):
        delete.append(field_of(model))
    elif model is not None and model.current_version == version.version and not version.staged:
        put.append(replace(model, current_version=None))
    return Commit(
        put=tuple(put),
        delete=tuple(delete),
        reply=f"Successfully deleted model with name '{version.name}' and version '{version.version}'",
    )


def let_go(catalog: Snapshot, commit: Commit) -> frozenset[str]:
    """Return the digests of the bundles that no version runs from any more after `commit`."""
    deleted = {version.image for version in catalog.versions.values() if field_of(version) in commit.delete}
    kept = {version.image for version in catalog.versions.values() if field_of(version) not in commit.delete}
    kept |= {record.image for record in commit.put if isinstance(record, ModelVersion)}
    return digests_of(deleted) - digests_of(kept)


def digests_of(images: Iterable[str]) -> frozenset[str]:
    """Return the digests of the bundles among what versions run from."""
    return frozenset(found.digest for found in map(parse_reference, images) if found is not None)


def uid_reply(commit: Commit, uid: str) -> Commit:
    """Return `commit` with the answer that our own call gives: the uid, as JSON."""
    return replace(commit, reply=json.dumps({"uid": uid}))


def find(catalog: Snapshot, request: WhichVersion) -> ModelVersion:
    """Return a version, staged or not. Raises: Refused: there is none, or it was registered anew meanwhile."""
    version = catalog.versions.get(request.key)
    if version is None:
        raise Refused(f"{_named(request)} does not exist")
    if request.uid is not None and request.uid != version.uid:
        raise Refused(f"{_named(request)} was registered anew meanwhile: it is not the one that was meant", status=409)
    return version


def _named(request: WhichVersion) -> str:
    return f"model with name '{request.name}' and version '{request.version}'"


def _check_linked_apps(catalog: Snapshot, model: str, kind: str) -> None:
    for app in catalog.apps.values():
        if model in app.linked_models and app.input_type != kind:
            raise Refused(
                f"Model with name '{model}' is already linked to app '{app.name}' using input type '{app.input_type}'. "
                f"The input type you provided for a new version of the model, '{kind}', is not compatible."
            )
