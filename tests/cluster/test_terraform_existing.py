"""`terraform init --cloud existing`, applied to a Nomad and Consul with ACLs and TLS: policies that suffice, and a Fabio."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from clipper_nomad.images.contexts import packed
from tests.cluster.parts import BASE
from tests.cluster.processes import free_ports
from tests.cluster.rig import Rig, running_rig, what_is_missing
from tests.cluster.shell import Shell
from tests.terraforming import PROVIDERS, initialise, need_terraform, terraform
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

IMAGE = "clipper-nomad-test-fabio:terraform"
RECIPE = """\
ARG BASE
FROM ${BASE}
COPY fabio /fabio
RUN chmod 0755 /fabio
ENTRYPOINT ["/fabio", "-insecure"]
"""


@pytest.fixture(scope="module")
def guarded(no_other_cluster: None) -> Iterator[Rig]:
    """A rig with ACLs and TLS, and no policy of ours yet."""
    need_terraform(*PROVIDERS["existing-cluster"])
    if why := what_is_missing():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="clipper-rig-") as folder, running_rig(Path(folder), guarded=True) as rig:
        yield rig


@pytest.fixture(scope="module")
def fabio_image(guarded: Rig, docker_host: docker.DockerClient) -> str:
    """An image of the Fabio that is on PATH."""
    if not guarded.has_docker:
        pytest.skip("Nomad has no docker driver here: no Docker daemon answers")
    fabio = shutil.which("fabio")
    assert fabio
    context = io.BytesIO(packed({"Dockerfile": RECIPE.encode(), "fabio": Path(fabio).read_bytes()}))
    docker_host.images.build(fileobj=context, custom_context=True, tag=IMAGE, buildargs={"BASE": BASE})
    return IMAGE


@pytest.fixture(scope="module")
def root(guarded: Rig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root module as `terraform init` writes it, applied."""
    folder = tmp_path_factory.mktemp("root")
    Shell(guarded, folder).types("terraform", "init", "--cloud", "existing")
    (folder / "terraform.tfvars").unlink()
    (folder / "terraform.tfvars.json").write_text(
        json.dumps(
            {
                "nomad_addr": guarded.nomad_url,
                "consul_addr": guarded.consul_url,
                "fabio_host": "127.0.0.1",
                "clusters": ["default-cluster"],
            }
        )
    )
    initialise(folder, *PROVIDERS["existing-cluster"])
    terraform(folder, "apply", "-auto-approve", "-input=false", environ=guarded.shell())
    return folder


def token(rig: Rig, service: str, body: dict[str, Any]) -> str:  # Any: JSON
    """Make a token, as the README says; return its secret."""
    url = rig.nomad_url if service == "nomad" else rig.consul_url
    answer = rig.session().put(f"{url}/v1/acl/token", json=body, timeout=10)
    assert answer.ok, answer.text
    return str(answer.json()["SecretID"])


def test_a_second_apply_changes_nothing(guarded: Rig, root: Path) -> None:
    planned = terraform(root, "plan", "-detailed-exitcode", "-input=false", environ=guarded.shell())

    assert "No changes" in planned.stdout


def test_tokens_with_these_policies_are_enough_for_doctor_and_no_secret_is_in_the_state(guarded: Rig, root: Path) -> None:
    nomad = token(guarded, "nomad", {"Name": "t", "Type": "client", "Policies": ["clipper-default-cluster"]})
    consul = token(guarded, "consul", {"Policies": [{"Name": "clipper-toolkit"}]})

    no_docker = {"DOCKER_HOST": "tcp://127.0.0.1:9"}  # what images there are is another matter
    shell = Shell(guarded, root, {"NOMAD_TOKEN": nomad, "CONSUL_HTTP_TOKEN": consul, **no_docker})
    said = shell.types("doctor", "--tcp-port", str(guarded.fabio_tcp_port), "--json", "--registry", "", expect=1).document

    assert {check["area"] for check in said["checks"] if check["level"] == "problem"} == {"Docker"}
    state = (root / "terraform.tfstate").read_text()
    assert guarded.guard is not None
    assert not [each for each in (nomad, consul, guarded.guard.nomad_token, guarded.guard.consul_token) if each in state]


def test_who_has_no_token_sees_clippers_services_in_consul(guarded: Rig, root: Path) -> None:
    session = guarded.session()
    del session.headers["X-Consul-Token"]

    nodes = session.get(f"{guarded.consul_url}/v1/catalog/nodes", timeout=10).json()

    assert [each["Node"] for each in nodes] == ["rig"]


def test_a_fabio_is_started_with_the_token_of_its_variable_and_taken_away_again(
    guarded: Rig, root: Path, fabio_image: str
) -> None:
    http, tcp, pages = free_ports(3)
    secret = token(guarded, "consul", {"Policies": [{"Name": "clipper-fabio"}]})
    variable = {"Path": "nomad/jobs/fabio", "Items": {"consul_token": secret}}
    answer = guarded.session().put(f"{guarded.nomad_url}/v1/var/nomad/jobs/fabio", json=variable, timeout=10)
    assert answer.ok, answer.text
    main = root / "main.tf"
    text = main.read_text()
    fabio = (
        f'  fabio = {{ image = "{fabio_image}", http_port = {http}, tcp_port = {tcp}, admin_port = {pages},'
        f' consul_address = "127.0.0.1:{guarded.consul_http_port}", open_files = 4096, has_consul_token = true }}\n'
    )
    main.write_text(text.replace("  consul_acl = var.consul_acl\n", f"  consul_acl = var.consul_acl\n{fabio}"))

    terraform(root, "apply", "-auto-approve", "-input=false", environ=guarded.shell())

    wait_until(lambda: answers(http) == 503, "Fabio to answer that it has no route", within_s=60)
    wait_until(lambda: http in passing(guarded), "Fabio to pass its check in Consul", within_s=60)
    assert secret not in (root / "terraform.tfstate").read_text()

    terraform(root, "destroy", "-auto-approve", "-input=false", environ=guarded.shell())
    wait_until(lambda: answers(http) is None, "Fabio to be gone", within_s=60)
    policies = guarded.session().get(f"{guarded.nomad_url}/v1/acl/policies", timeout=10).json()
    assert policies == []


def passing(rig: Rig) -> list[int]:
    """The ports of the Fabios that Consul knows as healthy."""
    found = rig.session().get(f"{rig.consul_url}/v1/health/service/fabio?passing=true", timeout=10).json()
    return [each["Service"]["Port"] for each in found]


def answers(port: int) -> int | None:
    """The status that is answered on a port, None if nobody listens."""
    try:
        return requests.get(f"http://127.0.0.1:{port}/", timeout=2).status_code
    except requests.ConnectionError:
        return None
