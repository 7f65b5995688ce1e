"""Deploy any Python function: create_endpoint and deploy_python_closure, with Clipper's arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Unpack

from clipper_nomad.connection import ClipperConnection
from clipper_nomad.connection.deployment import Deployment
from clipper_nomad.deployers.deploying import DEFAULT_SLO_MICROS, Options, Wanted, deploy_function, endpoint


def create_endpoint(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    input_type: str,
    func: Callable[..., object],
    default_output: str = "None",
    version: object = 1,
    slo_micros: int = DEFAULT_SLO_MICROS,
    labels: Sequence[str] | None = None,
    registry: str | None = None,
    base_image: str = "default",
    num_replicas: int = 1,
    batch_size: int = -1,
    pkgs_to_install: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> Deployment:
    """Register an app, deploy `func` as a model of the same name, and link the two.

    If the deploy fails, the app is unregistered again. See `deploy_python_closure` for the arguments and errors.
    """
    with endpoint(clipper_conn, name, input_type, default_output, slo_micros):
        return deploy_python_closure(
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
            **options,
        )


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
    **options: Unpack[Options],
) -> Deployment:
    """Pack a function and deploy it; when this returns, it has answered and is the model's current version.

    `func` takes a batch, an array of shape (batch, features) for numbers or (batch,) of texts, and returns one output for
    each input. What it reaches is packed with it. Before anything is built it is called once on `sample`, one input, in a
    process of its own; `trial=False` leaves that out. `retry=False`: no query is ever executed twice. `timeout_s`,
    `job_options` (what its replicas get of Nomad, as JobOptions(memory_mb=2048)): ours too. The other arguments are
    Clipper's.
    Raises: BundleError: it cannot be packed. DeployFailed: it did not become ready or gave no answer; the version that
    served before still does.
    """
    wanted = Wanted(name, version, input_type, base_image, labels, registry, num_replicas, batch_size, pkgs_to_install)
    return deploy_function(clipper_conn, func, wanted, options)
