"""Whether clients and containers would reach a cluster: Fabio's listeners are there, and nobody else holds its routes."""

from __future__ import annotations

from collections.abc import Sequence

from clipper_nomad.cluster.addresses import Addresses
from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.jobs.specs import FabioJob, JobSpec
from clipper_nomad.cluster.legacy_rpc import legacy_port_of
from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.cluster.own_fabio import check_listeners
from clipper_nomad.cluster.ownership import Survey
from clipper_nomad.cluster.route_claims import refuse_clashes
from clipper_nomad.cluster.routes import FabioLoadBalancer


def check_way_in(
    specs: Sequence[JobSpec], found: Survey, names: ClusterNames, *, addresses: Addresses, consul: ConsulApi
) -> None:
    """See that the way to these jobs is there and free. `found`: the jobs that there are.

    Raises: FabioUnreachable, NotOurs, ConsulUnreachable."""
    balancer = addresses.balancer()
    if isinstance(balancer, FabioLoadBalancer):
        brings_own = any(isinstance(spec, FabioJob) for spec in specs)
        is_new = brings_own and names.fabio_job not in {job.id for job in found.ours}
        legacy_port = legacy_port_of(specs)
        is_to_come = brings_own and not is_new  # one of our own that runs gets the listener when it is rolled out
        check_listeners(balancer, is_new=is_new, legacy_port=None if is_to_come else legacy_port)
        refuse_clashes(names, consul.services(), tcp_port=balancer.tcp_proxy_port, legacy_port=legacy_port)
    elif addresses.asks_consul:
        consul.leader()  # all is found through it
