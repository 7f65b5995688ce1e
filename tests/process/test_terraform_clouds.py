"""The clouds' Terraform modules, offline: their own tests with mocked providers, the wiring of their scripts, their form."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.terraforming import NONE, PROJECT, PROVIDERS, copied, initialise, need_terraform, terraform

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

MODULES = PROJECT / "terraform" / "modules"
CLOUDS = ("aws", "scaleway", "hcloud")
NOT_SHARED = {"retry_join", "private_cidr", "secrets"}  # what a cloud's module gives to cluster-config itself
SSH = """#!/bin/sh
# In place of ssh: the machines, whose clipper-secrets gives a bundle of {role} or takes one.
shift
case "$*" in
*"clipper-secrets export "*) cat {bundle} ;;
*clipper-secrets\\ import*) cat >>{taken} ;;
*) exit 255 ;;
esac
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("terraform"))


@pytest.mark.parametrize("module", CLOUDS)
def test_a_module_passes_its_own_tests(module: str, copy: Path) -> None:
    folder = copy / "modules" / module
    initialise(folder, *PROVIDERS[module])

    said = terraform(folder, "test", "-no-color").stdout

    assert re.search(r"Success! [1-9]\d* passed, 0 failed", said)


@pytest.mark.parametrize("module", PROVIDERS)
def test_a_module_is_valid_without_a_warning(module: str, copy: Path) -> None:
    folder = copy / "modules" / module
    initialise(folder, *PROVIDERS[module])

    said = terraform(folder, "validate", "-no-color").stdout

    assert "valid" in said
    assert "Warning" not in said


def test_all_files_are_formatted() -> None:
    need_terraform(*NONE)

    assert terraform(PROJECT / "terraform", "fmt", "-check", "-recursive").stdout == ""


def blocks(module: str) -> dict[str, str]:
    """Variable → its block without validations."""
    text = (MODULES / module / "variables.tf").read_text(encoding="utf-8")
    found = re.findall(r'(?ms)^variable "(\w+)" \{\n(.*?)^\}\n', text)
    return {name: re.sub(r"(?ms)\n  validation \{\n.*?^  \}\n", "", body).strip() for name, body in found}


@pytest.mark.parametrize("module", CLOUDS)
def test_what_a_module_hands_on_to_cluster_config_is_as_it_is_there(module: str) -> None:
    core, ours = blocks("cluster-config"), blocks(module)

    shared = {name: block for name, block in core.items() if name not in NOT_SHARED}
    assert {name: ours.get(name) for name in shared} == shared


@pytest.mark.parametrize("module", [*CLOUDS, "existing-cluster", "operator"])
def test_every_variable_and_output_is_described(module: str) -> None:
    for file in ("variables.tf", "outputs.tf"):
        text = (MODULES / module / file).read_text(encoding="utf-8")
        for name, body in re.findall(r'(?ms)^(?:variable|output) "(\w+)" \{\n(.*?)^\}\n', text):
            assert re.search(r'(?m)^  description = ".{10,}"$', body), f"{module}: {name} has no description"
            if file == "variables.tf":
                assert re.search(r"(?m)^  type +=", body), f"{module}: {name} has no type"


@pytest.mark.parametrize("module", [*CLOUDS, "existing-cluster", "operator"])
def test_the_tables_of_a_readme_have_every_variable_and_output(module: str) -> None:
    readme = (MODULES / module / "README.md").read_text(encoding="utf-8")
    for kind, file in (("input", "variables.tf"), ("output", "outputs.tf")):
        text = (MODULES / module / file).read_text(encoding="utf-8")
        described = re.findall(r'(?ms)^(?:variable|output) "(\w+)" \{\n  description = "(.*?)"$', text)

        rows = re.findall(rf'(?m)^\| <a name="{kind}_(\w+)"></a> [^|]+ \| (.*?) \|(?: `| ?$)', readme)
        assert rows == sorted((name, description.replace('\\"', '"')) for name, description in described)


@pytest.fixture
def stand_in(tmp_path: Path) -> tuple[Path, Path]:
    """A command in place of ssh, and the file of the bundles that machines took."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in (("operator/ca.pem", b"the CA\n"), ("operator/env", b"export NOMAD_TOKEN=of-the-operator\n")):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
    bundle, taken, command = tmp_path / "bundle", tmp_path / "taken", tmp_path / "ssh"
    bundle.write_bytes(base64.encodebytes(packed.getvalue()))
    taken.touch()
    command.write_text(SSH.format(bundle=bundle, taken=taken, role="any role"))
    command.chmod(0o755)
    return command, taken


def test_an_apply_hands_the_secrets_on_and_its_env_reads_the_operators(
    copy: Path, stand_in: tuple[Path, Path], tmp_path: Path
) -> None:
    need_terraform(*NONE)
    command, taken = stand_in
    machine = '{{ id = "{0}", role = "{1}", index = 0, host = "root@192.0.2.{0}" }}'
    roles = ("server", "client", "load_balancer")
    machines = ", ".join(f"m{number} = {machine.format(number, role)}" for number, role in enumerate(roles))
    (copy / "root").mkdir()
    (copy / "root" / "main.tf").write_text(
        'module "operator" {\n  source = "../modules/operator"\n'
        f'  folder = "{tmp_path}/of operator"\n  over_ssh = {{ {machines} }}\n'
        '  nomad_addr = "https://192.0.2.0:4646"\n  consul_addr = "https://192.0.2.0:8501"\n'
        '  fabio = "lb.example:9999"\n  fabio_tcp_addr = "fabio.service.consul:7000"\n'
        '  operator_env = { NOMAD_REGION = "global" }\n}\n'
        'output "env" {\n  value = module.operator.env\n}\n'
    )
    initialise(copy / "root")

    terraform(copy / "root", "apply", "-auto-approve", environ={"CLIPPER_SSH": str(command)})

    assert taken.read_text().count("\n\n") == 0
    assert (
        len(re.findall(r"H4sI", taken.read_text())) == 2
    )  # the client's and the load balancer's; the first server makes them
    assert (tmp_path / "of operator").stat().st_mode & 0o077 == 0
    env = terraform(copy / "root", "output", "-raw", "env").stdout
    assert "of-the-operator" not in env + (copy / "root" / "terraform.tfstate").read_text()
    told = subprocess.run(
        ["/bin/sh", "-c", f'{env}\necho "$NOMAD_ADDR $NOMAD_CACERT $CLIPPER_FABIO $CLIPPER_FABIO_TCP $NOMAD_TOKEN"'],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert told == (
        f"https://192.0.2.0:4646 {tmp_path}/of operator/ca.pem lb.example:9999 fabio.service.consul:7000 of-the-operator\n"
    )
