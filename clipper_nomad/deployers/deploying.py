"""What all deployers share: a function, and maybe a framework's model → a bundle → its trial → a version that serves.

`Wanted` has Clipper's arguments, which every deployer takes in Clipper's order; `Options` has ours, by keyword only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypedDict

from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.connection import ClipperConnection
from clipper_nomad.connection.deployment import DEPLOY_WITHIN_S, Deployment
from clipper_nomad.connection.inputs import (
    Input,
    input_of_function,
    input_of_length,
    known_kind,
    made_up_input,
    sample_input,
)
from clipper_nomad.connection.replica_calls import check_count
from clipper_nomad.deployers.packing import FrameworkModel, packed, set_sample
from clipper_nomad.deployers.trial import Trial
from clipper_nomad.errors import ClipperException, UnconnectedException
from clipper_nomad.protocol.datatypes import InputType

DEFAULT_SLO_MICROS = 3_000_000  # Clipper's
DEFAULT_BASE = "default"  # Clipper's word for an image that the deployer chooses


class Options(TypedDict, total=False):
    """What a deployer takes besides Clipper's arguments.

    `sample`: one input, to try the function on. `trial=False`: it is not tried here before it is built. `retry=False`: no
    query is ever executed twice. `timeout_s`: how long the trial, and then the deploy, may take. `job_options`: what
    replicas get of Nomad.
    """

    sample: object
    trial: bool
    retry: bool
    timeout_s: float
    job_options: JobOptions | None


@dataclass(frozen=True, slots=True)  # not by keyword only: the order is Clipper's, in every deployer
class Wanted:
    """What is to become of a function: Clipper's arguments."""

    name: str
    version: object
    input_type: str
    base_image: str | None
    labels: Sequence[str] | None
    registry: str | None
    num_replicas: int
    batch_size: int
    pkgs_to_install: Sequence[str] | None


def deploy_function(
    conn: ClipperConnection,
    func: Callable[..., object],
    wanted: Wanted,
    options: Options,
    model: FrameworkModel | None = None,
) -> Deployment:
    """Pack, try and deploy a function; `model`: what it is called with, before the inputs.

    Raises: BundleError: it cannot be packed. DeployFailed: it failed when it was tried, or does not serve. TypeError: there
    is no such option.
    """
    if unknown := sorted(options.keys() - Options.__annotations__.keys()):
        known = ", ".join(Options.__annotations__)
        raise TypeError(f"a deployer has no argument {unknown[0]!r}; besides Clipper's it takes {known}")
    if not conn.connected:
        raise UnconnectedException
    check_count(wanted.num_replicas)
    kind = known_kind(wanted.input_type)
    job_options, timeout_s = options.get("job_options"), options.get("timeout_s", DEPLOY_WITHIN_S)
    conn.check_job_options(wanted.name, wanted.version, job_options)
    sample = options.get("sample")
    given = sample_input(sample, kind) if sample is not None else input_of_function(func, kind)
    with packed(func, kind=kind, sample=given, model=model) as bundle:  # no longer than needed: a kill leaves it behind
        if options.get("trial", True):
            trial = _trial_of(wanted, given, kind, model, timeout_s=timeout_s, job_options=job_options)
            if trial.run(bundle) and given is None and model is not None and model.features:
                given = trial.input
                set_sample(bundle, given)
        image = conn.build_model(
            wanted.name,
            wanted.version,
            str(bundle),
            wanted.base_image or DEFAULT_BASE,
            wanted.registry,
            wanted.pkgs_to_install,
        )
    with conn.withdrawing_on_failure(image):
        return conn.deploy_model(
            wanted.name,
            wanted.version,
            kind.word,
            image,
            wanted.labels,
            wanted.num_replicas,
            wanted.batch_size,
            sample=given,
            retry=options.get("retry", True),
            timeout_s=timeout_s,
            job_options=job_options,
        )


@contextmanager
def endpoint(conn: ClipperConnection, name: str, input_type: str, default_output: str, slo_micros: int) -> Iterator[None]:
    """Register an app, and link it to the model of its name that is deployed inside; unregister it if that fails."""
    conn.register_application(name, input_type, default_output, slo_micros)
    try:
        yield
        conn.link_model_to_app(name, name)
    except BaseException as exc:
        forget_application(conn, name, exc)
        raise


def forget_application(conn: ClipperConnection, name: str, exc: BaseException) -> None:
    """Unregister an app that was registered for a deploy which failed with `exc`."""
    try:
        conn.unregister_application(name)
    except ClipperException as left:
        exc.add_note(f"The application '{name}' could not be unregistered again: {left}")


def _trial_of(
    wanted: Wanted,
    given: Input | None,
    kind: InputType,
    model: FrameworkModel | None,
    *,
    timeout_s: float,
    job_options: JobOptions | None,
) -> Trial:
    guess = input_of_length(model.features, kind) if model is not None and model.features else None
    return Trial(
        model=wanted.name,
        version=str(wanted.version),
        input=given if given is not None else guess if guess is not None else made_up_input(kind),
        is_made_up=given is None,
        within_s=timeout_s,
        has_other_packages=bool(wanted.pkgs_to_install) or wanted.base_image not in {None, DEFAULT_BASE},
        env=job_options.env if job_options is not None else {},
    )
