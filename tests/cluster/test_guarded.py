"""A Nomad and a Consul with ACLs and TLS: what our settings say is used, what they lack is named, and little is enough.

The policies are the files of terraform/modules/cluster-config/policies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from clipper_nomad.cluster.consul_api import ConsulApi
from clipper_nomad.cluster.endpoints import consul_endpoint, nomad_endpoint
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.errors import ConsulRefused, ConsulUnreachable, NomadRefused, NomadUnreachable
from clipper_nomad.images.image_set import ImageSet
from clipper_nomad.images.parts import Part
from tests.cluster.guard import certificate, new_authority
from tests.cluster.operators import Operator
from tests.cluster.parts import BASE, BUILD_NETWORK, forget_here
from tests.cluster.rig import Rig

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def nomad_as(rig: Rig, **variables: str) -> NomadApi:
    return NomadApi(nomad_endpoint({**rig.shell(), **variables}))


def consul_as(rig: Rig, **variables: str) -> ConsulApi:
    return ConsulApi(consul_endpoint({**rig.shell(), **variables}))


@pytest.fixture
def stranger(tmp_path: Path) -> dict[str, str]:
    """Files of another CA, by what they are."""
    authority = new_authority(tmp_path)
    cert, key = certificate(tmp_path, "-cli", name="global-cli-nomad")
    return {"CACERT": str(authority), "CLIENT_CERT": str(cert), "CLIENT_KEY": str(key)}


def test_the_right_files_and_tokens_are_taken(guarded: Rig) -> None:
    assert nomad_as(guarded, NOMAD_TLS_SERVER_NAME="server.global.nomad", NOMAD_REGION="global").jobs() == []
    assert "consul" in consul_as(guarded, CONSUL_TLS_SERVER_NAME="server.dc1.consul").services()


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ({"CACERT": ""}, "certificate verify failed: "),
        ({"CACERT": "/nowhere/ca.pem"}, "invalid path: /nowhere/ca.pem"),
        ({"CLIENT_CERT": "", "CLIENT_KEY": ""}, "certificate"),
        ({"CLIENT_CERT": "/nowhere.pem", "CLIENT_KEY": "/nowhere.pem"}, "invalid path: /nowhere.pem"),
        ({"TLS_SERVER_NAME": "else.example.org"}, "else.example.org"),
    ],
)
def test_tls_that_does_not_fit_is_refused_and_its_variables_are_named(
    guarded: Rig, lacks: dict[str, str], said: str
) -> None:
    with pytest.raises(NomadUnreachable, match=re.escape(said)) as of_nomad:
        nomad_as(guarded, **{f"NOMAD_{name}": value for name, value in lacks.items()}).jobs()
    with pytest.raises(ConsulUnreachable, match=re.escape(said)) as of_consul:
        consul_as(guarded, **{f"CONSUL_{name}": value for name, value in lacks.items()}).services()

    assert "NOMAD_CACERT" in str(of_nomad.value.hint)
    assert "CONSUL_CACERT" in str(of_consul.value.hint)


@pytest.mark.parametrize("names", [("CACERT",), ("CLIENT_CERT", "CLIENT_KEY")])
def test_certificates_of_another_ca_are_refused_on_both_sides(
    guarded: Rig, stranger: dict[str, str], names: tuple[str, ...]
) -> None:
    with pytest.raises(NomadUnreachable, match=r"certificate|unknown ca"):
        nomad_as(guarded, **{f"NOMAD_{name}": stranger[name] for name in names}).jobs()
    with pytest.raises(ConsulUnreachable, match="certificate"):
        consul_as(guarded, **{f"CONSUL_{name}": stranger[name] for name in names}).services()


def test_http_where_https_is_wanted_is_told(guarded: Rig) -> None:
    address = guarded.nomad_url.removeprefix("https://")

    with pytest.raises(NomadRefused, match="Client sent an HTTP request to an HTTPS server"):
        nomad_as(guarded, NOMAD_ADDR=f"http://{address}").jobs()

    assert nomad_as(guarded, NOMAD_ADDR=address).jobs() == []  # the certificates say that it is https


@pytest.mark.parametrize(
    ("token", "hint"),
    [("", "NOMAD_TOKEN is not set; this Nomad has ACLs."), (UNKNOWN, "NOMAD_TOKEN is unknown, expired, or")],
)
def test_nomad_without_the_right_token_names_what_was_not_allowed(guarded: Rig, token: str, hint: str) -> None:
    with pytest.raises(NomadRefused, match="does not allow GET /v1/jobs: it answered 403: Permission denied") as caught:
        nomad_as(guarded, NOMAD_TOKEN=token).jobs()

    assert str(caught.value.hint).startswith(hint)
    assert UNKNOWN not in str(caught.value)


@pytest.mark.parametrize(
    ("token", "hint"),
    [("", "CONSUL_HTTP_TOKEN is not set; this Consul has ACLs."), (UNKNOWN, "CONSUL_HTTP_TOKEN is unknown, expired, or")],
)
def test_consul_without_the_right_token_is_an_error_and_not_an_empty_catalog(guarded: Rig, token: str, hint: str) -> None:
    with pytest.raises(ConsulRefused) as caught:
        consul_as(guarded, CONSUL_HTTP_TOKEN=token).services()

    assert str(caught.value.hint).startswith(hint)
    assert UNKNOWN not in str(caught.value)


def test_namespace_and_region_go_with_every_call(guarded: Rig) -> None:
    there = nomad_as(guarded, NOMAD_NAMESPACE="ml")

    there.put_variable("clipper/tried", {"in": "ml"})

    assert guarded.nomad().variable("clipper/tried") is None
    found = there.variable("clipper/tried")
    there.delete_variable("clipper/tried")
    assert found
    assert dict(found.items) == {"in": "ml"}
    with pytest.raises(NomadRefused, match="No path to region"):
        nomad_as(guarded, NOMAD_REGION="eu").jobs()


@pytest.fixture
def up(operator: Operator, daemon: docker.DockerClient) -> Iterator[Operator]:
    """Their cluster, whose images the clients had to pull; at the end nothing is left of it."""
    operator.types("images", "push", "--base-image", BASE, "--build-network", BUILD_NETWORK)
    for part in Part:
        forget_here(daemon, f"{operator.variables['CLIPPER_REGISTRY']}/clipper-nomad-{part}")
    try:
        operator.types("up")
        yield operator
    finally:
        operator.types("down", "--yes", "--volumes")
    assert operator.nomad.jobs() == []
    assert not operator.rig.session().get(f"{operator.rig.nomad_url}/v1/vars", timeout=10).json()


@pytest.mark.slow
def test_the_documented_rights_and_the_job_s_own_login_are_enough_for_every_verb(up: Operator) -> None:
    doctor = up.types("doctor", "--json").document
    up.types("deploy", "model.py:total", "--name", "sums", "--sample", "[0.5, 1.0]")
    failed = up.types("deploy", "model.py:broken", "--name", "sums", "--sample", "[0.5, 1.0]", expect=1)
    up.types("scale", "sums", "2")
    status = up.types("status", "--json").document

    assert doctor["problems"] == 0
    assert [each["area"] for each in doctor["checks"] if each["level"] == "doubt"] == ["DNS"]
    assert "no such feature: height" in failed.stderr
    assert (status["state"], status["warnings"]) == ("up", [])
    assert status["versions"][0]["replicas_ready"] == 2
    assert up.types("predict", "sums", "[1, 2]").stdout == "3.0\n"
    assert "replica is ready" in up.types("logs", "sums", "--lines", "50").stdout
    assert up.types("keys", "rotate", "--json").document["frontends"] == 1
    assert up.types("plan", "--json").document["changes"] is False
    assert set(up.types("up", "--json").document["parts"].values()) == {"unchanged"}


@pytest.mark.parametrize(
    ("variables", "said", "fix"),
    [
        ({"NOMAD_TOKEN": ""}, "does not allow GET /v1/job/", "NOMAD_TOKEN is not set"),
        ({"NOMAD_TOKEN": UNKNOWN}, "403: Permission denied", "NOMAD_TOKEN is unknown"),
        ({"CONSUL_HTTP_TOKEN": ""}, "does not show its services", "CONSUL_HTTP_TOKEN is not set"),
        ({"CONSUL_HTTP_TOKEN": UNKNOWN}, "ACL not found", "CONSUL_HTTP_TOKEN is unknown"),
        ({"NOMAD_CACERT": ""}, "certificate verify failed", "NOMAD_CACERT"),
        ({"NOMAD_NAMESPACE": "ml"}, "403: Permission denied", "its policy does not allow this"),
        ({"NOMAD_TOKEN": "two words"}, "NOMAD_TOKEN holds a space", ""),
    ],
)
def test_up_without_what_it_needs_says_so_and_registers_nothing(
    operator: Operator, images: ImageSet, variables: dict[str, str], said: str, fix: str
) -> None:
    assert images.registry == ""

    ended = operator.having(CLIPPER_REGISTRY="", **variables).types("up", expect=1)

    assert said in ended.stderr
    assert fix in ended.stderr
    assert operator.nomad.jobs() == []


def test_doctor_says_that_a_token_is_not_taken_or_not_given(operator: Operator) -> None:
    def problem(token: str) -> dict[str, str]:
        checks = operator.having(NOMAD_TOKEN=token).types("doctor", "--json", expect=1).document["checks"]
        return next(check for check in checks if check["level"] == "problem")

    assert "NOMAD_TOKEN" in problem(UNKNOWN)["fix"]
    assert "wants a token, and NOMAD_TOKEN is not set" in problem("")["text"]
