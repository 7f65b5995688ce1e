"""NOMAD_* and CONSUL_* mean what they mean to HashiCorp's own tools; what cannot be used is said before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipper_nomad.cluster.endpoints import consul_endpoint, nomad_endpoint
from clipper_nomad.cluster.manager import NomadContainerManager
from clipper_nomad.cluster.routes import FabioLoadBalancer, LoadBalancer
from clipper_nomad.errors import InvalidSetting


@pytest.mark.parametrize(
    ("environ", "address", "url"),
    [
        ({}, None, "http://127.0.0.1:4646"),
        ({"NOMAD_ADDR": "https://nomad.example:4646/"}, None, "https://nomad.example:4646"),
        ({"NOMAD_ADDR": "https://nomad.example"}, None, "https://nomad.example"),
        ({"NOMAD_ADDR": "https://other:1"}, "10.0.0.1", "https://10.0.0.1:4646"),
        ({}, "10.0.0.1:5000", "http://10.0.0.1:5000"),
        ({"NOMAD_CACERT": "ca.pem"}, "10.0.0.1", "https://10.0.0.1:4646"),
        ({}, "http://[::1]:4646", "http://[::1]:4646"),
    ],
)
def test_an_address_may_have_any_of_its_usual_forms(environ: dict[str, str], address: str | None, url: str) -> None:
    assert nomad_endpoint(environ, address=address).url == url


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"NOMAD_ADDR": "unix:///run/nomad.sock"}, "NOMAD_ADDR"),
        ({"NOMAD_ADDR": "http://host:port"}, "NOMAD_ADDR"),
        ({"NOMAD_ADDR": "http://host:4646/ui"}, "NOMAD_ADDR"),
        ({"NOMAD_SKIP_VERIFY": "yes please"}, "NOMAD_SKIP_VERIFY"),
        ({"NOMAD_CLIENT_CERT": "cert.pem"}, "NOMAD_CLIENT_KEY"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidSetting, match=named):
        nomad_endpoint(environ)


def test_a_password_in_an_address_is_refused_without_being_shown() -> None:
    with pytest.raises(InvalidSetting) as caught:
        nomad_endpoint({"NOMAD_ADDR": "http://me:hunter2@host:4646"})

    assert "hunter2" not in str(caught.value)


def test_every_nomad_variable_is_honoured() -> None:
    endpoint = nomad_endpoint(
        {
            "NOMAD_ADDR": "https://n:4646",
            "NOMAD_REGION": "eu",
            "NOMAD_NAMESPACE": "ml",
            "NOMAD_TOKEN": "secret-token",
            "NOMAD_CACERT": "/ca.pem",
            "NOMAD_CLIENT_CERT": "/c.pem",
            "NOMAD_CLIENT_KEY": "/k.pem",
            "NOMAD_TLS_SERVER_NAME": "server.global.nomad",
            "NOMAD_HTTP_AUTH": "user:pass:word",
        }
    )

    assert (endpoint.region, endpoint.namespace, endpoint.token) == ("eu", "ml", "secret-token")
    assert endpoint.verify == "/ca.pem"
    assert endpoint.client_cert == ("/c.pem", "/k.pem")
    assert endpoint.tls_server_name == "server.global.nomad"
    assert endpoint.http_auth == ("user", "pass:word")
    assert "secret-token" not in repr(endpoint)
    assert "pass:word" not in repr(endpoint)


def test_certificates_are_verified_unless_a_variable_says_otherwise() -> None:
    assert nomad_endpoint({}).verify is True
    assert nomad_endpoint({"NOMAD_CAPATH": "/certs"}).verify == "/certs"
    assert nomad_endpoint({"NOMAD_SKIP_VERIFY": "1", "NOMAD_CACERT": "/ca.pem"}).verify is False
    assert consul_endpoint({}).verify is True
    assert consul_endpoint({"CONSUL_HTTP_SSL_VERIFY": "false"}).verify is False


def test_consul_has_its_own_variables(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")

    plain = consul_endpoint({"CONSUL_HTTP_ADDR": "c:8500", "CONSUL_HTTP_TOKEN_FILE": str(tmp_path / "token")})
    tls = consul_endpoint({"CONSUL_HTTP_ADDR": "c:8501", "CONSUL_HTTP_SSL": "true", "CONSUL_HTTP_TOKEN": "t"})

    assert (plain.url, plain.token) == ("http://c:8500", "from-file")
    assert (tls.url, tls.token) == ("https://c:8501", "t")


def test_fabio_is_given_in_the_new_and_in_the_older_form() -> None:
    default, article = FabioLoadBalancer(), FabioLoadBalancer("f.example", http_proxy_port=80, tcp_proxy_port=7001)
    older, by_position = FabioLoadBalancer("10.0.0.1", 7002), FabioLoadBalancer("10.0.0.1", 80, 7001)

    assert (default.http(), default.tcp()) == ("fabio.service.consul:9999", "fabio.service.consul:7000")
    assert (article.http(), article.tcp()) == ("f.example:80", "f.example:7001")
    assert (older.address, older.port, older.tcp(), older.http()) == ("10.0.0.1", 7002, "10.0.0.1:7002", "10.0.0.1:9999")
    assert (by_position.http(), by_position.tcp()) == ("10.0.0.1:80", "10.0.0.1:7001")


@pytest.mark.parametrize(
    "wrong", [{"address": "http://f"}, {"tcp_address": "tcp://f"}, {"port": 1, "tcp_proxy_port": 2}, {"port": 70000}]
)
def test_a_fabio_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidSetting):
        FabioLoadBalancer(**wrong)  # type: ignore[arg-type]  # that is the test


def test_a_load_balancer_that_is_no_fabio_has_no_port_for_rpc_version_3() -> None:
    class Other(LoadBalancer):
        def http(self) -> str:
            return "10.0.0.9:80"

        def tcp(self) -> str:
            return "10.0.0.9:7000"

    with pytest.raises(InvalidSetting, match="legacy_rpc=True wants a FabioLoadBalancer"):
        NomadContainerManager("127.0.0.1", load_balancer=Other(), legacy_rpc=True)
