"""Where replicas meet their first frontends: the listener or the service for their RPC version, looked up as it runs."""

from __future__ import annotations

from clipper_nomad.cluster.addresses import Addresses
from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.cluster.jobs.specs import Entry
from clipper_nomad.cluster.legacy_rpc import LegacyRpc, legacy_rpc_of, not_served
from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.routes import FabioLoadBalancer


class Meeting:
    """Knows where the replicas of one cluster dial. Every method raises NomadUnreachable and NomadRefused."""

    def __init__(self, names: ClusterNames, *, nomad: NomadApi, addresses: Addresses) -> None:
        self._names = names
        self._nomad = nomad
        self._addresses = addresses

    def entry(self, options: JobOptions) -> Entry:
        """Return where replicas dial. Raises: FabioUnreachable, ClipperException: nobody listens there."""
        balancer = self._addresses.balancer()
        if not options.is_legacy:
            if isinstance(balancer, FabioLoadBalancer):
                balancer.check_tcp()
            return self._addresses.entry()
        running = self.legacy()
        if isinstance(balancer, FabioLoadBalancer) and running.port is not None:
            balancer.check_legacy(running.port)
        return self._addresses.legacy_entry(running.port)

    def legacy_address(self) -> str:
        """Return "host:port" that containers of Clipper's RPC version 3 dial. Raises: ClipperException: there is none."""
        return self._addresses.legacy_rpc(self.legacy().port)

    def legacy(self) -> LegacyRpc:
        """Return how Clipper's RPC version 3 is served. Raises: ClipperException: it is not."""
        running = self.running_legacy()
        if running is None:
            raise not_served(self._names)
        return running

    def running_legacy(self) -> LegacyRpc | None:
        """Return how Clipper's RPC version 3 is served, None if it is not."""
        return legacy_rpc_of(self._nomad.job(self._names.frontend_job), self._names)
