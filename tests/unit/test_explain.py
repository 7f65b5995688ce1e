"""Every failure of tests/data/nomad becomes one sentence of cause, and a hint where there is something to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clipper_nomad.cluster.rollout.capacity import Room, rooms_of
from clipper_nomad.cluster.rollout.explain import FailingCheck, Situation, explain, last_lines, refusal
from clipper_nomad.cluster.rollout.image_pulls import pull_failure
from clipper_nomad.cluster.rollout.placement import may_pass, placement_failure
from clipper_nomad.cluster.rollout.task_failures import troubles_of
from tests.unit.nomad_samples import FOLDER, sample, situation_of

ROOMS = (
    Room(
        client="client-1",
        datacenter="dc1",
        node_pool="default",
        cpu_mhz=900,
        memory_mib=12_000,
        all_cpu_mhz=5_900,
        all_memory_mib=12_000,
    ),
    Room(
        client="client-3",
        datacenter="dc2",
        node_pool="default",
        cpu_mhz=2_350,
        memory_mib=512,
        all_cpu_mhz=5_900,
        all_memory_mib=8_000,
    ),
)
PULL = "image 127.0.0.1:15000/m/a:1 cannot be pulled"
CAUSES = {
    "bad_driver_config": 'the driver does not accept the task\'s config: No argument or block type is named "nonsense"',
    "constraint_filtered": "no client meets the constraint ${attr.kernel.name} = plan9",
    "driver_missing": "no client has the driver 'podman'",
    "exit_1": "exited with code 1, 2 times",
    "exit_127_no_command": "the command 'no-such-binary' is not there: not in the image, or not on the client",
    "failing_health_check": "it runs but did not become healthy within 8s: a check of its services does not pass",
    "image_missing_tag": (
        "image 127.0.0.1:15000/m/a:missing cannot be pulled: the registry 127.0.0.1:15000 has no such image: it does not"
        " know this tag"
    ),
    "image_no_auth": f"{PULL}: the registry wants credentials and got none",
    "image_unreachable_registry": (
        "image 127.0.0.1:15999/m/a:1 cannot be pulled: the registry 127.0.0.1:15999 refuses the connection"
    ),
    "image_unresolvable_registry": (
        "image registry.invalid/m/a:1 cannot be pulled: the client cannot resolve the name of the registry registry.invalid"
    ),
    "image_wrong_auth": f"{PULL}: the registry refused the credentials",
    "no_capacity_cpu": "needs 900,000 MHz of CPU; the one client there is has less free",
    "no_capacity_memory": "needs 900,000 MiB of memory; the one client there is has less free",
    "no_capacity_partial": (
        "needs 10,000 MiB of memory; the one client there is has less free; 2 of 3 replicas have a place"
    ),
    "oom": "OOM-killed at 40 MiB, 2 times",
    "port_clash_foreign": "exited with code 1, 2 times",
    "port_clash_nomad": "port 15012 ('p') is taken by another job on every client that could run it",
    "template_missing_variable": "waits for the Nomad variable 'nomad/jobs/tplmiss', which does not exist",
    "unknown_datacenter": "no client of node pool 'default' is in datacenter 'mars-1'",
    "volume_missing": "no client has the host volume 'redis'",
}
REFUSALS = {
    "unknown_node_pool": "the node pool 'gpu' does not exist",
    "invalid_job_reschedule_delay": "Task group g: Delay cannot be less than 5s (got 1s)",
    "invalid_job_no_tasks": "Task group g: Missing tasks for task group",
    "invalid_job_healthy_deadline": "Healthy deadline must be less than progress deadline: 15m0s > 10m0s",
    "invalid_job_service_name": "Service[0] bad_name.x: Service name must be valid per RFC 1123",
}
PARSE_ERRORS = {
    "invalid_hcl_single_line_block": "input.hcl:2,25-32: Invalid single-argument block definition",
    "invalid_hcl_syntax": "input.hcl:2,13-14: Unclosed configuration block",
    "invalid_hcl_unknown_argument": 'An argument named "counts" is not expected here. Did you mean "count"?',
    "invalid_hcl_unknown_block": "Unsupported block type",
}


def test_every_sample_has_an_expected_sentence() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {*CAUSES, *REFUSALS, *PARSE_ERRORS}


@pytest.mark.parametrize("name", CAUSES)
def test_what_nomad_said_becomes_one_sentence(name: str) -> None:
    failure = explain(situation_of(name))

    assert failure is not None
    assert failure.cause == CAUSES[name]
    assert failure.hint or "exited" in failure.cause


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refused_registration_is_told_in_one_line(name: str) -> None:
    failure = refusal(sample(name)["register"]["body"])

    assert "\n" not in failure.cause
    assert "occurred" not in failure.cause
    assert REFUSALS[name] in failure.cause


@pytest.mark.parametrize("name", PARSE_ERRORS)
def test_a_jobspec_that_cannot_be_read_is_told_with_its_place(name: str) -> None:
    assert PARSE_ERRORS[name] in sample(name)["parse"]["body"]
    assert sample(name)["parse"]["status"] == 400


def test_the_roomiest_client_is_named_where_the_clients_are_known() -> None:
    of_cpu = explain(replace(situation_of("no_capacity_cpu"), rooms=ROOMS))
    of_memory = explain(replace(situation_of("no_capacity_memory"), rooms=ROOMS))

    assert of_cpu
    assert of_cpu.cause == "needs 900,000 MHz of CPU; the roomiest client has 2,350 free (client-3)"
    assert of_memory
    assert of_memory.cause == "needs 900,000 MiB of memory; the roomiest client has 12,000 free (client-1)"


def test_the_datacenters_that_there_are_are_named() -> None:
    failure = explain(replace(situation_of("unknown_datacenter"), rooms=ROOMS))

    assert failure
    assert failure.hint == "The clients are in: dc1, dc2."


def test_a_cluster_without_a_client_is_told_as_such() -> None:
    failure = explain(replace(situation_of("unknown_datacenter"), rooms=()))

    assert failure
    assert failure.cause == "Nomad has no client that takes jobs"


def test_the_last_line_of_the_log_is_part_of_the_cause() -> None:
    failure = explain(situation_of("exit_1", log="Traceback …\nValueError: no weights\n"))

    assert failure
    assert failure.cause == "exited with code 1, 2 times: ValueError: no weights"
    assert failure.log_tail == "Traceback …\nValueError: no weights"


def test_a_port_that_a_stranger_holds_is_known_from_the_log_alone() -> None:
    failure = explain(situation_of("port_clash_foreign", log="OSError: [Errno 98] Address already in use\n"))

    assert failure
    assert failure.cause == "port 15000 is taken by a process outside Nomad on the client"


def test_more_memory_is_the_hint_after_an_oom_kill() -> None:
    failure = explain(situation_of("oom"))

    assert failure
    assert failure.hint == "It needs more memory than it may take: try memory=80."


def test_the_check_is_named_with_what_it_said() -> None:
    situation = situation_of("failing_health_check")
    check = FailingCheck(
        alloc_id=situation.allocations[0]["ID"], service="s-http", check="alive", output="HTTP GET …: 503 \n Unavailable"
    )

    failure = explain(replace(situation, checks=[check]))

    assert failure
    assert failure.cause == "the check 'alive' of service 's-http' does not pass: HTTP GET …: 503 Unavailable"


def test_a_job_of_which_nothing_bad_is_known_has_no_failure() -> None:
    situation = situation_of("no_capacity_partial")

    assert explain(replace(situation, evaluations=[])) is None


def test_a_missing_digest_is_not_called_a_tag() -> None:
    said = "manifest for r.example/m@sha256:0 not found: manifest unknown"

    failure = pull_failure(f"Failed to pull `r.example/m@sha256:0`: Error response from daemon: {said}")

    assert failure
    assert failure.lasting
    assert failure.cause.endswith("the registry r.example has no such image: it does not know this digest")
    assert "Push the image" in failure.hint


@pytest.mark.parametrize(
    ("said", "reason", "lasting"),
    [
        ('Get "https://r.example/v2/": net/http: TLS handshake timeout', "r.example does not answer", False),
        ('Get "https://r.example/v2/": tls: x509: certificate signed by unknown authority', "is not trusted", True),
        ("http: server gave HTTP response to HTTPS client", "speaks plain HTTP", True),
        ("pull access denied for m, repository does not exist or may require 'docker login'", "no such repository", True),
        ("write /var/lib/docker/x: no space left on device", "disk is full", False),
        ("something new", "cannot be pulled: something new", False),
    ],
)
def test_other_reasons_of_a_failed_pull(said: str, reason: str, lasting: bool) -> None:  # noqa: FBT001  # a case
    failure = pull_failure(f"Failed to pull `r.example/m:1`: Error response from daemon: {said}")

    assert failure
    assert reason in failure.cause
    assert failure.lasting is lasting


def test_a_task_that_nomad_ended_itself_has_no_trouble() -> None:
    events = [{"Type": kind} for kind in ("Received", "Started", "Killing")]
    ended = {"Type": "Terminated", "Details": {"exit_code": "143", "signal": "15"}}

    assert troubles_of({"TaskStates": {"t": {"Events": [*events, ended]}}}) == []


@pytest.mark.parametrize(("registered_ns", "is_cause"), [(50, True), (150, False)])
def test_a_task_that_was_started_again_before_the_job_was_registered_explains_nothing(
    registered_ns: int,
    is_cause: bool,  # noqa: FBT001  # a case
) -> None:
    killed = {"Type": "Terminated", "Time": 100, "Details": {"exit_code": "137", "signal": "9"}}
    events = [{"Type": "Started", "Time": 10}, killed, {"Type": "Started", "Time": 120}]
    allocation = {"ID": "a", "CreateIndex": 1, "TaskStates": {"t": {"State": "running", "Events": events}}}

    failure = explain(Situation(job={"SubmitTime": registered_ns}, allocations=[allocation]))

    assert (failure is not None and "SIGKILL" in failure.cause) is is_cause


def test_room_is_what_is_not_reserved_and_not_used() -> None:
    def asks(cpu: int, memory: int) -> dict[str, dict[str, int]]:
        return {"Cpu": {"CpuShares": cpu}, "Memory": {"MemoryMB": memory}}

    about = {"Status": "ready", "SchedulingEligibility": "eligible", "Datacenter": "dc1", "NodePool": "default"}
    node = {"ID": "n", "Name": "c", "NodeResources": asks(4000, 8000), "ReservedResources": asks(500, 1000), **about}
    away = {**node, "ID": "m", "Status": "down"}
    running = {"NodeID": "n", "ClientStatus": "running", "AllocatedResources": {"Tasks": {"t": asks(1000, 256)}}}
    ended = {**running, "ClientStatus": "complete"}

    (room,) = rooms_of([node, away], [running, ended])

    assert (room.cpu_mhz, room.memory_mib) == (2500, 6744)
    assert (room.all_cpu_mhz, room.all_memory_mib) == (3500, 7000)


def test_waiting_helps_only_where_an_empty_client_would_do() -> None:
    failed = sample("no_capacity_partial")["evaluations"][0]["FailedTGAllocs"]
    never = sample("no_capacity_memory")["evaluations"][0]["FailedTGAllocs"]
    constraint = sample("constraint_filtered")["evaluations"][0]["FailedTGAllocs"]

    assert may_pass(failed, rooms=ROOMS)
    assert not may_pass(never, rooms=ROOMS)
    assert not may_pass(constraint, rooms=ROOMS)
    assert may_pass(never)  # unknown rooms


def test_network_mode_bridge_without_its_plugins_is_named() -> None:
    filtered = {"ConstraintFiltered": {"${attr.plugins.cni.version.bridge} semver >= 0.4.0": 1}}

    assert "CNI plugins" in placement_failure(filtered, group="g").cause


def test_a_log_is_cut_at_its_end() -> None:
    assert last_lines("\n".join(map(str, range(30))) + "\n\n") == "\n".join(map(str, range(15, 30)))
