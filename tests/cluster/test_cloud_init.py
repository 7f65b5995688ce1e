"""Machines that start from what the Terraform module cluster-config renders: systemd, cloud-init, ACLs and TLS, a reboot.

One server, one client, one load balancer. Their releases come from a file server here, made of the binaries on PATH;
CLIPPER_TEST_CONSUL names another Consul, as a current one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from clipper_nomad.resources import terraform_folder
from tests.cluster.machines import IS_SET_UP, Machine, distribute, is_root, machine, network, rendered
from tests.cluster.parts import BASE, BUILD_NETWORK, redis_image
from tests.cluster.processes import shell_environment
from tests.cluster.registry import Registry, missing_for_registry, running_registry
from tests.cluster.release_mirror import forwarded, releases, serving, versions_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1500)]

MODULE = terraform_folder() / "modules/cluster-config"
NAME, ROLES = "ml", {"server": "server", "client": "client", "load_balancer": "lb"}
CONSUL = os.environ.get("CLIPPER_TEST_CONSUL") or shutil.which("consul")
TOOLS = ("terraform", "nomad", "fabio", "docker")
READY_WITHIN_S = 420.0
CANNOT_CONNECT, UNKNOWN_AUTHORITY = 7, 60  # of curl
MODEL = "def total(inputs):\n    return [float(one.sum()) for one in inputs]\n"
COMMAND = (sys.executable, "-m", "clipper_nomad.cli")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """A cluster of machines, and somebody at a shell who works with it, in `folder`."""

    server: Machine
    client: Machine
    load_balancer: Machine
    folder: Path
    environ: dict[str, str]
    outputs: dict[str, Any]  # Any: Terraform's
    redis_image: str

    @property
    def all(self) -> list[Machine]:
        return [self.server, self.client, self.load_balancer]

    def types(self, *words: str, expect: int = 0) -> str:
        """What a command of clipper-nomad prints."""
        done = subprocess.run(
            [*COMMAND, *words], capture_output=True, text=True, check=False, timeout=400, cwd=self.folder, env=self.environ
        )
        assert done.returncode == expect, f"{words} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def missing() -> str:
    absent = [name for name in TOOLS if shutil.which(name) is None] + missing_for_registry() + ([] if CONSUL else ["consul"])
    if absent:
        return f"machines need {', '.join(absent)} on PATH"
    return "" if is_root() else "machines need root, to give containers what machines may do"


@pytest.fixture(scope="module")
def machines(docker_host: docker.DockerClient, no_other_cluster: None) -> Iterator[Machines]:
    """All that starts from the rendered user data, with their secrets handed on."""
    if why := missing():
        pytest.skip(why)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clipper-machines-")))
        net = f"clipper-machines-{os.getpid()}"
        subnet = stack.enter_context(network(docker_host, name=net))
        addresses = {role: f"{subnet}.{10 + place}" for place, role in enumerate(ROLES)}
        (folder / "mirror").mkdir()
        binaries = {name: found for name in ("nomad", "fabio") if (found := shutil.which(name))} | {"consul": CONSUL or ""}
        variables = {
            "name": NAME,
            "servers": 1,
            "clients": 1,
            "retry_join": [addresses["server"]],
            "allowed_cidrs": [f"{subnet}.1/32"],
            "query_cidrs": [f"{subnet}.1/32"],
            "private_cidr": f"{subnet}.0/24",
            "releases": releases(folder / "mirror", versions_of(binaries), binaries),
            "release_mirror": stack.enter_context(serving(folder / "mirror", f"{subnet}.1")),
            "docker_registries": [{"host": "registry.example.org:5000", "insecure": True}],
            "host_volumes": [{"name": "clipper-bundles", "path": "/var/lib/clipper/bundles"}],
        }
        outputs = rendered(folder / "terraform", MODULE, variables)
        made = {
            role: stack.enter_context(
                machine(
                    docker_host,
                    f"{NAME}-{short}-0",
                    network_name=net,
                    address=addresses[role],
                    user_data=outputs["machines"][f"{NAME}-{short}-0"]["user_data"],
                    disk=role == "client",
                )
            )
            for role, short in ROLES.items()
        }
        hand_on(made, folder)
        registry = stack.enter_context(running_registry(folder))
        stack.enter_context(forwarded(f"{subnet}.1", registry.port))
        reach_registry(made["client"], registry, f"{subnet}.1")
        (folder / "model.py").write_text(MODEL)
        yield Machines(
            **made,
            folder=folder,
            environ=operator_environment(outputs, addresses, folder, registry),
            outputs=outputs,
            redis_image=pushed_redis(docker_host, registry),
        )


def hand_on(made: dict[str, Machine], folder: Path) -> None:
    """Have the secrets where they belong, and everything set up."""
    server, *others = made.items()
    distribute(server[1], [*others], folder, f"operator={folder / 'secrets'}")
    for each in made.values():
        each.awaits(IS_SET_UP, "to be set up", within_s=READY_WITHIN_S)


def reach_registry(client: Machine, registry: Registry, gateway: str) -> None:
    """The registry is 127.0.0.1 for who pushes; for the client too, which has a login for it."""
    socket = f"[Socket]\nListenStream={registry.address}\n[Install]\nWantedBy=sockets.target\n"
    service = f"[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd {gateway}:{registry.port}\n"
    client.says("cat > /etc/systemd/system/registry.socket", stdin=socket)
    client.says("cat > /etc/systemd/system/registry.service", stdin=service)
    client.says("systemctl daemon-reload; systemctl enable --quiet --now registry.socket")
    client.says("cat > /etc/clipper/docker-login.json", stdin=registry.clients.read_text())


def operator_environment(
    outputs: dict[str, Any], addresses: dict[str, str], folder: Path, registry: Registry
) -> dict[str, str]:  # Any: Terraform's
    """As the wrappers' output `env` has it, with what `distribute` wrote."""
    ports, authority = outputs["ports"], str(folder / "secrets/ca.pem")
    tokens = re.findall(r"export (\w+)=(\S+)", (folder / "secrets/env").read_text())
    return {
        **shell_environment(),
        **outputs["operator_env"],
        **dict(tokens),
        "NOMAD_ADDR": f"https://{addresses['server']}:{ports['nomad']}",
        "NOMAD_CACERT": authority,
        "CONSUL_HTTP_ADDR": f"{addresses['server']}:{ports['consul']}",
        "CONSUL_CACERT": authority,
        "CLIPPER_FABIO": f"{addresses['load_balancer']}:{ports['fabio_http']}",
        "CLIPPER_REGISTRY": registry.address,
        "DOCKER_CONFIG": str(registry.operator),
        "COLUMNS": "120",
    }


def pushed_redis(client: docker.DockerClient, registry: Registry) -> str:
    """Redis, where the machines find it."""
    name = f"{registry.address}/redis:1"
    client.images.get(redis_image(client)).tag(name)
    login = {"username": "deploy", "password": registry.password}
    said = client.images.push(name, auth_config=login)
    client.images.remove(name)
    assert "error" not in said, said
    return name


def test_each_machine_runs_and_no_unit_failed(machines: Machines) -> None:
    for each in machines.all:
        each.awaits("systemctl is-system-running", "to run", within_s=60)
        assert each.says("cloud-init status") == "status: done"
        assert each.says("systemctl --failed --quiet --plain") == ""


def test_units_are_well_formed(machines: Machines) -> None:
    for each in machines.all:
        said = each.says(
            "cd /etc/systemd/system; for each in clipper-setup consul nomad fabio; do"
            " [ ! -e $each.service ] || systemd-analyze verify --recursive-errors=no ./$each.service; done"
        )
        assert said == ""


def test_secrets_are_closed_and_in_no_user_data(machines: Machines) -> None:
    secrets = machines.server.says("cat /etc/clipper/secrets/*/secrets.env /etc/clipper/secrets/operator/env")
    values = {line.partition("=")[2] for line in secrets.splitlines()}
    assert len(values) >= 10
    for each in machines.all:
        assert each.says("find /etc/clipper/secrets -perm /077") == ""
        assert each.says("find /etc/consul.d/secrets.hcl /etc/clipper/tls/key.pem -perm /007") == ""
        user_data = each.says("cat /var/lib/cloud/instance/user-data.txt")
        assert user_data.startswith("#cloud-config")
        assert not [value for value in values if value in user_data]
    assert not machines.client.holds("ls /etc/clipper/secrets/server")


def test_the_apis_want_tls_and_a_token(machines: Machines) -> None:
    asked = {"server.global.nomad:4646": "/v1/jobs", "server.dc1.consul:8501": "/v1/agent/self"}
    for name, path in asked.items():
        host, _, port = name.partition(":")
        curl = f"curl -s -o /dev/null -w '%{{http_code}}' --resolve {name}:{machines.server.address} https://{name}{path}"

        assert machines.client.says(f"{curl} --cacert /etc/clipper/tls/ca.pem") == "403"
        assert machines.client.does(curl)[0] == UNKNOWN_AUTHORITY
        assert not machines.client.holds(f"curl -s --fail http://{machines.server.address}:{port}{path}"), host
    assert not machines.client.holds(f"curl -s http://{machines.server.address}:8500/v1/status/leader")


def test_fabio_shows_its_admin_page_on_loopback_alone(machines: Machines) -> None:
    machines.load_balancer.says("curl -sf http://127.0.0.1:9998/health")
    assert not machines.client.holds(f"curl -s http://{machines.load_balancer.address}:9998/health")


def test_tasks_do_not_reach_the_metadata_service_of_a_cloud(machines: Machines) -> None:
    """An address and a web server of the machine's own stand for it: who sends there is asked on the way out."""
    client, metadata = machines.client, "169.254.169.254"
    client.says(f"ip address add {metadata}/32 dev lo")
    client.says(f"systemd-run --quiet --unit metadata -p WorkingDirectory=/etc python3 -m http.server --bind {metadata} 80")
    try:
        client.awaits(f"curl -sf http://{metadata}/hostname", "to reach it as root", within_s=30)
        assert client.holds(f"setpriv --reuid consul --clear-groups curl -sf http://{metadata}/hostname")

        exit_code, said = client.does(f"setpriv --reuid 10001 --clear-groups curl -sS http://{metadata}/hostname")
    finally:
        client.says("systemctl stop metadata")
        client.says(f"ip address delete {metadata}/32 dev lo")

    assert exit_code == CANNOT_CONNECT, said
    assert f"-A DOCKER-USER -d {metadata}/32 -j REJECT" in client.says("iptables -S DOCKER-USER")


def test_a_second_run_changes_nothing(machines: Machines) -> None:
    tokens = "(consul acl token list; consul acl policy list) | grep ID: | sort"
    count = f". /etc/clipper/secrets/server/secrets.env; export CONSUL_HTTP_TOKEN=$CONSUL_MANAGEMENT_TOKEN; {tokens}"
    before = [machines.server.says(each) for each in (count, "cat /etc/clipper/secrets/operator/env")]
    started = {each.name: each.says("systemctl show -P MainPID consul") for each in machines.all}

    for each in machines.all:
        each.says("systemctl restart clipper-setup")

    assert [machines.server.says(each) for each in (count, "cat /etc/clipper/secrets/operator/env")] == before
    assert {each.name: each.says("systemctl show -P MainPID consul") for each in machines.all} == started


def test_a_model_serves_through_fabio_and_after_a_reboot_of_all(machines: Machines) -> None:
    machines.types("images", "push", "--base-image", BASE, "--build-network", BUILD_NETWORK)
    assert "no problems" in machines.types("doctor", "--redis-image", machines.redis_image)
    try:
        machines.types("up", "--redis-image", machines.redis_image, "--bundle-volume", "clipper-bundles")
        machines.types("deploy", "model.py:total", "--name", "sums", "--sample", "[0.5, 1.0]")
        await_prediction(machines)
        container_asks_consul(machines)

        for each in machines.all:
            each.reboot()

        for each in machines.all:
            each.awaits("systemctl is-system-running", "to run again", within_s=READY_WITHIN_S)
        await_prediction(machines)
    finally:
        machines.types("down", "--yes", "--volumes")


def await_prediction(machines: Machines) -> None:
    url = f"http://{machines.environ['CLIPPER_FABIO']}/clipper/sums/predict"

    def answered() -> bool:
        try:
            answer = requests.post(url, json={"input": [1.5, 2.5]}, timeout=10)
        except requests.RequestException:
            return False
        return answer.ok and answer.json().get("output") == 4.0 and not answer.json()["default"]

    try:
        wait_until(answered, f"a prediction from {url}", within_s=READY_WITHIN_S)
    except AssertionError as exc:
        journals = "\n".join(
            each.journal(unit, 60) for each, unit in ((machines.client, "nomad"), (machines.server, "nomad"))
        )
        raise AssertionError(f"{exc}\n{journals}") from exc


def container_asks_consul(machines: Machines) -> None:
    """Names below .consul are known on each host, and in a container that has Docker's own network."""
    for each in machines.all:
        assert machines.load_balancer.address in each.says("getent hosts fabio.service.consul")
    image = machines.client.says("docker images -q | head -n 1")
    program = "import socket; print(socket.gethostbyname('fabio.service.consul'))"
    said = machines.client.says(f'docker run --rm --entrypoint python3 {image} -c "{program}"')
    assert said == machines.load_balancer.address
