"""What `terraform init` writes: an example with its values and its modules, for each cloud; what cannot be is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from clipper_nomad.cli.options import WrongUsage
from clipper_nomad.cli.root_module import (
    VALUES,
    Cloud,
    checked_name,
    checked_networks,
    empty_values,
    module_source,
    root_files,
    with_values,
)

TERRAFORM = Path(__file__).resolve().parents[2] / "terraform"
MODULE_OF = {
    Cloud.AWS: "aws",
    Cloud.SCALEWAY: "scaleway",
    Cloud.HETZNER: "hcloud",
    Cloud.EXISTING: "existing-cluster",
    Cloud.GENERIC: "cluster-config",
}


@pytest.mark.parametrize("cloud", Cloud)
def test_the_modules_that_are_used_come_along_and_nothing_of_somebodys_work(cloud: Cloud) -> None:
    files = root_files(TERRAFORM, cloud, source=None, values={})

    assert f'"./modules/{MODULE_OF[cloud]}"' in files["main.tf"]
    assert {"main.tf", "variables.tf", "outputs.tf", "README.md", VALUES} <= set(files)
    copied = {path.split("/")[1] for path in files if path.startswith("modules/")}
    assert {MODULE_OF[cloud], "cluster-config"} <= copied
    assert not [path for path in files if re.search(r"\.terraform|tfstate|/tests/|\.example$", path)]
    assert "../../modules" not in "".join(text for path, text in files.items() if "/" not in path)


def test_every_file_that_a_copied_module_names_is_copied() -> None:
    files = root_files(TERRAFORM, Cloud.HETZNER, source=None, values={})

    assert "modules/operator/main.tf" in files
    assert "modules/cluster-config/scripts/distribute" in files


def test_a_source_is_named_instead_of_copying() -> None:
    source = module_source("git::https://git.example/clipper-nomad.git", version="1.2.0")

    files = root_files(TERRAFORM, Cloud.AWS, source=source, values={})

    address = "git::https://git.example/clipper-nomad.git//terraform/modules/aws?ref=v1.2.0"
    assert f'source = "{address}"' in files["main.tf"]
    assert not [path for path in files if path.startswith("modules/")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "git@git.example:team/clipper-nomad.git",
            "git@git.example:team/clipper-nomad.git//terraform/modules/MODULE?ref=v1.2.0",
        ),
        ("github.com/team/clipper-nomad?ref=main", "github.com/team/clipper-nomad//terraform/modules/MODULE?ref=main"),
        (str(TERRAFORM.parent), f"{TERRAFORM}/modules/MODULE"),
    ],
)
def test_a_source_is_a_repository_or_a_checkout(text: str, found: str) -> None:
    assert module_source(text, version="1.2.0") == found


@pytest.mark.parametrize("text", ["clipper", "git::https://git.example/x.git//terraform", "/nowhere", ""])
def test_a_source_that_is_neither_is_wrong_usage(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(WrongUsage, match="--source"):
        module_source(text, version="1.2.0")


def test_a_folder_that_is_no_checkout_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="terraform/modules"):
        module_source(str(tmp_path), version="1.2.0")


def test_values_are_put_in_and_those_that_are_wanted_are_told() -> None:
    given = {"name": "ml-prod", "allowed_cidrs": ["203.0.113.7/32"]}

    values = root_files(TERRAFORM, Cloud.HETZNER, source=None, values=given)[VALUES]

    assert 'name = "ml-prod"\n' in values
    assert 'allowed_cidrs = ["203.0.113.7/32"]\n' in values
    assert empty_values(values) == ["ssh_keys"]


def test_a_value_cannot_become_an_expression() -> None:
    text = with_values('x = ""\n', {"x": '"${file("/etc/passwd")}%{if true}'}, Cloud.AWS)

    assert text == "x = " + json.dumps('"$${file("/etc/passwd")}%%{if true}') + "\n"


@pytest.mark.parametrize(
    ("value", "option"), [("name", "--name"), ("allowed_cidrs", "--allow"), ("query_cidrs", "--queries")]
)
def test_an_option_that_a_cloud_has_no_use_for_is_refused(value: str, option: str) -> None:
    with pytest.raises(WrongUsage, match=f"{option} says nothing of --cloud existing"):
        root_files(TERRAFORM, Cloud.EXISTING, source=None, values={value: "x"})


@pytest.mark.parametrize("name", ["", "Ml", "ml_prod", "-ml", "ml-", "a" * 33])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(WrongUsage, match="--name"):
        checked_name(name)


def test_everybody_may_ask_and_not_reach_the_control_ports() -> None:
    assert checked_networks("--queries", ["0.0.0.0/0", "::/0"], may_be_everybody=True) == ["0.0.0.0/0", "::/0"]
    for everybody in ("0.0.0.0/0", "::/0"):
        with pytest.raises(WrongUsage, match="is everybody"):
            checked_networks("--allow", [everybody], may_be_everybody=False)


@pytest.mark.parametrize("network", ["10.0.0.1/8", "10.0.0.0/33", "example", ""])
def test_a_network_that_is_none_is_refused(network: str) -> None:
    with pytest.raises(WrongUsage, match="--allow"):
        checked_networks("--allow", [network], may_be_everybody=False)
