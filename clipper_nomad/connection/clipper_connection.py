"""ClipperConnection: start or find a cluster, deploy models, predict. Clipper's methods and ours; no Nomad here.

Clipper's methods keep their names, arguments, defaults and error texts. Those that concern the catalog alone are in
catalog_calls.py, those that scale and stop in replica_calls.py; deployment.py is the deploy that is whole or not at all,
prediction.py asks the apps, and the container manager has what runs.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clipper_nomad.cell_block import show
from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.connection.clipper_names import DEFAULT_PREDICTION_CACHE_SIZE_BYTES
from clipper_nomad.connection.deployed_app import DeployedApp
from clipper_nomad.connection.deployment import DEPLOY_WITHIN_S, Deployment, Plan, Rollout, withdraw_unused
from clipper_nomad.connection.inputs import kind_of, known_kind, sample_input
from clipper_nomad.connection.prediction import PredictClient, Prediction
from clipper_nomad.connection.replica_calls import ReplicaCalls, check_count
from clipper_nomad.connection.trial import try_function
from clipper_nomad.container_manager import ContainerManager
from clipper_nomad.errors import AdminUnreachable, ClipperException, InvalidName
from clipper_nomad.protocol.names import deployed_problem, length_problem

START_WITHIN_S = 300.0  # Clipper's
LOOK_EVERY_S = 0.1
DEFAULT_SLO_MICROS = 3_000_000  # Clipper's create_endpoint


class ClipperConnection(ReplicaCalls):
    """A connection to one cluster, which `container_manager` runs.

    Methods raise UnconnectedException before `start_clipper` or `connect`, but `build_model` and `stop_all`. `connected`
    and `cm` are Clipper's attributes. An object may be used by several threads.
    """

    def __init__(self, container_manager: ContainerManager) -> None:
        super().__init__(container_manager)
        self._queries = PredictClient()

    # --- the cluster ---

    def start_clipper(  # Clipper's signature
        self,
        query_frontend_image: str | None = None,
        mgmt_frontend_image: str | None = None,
        frontend_exporter_image: str | None = None,
        cache_size: int = DEFAULT_PREDICTION_CACHE_SIZE_BYTES,
        qf_http_thread_pool_size: int = 1,
        qf_http_timeout_request: int = 5,
        qf_http_timeout_content: int = 300,
        num_frontend_replicas: int = 1,
    ) -> None:
        """Start a cluster and connect to it; when this returns, it takes queries and calls.

        Images: those that the container manager knows, unless given. `cache_size`: of each query frontend's prediction
        cache, in bytes; 0 for none. A cluster that runs keeps the cache that it has, unless another size is given.
        Raises: ClipperException: it could not be started, or did not answer within START_WITHIN_S.
        """
        try:
            self.cm.start_clipper(
                query_frontend_image or "",
                mgmt_frontend_image or "",
                frontend_exporter_image or "",
                cache_size,
                qf_http_thread_pool_size,
                qf_http_timeout_request,
                qf_http_timeout_content,
                num_frontend_replicas,
            )
        except ClipperException as exc:
            self.logger.warning("Error starting Clipper: %s", exc.msg)
            raise
        self._wait_until_up()
        self.connected = True
        self.logger.info("Clipper is running at %s", self.cm.get_query_addr())

    def connect(self) -> None:
        """Connect to a cluster that runs. Raises: ClipperException: there is none."""
        self.cm.connect()
        self.connected = True
        self.logger.info("Connected to the Clipper cluster at %s", self.cm.get_query_addr())

    def get_query_addr(self) -> str:
        """Return "host:port" of the query frontends."""
        self._require_connection()
        return self.cm.get_query_addr()

    def get_admin_addr(self) -> str:
        """Return where the admin service is called: "host:port", or with a path behind a load balancer."""
        self._require_connection()
        return self.cm.get_admin_addr()

    def get_metric_addr(self) -> str:
        """Return "host:port" where GET /metrics answers in Prometheus' text format."""
        self._require_connection()
        return self.cm.get_metric_addr()

    def get_clipper_logs(self, logging_dir: str = "clipper_logs/") -> list[str]:
        """Write the log of each part of the cluster into a file of `logging_dir`, and return the files' paths."""
        self._require_connection()
        return self.cm.get_logs(logging_dir)

    def inspect_instance(self) -> dict[str, Any]:  # Any: JSON
        """Return the metrics of a query frontend in Clipper's form: category → list of {name: {leaf: text}}.

        Of several query frontends one answers. Raises: ClipperException: none does.
        """
        return self._queries.metrics(self.get_query_addr())

    def stop_all(self, graceful: bool = True) -> None:  # noqa: FBT001, FBT002  # Clipper's signature
        """Stop everything of the cluster. Works without a connection."""
        self.cm.stop_all(graceful=graceful)
        self.connected = False
        self.logger.info("Stopped all Clipper cluster and all model containers")

    # --- deploying ---

    def deploy(  # noqa: PLR0913  # each is a choice of the user's, named at the call
        self,
        func: Callable[..., object],
        name: str,
        *,
        sample: object = None,
        trial: bool = True,
        input_type: str | None = None,
        version: object = None,
        default_output: str = "None",
        slo_micros: int = DEFAULT_SLO_MICROS,
        slo_policy: str | None = None,
        timeout_micros: int | None = None,
        num_replicas: int = 1,
        batch_size: int = -1,
        labels: Sequence[str] | None = None,
        pkgs_to_install: Sequence[str] | None = None,
        retry: bool = True,
        timeout_s: float = DEPLOY_WITHIN_S,
        job_options: JobOptions | None = None,
    ) -> DeployedApp:
        """Deploy a function as model `name`, linked to the app of the same name, which is registered if there is none.

        `func` takes a batch, shape (batch, features), and returns one output for each input. `sample`: one input or a
        batch of them, such as X_test[:1]; from it come the input type and the input that the function is tried on: first
        here, in a process of its own, before anything is built (not with `trial=False`), then where it serves.
        `version`: by default the next number. The app's settings are used only if it is registered here.
        Raises: as deployers.python.deploy_python_closure; the app is unregistered again if this call registered it.
        """
        from clipper_nomad.deployers.app import AppSettings, deploy_app  # noqa: PLC0415  # it imports this module

        return deploy_app(
            self,
            func,
            name,
            kind=kind_of(func, sample, input_type),
            sample=sample,
            trial=trial,
            version=version,
            settings=AppSettings(
                default_output=default_output,
                slo_micros=slo_micros,
                slo_policy=slo_policy,
                timeout_micros=timeout_micros,
            ),
            num_replicas=num_replicas,
            batch_size=batch_size,
            labels=labels,
            pkgs_to_install=pkgs_to_install,
            retry=retry,
            timeout_s=timeout_s,
            job_options=job_options,
        )

    def build_and_deploy_model(  # noqa: PLR0913  # Clipper's signature
        self,
        name: str,
        version: object,
        input_type: str,
        model_data_path: str,
        base_image: str,
        labels: Sequence[str] | None = None,
        container_registry: str | None = None,
        num_replicas: int = 1,
        batch_size: int = -1,
        pkgs_to_install: Sequence[str] | None = None,
        *,
        sample: object = None,
        retry: bool = True,
        timeout_s: float = DEPLOY_WITHIN_S,
        job_options: JobOptions | None = None,
    ) -> Deployment:
        """Do `build_model`, then `deploy_model`. If that fails, what was built is removed again."""
        self._require_connection()
        check_count(num_replicas)
        self.check_job_options(name, version, job_options)
        image = self.build_model(name, version, model_data_path, base_image, container_registry, pkgs_to_install)
        with self.withdrawing_on_failure(image):
            return self.deploy_model(
                name,
                version,
                input_type,
                image,
                labels,
                num_replicas,
                batch_size,
                sample=sample,
                retry=retry,
                timeout_s=timeout_s,
                job_options=job_options,
            )

    @contextlib.contextmanager
    def withdrawing_on_failure(self, image: str) -> Iterator[None]:
        """Remove what `build_model` put there for `image`, if what is done inside fails and no version runs from it."""
        try:
            yield
        except BaseException as exc:
            if not isinstance(exc, AdminUnreachable):  # it would be asked in vain
                withdraw_unused(self.cm, self._admin, image)
            raise

    def build_model(  # Clipper's signature
        self,
        name: str,
        version: object,
        model_data_path: str,
        base_image: str,
        container_registry: str | None = None,
        pkgs_to_install: Sequence[str] | None = None,
    ) -> str:
        """Put the folder `model_data_path` where replicas can be started from, and return its reference.

        Raises: InvalidName: the name or the version cannot be deployed.
        """
        number = self._deployable(name, version)
        return self.cm.publish_bundle(name, number, Path(model_data_path), base_image, container_registry, pkgs_to_install)

    def deploy_model(  # noqa: PLR0913  # Clipper's signature
        self,
        name: str,
        version: object,
        input_type: str,
        image: str,
        labels: Sequence[str] | None = None,
        num_replicas: int = 1,
        batch_size: int = -1,
        *,
        sample: object = None,
        retry: bool = True,
        timeout_s: float = DEPLOY_WITHIN_S,
        job_options: JobOptions | None = None,
    ) -> Deployment:
        """Start a version; when this returns, it has answered through every query frontend and is current.

        `sample`: one input to try it on; without it ten values are made up, which a model may refuse. `timeout_s`: how
        long it may take. `job_options`: what its replicas get of Nomad (cpu, memory, GPUs, …), also when it is scaled;
        JobOptions(rpc_version=3) for an image of Clipper's own, where the cluster serves that version.
        Raises: InvalidName, InvalidSpec; AdminRefused: it is registered already; DeployFailed: it does not serve,
        nothing of it is left, and the version that served before still does.
        """
        self._require_connection()
        check_count(num_replicas)
        number = self._deployable(name, version)
        kind = known_kind(input_type)
        self.check_job_options(name, number, job_options)
        plan = Plan(
            name=name,
            version=number,
            kind=kind,
            image=image,
            labels=labels or (),
            num_replicas=num_replicas,
            batch_size=batch_size,
            retry=retry,
            sample=None if sample is None else sample_input(sample, kind),
            job_options=job_options,
        )
        deployment = Rollout(self.cm, self._admin, plan, within_s=timeout_s).run()
        if deployment.warning:
            self.logger.warning("Model %s:%s: %s", name, number, deployment.warning)
        self.logger.info("Model %s:%s is live after %.1f s", name, number, deployment.took_s)
        return deployment

    def check_job_options(self, name: str, version: object, options: JobOptions | None) -> None:
        """Refuse options that the version cannot be given, before anything is built. Raises: ClipperException."""
        number = self._deployable(name, version)
        if options is not None:
            self.cm.check_job_options(name, number, options)

    # --- predicting ---

    def predict_url(self, app_name: str) -> str:
        """Return the URL to post an app's queries to, on every container manager."""
        self._require_connection()
        return self.cm.predict_url(app_name)

    def predict(
        self,
        app_name: str,
        input: object,  # noqa: A002  # the REST API's word
        *,
        version: object = None,
        timeout_s: float | None = None,
    ) -> Prediction:
        """Return an app's answer to one input: numbers (a list, a NumPy vector), text, or bytes.

        `version`: of the linked model, instead of the current one. `timeout_s`: how long this waits.
        Raises: PredictionFailed: the app gave no answer; the cause is the query frontend's.
        """
        wanted = None if version is None else str(version)
        return self._queries.predict(self.predict_url(app_name), input, version=wanted, timeout_s=timeout_s)

    def test_predict_function(self, query: Mapping[str, object], func: Callable[..., object], input_type: str) -> object:
        """Return what `func` returns for `query`, a body as it is posted to an app; called here, as a replica calls it.

        A query or function that is not as it should be is told by a text: `Invalid input type or JSON key`,
        `Invalid input type`, `Function does not properly serialize and reload`. What `func` raises is raised.
        Connects, if there is no connection yet and there is a cluster; none is needed.
        """
        from clipper_nomad.deployers.packing import reloaded  # noqa: PLC0415  # it imports this package

        if not self.connected:
            with contextlib.suppress(ClipperException):
                self.connect()
        return try_function(query, func, input_type, reload=reloaded)

    # --- inside ---

    def _wait_until_up(self) -> None:
        """Return when admin answers, and a query frontend where clients ask: a load balancer learns of it a little later."""
        deadline = time.monotonic() + START_WITHIN_S
        while True:
            is_admin_up = self._admin_client.is_ready()
            url = self.cm.predict_url("APP")
            base = url.removesuffix("/APP/predict")
            if is_admin_up and self._queries.is_up(base, within_s=LOOK_EVERY_S * 30):
                show("cluster", f"takes queries at {url}")
                return
            show("cluster", f"waits for {base if is_admin_up else 'the admin service'}")
            if time.monotonic() > deadline:
                silent = f"query frontend at {base}" if is_admin_up else "admin service"
                raise ClipperException(
                    f"Gave up after {START_WITHIN_S:.0f} s: the {silent} of cluster '{self.cm.cluster_name}' is not ready.",
                    hint="Its log says why: get_logs() of the container manager writes it to a file.",
                )
            time.sleep(LOOK_EVERY_S)

    def _deployable(self, name: str, version: object) -> str:
        """Return the version as text. Raises: InvalidName: it, or the name, cannot be deployed."""
        number = str(version)
        problem = (
            deployed_problem("model name", name)
            or deployed_problem("model version", number)
            or length_problem(self.cm.cluster_name, name, number)
        )
        if problem:
            raise InvalidName(problem)
        return number
