"""LocalContainerManager: a cluster as supervised processes on this machine. The supervisor does the work; this asks it.

Every method asks anew over the control socket, so that an object that was copied by a fork does no harm: a forked worker
is no owner of the stack and its end ends nothing.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clipper_nomad.cell_block import show
from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.container_manager import (
    USUAL_CACHE_BYTES,
    ClusterAdapter,
    Failure,
    check_cache_size,
    check_frontends,
    packages_of,
)
from clipper_nomad.errors import BundleError, ClipperException, StackError, UnconnectedException
from clipper_nomad.local_stack import environments
from clipper_nomad.local_stack.bundles import Published, publish, withdraw
from clipper_nomad.local_stack.control import (
    AskFailure,
    Attach,
    Deploy,
    Detach,
    FailureReply,
    Forget,
    Keep,
    Reply,
    Request,
    Scale,
    StackStatus,
    Status,
    Stop,
    StopModels,
)
from clipper_nomad.local_stack.control_client import NotRunning, RefusedByStack, ask
from clipper_nomad.local_stack.environment_build import Wish
from clipper_nomad.local_stack.environment_check import check, differing
from clipper_nomad.local_stack.environments import Environment
from clipper_nomad.local_stack.kept import read_state
from clipper_nomad.local_stack.launch import attach, running_place, start_or_attach, stop
from clipper_nomad.local_stack.parts import REPLICA_ENV, Programs, StackSettings
from clipper_nomad.local_stack.place import Place, find_place
from clipper_nomad.protocol.bundle import WHEELS_NAME, DamagedBundle, Manifest, read_manifest
from clipper_nomad.toolkit import toolkit_version

_ANSWER_WITHIN_S = 10.0
_DRAIN_WITHIN_S = 45.0  # the supervisor kills a replica that has not drained after 32 s
_STOP_WITHIN_S = 75.0  # GRACEFUL of stack.py, summed up and rounded up
_REFERENCE = "bundle:"
_IN = "+"  # between the bundle's digest and its environment


class LocalContainerManager:
    """Runs a cluster on this machine. Start it with `start_clipper`, or find a running one with `connect`.

    `port`: the predict port; without it 9999, or the next that is free; 0 for any. `frontends`: query frontend
    processes, which share the port; without it as many as run, and 1 in a stack that is started. `keep`: the stack runs
    on after this process ended, and keeps its data when it is stopped. `home`: a directory for everything, instead of
    CLIPPER_HOME or the places of the XDG rules. `legacy_rpc`: a stack that is started lets containers of Clipper's RPC
    version 3 in, on a loopback port that `get_rpc_addr` tells. `programs`: what is run for each part, instead of this
    package's. `progress`: is told what is done for which model, while its packages are installed; without it a notebook's
    cell shows it, and the log has it.
    """

    def __init__(
        self,
        cluster_name: str = "default-cluster",
        port: int | None = None,
        frontends: int | None = None,
        *,
        keep: bool = False,
        home: str | os.PathLike[str] | None = None,
        legacy_rpc: bool = True,
        programs: Programs | None = None,
        progress: Callable[[str, str], None] | None = None,
    ) -> None:
        check_frontends("frontends", frontends)
        self.cluster_name = cluster_name
        # Any: as the interface has it, LoggerAdapter being generic over its logger
        self.logger: logging.Logger | logging.LoggerAdapter[Any] = ClusterAdapter(
            logging.getLogger("clipper_nomad.local"), {"cluster_name": cluster_name}
        )
        self._port = port
        self._frontends = frontends
        self._keep = keep
        self._legacy_rpc = legacy_rpc
        self._programs = programs or Programs()
        self._place = find_place(
            cluster_name,
            home=Path(home) if home is not None else None,
            environ=os.environ,
            uid=os.getuid(),
            outlives_login=keep,
        )
        self._status: StackStatus | None = None
        self._published: dict[str, tuple[Published, Environment | None]] = {}  # by reference
        self._progress = progress or self._show

    @property
    def cluster_identifier(self) -> str:
        """What image names and jobs of this cluster start with."""
        return self.cluster_name

    def start_clipper(
        self,
        query_frontend_image: str = "",
        mgmt_frontend_image: str = "",
        frontend_exporter_image: str = "",
        cache_size: int | None = None,
        qf_http_thread_pool_size: int = 1,
        qf_http_timeout_request: int = 5,
        qf_http_timeout_content: int = 300,
        num_frontend_replicas: int = 1,
    ) -> None:
        """Start the stack, or attach to it if it runs. Of Clipper's settings the number of frontends and the cache mean
        something here: there are no images, and the frontend's limits are its own. `cache_size`: bytes of each frontend's
        prediction cache, 0 for none; None: what CLIPPER_CACHE_BYTES says, or none.

        Raises: ClipperException: so many frontends, or such a cache, cannot be. StackError: it cannot be started, or runs
        with another number of frontends or another cache; the message says why.
        """
        ignored = {
            "images": (query_frontend_image, mgmt_frontend_image, frontend_exporter_image),
            "qf_http": (qf_http_thread_pool_size, qf_http_timeout_request, qf_http_timeout_content),
        }
        self.logger.debug("local mode has no use for these settings of start_clipper: %s", ignored)
        check_frontends("num_frontend_replicas", num_frontend_replicas)
        check_cache_size(cache_size)
        frontends = max(self._frontends or 1, num_frontend_replicas)
        is_named = self._frontends is not None or num_frontend_replicas != 1  # 1 is what Clipper's callers leave out
        settings = StackSettings(
            cluster=self.cluster_name,
            data=str(self._place.data),
            runtime=str(self._place.runtime),
            toolkit=toolkit_version(),
            port=self._port,
            frontends=frontends,
            keep=self._keep,
            owner=None if self._keep else os.getpid(),
            legacy_rpc=self._legacy_rpc,
            cache_size=cache_size,
            programs=self._programs,
        )
        cache = None if cache_size == USUAL_CACHE_BYTES else cache_size  # what Clipper's callers leave out
        self._attached(*start_or_attach(self._place, settings, frontends=frontends if is_named else None, cache_size=cache))

    def connect(self) -> None:
        """Find the stack that runs. This process then is one of its owners.

        Raises: StackError: none runs, or one of another version, port or number of frontends does.
        """
        request = Attach(
            pid=os.getpid(), toolkit=toolkit_version(), port=self._port, frontends=self._frontends, keep=self._keep
        )
        try:
            self._attached(*attach(self._place, request))
        except NotRunning as exc:
            raise StackError(
                f"No local stack of cluster {self.cluster_name!r} runs.",
                hint="Start one with clipper_nomad.local(), start_clipper() or `clipper-nomad up --local`.",
            ) from exc

    def detach(self) -> None:
        """Own the stack no longer, as if this process had ended: it stops if nobody else owns or keeps it."""
        self._ask(Detach(pid=os.getpid()))
        self._status = None

    def keep(self) -> None:
        """Let the stack run on when this process ends, and keep its data when it is stopped."""
        self._ask(Keep())

    def status(self) -> StackStatus:
        """Return how the stack's processes are. Raises: StackError: it does not run."""
        reply = self._ask(Status())
        if not isinstance(reply, StackStatus):
            raise StackError(f"The supervisor answered {type(reply).__name__} where its status was expected.")
        return reply

    def publish_bundle(
        self,
        name: str,
        version: str,
        bundle: Path,
        base_image: str = "default",
        container_registry: str | None = None,
        pkgs_to_install: Sequence[str] | None = None,
    ) -> str:
        """Copy a bundle into the stack's data and return its reference, "bundle:sha256-…".

        With packages to install, or wheels in the bundle, its replicas run in an environment that has these and what the
        runtime needs, and nothing else; "+env-…" in the reference names it. It is made now, once for the same packages.
        Raises: BundleError: the folder is no bundle, or its packages cannot be installed, or the function cannot be loaded
        beside them. StackError: the stack does not run.
        """
        if base_image != "default" or container_registry:
            self.logger.debug("local mode builds no image: %s, %s are not used", base_image, container_registry)
        self.status()
        title = f"Model {name}:{version}"
        packages = packages_of(title, pkgs_to_install)
        if option := next((each for each in packages if each.startswith("-")), None):
            raise BundleError(f"{title}: {option!r} in pkgs_to_install is no package.", hint="Such as 'six==1.17.0'.")
        environment = self._environment(title, bundle, packages)
        try:
            published = publish(bundle, self._place.bundles)
        except BaseException:
            if environment is not None:
                environments.withdraw(environment, self._place.environments)
            raise
        image = _REFERENCE + published.digest
        if environment is not None:
            image = f"{image}{_IN}{environment.name}"
        self._published[image] = (published, environment)
        return image

    def _environment(self, title: str, bundle: Path, packages: tuple[str, ...]) -> Environment | None:
        """Return the environment of a bundle that is to have packages, or brings them; None: it runs in the stack's own."""
        if not packages and not (bundle / WHEELS_NAME).is_dir():
            return None
        manifest = manifest_of(bundle)
        below = f"{WHEELS_NAME}/"
        wheels = {bundle / path: sha for path, sha in manifest.files.items() if path.startswith(below)}
        wish = Wish(title=title, packages=packages, wheels=wheels)
        folder = self._place.environments
        environment = environments.provide(wish, folder, said=lambda line: self._progress(title, line))
        try:
            check(bundle, manifest, folder / environment.name, environment.packages, title=title)
        except BaseException:
            environments.withdraw(environment, folder)
            raise
        if others := differing(manifest, environment.packages, asked=packages):
            self.logger.warning(
                "%s was packed with what is not so in its environment: %s; name it in pkgs_to_install (name==version)",
                title,
                "; ".join(others),
            )
        return environment

    def withdraw_bundle(self, image: str) -> None:
        """Remove what `publish_bundle` made, the bundle's copy and its environment, unless somebody else asked for the same
        since.
        """
        published, environment = self._published.pop(image, (None, None))
        if published is not None:
            withdraw(published, self._place.bundles)
        if environment is not None:
            environments.withdraw(environment, self._place.environments)

    def make_channel_key(self, name: str, version: str) -> str:
        """Return "": the channel is a unix socket that only this user can open."""
        self.logger.debug("local mode needs no key for %s:%s", name, version)
        return ""

    def check_job_options(self, name: str, version: str, options: JobOptions) -> None:
        """Refuse variables that replicas are given by this stack itself. Raises: ClipperException."""
        if options.is_legacy:
            raise ClipperException(
                f"Model {name}:{version}: local mode starts no containers of RPC version 3.",
                hint="Register it (register_model), and start its container yourself: it dials get_rpc_addr().",
            )
        ours = sorted(REPLICA_ENV.intersection(options.env))
        if ours:
            raise ClipperException(
                f"Model {name}:{version}: the stack sets {', '.join(ours)} itself.", hint="Leave them out of env."
            )

    def deploy_model(  # what a deploy is made of
        self,
        name: str,
        version: str,
        input_type: str,
        image: str,
        num_replicas: int = 1,
        *,
        uid: str = "",
        options: JobOptions | None = None,
        within_s: float = 600.0,
    ) -> None:
        """Start replicas of a version from a published bundle. They are not ready when this returns, at once.

        Of `options` replicas get `env`, also when they are scaled; the rest is Nomad's, so it has no effect here, and a
        warning says so. Raises: ClipperException: `image` is no bundle's reference, or the supervisor refuses.
        """
        options = options or JobOptions()
        if idle := ", ".join(name for name in options.given if name != "env"):
            self.logger.warning("local mode sets no limits and has one place to run: %s have no effect here", idle)
        self.logger.debug("a local start takes no part of %s s", within_s)
        if not image.startswith(_REFERENCE):
            raise ClipperException(
                f"Local mode runs bundles, and {image!r} is no bundle's reference.",
                hint="Deploy a Python function, or use a container manager that runs images.",
            )
        digest, _, environment = image.removeprefix(_REFERENCE).partition(_IN)
        self._ask(
            Deploy(
                name=name,
                version=version,
                uid=uid,
                input_type=input_type,
                digest=digest,
                count=num_replicas,
                env=dict(options.env),
                environment=environment,
            )
        )

    def model_failure(self, name: str, version: str) -> Failure | None:
        """Return why the version's replicas cannot become ready, or None while they may still."""
        reply = self._ask(AskFailure(name=name, version=version))
        if not isinstance(reply, FailureReply) or reply.cause is None:
            return None
        return Failure(cause=reply.cause, log_tail=reply.log_tail, hint=reply.hint)

    def get_num_replicas(self, name: str, version: str) -> int:
        """Return how many replicas of a version are wanted and not failed."""
        found = (item for item in self.status().versions if (item.name, item.version) == (name, version))
        return sum(item.wanted - item.failed for item in found)

    def set_num_replicas(self, name: str, version: str, input_type: str, image: str, num_replicas: int) -> None:
        """Start or drain replicas until there are `num_replicas`; failed ones are tried anew.

        Raises: StackError: the version was never deployed here.
        """
        self.logger.debug("scaling %s:%s of type %s (%s) to %s", name, version, input_type, image, num_replicas)
        self._ask(Scale(name=name, version=version, count=num_replicas), within_s=_DRAIN_WITHIN_S)

    def get_logs(self, logging_dir: str | os.PathLike[str]) -> list[str]:
        """Copy each process's log into `logging_dir` and return the copies' paths."""
        target = Path(logging_dir)
        target.mkdir(parents=True, exist_ok=True)
        logs = sorted(path for path in self._place.logs.glob("*.log*") if path.is_file())
        return [str(shutil.copyfile(path, target / path.name)) for path in logs]

    def stop_models(self, models: Mapping[str, Sequence[str]], *, wait: bool = True) -> None:
        """Drain and stop all replicas of the versions, given as name → versions; they have ended when this returns."""
        self.logger.debug("stop_models(wait=%s): the supervisor answers when they have ended", wait)
        stopped = {name: tuple(versions) for name, versions in models.items()}
        self._ask(StopModels(models=stopped), within_s=_DRAIN_WITHIN_S)

    def stop_all_model_containers(self) -> None:
        """Drain and stop all replicas of all models."""
        self._ask(StopModels(models=None), within_s=_DRAIN_WITHIN_S)

    def forget_models(self, models: Mapping[str, Sequence[str]]) -> None:
        """Forget the versions, of which no replicas are wanted any more: environments that no other version runs in go now,
        their bundles when the stack starts next.
        """
        before = self._environments_in_use()
        self._ask(Forget(models={name: tuple(versions) for name, versions in models.items()}))
        environments.remove(before - self._environments_in_use(), self._place.environments)

    def _environments_in_use(self) -> frozenset[str]:
        state = read_state(self._place.state)
        return state.environments if state is not None else frozenset()

    def stop_all(self, graceful: bool = True, *, purge: bool = False) -> None:  # noqa: FBT001, FBT002  # Clipper's
        """Stop the stack and wait for its end; nothing to do if it does not run. `purge`: remove kept data too.

        Raises: StackError: it did not end in time.
        """
        if not stop(self._place, Stop(graceful=graceful, purge=purge), within_s=_STOP_WITHIN_S):
            self.logger.info("no local stack of cluster %s runs", self.cluster_name)
        self._status = None

    def get_admin_addr(self) -> str:
        """Return where the admin service listens."""
        return self._connected.admin_addr

    def get_query_addr(self) -> str:
        """Return where the query frontends listen."""
        return self._connected.query_addr

    def get_metric_addr(self) -> str:
        """Return where Prometheus finds metrics: the query frontends' own address, at /metrics."""
        return self.get_query_addr()

    def get_rpc_addr(self) -> str:
        """Return where model containers of Clipper's RPC version 3 dial. Raises: ClipperException: the stack has no such
        port.
        """
        address = self._connected.rpc_addr
        if address is None:
            raise ClipperException(
                f"The local stack of cluster {self.cluster_name!r} was started without RPC version 3.",
                hint="Stop it, and start it with LocalContainerManager(legacy_rpc=True).",
            )
        return address

    def get_admin_token(self) -> str:
        """Return the token that every call of the admin service carries. Raises: StackError: the stack has ended."""
        _ = self._connected
        try:
            return self._place.token.read_text().strip()
        except FileNotFoundError as exc:
            raise self._does_not_run() from exc

    def public_url(self) -> str:
        """Return "": the query frontends listen themselves."""
        return ""

    def predict_url(self, app_name: str) -> str:
        """Return the URL to post an app's queries to."""
        return f"http://{self._connected.query_addr}/clipper/{app_name}/predict"

    def _show(self, title: str, line: str) -> None:
        self.logger.info("%s: %s", title, line)
        show(title.removeprefix("Model "), line)

    @property
    def _connected(self) -> StackStatus:
        if self._status is None:
            raise UnconnectedException
        return self._status

    def _attached(self, place: Place, status: StackStatus) -> None:
        self._place = replace(self._place, runtime=place.runtime)
        self._status = status
        self.logger.info("local stack of cluster %s at %s", self.cluster_name, status.query_addr)

    def _ask(self, request: Request, *, within_s: float = _ANSWER_WITHIN_S) -> Reply:
        try:
            return ask(running_place(self._place).runtime, request, within_s=within_s)
        except NotRunning as exc:
            raise self._does_not_run() from exc
        except RefusedByStack as exc:
            raise StackError(exc.msg, hint=exc.hint) from exc

    def _does_not_run(self) -> StackError:
        return StackError(
            f"The local stack of cluster {self.cluster_name!r} does not run (any more).",
            hint="Start it with clipper_nomad.local() or start_clipper().",
        )


def manifest_of(bundle: Path) -> Manifest:
    """Return a bundle's manifest. Raises: BundleError: the folder is no bundle, or is damaged."""
    try:
        return read_manifest(bundle)
    except DamagedBundle as exc:
        raise BundleError(str(exc)) from exc
