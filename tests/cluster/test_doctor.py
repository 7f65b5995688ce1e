"""`doctor` names the cause: each thing that a cluster needs is taken away from a real one, and it says which."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.processes import free_ports, process
from tests.cluster.rig import Rig
from tests.cluster.shell import Shell

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

Check = Mapping[str, Any]  # Any: texts of JSON


def doctor(rig: Rig, folder: Path, *words: str, **environ: str | None) -> dict[str, list[Check]]:
    """The problems and doubts, by area."""
    shell = Shell(rig, folder, environ)
    said = shell.types("doctor", "--tcp-port", str(rig.fabio_tcp_port), "--json", *words, expect=1).document
    found: dict[str, list[Check]] = {}
    for check in said["checks"]:
        if check["level"] != "well":
            found.setdefault(check["area"], []).append(check)
    return found


def dead_port() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


def test_a_nomad_that_does_not_answer(rig: Rig, tmp_path: Path) -> None:
    address = f"http://{dead_port()}"

    (check,) = doctor(rig, tmp_path, NOMAD_ADDR=address)["Nomad"]

    assert (check["level"], check["text"]) == ("problem", f"Nomad at {address} did not answer: Connection refused.")
    assert "NOMAD_ADDR" in check["fix"]


def test_a_consul_that_does_not_answer_is_named_and_fabios_name_with_it(rig: Rig, tmp_path: Path) -> None:
    address = f"http://{dead_port()}"

    found = doctor(rig, tmp_path, "--fabio", "fabio.service.consul", CONSUL_HTTP_ADDR=address)

    assert found["Consul"][0]["text"] == f"Consul at {address} did not answer: Connection refused."
    assert [check["text"] for check in found["Fabio"]] == ["nobody knows the name fabio.service.consul"]
    assert "not forwarded: *.service.consul is not looked up here" in found["DNS"][0]["text"]
    assert "clients here cannot use fabio.service.consul" in found["DNS"][0]["why"]


def test_a_fabio_without_the_tcp_listener_and_one_that_is_not_there(rig: Rig, tmp_path: Path) -> None:
    port = free_ports(1)[0]

    no_listener = doctor(rig, tmp_path, "--tcp-port", str(port))["Fabio"]
    none = doctor(rig, tmp_path, "--fabio", dead_port())["Fabio"]

    assert [check["text"] for check in no_listener] == [f"no listener for TCP {port} at 127.0.0.1:{port}"]
    assert f"`,:{port};proto=tcp` to Fabio's -proxy.addr" in no_listener[0]["fix"]
    assert "HTTP proxy" in none[0]["text"]


def test_no_room_and_no_client_where_the_parts_shall_run(rig: Rig, tmp_path: Path) -> None:
    large = doctor(rig, tmp_path, "--set", "redis.memory=9000000")
    elsewhere = doctor(rig, tmp_path, "--datacenter", "nowhere")

    assert "the parts need" in large["Room"][0]["text"]
    assert "free are" in large["Room"][0]["text"]
    assert elsewhere["Clients"][0]["text"] == "no client is in datacenter nowhere"
    assert "--datacenter dc1" in elsewhere["Clients"][0]["fix"]


def test_a_registry_that_does_not_answer_and_docker_that_does_not(rig: Rig, tmp_path: Path) -> None:
    rig.need_docker()
    address = dead_port()

    silent = doctor(rig, tmp_path, "--registry", f"{address}/team")["Images"]
    without = doctor(rig, tmp_path, "--registry", "", DOCKER_HOST=f"unix://{tmp_path}/nobody")["Docker"]

    assert [check["text"] for check in silent] == [f"the registry {address}/team cannot be asked"]
    assert "connection refused" in silent[0]["why"]
    assert "start Docker, or set DOCKER_HOST" in without[0]["fix"]


def test_with_wait_it_looks_again_until_what_is_starting_is_there(rig: Rig, tmp_path: Path) -> None:
    tcp, pages = free_ports(2)
    starting = (
        *("-proxy.addr", f"127.0.0.1:{tcp};proto=tcp", "-ui.addr", f"127.0.0.1:{pages}", "-insecure"),
        *("-registry.consul.addr", f"127.0.0.1:{rig.consul_http_port}", "-registry.consul.register.enabled=false"),
    )
    words = ("doctor", "--wait", "2m", "--tcp-port", str(tcp), "--registry", f"{dead_port()}/team", "--json")

    with Shell(rig, tmp_path).running(*words) as doctor:
        assert doctor.stderr is not None
        said = doctor.stderr.readline()
        with process("fabio", *starting, folder=tmp_path, log="late-fabio"):
            found = json.loads(doctor.communicate(timeout=100)[0])

    assert f"waiting for Fabio: no listener for TCP {tcp}" in said
    assert "Fabio" not in {check["area"] for check in found["checks"] if check["level"] == "problem"}
    assert doctor.returncode == 1  # the registry does not answer, and that is not waited for


def test_with_wait_it_gives_up_after_that_time(rig: Rig, tmp_path: Path) -> None:
    said = Shell(rig, tmp_path).types("doctor", "--wait", "2s", "--tcp-port", dead_port().rpartition(":")[2], expect=1)

    assert "gave up after 2 s (--wait)" in said.stderr
    assert "no listener for TCP" in said.stdout


def test_replicas_address_of_fabio_is_looked_up_in_consul_and_not_dialled(rig: Rig, tmp_path: Path) -> None:
    unknown = doctor(rig, tmp_path, CLIPPER_FABIO_TCP=f"nobody.service.consul:{rig.fabio_tcp_port}")["Fabio"]

    assert [check["text"] for check in unknown] == [
        f"Consul knows no healthy instance behind nobody.service.consul:{rig.fabio_tcp_port}"
    ]
