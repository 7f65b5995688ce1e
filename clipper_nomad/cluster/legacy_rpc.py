"""Clipper's RPC version 3 on Nomad: whether a cluster that runs serves it. Pure: reads the job of its query frontends.

Off unless asked for: it knows neither encryption nor who calls (docs/decisions/0014-clipper-rpc.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from clipper_nomad.cluster.jobs.specs import FrontendJob, JobSpec
from clipper_nomad.cluster.names import ClusterNames, tcp_port_of
from clipper_nomad.cluster.rollout.parsed_job import Json
from clipper_nomad.cluster.routes import LEGACY_PORT, FabioLoadBalancer, LoadBalancer
from clipper_nomad.errors import ClipperException, InvalidSetting


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyRpc:
    """It is served. `port`: of Fabio's listener for it; None: there is no route, containers dial a frontend's own port."""

    port: int | None


def legacy_rpc_of(job: Json | None, names: ClusterNames) -> LegacyRpc | None:
    """Return how the query frontends of this job serve it; None: they do not, or do not run."""
    if job is None or job.get("Stop"):
        return None
    services = job["TaskGroups"][0]["Tasks"][0].get("Services") or ()
    found = next((each for each in services if each["Name"] == names.legacy_service), None)
    return None if found is None else LegacyRpc(port=tcp_port_of(found.get("Tags") or ()))


def wanted_port(balancer: LoadBalancer | None, *, is_on: bool) -> int:
    """Return the port of this load balancer for it. Raises: InvalidSetting: it is wanted, and there is none."""
    if is_on and not isinstance(balancer, FabioLoadBalancer | None):
        raise InvalidSetting("legacy_rpc=True wants a FabioLoadBalancer, which has a port for it, or no load balancer.")
    return balancer.legacy_rpc_port if isinstance(balancer, FabioLoadBalancer) else LEGACY_PORT


def legacy_port_of(specs: Iterable[JobSpec]) -> int | None:
    """Return the port of Fabio's that these jobs want for it, None if they do not."""
    for spec in specs:
        if isinstance(spec, FrontendJob) and spec.has_legacy_rpc and spec.tcp_port is not None:
            return spec.legacy_port
    return None


def not_served(names: ClusterNames) -> ClipperException:
    """Return what is said to whoever needs it where it is off."""
    return ClipperException(
        f"The query frontends of cluster {names.cluster!r} do not serve Clipper's RPC version 3: it knows neither "
        "encryption nor who calls, so on Nomad it is off unless it is asked for.",
        hint="Start the cluster with legacy_rpc=True (`clipper-nomad up --legacy-rpc`); Fabio needs a listener for it, as "
        "`,:7001;proto=tcp`. Or deploy the model's function, for which replicas of ours are started.",
    )
