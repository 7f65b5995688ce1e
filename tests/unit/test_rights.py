"""What rules allow, as Nomad decides it; tests/cluster/test_policies.py asks a real Nomad the same."""

from __future__ import annotations

from typing import Any

import pytest

from clipper_nomad.cluster.rights import Rights


def namespaces(**capabilities: list[str]) -> dict[str, Any]:
    return {"Namespaces": [{"Name": name.replace("ANY", "*"), "Capabilities": caps} for name, caps in capabilities.items()]}


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ([namespaces(ml=["read-job"])], {"read-job"}),
        ([namespaces(other=["read-job"])], set()),
        ([namespaces(ANY=["read-job"])], {"read-job"}),
        ([namespaces(mANY=["list-jobs"], ANY=["read-job"])], {"list-jobs"}),  # the closest, and that alone
        ([namespaces(ml=["list-jobs"], ANY=["read-job"])], {"list-jobs"}),
        ([namespaces(ml=["list-jobs"]), namespaces(ml=["read-job"])], {"list-jobs", "read-job"}),  # policies add up
        ([namespaces(ml=["list-jobs"]), namespaces(ml=["deny"])], set()),
        ([namespaces(ml=["deny"], ANY=["read-job"])], set()),
        ([{}, {"Namespaces": None}], set()),
    ],
)
def test_capabilities_in_a_namespace(rules: list[dict[str, Any]], allowed: set[str]) -> None:
    assert Rights(rules).in_namespace("ml") == allowed


@pytest.mark.parametrize(
    ("policies", "reads"), [(["read"], True), (["write"], True), (["read", "deny"], False), ([], False)]
)
def test_clients_are_read_with_read_or_write_and_without_a_deny(policies: list[str], *, reads: bool) -> None:
    assert Rights([{"Node": {"Policy": each}} for each in policies]).reads_nodes is reads


def test_a_variable_is_matched_with_its_namespace() -> None:
    def path(spec: str, *capabilities: str) -> dict[str, Any]:
        return {"PathSpec": spec, "Capabilities": list(capabilities)}

    rules = {
        "Namespaces": [
            {"Name": "*", "Capabilities": None, "Variables": {"Paths": [path("nomad/*", "read")]}},
            {"Name": "ml", "Variables": {"Paths": [path("nomad/jobs/a", "write"), path("nomad/jobs/*", "list")]}},
            {"Name": "none"},
        ]
    }

    rights = Rights([rules])

    assert rights.of_variable("ml", "nomad/jobs/a") == {"write"}
    assert rights.of_variable("ml", "nomad/jobs/b") == {"list"}
    assert rights.of_variable("ml", "nomad/x") == {"read"}
    assert rights.of_variable("none", "nomad/jobs/a") == {"read"}
    assert rights.of_variable("ml", "x") == frozenset()
    assert rights.of_volume("a") == frozenset()
