"""What the layer over python-nomad makes of a real Nomad: registering, finding, variables, blocking queries, errors."""

from __future__ import annotations

import json
import threading
import time

import pytest

from clipper_nomad.cluster.endpoints import Endpoint
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.errors import JobspecError, NomadConflict, NomadRefused, NomadUnreachable
from tests.cluster.jobs import web_job
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


def test_two_people_cannot_overwrite_each_other(nomad: NomadApi) -> None:
    job = nomad.parse(web_job("web"))
    nomad.register(job, modify_index=0)

    with pytest.raises(NomadConflict, match="changed by somebody else"):
        nomad.register(job, modify_index=0)


def test_a_jobspec_with_an_error_names_line_and_column(nomad: NomadApi) -> None:
    with pytest.raises(JobspecError, match=r"input\.hcl:2,.*banana"):
        nomad.parse('job "x" {\n  banana "g" {}\n}')


@pytest.mark.parametrize("text", ['say "hi"', "back\\slash", "${attr.x} %{if}", "two\nlines", "ü × 中"])
def test_strings_that_were_escaped_come_out_as_they_were_put_in(nomad: NomadApi, text: str) -> None:
    job = nomad.parse(web_job("web", env={"WORD": text}), whole=["web", "WORD", text])

    assert job["TaskGroups"][0]["Tasks"][0]["Env"]["WORD"] == text


def test_a_string_that_breaks_out_of_its_quotes_is_refused(nomad: NomadApi) -> None:
    evil = '1"\nEVIL = "2'
    hcl = web_job("web", env={"WORD": "PLACE"}).replace("PLACE", evil)

    with pytest.raises(JobspecError, match="did not come out unchanged"):
        nomad.parse(hcl, whole=["web", evil])


def test_jobs_are_found_by_meta_alone(nomad: NomadApi) -> None:
    for name, meta in {"a": {"cluster": "one", "kind": "model"}, "b": {"cluster": "one"}, "c": {}}.items():
        nomad.register(nomad.parse(web_job(name, meta=meta, service=False)), modify_index=0)

    assert [job["ID"] for job in nomad.jobs({"cluster": "one"})] == ["a", "b"]
    assert [job["ID"] for job in nomad.jobs({"cluster": "one", "kind": "model"})] == ["a"]
    assert nomad.jobs({"cluster": "two"}) == []


@pytest.mark.parametrize("job_id", ["web/allocations", "..", "", "web/../agent/self"])
def test_an_id_that_would_reach_another_endpoint_is_refused(nomad: NomadApi, job_id: str) -> None:
    with pytest.raises(JobspecError):
        nomad.job(job_id)


def test_an_id_with_a_question_mark_or_a_percent_sign_stays_an_id(nomad: NomadApi) -> None:
    assert nomad.job("web?meta=true") is None
    assert nomad.job("web%2fallocations#x") is None


def test_a_variables_conflict_shows_nothing_of_what_is_stored(nomad: NomadApi) -> None:
    index = nomad.put_variable("clipper/keys", {"secret": "hunter2"}, cas=0)

    with pytest.raises(NomadConflict) as caught:
        nomad.put_variable("clipper/keys", {"secret": "other"}, cas=index + 1)
    found = nomad.variable("clipper/keys")
    nomad.delete_variable("clipper/keys", cas=index)

    assert found
    assert dict(found.items) == {"secret": "hunter2"}
    assert "hunter2" not in repr(found)
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert "hunter2" not in json.dumps([str(each) for each in chain] + [repr(caught.value.__dict__)])
    assert nomad.variable("clipper/keys") is None


def test_a_blocking_query_returns_when_something_changes(nomad: NomadApi) -> None:
    nomad.register(nomad.parse(web_job("web", service=False)), modify_index=0)
    index = wait_until(lambda: nomad.watch_allocations("web", index=0).index, "an index")
    threading.Timer(0.5, lambda: nomad.deregister("web")).start()

    started = time.monotonic()
    stops = False
    while not stops:
        seen = nomad.watch_allocations("web", index=index, wait_s=20)
        index, stops = seen.index, any(each["DesiredStatus"] == "stop" for each in seen.body)

    assert time.monotonic() - started < 10


def test_an_index_from_another_life_of_nomad_starts_again_at_zero(nomad: NomadApi) -> None:
    nomad.register(nomad.parse(web_job("web", service=False)), modify_index=0)

    seen = nomad.watch_allocations("web", index=10_000_000, wait_s=0.2)

    assert seen.index == 0


def test_nomads_own_words_come_with_their_status(nomad: NomadApi) -> None:
    with pytest.raises(NomadRefused) as caught:
        nomad.evaluation("00000000-0000-0000-0000-000000000000")

    assert caught.value.status == 404


def test_the_agent_and_its_clients_describe_themselves(nomad: NomadApi) -> None:
    agent, (node,) = nomad.agent(), nomad.nodes()

    assert agent["config"]["Version"]["Version"].startswith("1.")
    assert ":" in nomad.leader()
    assert node["NodeResources"]["Memory"]["MemoryMB"] > 0


def test_a_nomad_that_is_away_is_told_shortly() -> None:
    with pytest.raises(NomadUnreachable, match=r"http://127.0.0.1:9 did not answer: Connection refused\."):
        NomadApi(Endpoint(url="http://127.0.0.1:9")).leader()
