"""A function → an app that answers: what `ClipperConnection.deploy` does, from what is there already to the link.

The app is registered if there is none, and unregistered again if the deploy fails: nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.connection import ClipperConnection
from clipper_nomad.connection.catalog_calls import Json
from clipper_nomad.connection.deployed_app import DeployedApp
from clipper_nomad.deployers.deploying import forget_application
from clipper_nomad.deployers.python import deploy_python_closure
from clipper_nomad.errors import ClipperException
from clipper_nomad.protocol.datatypes import InputType


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSettings:
    """How an app is registered, if there is none. See `ClipperConnection.register_application`."""

    default_output: str
    slo_micros: int
    slo_policy: str | None
    timeout_micros: int | None


def deploy_app(  # noqa: PLR0913  # what ClipperConnection.deploy takes
    conn: ClipperConnection,
    func: Callable[..., object],
    name: str,
    *,
    kind: InputType,
    settings: AppSettings,
    version: object,
    sample: object,
    trial: bool,
    labels: Sequence[str] | None,
    num_replicas: int,
    batch_size: int,
    pkgs_to_install: Sequence[str] | None,
    retry: bool,
    timeout_s: float,
    job_options: JobOptions | None,
) -> DeployedApp:
    """Deploy `func` as model `name` and link it to the app `name`. See `ClipperConnection.deploy`."""
    app = _app_to_serve(conn, name, kind)
    number = next_version(conn, name) if version is None else version
    if app is None:
        conn.register_application(
            name,
            kind.word,
            settings.default_output,
            settings.slo_micros,
            slo_policy=settings.slo_policy,
            timeout_micros=settings.timeout_micros,
        )
    try:
        deployment = deploy_python_closure(
            conn,
            name,
            number,
            kind.word,
            func,
            labels=labels,
            num_replicas=num_replicas,
            batch_size=batch_size,
            pkgs_to_install=pkgs_to_install,
            sample=sample,
            trial=trial,
            retry=retry,
            timeout_s=timeout_s,
            job_options=job_options,
        )
        if app is None or not app["linked_models"]:
            conn.link_model_to_app(name, name)
    except BaseException as exc:
        if app is None:
            forget_application(conn, name, exc)
        raise
    url = conn.predict_url(name)
    return DeployedApp(name=name, predict_url=url, input_type=kind.word, deployment=deployment, ask=conn.predict)


def _app_to_serve(conn: ClipperConnection, name: str, kind: InputType) -> Json | None:
    """Return the app of this name, or None. Raises: ClipperException: it does not take this model."""
    app = next((app for app in conn.get_all_apps(verbose=True) if app["name"] == name), None)
    if app is not None and app["input_type"] != kind.word:
        raise ClipperException(
            f"Application '{name}' takes {app['input_type']} and this function {kind.word}.",
            hint="Deploy under another name, or unregister the application first.",
        )
    if app is not None and app["linked_models"] not in ([], [name]):
        other = app["linked_models"][0]
        raise ClipperException(
            f"Application '{name}' is linked to model '{other}'.",
            hint=f"Deploy under that name, or end the link: unlink_model_from_app('{name}', '{other}').",
        )
    return app


def next_version(conn: ClipperConnection, name: str) -> str:
    """Return the number after the highest that a model has; versions that are no numbers do not count."""
    numbers = (model["model_version"] for model in conn.get_all_models(verbose=True) if model["model_name"] == name)
    return str(1 + max((int(number) for number in numbers if number.isdecimal()), default=0))
