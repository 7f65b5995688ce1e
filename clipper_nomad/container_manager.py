"""What ClipperConnection asks of any place that runs containers (or processes). No implementation lives here.

LocalContainerManager runs processes on this machine, DockerContainerManager containers on one host, NomadContainerManager
jobs on a cluster. The names and argument orders of Clipper's abstract class are kept where Clipper has the method; the rest
is what a deploy needs to be atomic and to explain itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.errors import BundleError, ClipperException

# Clipper's fixed ports inside a container; on a cluster the outside ports are dynamic
CLIPPER_INTERNAL_QUERY_PORT = 1337
CLIPPER_INTERNAL_MANAGEMENT_PORT = 1338
CLIPPER_INTERNAL_RPC_PORT = 7000
CLIPPER_INTERNAL_METRIC_PORT = 1390
CLIPPER_INTERNAL_REDIS_PORT = 6379
CLIPPER_INTERNAL_FLUENTD_PORT = 24224

# Clipper's labels, by which its containers are found on a Docker host
CLIPPER_DOCKER_LABEL = "ai.clipper.container.label"
CLIPPER_NAME_LABEL = "ai.clipper.name"
CLIPPER_MODEL_CONTAINER_LABEL = "ai.clipper.model_container.label"
CLIPPER_QUERY_FRONTEND_CONTAINER_LABEL = "ai.clipper.query_frontend.label"
CLIPPER_MGMT_FRONTEND_CONTAINER_LABEL = "ai.clipper.management_frontend.label"
CLIPPER_DOCKER_PORT_LABELS = {
    "redis": "ai.clipper.redis.port",
    "query_rest": "ai.clipper.query_frontend.query.port",
    "query_rpc": "ai.clipper.query_frontend.rpc.port",
    "management": "ai.clipper.management.port",
    "metric": "ai.clipper.metric.port",
    "fluentd": "ai.clipper.fluentd.port",
}
CLIPPER_METRIC_CONFIG_LABEL = "ai.clipper.metric.config"
CLIPPER_FLUENTD_CONFIG_LABEL = "ai.clipper.fluentd.config"
CONTAINERLESS_MODEL_IMAGE = "NO_CONTAINER"  # the mark of a model registered without an image


class ClusterAdapter(logging.LoggerAdapter[logging.Logger]):
    """A logger whose messages begin with [cluster]."""

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[str, MutableMapping[str, Any]]:
        """Put the cluster's name before a message."""
        return f"[{(self.extra or {})['cluster_name']}] {msg}", kwargs


MOST_FRONTENDS = 64  # of one machine, as the frontend's turns.py has it
USUAL_CACHE_BYTES = 33_554_432  # what callers of Clipper's start_clipper leave out


def check_frontends(name: str, count: int | None) -> None:
    """Refuse what is no number of query frontends of one machine; `name`: of the argument. Raises: ClipperException."""
    if count is not None and not 1 <= count <= MOST_FRONTENDS:
        raise ClipperException(
            f"{name} is {count}; expected 1 to {MOST_FRONTENDS} query frontends.",
            hint="One for each core that shall answer is a good number.",
        )


def check_cache_size(cache_size: int | None) -> None:
    """Refuse what is no size of a prediction cache. Raises: ClipperException."""
    if cache_size is not None and cache_size < 0:
        raise ClipperException(f"cache_size is {cache_size}; expected a number of bytes, or 0 for no cache.")


def packages_of(title: str, pkgs_to_install: Sequence[object] | None) -> tuple[str, ...]:
    """Return pip's requirements. `title`: of their model. Raises: BundleError: they are one text, whose letters pip would
    take for packages, or one of them is no text.
    """
    packages = [] if isinstance(pkgs_to_install, str) else list(pkgs_to_install or ())
    named = tuple(each.strip() for each in packages if isinstance(each, str))
    if isinstance(pkgs_to_install, str) or len(named) < len(packages) or "" in named:
        raise BundleError(
            f"{title}: pkgs_to_install is {pkgs_to_install!r}; expected a list of packages.", hint="Such as ['six==1.17.0']."
        )
    return named


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why the replicas of a model version do not become ready: one sentence, and the end of a replica's log."""

    cause: str
    log_tail: str = ""
    hint: str | None = None


class ContainerManager(Protocol):
    """A place that runs the parts of one cluster. Addresses are "host:port", without a scheme."""

    cluster_name: str
    logger: logging.Logger | logging.LoggerAdapter[Any]  # Any: LoggerAdapter is generic over its logger

    @property
    def cluster_identifier(self) -> str:
        """What image names and jobs of this cluster start with."""

    def start_clipper(
        self,
        query_frontend_image: str,
        mgmt_frontend_image: str,
        frontend_exporter_image: str,
        cache_size: int,
        qf_http_thread_pool_size: int,
        qf_http_timeout_request: int,
        qf_http_timeout_content: int,
        num_frontend_replicas: int,
    ) -> None:
        """Start store, admin and query frontends, and connect to them. Raises: ClipperException.

        `cache_size`: bytes of the prediction cache of each frontend, 0 for none. A cluster that runs keeps its own where
        this is USUAL_CACHE_BYTES, which callers leave out.
        """

    def connect(self) -> None:
        """Find a cluster that runs. Raises: ClipperException: there is none."""

    def publish_bundle(
        self,
        name: str,
        version: str,
        bundle: Path,
        base_image: str,
        container_registry: str | None,
        pkgs_to_install: Sequence[str] | None,
    ) -> str:
        """Put a bundle where its replicas can be started from, and return the image's (or bundle's) reference.

        Raises: BundleError: the packages are none.
        """

    def withdraw_bundle(self, image: str) -> None:
        """Remove again what `publish_bundle` put there for `image`, as far as nobody else published the same."""

    def make_channel_key(self, name: str, version: str) -> str:
        """Make a key pair for the model channel of a version that is about to be registered, keep the secret where its
        replicas will find it, and return the public key; "" where the channel needs none.
        """

    def check_job_options(self, name: str, version: str, options: JobOptions) -> None:
        """Refuse what a version cannot be given here, before anything is built. Raises: ClipperException."""

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
        """Start replicas of a model version. They need not be ready when this returns, which is `within_s` at the latest.

        `options`: what each replica gets, for as long as the version is there, however it is scaled.
        """

    def model_failure(self, name: str, version: str) -> Failure | None:
        """Return why the version's replicas cannot become ready, or None while they may still."""

    def get_num_replicas(self, name: str, version: str) -> int:
        """Return how many replicas of a version are wanted and not failed."""

    def set_num_replicas(self, name: str, version: str, input_type: str, image: str, num_replicas: int) -> None:
        """Start or drain replicas until there are `num_replicas`."""

    def get_logs(self, logging_dir: str) -> list[str]:
        """Write each part's log into a file of `logging_dir` and return the files' paths."""

    def stop_models(self, models: Mapping[str, Sequence[str]], *, wait: bool = True) -> None:
        """Drain and stop all replicas of the versions, given as name → versions.

        Without `wait` it need not return only when they have ended: somebody pressed Ctrl-C."""

    def stop_all_model_containers(self) -> None:
        """Drain and stop all replicas of all models."""

    def forget_models(self, models: Mapping[str, Sequence[str]]) -> None:
        """Keep nothing for these versions any more: they are stopped, and no longer registered."""

    def stop_all(self, graceful: bool = True) -> None:  # noqa: FBT001, FBT002  # Clipper's signature
        """Stop everything of this cluster. Usable on a manager that is not connected."""

    def get_admin_addr(self) -> str:
        """Return where the admin service listens."""

    def get_query_addr(self) -> str:
        """Return where the query frontends listen."""

    def get_metric_addr(self) -> str:
        """Return where GET /metrics answers in Prometheus' text format."""

    def get_rpc_addr(self) -> str:
        """Return where model containers of Clipper's RPC version 3 dial. Raises: ClipperException: it is not served."""

    def get_admin_token(self) -> str:
        """Return the token that every call of the admin service carries."""

    def public_url(self) -> str:
        """Return where clients' queries come in, before the app's name, if that is a load balancer; else ""."""

    def predict_url(self, app_name: str) -> str:
        """Return the URL to post an app's queries to."""
