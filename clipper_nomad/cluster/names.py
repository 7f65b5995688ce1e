"""What the jobs, services, routes, variables and meta of a cluster on Nomad are called. Pure.

Ids and service names are those of Clipper's Nomad container manager (its pull request 750), so that what looks them up
goes on working. Two clusters differ in every name and route here. Source of the rules for names: docs/cluster.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from clipper_nomad.errors import InvalidName
from clipper_nomad.protocol.names import MAX_SERVICE_NAME, deployed_problem, length_problem, service_name

DEFAULT_CLUSTER = "default-cluster"
DEFAULT_TCP_PORT = 7000  # Clipper's RPC port; the article's Fabio listens there
DEFAULT_LEGACY_PORT = 7001  # as in local mode: version 3 cannot share a port with an encrypted channel
RESERVED_CLUSTERS = frozenset({"admin"})  # its /clipper-admin/ would be the default cluster's admin route
_LONGEST_SUFFIX = "-query-frontend-service"

# Keys of a job's meta. Letters and underscores only: they must be identifiers in HCL and in Nomad's filter expressions.
META_CLUSTER = "clipper_cluster"
META_KIND = "clipper_kind"
META_MODEL = "clipper_model"
META_MODEL_VERSION = "clipper_model_version"
META_MODEL_UID = "clipper_model_uid"
META_TOOLKIT = "clipper_toolkit"
META_KEY_ROUND = "clipper_key_round"  # of the frontends: how often their key was changed


class Kind(StrEnum):
    """What a job of a cluster is; the value stands in the job's meta."""

    REDIS = "redis"
    ADMIN = "admin"
    FRONTEND = "query-frontend"
    MODEL = "model"
    FABIO = "fabio"


@dataclass(frozen=True, slots=True)
class ClusterNames:
    """Every name of one cluster. Raises: InvalidName: the cluster's name cannot be part of them."""

    cluster: str = DEFAULT_CLUSTER

    def __post_init__(self) -> None:
        check_cluster(self.cluster)

    @property
    def prefix(self) -> str:
        """What each id begins with. It decides nothing: cluster `a` shares it with cluster `a-b` (ownership.py)."""
        return f"clipper-{self.cluster}"

    @property
    def group(self) -> str:
        """The task group of every job."""
        return self.prefix

    @property
    def redis_job(self) -> str:
        """The store's job."""
        return f"{self.prefix}-redis"

    @property
    def admin_job(self) -> str:
        """The admin service's job, under Clipper's name for it."""
        return f"{self.prefix}-mgmt"

    @property
    def frontend_job(self) -> str:
        """The query frontends' job."""
        return f"{self.prefix}-query-frontend"

    @property
    def fabio_job(self) -> str:
        """The job of a Fabio that came with this cluster; others may use it too."""
        return f"{self.prefix}-fabio"

    def model_job(self, model: str, version: str) -> str:
        """Return the id of a model version's job, which is its service's name too.

        Raises: InvalidName: model or version is no DNS-1123 label, or the whole is longer than a service name may be.
        """
        for problem in (
            deployed_problem("model name", model),
            deployed_problem("model version", version),
            length_problem(self.cluster, model, version),
        ):
            if problem:
                raise InvalidName(problem)
        return service_name(self.cluster, model, version)

    @property
    def redis_service(self) -> str:
        """The store's port."""
        return self.redis_job

    @property
    def admin_service(self) -> str:
        """The admin service's port."""
        return self.admin_job

    @property
    def query_service(self) -> str:
        """The query frontends' HTTP port."""
        return f"{self.prefix}{_LONGEST_SUFFIX}"

    @property
    def rpc_service(self) -> str:
        """The query frontends' model channel."""
        return f"{self.prefix}-query-frontend-rpc"

    @property
    def legacy_service(self) -> str:
        """The query frontends' channel of Clipper's RPC version 3, where they have one."""
        return f"{self.prefix}-query-frontend-rpc3"

    @property
    def routed_services(self) -> tuple[str, ...]:
        """The services that Fabio has routes to."""
        return self.query_service, self.admin_service, self.rpc_service, self.legacy_service

    @property
    def query_path(self) -> str:
        """The path in front of each app's, without a closing slash."""
        return "/clipper" if self.cluster == DEFAULT_CLUSTER else f"/clipper-{self.cluster}"

    @property
    def admin_path(self) -> str:
        """The path in front of admin's, without a closing slash."""
        return "/clipper-admin" if self.cluster == DEFAULT_CLUSTER else f"/clipper-{self.cluster}/admin"

    @property
    def query_tag(self) -> str:
        """Fabio's route of the query frontends. The closing slash: `/clipper` alone would catch `/clipperx` as well."""
        return f"urlprefix-{self.query_path}/ strip={self.query_path}"

    @property
    def admin_tag(self) -> str:
        """Fabio's route of admin."""
        return f"urlprefix-{self.admin_path}/ strip={self.admin_path}"

    def meta(self, kind: Kind, *, toolkit: str) -> dict[str, str]:
        """Return the meta of a job that is no model's."""
        return {META_CLUSTER: self.cluster, META_KIND: str(kind), META_TOOLKIT: toolkit}

    def model_meta(self, model: str, version: str, *, uid: str, toolkit: str) -> dict[str, str]:
        """Return the meta of a model version's job."""
        of_model = {META_MODEL: model, META_MODEL_VERSION: version, META_MODEL_UID: uid}
        return self.meta(Kind.MODEL, toolkit=toolkit) | of_model


def check_cluster(name: str) -> None:
    """Refuse a cluster's name that cannot be part of job ids, service names and routes. Raises: InvalidName."""
    problem = deployed_problem("cluster name", name)
    if problem:
        raise InvalidName(problem)
    if name in RESERVED_CLUSTERS:
        raise InvalidName(
            f"A cluster cannot be called '{name}': its route /clipper-{name}/ is the one of the default cluster's admin "
            "service. Take another name."
        )
    longest = f"clipper-{name}{_LONGEST_SUFFIX}"
    excess = len(longest) - MAX_SERVICE_NAME
    if excess > 0:
        raise InvalidName(
            f"Cluster '{name}': the service name '{longest}' is {excess} characters too long; the cluster name may have "
            f"{len(name) - excess}."
        )


_RPC_ROUTE = "urlprefix-:"


def rpc_tag(tcp_port: int) -> str:
    """Return Fabio's route from its TCP listener on `tcp_port` to a channel of the query frontends."""
    return f"{_RPC_ROUTE}{tcp_port} proto=tcp"


def tcp_port_of(tags: Iterable[str]) -> int | None:
    """Return the port of the route among a service's tags, as `rpc_tag` writes it; None: it has none."""
    return next((int(tag.removeprefix(_RPC_ROUTE).split()[0]) for tag in tags if tag.startswith(_RPC_ROUTE)), None)


_VARIABLES = "nomad/jobs/"


def variable_path(job: str) -> str:
    """Return the Nomad Variable that the tasks of `job`, and with ACLs no others, may read."""
    return f"{_VARIABLES}{job}"


def job_of(path: str) -> str:
    """Return the job whose tasks may read the Nomad Variable at `path`."""
    return path.removeprefix(_VARIABLES)
