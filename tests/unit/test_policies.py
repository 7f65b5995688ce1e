"""The ACL policies: files, filled in for a cluster; docs/cluster.md shows them, and rights.py needs what they allow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from clipper_nomad.cli.app import app
from clipper_nomad.cluster.jobs.requirements import HostVolume
from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.cluster.policies import FOLDER, NOMAD_TOOLKIT, POLICIES, policy
from clipper_nomad.cluster.rights import IMPLIED_BY, IN_NAMESPACE, OF_VARIABLES, Rights, lacks
from clipper_nomad.errors import InvalidName, InvalidSetting, InvalidSpec
from clipper_nomad.resources import terraform_folder
from tests.unit.small_hcl import read

PAGE = (Path(__file__).resolve().parents[2] / "docs/cluster.md").read_text(encoding="utf-8")
NAMES = ClusterNames("b")


def rules(text: str) -> dict[str, Any]:
    """A policy of Nomad's as its RulesJSON, of the blocks and capabilities that ours have."""
    body = read(text)
    return {
        "Namespaces": [
            {
                "Name": name,
                "Capabilities": namespace.attributes["capabilities"],
                "Variables": {
                    "Paths": [
                        {"PathSpec": path, "Capabilities": rule.attributes["capabilities"]}
                        for kind, (path,), rule in namespace.one("variables").blocks
                        if kind == "path"
                    ]
                },
            }
            for kind, names, namespace in body.blocks
            if kind == "namespace"
            for name in names
        ],
        "HostVolumes": [
            {"Name": name, "Capabilities": volume.attributes["capabilities"]}
            for kind, names, volume in body.blocks
            if kind == "host_volume"
            for name in names
        ],
        "Node": {"Policy": body.one("node").attributes["policy"]},
    }


def test_each_file_is_a_policy_and_each_policy_has_a_file() -> None:
    assert {path.stem for path in (terraform_folder() / FOLDER).glob("*.hcl")} == set(POLICIES)


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_filled_in_and_nothing_is_left_open(name: str) -> None:
    file = (terraform_folder() / FOLDER / f"{name}.hcl").read_text(encoding="utf-8")

    filled = policy(name, cluster="b", namespace="ml")

    assert set(re.findall(r"\$\{(.*?)\}", file)) <= {"cluster", "namespace"}
    assert "%{" not in file
    assert "$" not in filled
    assert read(filled).blocks


def test_the_toolkits_policy_is_of_one_cluster_in_one_namespace() -> None:
    text = policy(NOMAD_TOOLKIT, cluster="b", namespace="ml")

    assert 'namespace "ml"' in text
    assert 'path "nomad/jobs/clipper-b-*"' in text


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"name": "nomad-toolkid"}, InvalidSetting),
        ({"name": NOMAD_TOOLKIT, "cluster": "B c"}, InvalidName),
        ({"name": NOMAD_TOOLKIT, "namespace": 'a" {}'}, InvalidSpec),
    ],
)
def test_what_cannot_be_is_refused(asked: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        policy(**asked)


def test_docs_show_policies_as_they_are_and_name_each() -> None:
    shown = re.findall(r"```hcl\n(# Of .*?)```", PAGE, re.DOTALL)

    assert len(shown) >= 3
    assert [text for text in shown if text not in {policy(name) for name in POLICIES}] == []
    assert [name for name in POLICIES if f"`{name}`" not in PAGE] == []


def test_what_clipper_nomad_needs_is_what_its_policy_allows_and_no_more() -> None:
    (namespace,) = read(policy(NOMAD_TOOLKIT)).all("namespace")

    assert [right for right in IN_NAMESPACE if right not in IMPLIED_BY] == namespace.attributes["capabilities"]
    assert list(OF_VARIABLES) == namespace.one("variables").one("path").attributes["capabilities"]


def test_who_has_the_policy_lacks_nothing() -> None:
    rights = Rights([rules(policy(NOMAD_TOOLKIT, cluster="b", namespace="ml"))])
    volumes = [HostVolume(source="clipper-store", path="/data")]

    assert list(lacks(rights, NAMES, namespace="ml", volumes=volumes)) == []


def test_who_has_it_for_another_cluster_or_namespace_lacks_what_is_theirs() -> None:
    other_cluster = lacks(Rights([rules(policy(NOMAD_TOOLKIT, cluster="c"))]), NAMES, namespace="default")
    other_namespace = lacks(Rights([rules(policy(NOMAD_TOOLKIT, cluster="b"))]), NAMES, namespace="ml")

    assert [each.right for each in other_cluster] == [
        f"{right} on the Variables nomad/jobs/clipper-b-* in namespace default" for right in OF_VARIABLES
    ]
    assert len(list(other_namespace)) == len(IN_NAMESPACE) + len(OF_VARIABLES)


def test_volumes_that_are_called_otherwise_are_lacking_and_one_to_read_needs_less() -> None:
    rights = Rights(
        [
            rules(policy(NOMAD_TOOLKIT, cluster="b")),
            {"HostVolumes": [{"Name": "weights", "Capabilities": ["mount-readonly"]}]},
        ]
    )
    volumes = [HostVolume(source=name, path="/data", read_only=name == "weights") for name in ("weights", "data")]

    found = list(lacks(rights, NAMES, namespace="default", volumes=volumes))

    assert [each.right for each in found] == ["mount-readwrite on the host volume data"]


def test_variables_that_only_some_rules_reach_are_named() -> None:
    some = {"PathSpec": "nomad/jobs/clipper-b-m*", "Capabilities": ["read", "write", "destroy", "list"]}
    whole = {"Name": "default", "Capabilities": list(IN_NAMESPACE), "Variables": {"Paths": [some]}}

    found = list(lacks(Rights([{"Namespaces": [whole], "Node": {"Policy": "write"}}]), NAMES, namespace="default"))

    assert [each.right.partition(" in ")[0] for each in found] == [
        f"{right} on the Variables nomad/jobs/clipper-b-redis, nomad/jobs/clipper-b-query-frontend" for right in OF_VARIABLES
    ]


def test_policy_lists_them_or_prints_one() -> None:
    listed = CliRunner().invoke(app, ["policy"], env={"NOMAD_NAMESPACE": ""})
    printed = CliRunner().invoke(app, ["policy", NOMAD_TOOLKIT, "--cluster", "b"], env={"NOMAD_NAMESPACE": "ml"})
    unknown = CliRunner().invoke(app, ["policy", "all"])

    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(POLICIES)
    assert printed.stdout == policy(NOMAD_TOOLKIT, cluster="b", namespace="ml")
    assert (unknown.exit_code, "There are: nomad-toolkit" in unknown.stderr) == (1, True)
