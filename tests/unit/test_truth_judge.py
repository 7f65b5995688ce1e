"""The judge of the truth test can find fault: each kind of bad answer is an offence, and each good one is none."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.acts import Act, Done, Kind, Targets, schedule
from benchmarks.checked_answers import Answer, Record, Verdict
from benchmarks.truth_health import Health
from benchmarks.truth_judge import BROKEN_WITHIN_S, KNOWN_WITHIN_S, NO_MODELS, Incidents, Judge, Row
from benchmarks.truth_model import Misfortune, misfortune, output_of
from benchmarks.truth_queries import DEFAULT_OUTPUT, LEFT_1, NOT_REGISTERED, PATIENT, PUNCTUAL, STRICT, Ask, ask, query


def find(**wanted: object) -> int:
    """Return the first number whose ask is as wanted, and that brings no misfortune."""
    for number in range(100_000):
        asked = ask(number)
        fits = all(getattr(asked, name) == value for name, value in wanted.items())
        if fits and all(misfortune(key) is Misfortune.NONE for key in asked.keys):
            return number
    raise AssertionError(f"no number asks {wanted}")


FRONTENDS = ("f0", "f1")
SINGLE = find(app=PATIENT, version=LEFT_1, pin=None, is_batch=False)
BATCH = find(app=PATIENT, version=LEFT_1, pin=None, is_batch=True)


def right_output(asked: Ask, place: int = 0) -> object:
    assert asked.version is not None
    return output_of(asked.keys[place], asked.length, asked.version.uid)


def answer(status: int, body: dict[str, object], **headers: bytes) -> Answer:
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return Answer(status, named, json.dumps(body).encode())


def right(number: int = SINGLE, **more: object) -> dict[str, object]:
    return {"query_id": 1, "output": right_output(ask(number)), "default": False, **more}


def judge() -> Judge:
    return judge_of(Incidents())


def judge_of(incidents: Incidents, health: Health | None = None) -> Judge:
    return Judge(incidents, health or Health(replicas={}, frontends=FRONTENDS), frontends=FRONTENDS)


def record(
    number: int, verdict: Verdict, *, status: int | None = 200, latency_s: float = 0.001, at: float = 100.0, place: int = 0
) -> Record:
    return Record(number, verdict, status, is_late=False, started_at=at - latency_s, latency_s=latency_s, place=place)


def test_a_right_answer_is_right() -> None:
    judged = judge()

    verdict = judged.check(query(SINGLE), answer(200, right(), x_clipper_model=b"left:1"))

    assert (verdict, judged.rows, judged.offences) == (Verdict.RIGHT, {Row.RIGHT: 1}, [])


@pytest.mark.parametrize(
    "bad",
    [
        answer(200, right() | {"output": right_output(ask(SINGLE + 1_000)) if ask(SINGLE + 1_000).version else "x"}),
        answer(200, right() | {"output": str(right_output(ask(SINGLE))).replace(LEFT_1.uid, "uid.left.2.int")}),
        answer(200, right(), x_clipper_model=b"left:2"),
    ],
    ids=["of another query", "of another version", "by another version"],
)
def test_an_answer_of_another_query_or_version_is_wrong(bad: Answer) -> None:
    judged = judge()

    verdict = judged.check(query(SINGLE), bad)

    assert (verdict, judged.wrong, len(judged.offences)) == (Verdict.WRONG, 1, 1)


def test_two_swapped_outputs_of_an_input_batch_are_wrong() -> None:
    asked = ask(BATCH)
    outputs = [right_output(asked, place) for place in (1, 0, 2)]
    parts = [{"query_id": place, "output": output, "default": False} for place, output in enumerate(outputs)]
    judged = judge()

    verdict = judged.check(query(BATCH), answer(200, {"batch_predictions": parts}))

    assert (verdict, judged.wrong) == (Verdict.WRONG, 1)


@pytest.mark.parametrize(
    ("number", "bad"),
    [
        (SINGLE, answer(502, {"error": "Bad gateway", "cause": ""})),
        (SINGLE, answer(500, {"error": "Model error", "cause": "it raised"})),
        (SINGLE, answer(400, {"error": "Query processing error", "cause": ""})),
        (SINGLE, answer(200, {"query_id": 1, "output": "1", "default": True, "default_explanation": "No connected models"})),
        (SINGLE, answer(503, {"error": "No connected models", "cause": ""})),
        (SINGLE, answer(503, {"error": "Replica left", "cause": ""})),
        (SINGLE, answer(200, right(late=True))),
        (find(app=PUNCTUAL, is_batch=False), answer(504, {"error": "Timeout", "cause": ""})),
        (find(app=STRICT, pin=NOT_REGISTERED, is_batch=False), answer(429, {"error": "Overloaded", "cause": ""})),
    ],
)
def test_an_answer_outside_the_table_is_an_offence(number: int, bad: Answer) -> None:
    judged = judge()

    assert judged.check(query(number), bad) is Verdict.WRONG
    assert judged.offence_kinds.total() == 1


def test_a_default_before_the_slo_is_an_offence() -> None:
    number = find(app=PUNCTUAL, is_batch=False)
    missed = "Failed to retrieve a prediction response within the specified latency SLO"
    body = {"query_id": 1, "output": DEFAULT_OUTPUT, "default": True, "default_explanation": missed}
    judged = judge()

    judged.check(query(number), answer(200, body, x_clipper_slo=b"missed"))
    judged.note(record(number, Verdict.DEFAULT, latency_s=0.01))

    assert judged.offence_kinds == {"too early": 1}


@pytest.mark.parametrize(("after_s", "offences"), [(0.1, 0), (BROKEN_WITHIN_S + 0.1, 1)])
def test_a_broken_connection_must_be_explained_by_the_end_of_a_frontend(after_s: float, offences: int) -> None:
    incidents = Incidents()
    incidents.frontend_ended("f0", 100.0)
    judged = judge_of(incidents)

    judged.note(record(SINGLE, Verdict.BROKEN, status=None, at=100.0 + after_s))

    assert judged.offence_kinds.total() == offences


def test_the_end_of_another_frontend_explains_no_broken_connection() -> None:
    incidents = Incidents()
    incidents.frontend_ended("f0", 100.0)
    judged = judge_of(incidents)

    judged.note(record(SINGLE, Verdict.BROKEN, status=None, at=100.1, place=1))

    assert judged.offence_kinds == {Verdict.BROKEN: 1}


@pytest.mark.parametrize(("is_unmet", "offences"), [(True, 0), (False, 1)])
def test_a_frontend_that_is_asked_to_stop_may_break_only_what_it_never_answered_on(is_unmet: bool, offences: int) -> None:  # noqa: FBT001
    incidents = Incidents()
    incidents.frontend_drained("f0", 100.0)
    judged = judge_of(incidents)

    judged.note(replace(record(SINGLE, Verdict.BROKEN, status=None, at=100.6), is_unmet=is_unmet))

    assert judged.offence_kinds.total() == offences


NO_REPLICA = {
    find(app=PUNCTUAL, is_batch=False): answer(
        200, {"query_id": 1, "output": DEFAULT_OUTPUT, "default": True, "default_explanation": NO_MODELS}
    ),
    find(app=STRICT, version=LEFT_1, is_batch=False): answer(503, {"error": "No connected models", "cause": ""}),
}


@pytest.mark.parametrize(("number", "said"), NO_REPLICA.items(), ids=["default", "error"])
@pytest.mark.parametrize(("killed_at", "offences"), [(50.0, 1), (98.0, 0), (100.5, 1)], ids=["before", "just now", "after"])
def test_that_there_is_no_replica_is_an_offence_while_one_is_healthy(
    number: int, said: Answer, killed_at: float, offences: int
) -> None:
    version = ask(number).version
    assert version is not None
    health = Health(replicas={"r": version.uid}, frontends=FRONTENDS)
    health.started("r", 10.0)
    judged = judge_of(Incidents(), health)

    judged.check(query(number), said)
    judged.note(record(number, Verdict.DEFAULT, status=said.status, latency_s=0.5, at=100.0))
    health.acted(Done(Act(at_s=0, kind=Kind.KILL_REPLICA, target="r"), killed_at, killed_at))
    health.started("r", killed_at + 0.1)
    judged.judge_wants(100.0 + KNOWN_WITHIN_S)

    assert judged.offence_kinds.total() == offences
    assert judged.wants == 1


def test_whether_a_replica_was_healthy_is_not_judged_before_its_end_would_be_known() -> None:
    number, said = next(iter(NO_REPLICA.items()))
    version = ask(number).version
    assert version is not None
    health = Health(replicas={"r": version.uid}, frontends=FRONTENDS)
    judged = judge_of(Incidents(), health)
    judged.check(query(number), said)
    judged.note(record(number, Verdict.DEFAULT, latency_s=0.5, at=100.0))

    judged.judge_wants(100.0 + KNOWN_WITHIN_S / 2)
    health.ended("r", 100.3)  # seen late: it was that which was answered
    judged.judge_wants(200.0)

    assert judged.offences == []


def test_a_query_that_was_lost_twice_must_be_explained_by_an_act() -> None:
    incidents = Incidents()
    judged = judge_of(incidents)
    lost = answer(503, {"error": "Replica lost", "cause": ""})
    for at in (100.0, 200.0):
        judged.check(query(SINGLE), lost)
        judged.note(record(SINGLE, Verdict.ERROR, status=503, at=at))
        incidents.replica_troubled(198.0)

    assert judged.offence_kinds.total() == 1


def test_nothing_explains_a_query_without_an_answer() -> None:
    incidents = Incidents()
    incidents.frontend_ended("f0", 100.0)
    judged = judge_of(incidents)

    judged.note(record(SINGLE, Verdict.UNANSWERED, status=None, at=100.1))

    assert judged.offence_kinds == {Verdict.UNANSWERED: 1}


def test_a_seed_makes_the_same_schedule_again() -> None:
    targets = Targets(frontends=["f"], replicas=["r0", "r1"], links=["r0>f", "r1>f"])

    def first_acts(seed: int) -> list[object]:
        acts = schedule(seed, targets, mean_gap_s=1.0)
        return [next(acts) for _ in range(100)]

    assert first_acts(7) == first_acts(7)
    assert first_acts(7) != first_acts(8)
