"""Deploy any Python function: create_endpoint and deploy_python_closure, with Clipper's arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.connection import ClipperConnection
from clipper_nomad.connection.deployment import DEPLOY_WITHIN_S, Deployment
from clipper_nomad.connection.inputs import input_of_function, known_kind, sample_input
from clipper_nomad.connection.replica_calls import check_count
from clipper_nomad.deployers.packing import packed
from clipper_nomad.errors import ClipperException, UnconnectedException


def create_endpoint(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    input_type: str,
    func: Callable[..., object],
    default_output: str = "None",
    version: object = 1,
    slo_micros: int = 3_000_000,
    labels: Sequence[str] | None = None,
    registry: str | None = None,
    base_image: str = "default",
    num_replicas: int = 1,
    batch_size: int = -1,
    pkgs_to_install: Sequence[str] | None = None,
    *,
    sample: object = None,
    job_options: JobOptions | None = None,
) -> Deployment:
    """Register an app, deploy `func` as a model of the same name, and link the two.

    If the deploy fails, the app is unregistered again. See `deploy_python_closure` for the arguments and errors.
    """
    clipper_conn.register_application(name, input_type, default_output, slo_micros)
    try:
        deployment = deploy_python_closure(
            clipper_conn,
            name,
            version,
            input_type,
            func,
            base_image,
            labels,
            registry,
            num_replicas,
            batch_size,
            pkgs_to_install,
            sample=sample,
            job_options=job_options,
        )
        clipper_conn.link_model_to_app(name, name)
    except BaseException as exc:
        forget_application(clipper_conn, name, exc)
        raise
    return deployment


def deploy_python_closure(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    version: object,
    input_type: str,
    func: Callable[..., object],
    base_image: str = "default",
    labels: Sequence[str] | None = None,
    registry: str | None = None,
    num_replicas: int = 1,
    batch_size: int = -1,
    pkgs_to_install: Sequence[str] | None = None,
    *,
    sample: object = None,
    retry: bool = True,
    timeout_s: float = DEPLOY_WITHIN_S,
    job_options: JobOptions | None = None,
) -> Deployment:
    """Pack a function and deploy it; when this returns, it has answered and is the model's current version.

    `func` takes a batch, an array of shape (batch, features) for numbers or (batch,) of texts, and returns one output for
    each input. What it reaches is packed with it. `sample`: one input, to try the function on. `retry=False`: no query is
    ever executed twice. `job_options`: what its replicas get of Nomad, as JobOptions(memory_mb=2048). The other arguments
    are Clipper's.
    Raises: BundleError: it cannot be packed. DeployFailed: it did not become ready or gave no answer; the version that
    served before still does.
    """
    if not clipper_conn.connected:
        raise UnconnectedException
    check_count(num_replicas)
    kind = known_kind(input_type)
    clipper_conn.check_job_options(name, version, job_options)
    given = sample_input(sample, kind) if sample is not None else input_of_function(func, kind)
    with packed(func, kind=kind, sample=given) as bundle:  # no longer than needed: a kill leaves it behind
        image = clipper_conn.build_model(name, version, str(bundle), base_image, registry, pkgs_to_install)
    with clipper_conn.withdrawing_on_failure(image):
        return clipper_conn.deploy_model(
            name,
            version,
            kind.word,
            image,
            labels,
            num_replicas,
            batch_size,
            sample=given,
            retry=retry,
            timeout_s=timeout_s,
            job_options=job_options,
        )


def forget_application(clipper_conn: ClipperConnection, name: str, exc: BaseException) -> None:
    """Unregister an app that was registered for a deploy which failed with `exc`."""
    try:
        clipper_conn.unregister_application(name)
    except ClipperException as left:
        exc.add_note(f"The application '{name}' could not be unregistered again: {left}")
