"""A loaded function → a model version, linked to the app that was named. deploy.py has the options and the output.

`ClipperConnection.deploy` does it for the app of the model's name; an app of another name is linked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clipper_nomad.errors import ClipperException

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clipper_nomad.cluster.jobs.options import JobOptions
    from clipper_nomad.connection import ClipperConnection
    from clipper_nomad.connection.deployment import Deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What becomes of the function, within `timeout_s`. `trial`: it is tried here first.

    `job_options`: what its replicas get of Nomad.
    """

    name: str
    app: str
    version: str | None
    kind: str
    sample: object
    replicas: int
    timeout_s: float
    packages: tuple[str, ...] = ()
    trial: bool = True
    job_options: JobOptions | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSettings:
    """How an app is registered if it is new; None: as `ClipperConnection.deploy` does."""

    default_output: str | None = None
    slo_ms: float | None = None
    slo_policy: str | None = None


def deploy_target(
    connection: ClipperConnection,
    function: Callable[..., object],
    target: Target,
    settings: AppSettings,
) -> Deployment:
    """Deploy `function` as `target` says. Raises: ClipperException: as `ClipperConnection.deploy`."""
    if target.app == target.name:
        return _deploy_with_app(connection, function, target, settings)
    return _deploy_for_app(connection, function, target)


def check_app(apps: Mapping[str, Any], target: Target) -> None:  # Any: Clipper's JSON of an app
    """Raise ClipperException unless the app takes this model, or is the one of the model's name and not there yet."""
    app = apps.get(target.app)
    if app is None and target.app != target.name:
        raise ClipperException(
            f"There is no app {target.app!r} to link model {target.name!r} to.",
            hint=f"Leave out --app: then the app {target.name!r} is registered. There are: {', '.join(apps) or 'none'}.",
        )
    if app is not None and app["input_type"] != target.kind:
        raise ClipperException(
            f"App {target.app!r} takes {app['input_type']}, and this function {target.kind}.",
            hint=f"If the function takes {app['input_type']} too, say --input-type {app['input_type']}.",
        )
    others = [linked for linked in app["linked_models"] if linked != target.name] if app is not None else []
    if others:
        raise ClipperException(
            f"App {target.app!r} is linked to model {others[0]!r}, and in this version to one model only.",
            hint=f"Deploy it as a version of that model: --name {others[0]} --app {target.app}.",
        )


def _deploy_with_app(
    connection: ClipperConnection,
    function: Callable[..., object],
    target: Target,
    settings: AppSettings,
) -> Deployment:
    """Deploy a model for the app of its name, which is registered if there is none."""
    given: dict[str, Any] = {
        "default_output": settings.default_output,
        "slo_micros": None if settings.slo_ms is None else round(settings.slo_ms * 1000),
        "slo_policy": settings.slo_policy,
    }
    return connection.deploy(
        function,
        target.name,
        sample=target.sample,
        trial=target.trial,
        input_type=target.kind,
        version=target.version,
        num_replicas=target.replicas,
        pkgs_to_install=target.packages,
        timeout_s=target.timeout_s,
        job_options=target.job_options,
        **{name: value for name, value in given.items() if value is not None},
    ).deployment


def _deploy_for_app(connection: ClipperConnection, function: Callable[..., object], target: Target) -> Deployment:
    """Deploy a model for an app of another name, which is there."""
    from clipper_nomad.deployers.app import next_version
    from clipper_nomad.deployers.python import deploy_python_closure

    name = target.name
    done = deploy_python_closure(
        connection,
        name,
        target.version if target.version is not None else next_version(connection, name),
        target.kind,
        function,
        num_replicas=target.replicas,
        pkgs_to_install=target.packages,
        sample=target.sample,
        trial=target.trial,
        timeout_s=target.timeout_s,
        job_options=target.job_options,
    )
    if name not in connection.get_linked_models(target.app):
        connection.link_model_to_app(target.app, name)
    return done
