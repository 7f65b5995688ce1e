"""What rights.py reads in a token's policies is what a real Nomad lets it do: its answers are compared with Nomad's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clipper_nomad.cluster.endpoints import nomad_endpoint
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.policies import NOMAD_TOOLKIT, policy
from clipper_nomad.cluster.rights import Rights
from clipper_nomad.errors import NomadConflict, NomadRefused
from tests.cluster.rig import Rig
from tests.cluster.tokens import call, nomad_policy, nomad_token

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

PATH, VOLUME, NEVER = "nomad/jobs/clipper-default-cluster-redis", "clipper-store", 10**12
JOB = f"""
job "asked" {{
  group "g" {{
    volume "v" {{
      type   = "host"
      source = "{VOLUME}"
    }}
    task "t" {{
      driver = "raw_exec"
      config {{
        command = "/bin/true"
      }}
    }}
  }}
}}
"""
SHOULD_BE_IN = """
namespace "default" {
  capabilities = %s
  variables {
    path "nomad/jobs/*" { capabilities = %s }
  }
}
"""
CASES = {
    "ours": [policy(NOMAD_TOOLKIT)],
    "ours for another cluster": [policy(NOMAD_TOOLKIT, cluster="b")],
    "ours in another namespace": [policy(NOMAD_TOOLKIT, namespace="ml")],
    "read": ['namespace "default" { policy = "read" }'],
    "write": ['namespace "default" { policy = "write" }'],
    "write everywhere": ['namespace "*" { policy = "write" }', 'host_volume "*" { policy = "write" }'],
    "the closer pattern": ['namespace "*" { policy = "write" }', 'namespace "def*" { capabilities = ["list-jobs"] }'],
    "an exact name": ['namespace "def*" { policy = "write" }', 'namespace "default" { capabilities = ["read-job"] }'],
    "denied": [policy(NOMAD_TOOLKIT), 'namespace "default" { policy = "deny" }'],
    "two that add up": [SHOULD_BE_IN % ('["list-jobs"]', '["read"]'), SHOULD_BE_IN % ('["read-job"]', '["destroy"]')],
    "variables denied": [SHOULD_BE_IN % ('["list-jobs"]', '["read", "deny"]')],
    "variables by two patterns": [
        SHOULD_BE_IN % ('["list-jobs"]', '["write"]'),
        'namespace "default" { variables { path "*" { capabilities = ["destroy"] } } }',
    ],
    "nodes only": ['node { policy = "write" }'],
    "nodes denied": ['node { policy = "read" }', 'node { policy = "deny" }'],
    "volumes to read": ['host_volume "clipper-*" { policy = "read" }', 'namespace "default" { policy = "write" }'],
    "volumes denied": ['host_volume "clipper-*" { policy = "write" }', 'host_volume "clipper-*" { policy = "deny" }'],
}


@pytest.fixture(scope="module")
def job(guarded: Rig) -> dict[str, Any]:  # Any: JSON
    return guarded.nomad().parse(JOB)


@pytest.fixture
def variable(guarded: Rig) -> Iterator[None]:
    """One that may be asked for."""
    guarded.nomad().put_variable(PATH, {"item": "text"})
    yield
    guarded.nomad().delete_variable(PATH)


def is_allowed(asked: Callable[[], object]) -> bool:
    """Whether Nomad lets it happen; another refusal than for the want of a right comes later in Nomad."""
    try:
        asked()
    except NomadConflict:
        return True
    except NomadRefused as exc:
        return exc.status != 403
    return True


def as_nomad_says(nomad: NomadApi, job: dict[str, Any]) -> dict[str, bool]:  # Any: JSON
    without = {**job, "TaskGroups": [{**group, "Volumes": None} for group in job["TaskGroups"]]}
    submits = is_allowed(lambda: nomad.register(without, modify_index=NEVER))
    return {
        "list-jobs": is_allowed(nomad.jobs),
        "read-job": is_allowed(lambda: nomad.job("nobody")),
        "submit-job": submits,
        "read": is_allowed(lambda: nomad.variable(PATH)),
        "write": is_allowed(lambda: nomad.put_variable(PATH, {"item": "other"}, cas=NEVER)),
        "destroy": is_allowed(lambda: nomad.delete_variable(PATH, cas=NEVER)),
        "list": PATH in nomad.variable_paths(PATH),
        "node": is_allowed(nomad.nodes),
        "volume": submits and is_allowed(lambda: nomad.register(job, modify_index=NEVER)),
    }


def as_we_read(nomad: NomadApi) -> dict[str, bool]:
    rights = Rights(nomad.policies().values())
    found = {right: right in rights.in_namespace("default") for right in ("list-jobs", "read-job", "submit-job")}
    found |= {right: right in rights.of_variable("default", PATH) for right in ("read", "write", "destroy", "list")}
    volume = found["submit-job"] and "mount-readwrite" in rights.of_volume(VOLUME)
    return found | {"node": rights.reads_nodes, "volume": volume}


@pytest.mark.usefixtures("variable")
@pytest.mark.parametrize("case", CASES)
def test_we_read_in_the_policies_what_nomad_allows(guarded: Rig, job: dict[str, Any], case: str) -> None:
    names = [f"case-{index}" for index in range(len(CASES[case]))]
    for name, rules in zip(names, CASES[case], strict=True):
        nomad_policy(guarded, name, rules)
    token = call(guarded, "nomad", "acl/token", {"Type": "client", "Policies": names})
    nomad = NomadApi(nomad_endpoint({**guarded.shell(), "NOMAD_TOKEN": token["SecretID"]}))

    assert as_we_read(nomad) == as_nomad_says(nomad, job)
    assert guarded.nomad().job("asked") is None


def test_policies_of_a_role_count_too_and_policies_that_are_gone_do_not(guarded: Rig) -> None:
    nomad_token(guarded, "reads", 'namespace "default" { policy = "read" }')
    role = call(guarded, "nomad", "acl/role", {"Name": "readers", "Policies": [{"Name": "reads"}]})
    token = call(guarded, "nomad", "acl/token", {"Type": "client", "Roles": [{"ID": role["ID"]}], "Policies": ["gone"]})
    nomad = NomadApi(nomad_endpoint({**guarded.shell(), "NOMAD_TOKEN": token["SecretID"]}))

    found = nomad.policies()

    assert list(found) == ["reads"]
    assert "read-job" in Rights(found.values()).in_namespace("default")
