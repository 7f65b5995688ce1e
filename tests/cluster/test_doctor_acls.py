"""`doctor` about tokens, on a real Nomad and Consul with ACLs; of each right that is missing: test_policies.py."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from clipper_nomad.cluster.policies import CONSUL_ANONYMOUS, CONSUL_TOOLKIT, NOMAD_TOOLKIT, policy
from clipper_nomad.images.image_set import ImageSet
from tests.cluster.processes import binary
from tests.cluster.rig import Rig
from tests.cluster.shell import COMMAND, Shell
from tests.cluster.tokens import consul_token, nomad_token, other_consul_rules, without_block
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

Check = Mapping[str, str]
Look = Callable[..., list[Check]]
PART = 'service_prefix "clipper-" { policy = "read" }\nservice "consul" { policy = "read" }\n'


@pytest.fixture(scope="module")
def tokens(guarded: Rig) -> dict[str, str]:
    """Those of somebody with our policies."""
    return {
        "NOMAD_TOKEN": nomad_token(guarded, NOMAD_TOOLKIT, policy(NOMAD_TOOLKIT))["SecretID"],
        "CONSUL_HTTP_TOKEN": consul_token(guarded, CONSUL_TOOLKIT, policy(CONSUL_TOOLKIT))["SecretID"],
    }


@pytest.fixture
def shell(guarded: Rig, images: ImageSet, tokens: dict[str, str], tmp_path: Path) -> Shell:
    """Theirs, without a registry."""
    assert images.registry == ""
    return Shell(guarded, tmp_path, {**tokens, "CLIPPER_REGISTRY": None})


@pytest.fixture
def doctor(shell: Shell, guarded: Rig) -> Look:
    """What doctor says of an area, beyond that it is there."""

    def look(area: str, expect: int = 0, **environ: str) -> list[Check]:
        asked = Shell(guarded, shell.folder, {**shell.environ, **environ})
        said = asked.types("doctor", "--tcp-port", str(guarded.fabio_tcp_port), "--json", expect=expect).document
        found = [check for check in said["checks"] if check["area"] == area]
        return found[1:] if found[0]["level"] == "well" else found

    return look


def as_root(guarded: Rig, shell: Shell, commands: str) -> str:
    """Type commands as somebody with all rights, and return what they print."""
    root = Shell(guarded, shell.folder, {"PATH": shell.environment()["PATH"]}).environment()
    ours = commands.replace("clipper-nomad policy", f"{shlex.join(COMMAND)} policy")
    done = subprocess.run([binary("bash"), "-ec", ours], env=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{ours}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_with_our_policies_all_is_well(doctor: Look) -> None:
    assert [check["level"] for check in doctor("Nomad")] == ["well"]
    assert [check["level"] for check in doctor("Consul")] == ["well", "well"]


def test_management_tokens_are_a_hint_and_no_failure(guarded: Rig, doctor: Look) -> None:
    assert guarded.guard is not None

    (nomads,) = doctor("Nomad", NOMAD_TOKEN=guarded.guard.nomad_token)
    consuls, _ = doctor("Consul", CONSUL_HTTP_TOKEN=guarded.guard.consul_token)

    assert (nomads["level"], nomads["text"]) == ("doubt", "NOMAD_TOKEN is a management token")
    assert (consuls["level"], consuls["text"]) == ("doubt", "CONSUL_HTTP_TOKEN is a management token")


def test_the_commands_that_doctor_gives_make_tokens_that_it_finds_well(guarded: Rig, shell: Shell, doctor: Look) -> None:
    assert guarded.guard is not None
    (nomads,) = doctor("Nomad", NOMAD_TOKEN=guarded.guard.nomad_token)
    consuls, _ = doctor("Consul", CONSUL_HTTP_TOKEN=guarded.guard.consul_token)

    made = [as_root(guarded, shell, check["fix"]) for check in (nomads, consuls)]

    secrets = [line.split()[-1] for text in made for line in text.splitlines() if line.startswith(("Secret ID", "SecretID"))]
    assert [check["level"] for check in doctor("Nomad", NOMAD_TOKEN=secrets[0])] == ["well"]
    assert {check["level"] for check in doctor("Consul", CONSUL_HTTP_TOKEN=secrets[1])} == {"well"}


def test_rights_that_are_missing_come_with_the_commands_that_give_them(guarded: Rig, shell: Shell, doctor: Look) -> None:
    token = nomad_token(guarded, "devs", 'namespace "ml" { policy = "read" }')["SecretID"]
    lacking = doctor("Nomad", expect=1, NOMAD_TOKEN=token)

    as_root(guarded, shell, lacking[0]["fix"])

    assert len(lacking) == 9
    assert [check["level"] for check in doctor("Nomad", NOMAD_TOKEN=token)] == ["well"]


def test_tokens_that_end_within_a_day_are_told_and_one_that_has_ended_is_refused(guarded: Rig, doctor: Look) -> None:
    nomads = nomad_token(guarded, NOMAD_TOOLKIT, policy(NOMAD_TOOLKIT), ExpirationTTL="1h")["SecretID"]
    consuls = consul_token(guarded, CONSUL_TOOLKIT, policy(CONSUL_TOOLKIT), ExpirationTTL="1h")["SecretID"]
    ended = nomad_token(guarded, NOMAD_TOOLKIT, policy(NOMAD_TOOLKIT), ExpirationTTL="1s")["SecretID"]

    soon = [*doctor("Nomad", NOMAD_TOKEN=nomads), *doctor("Consul", CONSUL_HTTP_TOKEN=consuls)]
    wait_until(lambda: not is_taken(guarded, ended), "the token to end", within_s=30)
    late = doctor("Nomad", expect=1, NOMAD_TOKEN=ended)

    told = [check for check in soon if "expires at" in check["text"]]
    assert [(check["level"], check["text"].split()[0]) for check in told] == [
        ("doubt", "NOMAD_TOKEN"),
        ("doubt", "CONSUL_HTTP_TOKEN"),
    ]
    assert "ACL token expired" in late[0]["text"]
    assert "NOMAD_TOKEN is unknown, expired" in late[0]["fix"]


def is_taken(guarded: Rig, token: str) -> bool:
    session = guarded.session()
    session.headers["X-Nomad-Token"] = token
    return session.get(f"{guarded.nomad_url}/v1/acl/token/self", timeout=10).ok


def test_a_token_of_consuls_that_shows_only_some_is_a_problem_that_the_command_mends(
    guarded: Rig, shell: Shell, doctor: Look
) -> None:
    token = consul_token(guarded, "part", PART)["SecretID"]

    hidden, _ = doctor("Consul", expect=1, CONSUL_HTTP_TOKEN=token)
    as_root(guarded, shell, hidden["fix"].replace("-name clipper", "-name mended"))  # another test has made that one

    assert hidden["text"] == "CONSUL_HTTP_TOKEN does not show all services and nodes"
    assert {check["level"] for check in doctor("Consul", CONSUL_HTTP_TOKEN=token)} == {"well"}


def test_what_who_has_no_token_may_not_read_is_named(guarded: Rig, doctor: Look) -> None:
    whole = policy(CONSUL_ANONYMOUS)

    def told(block: str) -> Check:
        with other_consul_rules(guarded, CONSUL_ANONYMOUS, without_block(whole, block), whole):
            _, anonymous = doctor("Consul")
        return anonymous

    found = [told(block) for block in ('service_prefix "clipper-"', 'service "fabio"', 'node_prefix ""')]

    assert [check["level"] for check in found] == ["doubt"] * 3
    assert [check["text"].removeprefix("who has no token may not read ") for check in found] == [
        "clipper-default-cluster-redis",
        "fabio",
        "nodes",
    ]


def test_a_nomad_without_acls_that_is_not_on_loopback_is_told_with_what_everybody_can_read(rig: Rig, tmp_path: Path) -> None:
    everywhere = rig.nomad_url.replace("127.0.0.1", "0.0.0.0")  # an address to ask, not to listen on
    shell = Shell(rig, tmp_path, {"NOMAD_ADDR": everywhere, "CLIPPER_REGISTRY": None})

    said = shell.types("doctor", "--tcp-port", str(rig.fabio_tcp_port), "--json").document

    (opened,) = (check for check in said["checks"] if check["area"] == "Nomad" and check["level"] == "doubt")
    assert opened["text"] == f"{everywhere} has no ACLs"
    assert "can read every Nomad Variable" in opened["why"]
