"""Where a cluster is reached: from here (admin, query frontends, the load balancer), and by its replicas (`entry`).

A load balancer may be named by Consul, as Clipper's `fabio.service.consul`. This machine's resolver need not know such a
name: Consul is asked for its service, by the DNS that was given or by its HTTP API.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress

from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.discovery import DNS
from clipper_nomad.cluster.jobs.specs import Entry, EntryByAddress, EntryByService
from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.cluster.routes import CONSUL_NAME, FabioLoadBalancer, LoadBalancer
from clipper_nomad.errors import ClipperException, ConsulRefused, ConsulUnreachable, DiscoveryError, ServiceNotFound

FABIO = "fabio"  # what Fabio calls itself in Consul, and our own job of it does
REACH_WITHIN_S = 1.0  # an address of Consul's that a laptop cannot reach is not worth more
FOUND_FOR_S = 10.0  # how long an address of Fabio's is used before it is looked up again

_NOT_KNOWN = (ServiceNotFound, DiscoveryError, ConsulUnreachable, ConsulRefused)


class Addresses:
    """The addresses of one cluster. `dns` None: Consul's HTTP API is asked; `balancer` None: there are no routes."""

    def __init__(self, names: ClusterNames, *, consul: ConsulApi, dns: DNS | None, balancer: LoadBalancer | None) -> None:
        self._names = names
        self._consul = consul
        self._dns = dns
        self._balancer = balancer
        self._found: tuple[float, str] | None = None

    @property
    def asks_consul(self) -> bool:
        """Whether services are looked up by Consul's HTTP API."""
        return self._dns is None

    def find(self, service: str) -> tuple[str, int]:
        """Return host and port of a healthy instance. Raises: ServiceNotFound, DiscoveryError, ConsulUnreachable."""
        return self._asked_consul(service) if self._dns is None else self._dns.resolveSRV(service)

    def admin(self) -> str:
        """Return admin's own "host:port" if it can be reached from here, else the load balancer's with a path."""
        balancer = self.balancer()
        with suppress(ServiceNotFound):
            host, port = self.find(self._names.admin_service)
            if balancer is None or _answers(host, port):
                return f"{host}:{port}"
        if balancer is None:
            raise ClipperException(
                f"Consul knows no healthy admin service of the cluster {self._names.cluster!r}.",
                hint=f"`nomad job status {self._names.admin_job}` says how it is.",
            )
        return f"{balancer.http()}{self._names.admin_path}"

    def query(self) -> str:
        """Return "host:port" of one query frontend, "" while none is healthy."""
        try:
            host, port = self.find(self._names.query_service)
        except ServiceNotFound:
            return ""
        return f"{host}:{port}"

    def legacy_rpc(self, port: int | None) -> str:
        """Return where containers of RPC version 3 dial: Fabio's listener on `port`, or a frontend's own. Raises:
        ServiceNotFound: no frontend is healthy; DiscoveryError, ConsulUnreachable."""
        balancer = self.balancer()
        if port is not None and isinstance(balancer, FabioLoadBalancer):
            return balancer.listener(port)
        host, found = self.find(self._names.legacy_service)
        return f"{host}:{found}"

    def public_url(self) -> str:
        """Return what all URLs of queries through the load balancer begin with; "" without one."""
        balancer = self.balancer()
        return "" if balancer is None else f"http://{balancer.http()}{self._names.query_path}"

    def predict_url(self, app: str) -> str:
        """Return the URL to post an app's queries to: through the load balancer, where there is one."""
        return f"{self.public_url() or f'http://{self.query()}{self._names.query_path}'}/{app}/predict"

    def balancer(self) -> LoadBalancer | None:
        """Return the load balancer as it is reached from here: a name of Consul's is looked up in Consul."""
        balancer = self._balancer
        if not isinstance(balancer, FabioLoadBalancer) or not balancer.is_named_by_consul:
            return balancer
        now = time.monotonic()
        if self._found is None or now >= self._found[0] + FOUND_FOR_S:
            self._found = now, self._look_up(balancer.address)
        return balancer.at(self._found[1])

    def entry(self) -> Entry:
        """Return where replicas first dial.

        By service where Consul knows this load balancer as one: Nomad keeps the addresses up to date, and the container
        needs no DNS of Consul's.
        """
        if self._balancer is None:
            return EntryByService()
        return self._entry_at(self._balancer.tcp())

    def legacy_entry(self, port: int | None) -> Entry:
        """Return where containers of RPC version 3 dial: Fabio's listener on `port`, or a frontend's own."""
        if port is None or not isinstance(self._balancer, FabioLoadBalancer):
            return EntryByService()
        return self._entry_at(self._balancer.listener(port))

    def _entry_at(self, address: str) -> Entry:
        host, _, port = address.rpartition(":")
        if host.endswith(CONSUL_NAME):
            return EntryByService(service=host.removesuffix(CONSUL_NAME), port=int(port))
        host = host.strip("[]")
        if isinstance(self._balancer, FabioLoadBalancer) and self._is_registered(host):
            return EntryByService(service=FABIO, port=int(port))
        return EntryByAddress(host=host, port=int(port))

    def _look_up(self, name: str) -> str:
        """Return the address of a name of Consul's; the name itself where Consul does not know it either."""
        service = name.removesuffix(CONSUL_NAME)
        for ask in (self.find, self._asked_consul):
            with suppress(*_NOT_KNOWN):
                return ask(service)[0]
        return name

    def _is_registered(self, host: str) -> bool:
        """Whether the Fabio at `host` is an instance of the service `fabio`, and not somebody else's."""
        try:
            registered = {each.address for each in self._consul.instances(FABIO).found}
            return bool(registered) and not registered.isdisjoint(_addresses_of(host))
        except (ConsulUnreachable, ConsulRefused):
            return False

    def _asked_consul(self, service: str) -> tuple[str, int]:
        found = self._consul.instances(service).found
        if not found:
            raise ServiceNotFound(f"Consul knows no healthy instance of {service}.")
        return found[0].address, found[0].port


def _addresses_of(host: str) -> set[str]:
    try:
        return {str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return {host}


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=REACH_WITHIN_S):
            return True
    except OSError:
        return False
