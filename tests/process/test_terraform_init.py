"""`clipper-nomad terraform init`, typed: what it writes is formatted and valid, nothing is overwritten."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from clipper_nomad.cli.root_module import Cloud
from tests.terraforming import NONE, PROVIDERS, initialise, need_terraform, terraform

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

NOBODY = "http://127.0.0.1:9"  # where no mirror listens
CHECKSUMS = tuple(
    word for each in ("consul", "nomad", "fabio") for word in ("--sha256", f"{each}_amd64={each.encode().hex():0<64}")
)
PROVIDERS_OF = {
    Cloud.AWS: PROVIDERS["aws"],
    Cloud.SCALEWAY: PROVIDERS["scaleway"],
    Cloud.HETZNER: PROVIDERS["hcloud"],
    Cloud.EXISTING: PROVIDERS["existing-cluster"],
    Cloud.GENERIC: NONE,
}


@dataclass(frozen=True, slots=True)
class Said:
    exit_code: int
    stdout: str
    stderr: str


def types(folder: Path, *words: str, expect: int = 0) -> Said:
    """Type a command in a folder, with no release server to be reached."""
    done = subprocess.run(
        [sys.executable, "-m", "clipper_nomad", "terraform", "init", *words],
        cwd=folder,
        env={**os.environ, "CLIPPER_RELEASES_URL": NOBODY, "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = Said(done.returncode, done.stdout, done.stderr)
    assert said.exit_code == expect, f"{words} ended with {said.exit_code}\n{said.stdout}\n{said.stderr}"
    return said


def options(cloud: Cloud) -> list[str]:
    return [] if cloud is Cloud.EXISTING else ["--allow", "203.0.113.7/32", *CHECKSUMS]


def files_below(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("cloud", Cloud)
def test_what_is_written_is_formatted(cloud: Cloud, tmp_path: Path) -> None:
    need_terraform(*NONE)
    types(tmp_path, "--cloud", cloud, *options(cloud), "cluster")

    said = terraform(tmp_path / "cluster", "fmt", "-check", "-recursive", "-diff")

    assert said.stdout == ""


@pytest.mark.parametrize("cloud", Cloud)
def test_what_is_written_is_valid(cloud: Cloud, tmp_path: Path) -> None:
    types(tmp_path, "--cloud", cloud, *options(cloud), ".")

    initialise(tmp_path, *PROVIDERS_OF[cloud])

    assert "Success!" in terraform(tmp_path, "validate", "-no-color").stdout


def test_machines_of_any_kind_get_what_they_start_with(tmp_path: Path) -> None:
    types(tmp_path, "--cloud", "generic", *options(Cloud.GENERIC), "--name", "ml-test")
    initialise(tmp_path)

    terraform(tmp_path, "apply", "-auto-approve", "-input=false")

    made = json.loads(terraform(tmp_path, "output", "-json", "user_data").stdout)
    assert {name.rpartition("-")[0] for name in made} == {"ml-test-server", "ml-test-client", "ml-test-lb"}
    assert all(text.startswith("#cloud-config\n") and "PRIVATE KEY" not in text for text in made.values())


def test_the_screen_says_what_was_written_what_is_to_be_filled_in_and_what_to_type(tmp_path: Path) -> None:
    said = types(tmp_path, "--cloud", "hetzner", "--offline", "cluster")

    first, *_, last = said.stdout.splitlines()
    assert first.startswith("✔ wrote a Terraform root module for hetzner to cluster")
    volumes = "--redis-volume clipper-redis --bundle-volume clipper-bundles"
    assert last.strip() == f"clipper-nomad doctor --wait 5m && clipper-nomad up {volumes}"
    assert "cd cluster && terraform init && terraform apply" in said.stdout
    for missing in ("ssh_keys is empty", "allowed_cidrs is empty", "fabio-1.7.3-linux_amd64 is not known"):
        assert missing in said.stdout


def test_as_json_it_is_one_document(tmp_path: Path) -> None:
    found = json.loads(types(tmp_path, "--cloud", "aws", "--json", *options(Cloud.AWS)).stdout)

    assert found["directory"] == str(tmp_path)
    assert set(found["files"]) == set(files_below(tmp_path))
    assert (found["cloud"], found["to_fill_in"]) == ("aws", [])


def test_a_file_that_is_there_is_not_overwritten_and_nothing_is_written_beside_it(tmp_path: Path) -> None:
    (tmp_path / "outputs.tf").write_text("# mine\n")

    said = types(tmp_path, "--cloud", "aws", *options(Cloud.AWS), expect=2)

    assert "has outputs.tf already; nothing was written" in said.stderr
    assert files_below(tmp_path) == {"outputs.tf": "# mine\n"}


def test_without_a_network_it_says_so_writes_nothing_and_how_to_go_on(tmp_path: Path) -> None:
    said = types(tmp_path, "--cloud", "aws", "--allow", "203.0.113.7/32", expect=1)

    assert f"{NOBODY}/consul/" in said.stderr
    assert "--offline" in said.stderr
    assert files_below(tmp_path) == {}


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "cluster").write_text("a file where the folder would be")

    said = types(tmp_path, "--cloud", "existing", "cluster", expect=1)

    assert "cannot be written" in said.stderr
    assert "cluster" in said.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--cloud", "azure"), "azure"),
        ((), "--cloud"),
        (("--cloud", "aws", "--allow", "0.0.0.0/0"), "is everybody"),
        (("--cloud", "existing", "--release", "nomad=1.11.3"), "say nothing of --cloud existing"),
        (("--cloud", "aws", "--release", "vault=1.0.0"), "--release"),
        (("--cloud", "aws", "--offline", "--release", "nomad=new"), "version of nomad"),
    ],
)
def test_wrong_usage_is_told_and_nothing_is_written(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    told = types(tmp_path, *words, expect=1 if "nomad=new" in words else 2)

    assert said in told.stderr
    assert files_below(tmp_path) == {}
