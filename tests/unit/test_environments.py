"""Environments of models: how a process runs in one, which packages are the index's, what differs from here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from clipper_nomad.local_stack.environment_check import differing
from clipper_nomad.local_stack.environment_layout import READY, is_ready, variables
from clipper_nomad.local_stack.environments import is_of_index
from clipper_nomad.local_stack.kept import WantedVersion
from clipper_nomad.local_stack.parts import PartTable, StackSettings
from clipper_nomad.protocol.bundle import Manifest

NAME = "env-0123456789abcdef-01234567"
INHERITED = {"PATH": "/usr/bin", "PYTHONPATH": "/mine", "PYTHONHOME": "/other", "MINE": "1"}


def replica_part(*, environment: str, env: dict[str, str] | None = None) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command and the variables of a replica."""
    settings = StackSettings(
        cluster="c", data="/data", runtime="/run/c", toolkit="1", port=0, frontends=1, keep=False, owner=None
    )
    wanted = WantedVersion(
        name="m", version="1", uid="u", input_type="doubles", digest="d", count=1, env=env or {}, environment=environment
    )
    part = PartTable(settings, environ=INHERITED).replica("m-1-0", wanted)
    return part.argv, part.env


def test_a_replica_runs_in_its_environment_and_finds_nothing_elsewhere() -> None:
    argv, env = replica_part(environment=NAME)

    assert argv == (f"/data/environments/{NAME}/bin/python", "-P", "-m", "clipper_nomad_runtime")
    assert env["PATH"] == f"/data/environments/{NAME}/bin:/usr/bin"
    assert env["VIRTUAL_ENV"] == f"/data/environments/{NAME}"
    assert env["MINE"] == "1"
    assert not {"PYTHONPATH", "PYTHONHOME"} & env.keys()
    assert env["CLIPPER_MODEL_UID"] == "u"


def test_a_variable_that_was_asked_for_reaches_it() -> None:
    assert replica_part(environment=NAME, env={"PYTHONPATH": "/asked"})[1]["PYTHONPATH"] == "/asked"


def test_without_one_a_replica_runs_where_the_stack_does() -> None:
    argv, env = replica_part(environment="")

    assert argv[0] == sys.executable
    assert env["PYTHONPATH"] == "/mine"


def test_without_a_search_path_there_is_one_of_the_environment() -> None:
    assert variables(Path("/env"), {})["PATH"] == "/env/bin"


@pytest.mark.parametrize(
    "package", ["six", "six==1.16.0", "a-b_c.d[x,y]>=1,<2 ; python_version < '4'", "six (>=1)", " six "]
)
def test_a_name_is_of_the_index(package: str) -> None:
    assert is_of_index(package)


@pytest.mark.parametrize(
    "package",
    ["./six", "/opt/six", "six-1.0-py3-none-any.whl", "six.tar.gz", "six @ https://host/six.whl", "git+https://h/r"],
)
def test_a_path_or_a_url_is_not(package: str) -> None:
    assert not is_of_index(package)


def test_what_differs_from_here_is_said_by_package() -> None:
    manifest = Manifest(
        input_type="doubles", python="3.11", files={}, packages={"scikit_learn": "1.5", "numpy": "2.1", "pandas": "2.2"}
    )

    assert differing(manifest, {"scikit-learn": "1.6", "NumPy": "2.1"}) == [
        "scikit_learn 1.5 here, 1.6 there",
        "pandas 2.2 here, none there",
    ]
    assert differing(manifest, {"numpy": "2.1"}, asked=["scikit-learn == 1.6", "pandas[all]==2", "numpy"]) == []


@pytest.mark.parametrize("name", ["", "env-1", "../outside", f"{NAME}/..", f"../{NAME}"])
def test_what_is_no_name_of_an_environment_is_never_ready(tmp_path: Path, name: str) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / READY).write_text("{}")

    assert is_ready(tmp_path, NAME)
    assert not is_ready(tmp_path, name)
