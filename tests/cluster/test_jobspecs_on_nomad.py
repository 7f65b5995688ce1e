"""The jobspecs as a real Nomad reads them: golden files and texts that try to break out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipper_nomad.cluster.jobs.checks import MAX_TEXT
from clipper_nomad.cluster.jobs.programs import RegistryLogin
from clipper_nomad.cluster.jobs.render import render_job
from clipper_nomad.cluster.jobs.requirements import Constraint, Placement
from clipper_nomad.cluster.nomad_api import NomadApi
from tests.cluster.processes import binary
from tests.cluster.rig import Rig
from tests.unit.jobspec_cases import CASES, HOSTILE, PLAIN_MODEL, TEXTS, golden_file, image

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def nomad(rig: Rig) -> Iterator[NomadApi]:
    """A Nomad with what the golden files name: a namespace `ml`, a node pool `gpu`, memory that may be oversubscribed."""
    configuration = "operator/scheduler/configuration"
    call(rig, "put", "namespace/ml", {"Name": "ml"})
    call(rig, "put", "node/pool/gpu", {"Name": "gpu"})
    call(rig, "put", configuration, {"MemoryOversubscriptionEnabled": True})
    yield rig.nomad()
    call(rig, "put", configuration, {"MemoryOversubscriptionEnabled": False})
    call(rig, "delete", "node/pool/gpu")
    call(rig, "delete", "namespace/ml")


def call(rig: Rig, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401  # Nomad's JSON
    """What NomadApi has no use for. What Nomad refuses fails the test with Nomad's own words."""
    reply = requests.request(method, f"{rig.nomad_url}/v1/{path}", json=body, timeout=10)
    assert reply.ok, reply.text
    return reply.json() if reply.text else None


def problems(rig: Rig, job: Mapping[str, Any]) -> list[str]:
    """What Nomad would refuse, and warn of, when the job is registered."""
    verdict = call(rig, "put", "validate/job", {"Job": job})
    return [*(verdict["ValidationErrors"] or []), *filter(None, [verdict["Error"], verdict["Warnings"]])]


def task_of(job: dict[str, Any]) -> dict[str, Any]:
    (group,) = job["TaskGroups"]
    (task,) = group["Tasks"]
    assert isinstance(task, dict)
    return task


@pytest.mark.parametrize("case", CASES)
def test_nomad_takes_every_golden_file_without_a_warning(rig: Rig, nomad: NomadApi, case: str) -> None:
    job = nomad.parse(golden_file(case).read_text(encoding="utf-8"))

    assert job["ID"] == CASES[case].job_id
    assert problems(rig, job) == []


@pytest.mark.parametrize("case", CASES)
def test_a_golden_file_is_written_as_nomad_would_write_it(rig: Rig, case: str) -> None:
    done = subprocess.run(
        [binary("nomad"), "fmt", "-check", "-write=false", str(golden_file(case))],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("case", CASES)
def test_what_nomad_read_is_what_was_put_in(nomad: NomadApi, case: str) -> None:
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
def test_any_text_comes_back_from_nomad_as_it_was(nomad: NomadApi, texts: list[str]) -> None:
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
def test_a_text_that_tries_to_break_out_stays_one_text(nomad: NomadApi, text: str) -> None:
    job = nomad.parse(render_job(replace(PLAIN_MODEL, env={"TEXT": text})))

    assert task_of(job)["Env"]["TEXT"] == text
    assert len(job["TaskGroups"]) == 1
