"""Services found by DNS and by Consul's API, and routes through Fabio, all real."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import requests

from clipper_nomad.cluster.addresses import Addresses
from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.discovery import DNS, ConsulDNS
from clipper_nomad.cluster.endpoints import Endpoint
from clipper_nomad.cluster.jobs.specs import EntryByAddress, EntryByService
from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.rollout.rollout import Rollout
from clipper_nomad.cluster.routes import FabioLoadBalancer
from clipper_nomad.errors import ConsulUnreachable, DiscoveryError, FabioUnreachable, ServiceNotFound
from tests.cluster.jobs import web_job
from tests.cluster.processes import free_ports
from tests.cluster.rig import Rig
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


def roll_out(nomad: NomadApi, hcl: str) -> None:
    Rollout(nomad).run(nomad.parse(hcl), deadline_s=40)


def test_dns_and_consul_find_the_same_instances(rig: Rig, nomad: NomadApi, consul: ConsulApi) -> None:
    roll_out(nomad, web_job("web", count=4))  # one more than a plain UDP answer holds
    dns = rig.dns()

    found = dns.resolve_all("web")
    ip, port = dns.resolveSRV("web")

    instances = consul.instances("web").found
    assert found == sorted((each.address, each.port) for each in instances)
    assert len(found) == 4
    assert (ip, port) in found
    assert requests.get(f"http://{ip}:{port}/", timeout=5).ok


def test_more_instances_than_a_datagram_holds_are_all_found(rig: Rig, consul: ConsulApi) -> None:
    url = f"{rig.consul_url}/v1/agent/service"
    for number in range(150):
        service = {"ID": f"many-{number}", "Name": "many", "Address": f"10.1.0.{number + 1}", "Port": 1000 + number}
        requests.put(f"{url}/register", json=service, timeout=5).raise_for_status()

    try:
        wait_until(lambda: len(consul.instances("many").found) == 150, "150 instances in the catalog")
        found = rig.dns().resolve_all("many")
    finally:
        for number in range(150):
            requests.put(f"{url}/deregister/many-{number}", timeout=5)

    assert found == sorted((f"10.1.0.{number + 1}", 1000 + number) for number in range(150))


def test_a_service_that_is_not_there_is_not_found(rig: Rig) -> None:
    dns = rig.dns()

    assert dns.resolve_all("nobody") == []
    with pytest.raises(ServiceNotFound, match=r"no healthy instance of nobody\.service\.consul\."):
        dns.resolveSRV("nobody")


def test_an_instance_whose_check_fails_is_not_found(rig: Rig, nomad: NomadApi, consul: ConsulApi) -> None:
    nomad.register(nomad.parse(web_job("sick", env={"STATUS": "503"})), modify_index=0)
    wait_until(lambda: consul.instances("sick", passing=False).found, "the instance to be registered")

    assert rig.dns().resolve_all("sick") == []
    assert consul.instances("sick").found == ()


def test_a_dns_server_that_is_away_is_told_within_the_deadline() -> None:
    started = time.monotonic()

    with pytest.raises(DiscoveryError, match=r"127\.0\.0\.1:9 ") as caught:
        ConsulDNS("127.0.0.1", 9, deadline_s=0.5).resolveSRV("web")

    assert not isinstance(caught.value, ServiceNotFound)
    assert time.monotonic() - started < 2


def test_consul_tells_a_change_to_who_waits_for_it(nomad: NomadApi, consul: ConsulApi) -> None:
    before = consul.instances("web")
    threading.Timer(0.5, lambda: nomad.register(nomad.parse(web_job("web")), modify_index=0)).start()
    started = time.monotonic()

    seen = before
    while not seen.found:
        seen = consul.instances("web", index=seen.index, wait_s=20)

    assert time.monotonic() - started < 15


def test_an_index_from_another_life_of_consul_starts_again_at_zero(consul: ConsulApi) -> None:
    assert consul.instances("web", index=10_000_000, wait_s=0.2).index == 0


def test_consul_lists_services_with_their_tags(nomad: NomadApi, consul: ConsulApi) -> None:
    roll_out(nomad, web_job("web", tags=("urlprefix-/web/ strip=/web", "ml")))

    assert set(consul.services()["web"]) == {"urlprefix-/web/ strip=/web", "ml"}
    assert ":" in consul.leader()
    assert consul.agent()["Config"]["Version"]


def test_a_consul_that_is_away_is_told_shortly() -> None:
    with pytest.raises(ConsulUnreachable, match=r"http://127.0.0.1:9 did not answer: Connection refused\."):
        ConsulApi(Endpoint(url="http://127.0.0.1:9")).services()


def test_fabio_routes_http_and_tcp(rig: Rig, nomad: NomadApi) -> None:
    balancer = rig.fabio()
    roll_out(nomad, web_job("web", count=2, tags=("urlprefix-/web/ strip=/web",), env={"WORD": "http"}))
    roll_out(nomad, web_job("rpc", tags=(f"urlprefix-:{rig.fabio_tcp_port} proto=tcp",), env={"WORD": "tcp"}))
    wait_until(lambda: len(balancer.routes()) == 3, "three upstreams in Fabio's table")

    answers = {requests.get(f"http://{balancer.http()}/web/x", timeout=5).text for _ in range(4)}
    by_tcp = requests.get(f"http://{balancer.tcp()}/", timeout=5).text

    assert {answer.split()[1] for answer in answers} == {"http"}
    assert len(answers) == 2  # both instances, in turn
    assert by_tcp.split()[1] == "tcp"
    routes = {(route.service, route.src) for route in balancer.routes()}
    assert routes == {("web", "/web/"), ("rpc", f":{rig.fabio_tcp_port}")}


def test_fabio_is_checked_at_each_of_its_ports(rig: Rig) -> None:
    good = rig.fabio()
    bad = FabioLoadBalancer("127.0.0.1", http_proxy_port=9, tcp_proxy_port=9, admin_port=9)

    good.check_tcp()
    good.check_http()
    wait_until(lambda: good.routes() == (), "the routes of other tests to leave the table")
    with pytest.raises(FabioUnreachable, match=r"TCP proxy at 127\.0\.0\.1:9 does not listen: Connection refused"):
        bad.check_tcp()
    with pytest.raises(FabioUnreachable, match=r"HTTP proxy at 127\.0\.0\.1:9"):
        bad.check_http()
    with pytest.raises(FabioUnreachable, match="admin port"):
        bad.routes()


@pytest.fixture
def registered(rig: Rig) -> Iterator[None]:
    """The rig's Fabio in Consul, as Fabio registers itself."""
    url = f"{rig.consul_url}/v1/agent/service"
    service = {"ID": "fabio-rig", "Name": "fabio", "Address": "127.0.0.1", "Port": rig.fabio_admin_port}
    requests.put(f"{url}/register", json=service, timeout=5).raise_for_status()
    yield
    requests.put(f"{url}/deregister/fabio-rig", timeout=5).raise_for_status()


def by_name(rig: Rig) -> FabioLoadBalancer:
    """Fabio as the article names it, a name that no resolver of this machine knows."""
    return FabioLoadBalancer("fabio.service.consul", rig.fabio_http_port, rig.fabio_tcp_port)


def addresses(rig: Rig, balancer: FabioLoadBalancer, dns: DNS | None = None) -> Addresses:
    return Addresses(ClusterNames("b"), consul=rig.consul(), dns=dns, balancer=balancer)


@pytest.mark.usefixtures("registered")
def test_fabio_is_found_by_its_name_in_consul_whatever_the_resolver_knows(rig: Rig, consul: ConsulApi) -> None:
    wait_until(lambda: consul.instances("fabio").found, "fabio is in the catalog")
    nowhere = ConsulDNS("127.0.0.1", free_ports(1)[0], deadline_s=0.5)

    for dns in (None, ConsulDNS("127.0.0.1", rig.consul_dns_port), nowhere):
        found = addresses(rig, by_name(rig), dns)

        assert found.predict_url("app") == f"http://127.0.0.1:{rig.fabio_http_port}/clipper-b/app/predict"
        balancer = found.balancer()
        assert isinstance(balancer, FabioLoadBalancer)
        balancer.check_http()
        balancer.check_tcp()
        assert found.entry() == EntryByService(service="fabio", port=rig.fabio_tcp_port)


@pytest.mark.usefixtures("registered")
def test_replicas_dial_the_service_fabio_where_it_is_the_fabio_that_was_named(rig: Rig, consul: ConsulApi) -> None:
    wait_until(lambda: consul.instances("fabio").found, "fabio is in the catalog")

    assert addresses(rig, rig.fabio()).entry() == EntryByService(service="fabio", port=rig.fabio_tcp_port)
    assert addresses(rig, rig.fabio().at("127.0.0.2")).entry() == EntryByAddress(host="127.0.0.2", port=rig.fabio_tcp_port)


def test_a_name_that_neither_consul_nor_dns_knows_is_an_error_that_says_so(rig: Rig) -> None:
    balancer = addresses(rig, by_name(rig)).balancer()
    assert isinstance(balancer, FabioLoadBalancer)

    for check in (balancer.check_http, balancer.check_tcp):
        with pytest.raises(FabioUnreachable) as caught:
            check()
        assert "Consul knows no healthy service 'fabio', and this machine's DNS" in str(caught.value.hint)
    assert addresses(rig, rig.fabio()).entry() == EntryByAddress(host="127.0.0.1", port=rig.fabio_tcp_port)
