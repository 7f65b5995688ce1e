"""Least privilege, right by right: with our policies all works, and what is taken out of one breaks what is named here.

That every verb works with exactly these is in test_guarded.py; the agents of that rig and of this one have no other tokens.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from clipper_nomad.cluster.names import variable_path
from clipper_nomad.cluster.policies import (
    CONSUL_ANONYMOUS,
    CONSUL_FABIO,
    CONSUL_TOOLKIT,
    NOMAD_TOOLKIT,
    POLICIES,
    policy,
)
from clipper_nomad.images.image_set import ImageSet
from tests.cluster.operators import Operator
from tests.cluster.rig import Rig
from tests.cluster.tokens import (
    Json,
    consul_token,
    other_consul_rules,
    other_nomad_rules,
    without_block,
    without_capability,
)
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]

NOMADS = policy(NOMAD_TOOLKIT)
DEPLOY = ("deploy", "--name", "sums", "--sample", "[0.5, 1.0]")
FOLLOWED_WITHIN_S = 30.0  # Fabio hears of a change at once, and Consul's checks take a second


@pytest.fixture(scope="module")
def running(operator: Operator, images: ImageSet) -> Iterator[Operator]:
    """Somebody with our policies whose cluster runs, with a model, from this machine's images."""
    assert images.registry == ""
    who = operator.having(CLIPPER_REGISTRY="", CLIPPER_REGISTRY_USER="", CLIPPER_REGISTRY_PASSWORD="")
    try:
        who.types("up")
        who.types(*DEPLOY, "model.py:total")
        yield who
    finally:
        who.types("down", "--yes", "--volumes")


def doctors_lines(who: Operator, *words: str, expect: int = 0) -> dict[str, str]:
    """What doctor says and how bad it is, but for what is well."""
    checks = who.types("doctor", "--json", *words, expect=expect).document["checks"]
    return {check["text"]: check["level"] for check in checks if check["level"] != "well"}


BROKEN = {
    "list-jobs": (("status",), "does not allow GET /v1/jobs:"),
    "read-job": (("status",), "does not allow GET /v1/job/"),
    "submit-job": (("scale", "sums", "1"), "does not allow POST /v1/job/clipper-default-cluster-model-sums-1/scale"),
    "read": (("predict", "sums", "[1]"), "does not allow GET /v1/var/"),
    "write": ((*DEPLOY, "model.py:total"), "does not allow PUT /v1/var/"),
    # a deploy that fails: what it is about is seen before anything is registered, but for this
    "destroy": ((*DEPLOY, "model.py:broken", "--no-trial", "--timeout", "60"), "no such feature: height"),
}


@pytest.mark.parametrize("right", BROKEN)
def test_a_right_that_is_taken_away_breaks_a_verb_and_doctor_names_it(running: Operator, right: str) -> None:
    words, said = BROKEN[right]
    with other_nomad_rules(running.rig, NOMAD_TOOLKIT, without_capability(NOMADS, right), NOMADS):
        failed = running.types(*words, expect=1)
        lines = doctors_lines(running, expect=1)

    assert said in failed.stderr
    (line,) = (line for line in lines if line.startswith("NOMAD_TOKEN lacks"))
    assert line.startswith(f"NOMAD_TOKEN lacks: {right} ")
    assert lines[line] == "problem"


@pytest.mark.parametrize(
    ("instead", "logs_end_with", "lacking"), [([], 1, ["read-logs", "read-fs"]), (["read-logs"], 0, ["read-fs"])]
)
def test_without_read_fs_no_key_is_changed_and_logs_are_read_only_with_read_logs(
    running: Operator, instead: list[str], logs_end_with: int, lacking: list[str]
) -> None:
    rules = NOMADS.replace(', "read-fs"]', "".join(f', "{right}"' for right in instead) + "]")
    assert rules != NOMADS
    with other_nomad_rules(running.rig, NOMAD_TOOLKIT, rules, NOMADS):
        logs = running.types("logs", "sums", expect=logs_end_with)
        rotate = running.types("keys", "rotate", expect=1)
        lines = doctors_lines(running)

    assert ("does not allow GET /v1/client/fs/logs/" in logs.stderr) == (not instead)
    assert "does not allow GET /v1/client/fs/stat/" in rotate.stderr
    lacks = [line for line in lines if line.startswith("NOMAD_TOKEN lacks: ")]
    assert [line.removeprefix("NOMAD_TOKEN lacks: ").split()[0] for line in lacks] == lacking
    assert {lines[line] for line in lacks} == {"doubt"}
    running.types("keys", "rotate")  # what was begun is ended


def test_without_destroy_a_deploy_that_fails_leaves_its_variable(running: Operator) -> None:
    path = variable_path("clipper-default-cluster-model-sums-2")
    kept = running.nomad.variable(path)  # of the test above
    running.types(*DEPLOY, "model.py:broken", "--no-trial", "--timeout", "60", expect=1)

    assert kept is not None
    assert running.nomad.variable(path) is None


def test_without_node_read_room_is_not_seen_and_nothing_fails(running: Operator) -> None:
    with other_nomad_rules(running.rig, NOMAD_TOOLKIT, without_block(NOMADS, "node"), NOMADS):
        lines = doctors_lines(running)

    assert {"NOMAD_TOKEN lacks: node read": "doubt"}.items() <= lines.items()
    assert [line for line in lines if "what the clients have cannot be seen" in line]


def test_a_volume_that_the_policy_does_not_name_is_lacking_when_it_is_asked_for(running: Operator) -> None:
    ours = doctors_lines(running, "--redis-volume", "clipper-store")
    theirs = doctors_lines(running, "--redis-volume", "shared", expect=1)

    assert not [line for line in ours if "NOMAD_TOKEN" in line]
    assert theirs["NOMAD_TOKEN lacks: mount-readwrite on the host volume shared"] == "problem"


def test_fabio_routes_with_its_policy_and_without_a_part_of_it_to_nothing(running: Operator) -> None:
    rig, whole = running.rig, policy(CONSUL_FABIO)
    pages = ("--fabio-admin-port", str(rig.fabio_admin_port))

    def routed() -> set[str]:
        stir(rig)  # Fabio looks when something has changed, and a policy is no such thing
        return {route.service for route in rig.fabio().routes() if route.service.startswith("clipper-")}

    assert len(routed()) == 3
    for block in ('service_prefix ""', 'node_prefix ""'):
        with other_consul_rules(rig, CONSUL_FABIO, without_block(whole, block), whole):
            wait_until(lambda: not routed(), f"Fabio to see nothing without {block}", within_s=FOLLOWED_WITHIN_S)
            lines = doctors_lines(running, *pages, expect=1)
        assert [line for line, level in lines.items() if "has no route to clipper-" in line and level == "problem"]
        wait_until(lambda: len(routed()) == 3, "Fabio to see all again", within_s=FOLLOWED_WITHIN_S)

    assert not [line for line in doctors_lines(running, *pages) if "has no route" in line]


def stir(rig: Rig) -> None:
    """Change something in Consul's catalog."""
    node = {"Node": "stirred", "Address": "127.0.0.1", "Check": {"Name": "stirred", "Output": str(uuid.uuid4())}}
    rig.session().put(f"{rig.consul_url}/v1/catalog/register", json=node, timeout=10).raise_for_status()


Asked = Callable[["Asker"], object]  # something that is not empty, if it is allowed


class Asker:
    """Somebody with one token of Consul's, who asks as the agents do. What is not allowed is False, or empty."""

    def __init__(self, rig: Rig, token: str | None) -> None:
        self._url = rig.consul_url
        self._session = rig.session()
        self._session.headers["X-Consul-Token"] = token or ""

    def get(self, path: str) -> Any:  # noqa: ANN401  # JSON of Consul's
        return self._answer(self._session.get(f"{self._url}/v1/{path}", timeout=10))

    def put(self, path: str, body: Json) -> bool:
        return self._answer(self._session.put(f"{self._url}/v1/{path}", json=body, timeout=10)) is not False

    def registers(self, service: str) -> bool:
        return self.put("agent/service/register", {"Name": service, "ID": f"probe-{service}"})

    def _answer(self, answer: requests.Response) -> Any:  # noqa: ANN401  # JSON of Consul's
        if answer.status_code == 403:
            return False
        assert answer.ok, answer.text
        return answer.json() if answer.content else None


def services_of_the_node(asker: Asker) -> object:
    return (asker.get("catalog/node/rig") or {}).get("Services")


def checks_of_services(asker: Asker) -> object:
    return [check for check in asker.get("health/state/any") or () if check["ServiceName"] == "fabio"]


# What each block is for, as the call of who has the policy. Those that need two blocks stand for each.
NEEDED: dict[tuple[str, str], Asked] = {
    ("consul-agent", 'node_prefix ""'): lambda who: who.put(
        "catalog/register", {"Node": f"probe-{uuid.uuid4()}", "Address": "127.0.0.1"}
    ),
    ("consul-agent", 'service_prefix ""'): services_of_the_node,  # what is not there any more it would not deregister
    ("consul-nomad-server", 'service "nomad"'): lambda who: who.registers("nomad"),
    ("consul-nomad-server", 'node_prefix ""'): lambda who: who.get("catalog/service/nomad"),  # the other servers
    ("consul-nomad-server", 'agent_prefix ""'): lambda who: who.get("agent/self"),
    ("consul-nomad-client", 'service "nomad-client"'): lambda who: who.registers("nomad-client"),
    ("consul-nomad-client", 'service_prefix "clipper-"'): lambda who: who.registers("clipper-default-cluster-mgmt"),
    ("consul-nomad-client", 'service "fabio"'): lambda who: who.registers("fabio"),
    ("consul-nomad-client", 'service "nomad"'): lambda who: who.get("catalog/service/nomad"),  # its servers
    ("consul-nomad-client", 'node_prefix ""'): lambda who: who.get("catalog/service/nomad"),
    ("consul-nomad-client", 'agent_prefix ""'): lambda who: who.get("agent/self"),
    (CONSUL_FABIO, 'service_prefix ""'): lambda who: [
        each for each in who.get("health/state/any") or () if each["ServiceName"].startswith("nomad")
    ],
    (CONSUL_FABIO, 'node_prefix ""'): lambda who: who.get("catalog/service/fabio"),
    (CONSUL_FABIO, 'agent_prefix ""'): lambda who: who.get("agent/self"),
    (CONSUL_FABIO, 'service "fabio"'): lambda who: who.registers("fabio"),
    (CONSUL_TOOLKIT, 'service_prefix ""'): lambda who: "consul" in (who.get("catalog/services") or ()),
    (CONSUL_TOOLKIT, 'node_prefix ""'): lambda who: who.get("health/service/fabio"),
    (CONSUL_ANONYMOUS, 'service_prefix "clipper-"'): lambda who: who.get("health/service/clipper-probe"),
    (CONSUL_ANONYMOUS, 'service "fabio"'): lambda who: who.get("health/service/fabio"),
    (CONSUL_ANONYMOUS, 'node_prefix ""'): lambda who: who.get("health/service/fabio"),
}


@pytest.fixture
def probes(guarded: Rig) -> Iterator[None]:
    """What was registered goes again; what Fabio and Nomad lost they register anew."""
    root = Asker(guarded, guarded.guard.consul_token if guarded.guard else None)
    assert root.registers("clipper-probe")
    yield
    for service in root.get("agent/services"):
        if service.startswith("probe-"):
            root.put(f"agent/service/deregister/{service}", {})
    for node in root.get("catalog/nodes"):
        if node["Node"].startswith("probe-"):
            root.put("catalog/deregister", {"Node": node["Node"]})


@pytest.mark.usefixtures("probes")
@pytest.mark.parametrize(("name", "block"), NEEDED)
def test_what_each_block_of_consuls_policies_is_for_is_not_allowed_without_it(guarded: Rig, name: str, block: str) -> None:
    asked, mark = NEEDED[name, block], uuid.uuid4().hex
    whole = consul_token(guarded, f"whole-{mark}", policy(name))
    less = consul_token(guarded, f"less-{mark}", without_block(policy(name), block))

    assert asked(Asker(guarded, whole["SecretID"]))
    assert not asked(Asker(guarded, less["SecretID"]))


def test_each_block_of_consuls_policies_is_tried() -> None:
    blocks = {
        (name, block) for name in POLICIES if name != NOMAD_TOOLKIT for block in re.findall(r"(?m)^(\S.*) \{$", policy(name))
    }

    assert blocks == set(NEEDED)
