"""The jobspecs as a real Nomad reads them: golden files and texts that try to break out. Needs `nomad` on PATH alone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipper_nomad.cluster.jobs.checks import MAX_TEXT
from clipper_nomad.cluster.jobs.programs import RegistryLogin
from clipper_nomad.cluster.jobs.render import render_job
from clipper_nomad.cluster.jobs.requirements import Constraint, Placement
from tests.cluster.agents import NomadServer, binary, nomad_server
from tests.unit.jobspec_cases import CASES, HOSTILE, PLAIN_MODEL, TEXTS, golden_file, image

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(shutil.which("nomad") is None, reason="no `nomad` on PATH: no real Nomad has read the jobspecs"),
]


@pytest.fixture(scope="module")
def nomad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NomadServer]:
    with nomad_server(tmp_path_factory.mktemp("nomad")) as server:
        yield server


def task_of(job: dict[str, Any]) -> dict[str, Any]:
    (group,) = job["TaskGroups"]
    (task,) = group["Tasks"]
    assert isinstance(task, dict)
    return task


@pytest.mark.parametrize("case", CASES)
def test_nomad_takes_every_golden_file_without_a_warning(nomad: NomadServer, case: str) -> None:
    job = nomad.parse(golden_file(case).read_text(encoding="utf-8"))

    assert job["ID"] == CASES[case].job_id
    assert nomad.problems(job) == []


@pytest.mark.parametrize("case", CASES)
def test_a_golden_file_is_written_as_nomad_would_write_it(case: str) -> None:
    done = subprocess.run(
        [binary("nomad"), "fmt", "-check", "-write=false", str(golden_file(case))],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("case", CASES)
def test_what_nomad_read_is_what_was_put_in(nomad: NomadServer, case: str) -> None:
    spec = CASES[case]

    job = nomad.parse(golden_file(case).read_text(encoding="utf-8"))

    task = task_of(job)
    assert job["Datacenters"] == list(spec.placement.datacenters)
    assert [(each["LTarget"], each["RTarget"]) for each in job["Constraints"] or []] == [
        (each.attribute, each.value) for each in spec.placement.constraints
    ]
    assert dict(spec.env).items() <= (task["Env"] or {}).items()
    assert dict(spec.driver_options).items() <= task["Config"].items()
    assert job["Meta"]["clipper_cluster"] == spec.cluster.cluster
    assert job["UI"]["Description"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXTS, min_size=1, max_size=6))
def test_any_text_comes_back_from_nomad_as_it_was(nomad: NomadServer, texts: list[str]) -> None:
    env = {f"TEXT_{index}": text for index, text in enumerate(texts)}
    spec = replace(
        PLAIN_MODEL,
        toolkit=texts[0],
        env=env,
        driver_options={"labels": [dict.fromkeys(texts, texts[-1])]},
        placement=Placement(
            datacenters=tuple(texts), constraints=tuple(Constraint(attribute=text, value=text) for text in texts)
        ),
        program=replace(image("m"), login=RegistryLogin(username=texts[0], server=texts[-1])),
    )

    job = nomad.parse(render_job(spec))

    task = task_of(job)
    assert env.items() <= task["Env"].items()
    assert task["Config"]["labels"] == [dict.fromkeys(texts, texts[-1])]
    (auth,) = task["Config"]["auth"]
    assert (auth["username"], auth["server_address"]) == (texts[0], texts[-1])
    assert job["Datacenters"] == texts
    assert [(each["LTarget"], each["RTarget"]) for each in job["Constraints"]] == [(text, text) for text in texts]
    assert job["Meta"]["clipper_toolkit"] == texts[0]


@pytest.mark.parametrize("text", [*HOSTILE, "x" * MAX_TEXT])
def test_a_text_that_tries_to_break_out_stays_one_text(nomad: NomadServer, text: str) -> None:
    job = nomad.parse(render_job(replace(PLAIN_MODEL, env={"TEXT": text})))

    assert task_of(job)["Env"]["TEXT"] == text
    assert len(job["TaskGroups"]) == 1
