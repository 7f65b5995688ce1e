"""What a request about apps and links changes in the catalog, or why it is refused. Pure: (snapshot, request) → Commit.

Texts and the order of checks are Clipper's; what is added comes after Clipper's own checks. Versions: version_rules.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from clipper_nomad.protocol.datatypes import InputType, input_type
from clipper_nomad.protocol.names import app_problem
from clipper_nomad.state.commit import Commit
from clipper_nomad.state.records import SLO_POLICIES, App, Snapshot, field_of

MAX_TEXT_BYTES = 64 * 1024  # every frontend holds every default output and sample, and reads all at each change
MAX_SLO_MICROS = 2**31 - 1  # Clipper's: 32 bits, 35 minutes
MAX_TIMEOUT_MICROS = 24 * 3600 * 1_000_000  # nobody waits longer; sums stay far from any overflow


class Refused(Exception):
    """A request that cannot be done. `status`: HTTP's, 400 unless the caller could not know (409)."""

    def __init__(self, text: str, *, status: int = 400) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class AddApp:
    """Register an app. Times in microseconds; `timeout_micros` None: derived from the SLO."""

    name: str
    input_type: str
    default_output: str
    slo_micros: int
    slo_policy: str = "late"
    timeout_micros: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Link models to an app, or end that."""

    app_name: str
    model_names: tuple[str, ...]


def known_input_type(word: str) -> InputType:
    """Return the input type that `word` names. Raises: Refused: none."""
    try:
        return input_type(word)
    except ValueError as exc:
        raise Refused(f"{exc}") from exc


def add_app(catalog: Snapshot, request: AddApp) -> Commit:
    """Put the app. Raises: Refused: it exists, or a value is out of its range."""
    kind = known_input_type(request.input_type)
    if request.name in catalog.apps:
        raise Refused(f"application '{request.name}' already exists")
    if problem := app_problem(request.name):
        raise Refused(problem)
    if not 1 <= request.slo_micros <= MAX_SLO_MICROS:
        raise Refused(
            f"latency_slo_micros is {request.slo_micros}; expected microseconds from 1 to {MAX_SLO_MICROS} (35 minutes)"
        )
    policy = SLO_POLICIES.get(request.slo_policy)
    if policy is None:
        raise Refused(f"slo_policy is '{request.slo_policy}'; expected one of {', '.join(SLO_POLICIES)}")
    timeout = request.timeout_micros
    if timeout is not None and not request.slo_micros <= timeout <= MAX_TIMEOUT_MICROS:
        raise Refused(
            f"timeout_micros is {timeout}; expected microseconds from the latency SLO ({request.slo_micros}) to "
            f"{MAX_TIMEOUT_MICROS} (a day)"
        )
    app = App(
        name=request.name,
        input_type=kind.word,
        default_output=request.default_output,
        slo_micros=request.slo_micros,
        slo_policy=policy,
        timeout_micros=timeout,
    )
    return Commit(put=(app,), reply=f"Successfully added application with name '{request.name}'")


def delete_app(catalog: Snapshot, name: str) -> Commit:
    """Delete the app and, with it, its links. Raises: Refused: there is no such app."""
    app = catalog.apps.get(name)
    if app is None:
        raise Refused(f"Application '{name}' does not exist")
    return Commit(delete=(field_of(app),), reply=f"Successfully deleted application with name '{name}'")


def add_model_links(catalog: Snapshot, request: Link) -> Commit:
    """Link one model to the app, at its current version. Raises: Refused: unknown, of another type, or not one to one."""
    app = catalog.apps.get(request.app_name)
    if app is None:
        raise Refused(f"No app with name '{request.app_name}' exists.")
    for name in request.model_names:
        _check_linkable(catalog, app, name)
    if not request.model_names:
        raise Refused("Please provide the name of the model that you want to link to the application.")
    if len(request.model_names) > 1:
        raise Refused(
            "Applications must be linked with at most one model. "
            f"Attempted to add links to {len(request.model_names)} models."
        )
    [model_name] = request.model_names
    if model_name in app.linked_models:
        raise Refused(f"The model with name '{model_name}' is already linked to '{app.name}'")
    if app.linked_models:
        raise Refused(f"A model with name {app.linked_models[0]} is already linked to '{app.name}'.")
    linked = replace(app, linked_models=(model_name,))
    return Commit(put=(linked,), reply=f"Successfully linked model with name '{model_name}' to application '{app.name}'")


def _check_linkable(catalog: Snapshot, app: App, name: str) -> None:
    current = catalog.current_version(name)
    # without a current version any of the others may become it, so each must fit
    candidates = [current] if current else [version for version in catalog.versions_of(name) if not version.staged]
    if not candidates:
        raise Refused(f"No model with name '{name}' exists.")
    for version in candidates:
        if version.input_type != app.input_type:
            raise Refused(
                f"Model with name '{name}' has incompatible input_type '{version.input_type}'. "
                f"Requested app to link to has input_type '{app.input_type}'."
            )


def delete_model_links(catalog: Snapshot, request: Link) -> Commit:
    """End links of the app. Raises: Refused: there is no such app, or no such link."""
    app = catalog.apps.get(request.app_name)
    if app is None:
        raise Refused(f"No app with name {request.app_name} exists.")
    for name in request.model_names:
        if name not in app.linked_models:
            raise Refused(f"Cannot remove nonexistent link between app {app.name} and model {name}")
    left = tuple(name for name in app.linked_models if name not in request.model_names)
    if left == app.linked_models:
        return Commit(reply="Success!")
    return Commit(put=(replace(app, linked_models=left),), reply="Success!")
