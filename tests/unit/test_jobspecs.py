"""The jobspecs: as they were agreed on (golden files), and with every text unchanged in them, whatever it holds.

To write the golden files anew: CLIPPER_RENEW_GOLDEN=1 python -m pytest tests/unit/test_jobspecs.py; then look at the diff.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from clipper_nomad.cluster.jobs import render
from clipper_nomad.cluster.jobs.hcl import Name, aligned, hcl
from clipper_nomad.cluster.jobs.programs import Image, RegistryLogin
from clipper_nomad.cluster.jobs.render import render_job
from clipper_nomad.cluster.jobs.requirements import Constraint, Gpus, Network, NetworkMode, Placement, Resources
from clipper_nomad.cluster.jobs.specs import EntryByAddress, FrontendJob, JobSpec, ModelJob
from clipper_nomad.resources import jobspecs_folder
from tests.unit.jobspec_cases import CASES, GOLDEN, PLAIN_MODEL, TEXTS, golden_file, image
from tests.unit.small_hcl import Body, Reader, read

RENEW = "CLIPPER_RENEW_GOLDEN"


@pytest.mark.parametrize("case", CASES)
def test_a_jobspec_is_the_one_that_was_agreed_on(case: str) -> None:
    file = golden_file(case)
    rendered = render_job(CASES[case])
    if os.environ.get(RENEW):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(rendered, encoding="utf-8")

    assert file.exists(), f"no golden file: look at what {RENEW}=1 writes, then commit it"
    assert rendered == file.read_text(encoding="utf-8"), f"if this change is meant: {RENEW}=1 writes the file anew"


def test_every_job_has_two_golden_files_and_each_file_has_its_case() -> None:
    files = {str(file.relative_to(GOLDEN)) for file in GOLDEN.rglob("*.nomad.hcl")}
    jobs = [file.name.removesuffix(".nomad.hcl.j2") for file in jobspecs_folder().glob("*.nomad.hcl.j2")]

    assert files == {f"{case}.nomad.hcl" for case in CASES}
    assert {job: sum(case.startswith(f"{job}/") for case in CASES) >= 2 for job in jobs} == dict.fromkeys(jobs, True)


# --- texts ---


def parsed(spec: JobSpec) -> tuple[Body, Body, Body]:
    """The job, its group and its task."""
    job = read(render_job(spec)).one("job")
    group = job.one("group")
    return job, group, group.one("task")


@given(TEXTS)
def test_any_text_comes_back_from_hcl_as_it_was(text: str) -> None:
    assert Reader(hcl(text)).value() == text


VALUES = st.recursive(
    st.one_of(TEXTS, st.booleans(), st.integers()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)


@given(VALUES)
def test_any_value_comes_back_from_hcl_as_it_was(value: object) -> None:
    assert Reader(hcl(value)).value() == value  # type: ignore[arg-type]  # the strategy makes only such


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_a_text_in_any_free_field_changes_that_field_and_nothing_else(one: str, two: str, three: str, four: str) -> None:
    constraint = Constraint(attribute=one, value=two)
    spec = replace(
        PLAIN_MODEL,
        toolkit=one,
        env={"A": one, "B": two, "C": three},
        driver_options={"labels": [{two: three}], "hostname": four},
        program=Image(reference=image("m").reference, login=RegistryLogin(username=three, server=four)),
        placement=Placement(datacenters=(one, four), constraints=(constraint,)),
        resources=Resources(gpus=(Gpus(constraints=(constraint,)),)),
    )

    job, group, task = parsed(spec)

    assert job.attributes["datacenters"] == [one, four]
    assert job.one("constraint").attributes == {"attribute": one, "operator": "=", "value": two}
    assert job.one("meta").attributes["clipper_toolkit"] == one
    assert {key: task.one("env").attributes[key] for key in "ABC"} == {"A": one, "B": two, "C": three}
    assert task.one("config").attributes["labels"] == [{two: three}]
    assert task.one("config").attributes["hostname"] == four
    assert task.one("config").one("auth").attributes["username"] == three
    assert task.one("config").one("auth").attributes["server_address"] == four
    device = task.one("resources").one("device")
    assert device.one("constraint").attributes == {"attribute": one, "operator": "=", "value": two}
    plain_job, plain_group, _ = parsed(PLAIN_MODEL)
    assert [name for name, _, _ in group.blocks] == [name for name, _, _ in plain_group.blocks]
    assert plain_job.one("ui").attributes == job.one("ui").attributes


@pytest.mark.parametrize("value", [None, object(), "\ud800", Name("a b"), Name('a" = 1\nb')])
def test_what_has_no_form_in_hcl_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        hcl(value)  # type: ignore[arg-type]  # that is the point


def test_neighbouring_attributes_stand_in_one_column() -> None:
    text = 'a = 1\nlonger = "x = y"\n\n  b = 2\nc {\n'

    assert aligned(text) == 'a      = 1\nlonger = "x = y"\n\n  b = 2\nc {\n'


def test_a_template_that_forgets_the_filter_or_a_value_is_refused() -> None:
    environment = render._environment()  # noqa: SLF001  # the rules of the one environment that there is

    with pytest.raises(TypeError, match="without the filter"):
        environment.from_string("name = {{ name }}").render(name='a" b')
    with pytest.raises(UndefinedError):
        environment.from_string("name = {{ forgotten | hcl }}").render(name="a")


# --- what the jobs promise ---

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)(ms|s|m|h)", text)
    assert found, text
    return int(found[1]) * SECONDS[found[2]]


def is_legacy(case: str) -> bool:
    """Whether it is an image of Clipper's own: it has no check of ours, and does not look again where to dial."""
    spec = CASES[case]
    return isinstance(spec, ModelJob) and spec.is_legacy


@pytest.mark.parametrize("case", CASES)
def test_a_container_of_rpc_version_3_gets_clipper_s_variables_and_no_key(case: str) -> None:
    if not is_legacy(case):
        return
    _, _, task = parsed(CASES[case])
    env = task.one("env").attributes
    data = "".join(file.attributes["data"] for file in task.all("template"))

    dialled = {"CLIPPER_IP", "CLIPPER_PORT"}
    assert set(env) - dialled == {"CLIPPER_MODEL_NAME", "CLIPPER_MODEL_VERSION", "CLIPPER_INPUT_TYPE"}
    assert (dialled <= set(env)) != all(f"{name}=" in data for name in dialled)


@pytest.mark.parametrize("case", CASES)
def test_times_are_such_that_nomad_takes_them_and_nothing_waits_in_vain(case: str) -> None:
    _, group, task = parsed(CASES[case])
    update = group.one("update").attributes

    assert seconds(update["healthy_deadline"]) < seconds(update["progress_deadline"])
    assert seconds(task.attributes["kill_timeout"]) <= seconds(update["progress_deadline"])
    drain_s = int(task.one("env").attributes.get("CLIPPER_DRAIN_S", "0")) if task.all("env") else 0
    assert seconds(task.attributes["kill_timeout"]) > drain_s
    assert [each.attributes["delay"] for each in group.all("reschedule")] in ([], ["5s"])
    services = [*group.all("service"), *task.all("service")]
    checks = [check.attributes for service in services for check in service.all("check")]
    assert checks or is_legacy(case)
    assert all(seconds(check["timeout"]) <= seconds(check["interval"]) <= 2 for check in checks)


@pytest.mark.parametrize("case", CASES)
def test_every_service_has_a_check_and_only_frontends_have_canaries(case: str) -> None:
    _, group, task = parsed(CASES[case])
    services = [*group.all("service"), *task.all("service")]

    assert services
    assert all(service.all("check") for service in services) != is_legacy(case)
    is_frontend = isinstance(CASES[case], FrontendJob)
    assert ("canary" in group.one("update").attributes) == is_frontend
    for service in services:
        canary_tags = service.attributes.get("canary_tags")
        assert (canary_tags is not None) == is_frontend
        routes = [tag for tag in service.attributes["tags"] if tag.startswith("urlprefix-")]
        if canary_tags is not None:  # the same routes, with the least share
            found = [tag for tag in canary_tags if tag.startswith("urlprefix-")]
            assert found == [f"{route} weight=0.0001" for route in routes]


@pytest.mark.parametrize("case", CASES)
def test_the_meta_says_whose_the_job_is_and_what(case: str) -> None:
    spec = CASES[case]
    job, _, _ = parsed(spec)
    meta = job.one("meta").attributes

    assert meta["clipper_cluster"] == spec.cluster.cluster
    assert meta["clipper_kind"] == case.partition("/")[0]
    assert meta["clipper_toolkit"] == "0.1.0"
    if isinstance(spec, ModelJob):
        assert (meta["clipper_model"], meta["clipper_model_version"]) == ("diabetes", "1")
        assert meta["clipper_model_uid"] == spec.uid


@pytest.mark.parametrize("case", CASES)
def test_no_jobspec_has_a_secret_or_the_address_of_one_of_our_services(case: str) -> None:
    _, _, task = parsed(CASES[case])
    env = task.one("env").attributes if task.all("env") else {}
    files = {file.attributes["destination"]: file.attributes for file in task.all("template")}

    assert not {"CLIPPER_STORE_URL", "CLIPPER_TOKEN", "CLIPPER_RPC_ADDRESSES"} & set(env)
    for destination, file in files.items():
        is_public = destination == "local/curve-server-keys"  # so that it can be seen from outside who was told
        assert ("nomadVar" not in file["data"]) or is_public or destination.startswith("secrets/")
        assert file["change_mode"] == ("restart" if is_legacy(case) else "noop")
    for variable, path in env.items():
        if variable.endswith("_FILE") and variable != "CLIPPER_READY_FILE":
            assert path.removeprefix("/") in files


def test_redis_writes_through_wants_a_password_and_never_becomes_two() -> None:
    for case in ("redis/host-volume", "redis/ephemeral"):
        _, group, task = parsed(CASES[case])
        (settings,) = task.all("template")
        lines = settings.attributes["data"].splitlines()

        assert {"appendonly yes", "appendfsync always", "requirepass {{ .store_password }}"} <= set(lines)
        assert group.one("disconnect").attributes == {"lost_after": "6h", "replace": False}
        assert group.attributes["count"] == 1


def test_redis_keeps_its_data_on_the_volume_or_takes_it_along() -> None:
    _, on_volume, task = parsed(CASES["redis/host-volume"])
    _, ephemeral, moving_task = parsed(CASES["redis/ephemeral"])

    assert on_volume.one("volume").attributes["source"] == "clipper-redis"
    assert task.one("volume_mount").attributes["destination"] == "/data"
    assert "dir /data\n" in task.one("template").attributes["data"]
    assert ephemeral.one("ephemeral_disk").attributes == {"size": 2048, "sticky": True, "migrate": True}
    assert "dir /alloc/data\n" in moving_task.one("template").attributes["data"]


@pytest.mark.parametrize(
    ("mode", "listens"), [(NetworkMode.HOST, "${NOMAD_ADDR_rpc}"), (NetworkMode.DOCKER, "0.0.0.0:${NOMAD_PORT_rpc}")]
)
def test_a_frontend_tells_others_the_address_that_the_machine_gave_it(mode: NetworkMode, listens: str) -> None:
    _, _, task = parsed(replace(CASES["query-frontend/default"], network=Network(mode=mode)))
    env = task.one("env").attributes

    assert env["CLIPPER_RPC_ADDRESS"] == f"tcp://{listens}"
    assert env["CLIPPER_ADVERTISED_RPC_ADDRESS"] == "tcp://${NOMAD_ADDR_rpc}"


def test_without_fabio_there_is_no_route_and_replicas_find_frontends_in_consul() -> None:
    _, group, _ = parsed(CASES["query-frontend/without-fabio"])
    _, _, task = parsed(CASES["model/default"])

    assert not [tag for service in group.all("service") for tag in service.attributes["tags"] if "urlprefix" in tag]
    assert task.one("env").attributes["CLIPPER_RPC_ADDRESSES_FILE"] == "/local/rpc-addresses"
    assert 'service "clipper-default-cluster-query-frontend-rpc"' in task.all("template")[0].attributes["data"]


def test_with_a_load_balancer_replicas_dial_it_under_clipper_s_variables() -> None:
    _, _, task = parsed(replace(PLAIN_MODEL, entry=EntryByAddress(host="10.1.2.3", port=7100)))
    env = task.one("env").attributes

    assert (env["CLIPPER_IP"], env["CLIPPER_PORT"]) == ("10.1.2.3", "7100")
    assert "CLIPPER_RPC_ADDRESSES_FILE" not in env


def test_encryption_can_be_switched_off_and_leaves_nothing() -> None:
    for case in ("query-frontend/without-fabio", "model/through-fabio"):
        assert "curve" not in render_job(CASES[case]).lower()
