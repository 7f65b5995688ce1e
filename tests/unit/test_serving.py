"""What a frontend serves while its catalog, its replicas and its clients change, on simulated time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clipper_nomad.protocol.wire import MessageType
from clipper_nomad.state.records import App, Model, ModelVersion, SloPolicy
from clipper_nomad_frontend import answers
from clipper_nomad_frontend.answers import Outcome
from clipper_nomad_frontend.endpoints import Query
from tests.unit.simulation import (
    SimulatedFrontend,
    Speed,
    current,
    identity_app,
    identity_version,
)

QUICK = Speed(start_s=0.001, per_query_s=0.0001)
SLOW = Speed(start_s=1.0, per_query_s=0.0)
V1, V2 = identity_version("1"), identity_version("2")
NO_MODELS = b"No connected models found for query"


def serving(*replicas: ModelVersion, app: App | None = None, speed: Speed = QUICK) -> SimulatedFrontend:
    """A frontend with one app at version 1, and replicas of these versions."""
    frontend = SimulatedFrontend()
    frontend.serve(app or identity_app(), V1, V2, current(V1))
    for version in replicas:
        frontend.start_replica(version, speed)
    return frontend


# ---- the way of a query


def test_a_query_is_answered_by_the_current_version() -> None:
    frontend = serving(V1, V2)

    query = frontend.ask(number=7.5)
    frontend.run_for(1.0)

    assert frontend.answer_of(query).output == 7.5
    assert frontend.answer_of(query).model == "identity:1"
    assert not frontend.serving.owes_answers


def test_queries_that_arrive_together_become_one_batch() -> None:
    frontend = SimulatedFrontend()
    version = identity_version(batch_size=10)
    frontend.serve(identity_app(), version, current(version))
    frontend.start_replica(version, QUICK)
    frontend.ask()
    frontend.run_for(1.0)
    frontend.ask()
    frontend.ask()
    frontend.run_for(1.0)

    for _ in range(9):
        frontend.ask()
    frontend.run_for(1.0)

    sizes = frontend.serving.dispatches["uid-1"].counters.batch_size
    assert sizes.sum == 12
    assert sum(sizes.counts) <= 5


def test_a_query_may_ask_for_a_version() -> None:
    frontend = serving(V1, V2)

    query = frontend.ask(version="2")
    frontend.run_for(1.0)

    assert frontend.answer_of(query).model == "identity:2"


def test_a_version_that_is_not_registered_is_refused_at_once() -> None:
    frontend = serving(V1)

    query = frontend.ask(version="9")

    answer = frontend.answer_of(query).answer
    assert answer.status == 400
    assert answer.cause == "Requested version: 9 does not exist for model: identity"


@pytest.mark.parametrize("version", [None, "1"])
@pytest.mark.parametrize(("policy", "status"), [("late", 200), ("default", 200), ("error", 503)])
def test_an_app_without_a_link_answers_at_once(policy: SloPolicy, status: int, version: str | None) -> None:
    frontend = serving(V1, app=identity_app(policy=policy, linked=False))

    query = frontend.ask(version=version)

    assert frontend.answer_of(query).answer.status == status
    assert NO_MODELS in frontend.answer_of(query).answer.body


@pytest.mark.parametrize(("policy", "after_s", "status"), [("late", 3.0, 200), ("default", 0.5, 200), ("error", 0.5, 503)])
def test_without_a_replica_an_app_waits_as_its_policy_says(policy: SloPolicy, after_s: float, status: int) -> None:
    frontend = serving(app=identity_app(slo_s=0.5, timeout_s=3.0, policy=policy))

    query = frontend.ask()
    frontend.run_for(after_s - 0.01)
    assert not frontend.answered
    frontend.run_for(0.02)

    assert frontend.answer_of(query).answer.status == status
    assert NO_MODELS in frontend.answer_of(query).answer.body


def test_a_replica_that_comes_meanwhile_answers_who_waits() -> None:
    frontend = serving()
    query = frontend.ask(number=3.0)
    frontend.run_for(5.0)

    frontend.start_replica(V1, QUICK)
    frontend.run_for(1.0)

    assert frontend.answer_of(query).output == 3.0


@pytest.mark.parametrize(
    ("policy", "at_s", "status", "text"),
    [
        ("late", 1.0, 200, b'"late":true'),
        ("default", 0.5, 200, b"within the specified latency SLO"),
        ("error", 0.5, 504, b"within the specified latency SLO"),
    ],
)
def test_past_the_slo_each_policy_has_its_own_answer(policy: SloPolicy, at_s: float, status: int, text: bytes) -> None:
    frontend = serving(V1, app=identity_app(slo_s=0.5, timeout_s=3.0, policy=policy), speed=SLOW)

    query = frontend.ask()
    frontend.run_for(3.0)

    answered = frontend.answer_of(query)
    assert answered.at == pytest.approx(query.arrived + at_s, abs=0.01)
    assert answered.answer.status == status
    assert text in answered.answer.body


def test_past_the_timeout_who_waits_for_late_answers_gets_504() -> None:
    frontend = serving(V1, app=identity_app(slo_s=0.5, timeout_s=0.8), speed=SLOW)

    query = frontend.ask()
    frontend.run_for(3.0)

    assert frontend.answer_of(query).answer.status == 504
    assert "timeout_micros=800000" in frontend.answer_of(query).answer.cause


def test_a_client_that_has_gone_gets_nothing_and_owes_nothing() -> None:
    frontend = serving()
    query = frontend.ask()

    with frontend.loop.running():
        frontend.serving.abandon(query)
        frontend.serving.abandon(query)
    frontend.run_for(100.0)

    assert not frontend.answered
    assert frontend.serving.dispatches["uid-1"].queue.count == 0
    assert not frontend.serving.owes_answers


def test_a_sink_that_raises_does_not_harm_the_others(caplog: pytest.LogCaptureFixture) -> None:
    frontend = serving()
    bad, good = frontend.ask(), frontend.ask()

    class Raising:
        def take(self, query: Query, answer: object) -> None:
            raise RuntimeError("connection reset")

    bad.sink = Raising()
    frontend.start_replica(V1, QUICK)
    frontend.run_for(1.0)

    assert frontend.answer_of(good).output is not None
    assert "an answer was not taken" in caplog.text


def test_a_query_has_one_answer() -> None:
    frontend = serving(V1)
    query = frontend.ask()
    frontend.run_for(1.0)

    frontend.serving.answered(query, answers.poison("identity:1"), frontend.loop.time())

    assert frontend.answer_of(query).output is not None


def test_who_is_less_patient_does_not_wait_for_who_came_before() -> None:
    frontend = SimulatedFrontend()
    patient, hasty = (
        identity_app(slo_s=5.0, policy="default"),
        replace(identity_app(slo_s=0.5, policy="default"), name="hasty"),
    )
    frontend.serve(patient, hasty, V1, current(V1))
    first = frontend.ask()
    frontend.run_for(0.1)

    second = frontend.ask("hasty")
    frontend.run_for(10.0)

    assert frontend.answer_of(second).at == pytest.approx(second.arrived + 0.5)
    assert frontend.answer_of(first).at == pytest.approx(first.arrived + 5.0)


# ---- the catalog changes


def test_an_app_is_reached_by_its_path_with_and_without_prefix_and_slash() -> None:
    frontend = serving()

    assert set(frontend.serving.routes) == {
        b"/app/predict",
        b"/app/predict/",
        b"/clipper/app/predict",
        b"/clipper/app/predict/",
    }


def test_an_app_that_did_not_change_keeps_its_endpoint() -> None:
    frontend = serving()
    before = frontend.serving.endpoints["app"]

    frontend.serve(identity_app(), V1, V2, current(V2))

    assert frontend.serving.endpoints["app"] is before


def test_queries_on_their_way_keep_the_terms_they_came_under() -> None:
    frontend = serving(app=identity_app(slo_s=0.5, policy="default"))
    old = frontend.ask()

    frontend.serve(identity_app(slo_s=2.0, policy="default"), V1, current(V1))
    new = frontend.ask()
    frontend.run_for(5.0)

    assert frontend.answer_of(old).at == pytest.approx(old.arrived + 0.5)
    assert frontend.answer_of(new).at == pytest.approx(new.arrived + 2.0)
    assert frontend.serving.endpoints["app"].counters.outcomes[Outcome.DEFAULT] == 2


def test_a_removed_app_still_answers_what_it_owes() -> None:
    frontend = serving(app=identity_app(slo_s=0.5, policy="default"))
    query = frontend.ask()

    frontend.serve(V1, current(V1))
    frontend.run_for(5.0)

    assert not frontend.serving.routes
    assert frontend.answer_of(query).answer.status == 200
    assert list(frontend.serving.app_counters()) == []


def test_after_unlinking_new_queries_get_the_default_and_old_ones_their_answer() -> None:
    frontend = serving()
    old = frontend.ask()

    frontend.serve(identity_app(linked=False), V1, current(V1))
    new = frontend.ask()
    frontend.start_replica(V1, QUICK)
    frontend.run_for(1.0)

    assert frontend.answer_of(old).output is not None
    assert NO_MODELS in frontend.answer_of(new).answer.body


def test_when_the_current_version_changes_who_waits_stays_with_the_old_one() -> None:
    frontend = serving()
    old = frontend.ask()

    frontend.serve(identity_app(), V1, V2, current(V2))
    new = frontend.ask()
    for version in (V1, V2):
        frontend.start_replica(version, QUICK)
    frontend.run_for(1.0)

    assert frontend.answer_of(old).model == "identity:1"
    assert frontend.answer_of(new).model == "identity:2"


@pytest.mark.parametrize("model", [Model(name="identity"), Model(name="identity", current_version="9")])
def test_a_model_without_a_current_version_is_as_none(model: Model) -> None:
    frontend = SimulatedFrontend()
    frontend.serve(identity_app(), V1, model)

    query = frontend.ask()

    assert NO_MODELS in frontend.answer_of(query).answer.body


def test_a_staged_version_is_not_current() -> None:
    frontend = SimulatedFrontend()
    frontend.serve(identity_app(), replace(V1, staged=True), current(V1))

    query = frontend.ask()

    assert NO_MODELS in frontend.answer_of(query).answer.body


def test_who_waits_at_a_removed_version_goes_to_the_current_one() -> None:
    frontend = serving()
    query = frontend.ask(number=5.0)

    frontend.serve(identity_app(), V2, current(V2))
    frontend.start_replica(V2, QUICK)
    frontend.run_for(1.0)

    assert frontend.answer_of(query).output == 5.0
    assert frontend.answer_of(query).model == "identity:2"


def test_a_version_registered_anew_is_another_one() -> None:
    frontend = serving(V1)
    anew = identity_version("1", uid="another")

    frontend.serve(identity_app(), anew, current(anew))
    query = frontend.ask()
    frontend.run_for(1.0)
    assert not frontend.answered

    replica = frontend.start_replica(anew, QUICK)
    frontend.run_for(1.0)
    assert frontend.answer_of(query).output is not None
    assert len(replica.executed) == 1


def test_who_asked_for_a_version_that_is_removed_is_told_so() -> None:
    frontend = serving()
    query = frontend.ask(version="1")

    frontend.serve(identity_app(), V2, current(V2))

    assert frontend.answer_of(query).answer.status == 400


@pytest.mark.parametrize("successor", [None, replace(V2, input_type="strings")])
def test_who_waits_where_no_version_of_the_same_kind_is_left_gets_the_default(successor: ModelVersion | None) -> None:
    frontend = serving()
    query = frontend.ask()

    if successor is None:
        frontend.serve(identity_app())
    else:
        frontend.serve(identity_app(), successor, current(successor))

    assert NO_MODELS in frontend.answer_of(query).answer.body


def test_replicas_of_a_removed_version_finish_what_they_have_and_are_told_to_leave() -> None:
    frontend = serving(V1, speed=SLOW)
    query = frontend.ask(number=2.0)
    frontend.run_for(0.5)

    frontend.serve(identity_app(), V2, current(V2))
    frontend.run_for(1.0)

    assert frontend.router.controls == [(b"peer-0", MessageType.DRAIN)]
    assert frontend.answer_of(query).output == 2.0


def test_what_a_removed_version_s_replica_takes_with_it_is_answered_at_once() -> None:
    frontend = serving(V1, speed=SLOW)
    query = frontend.ask()
    frontend.run_for(0.5)
    frontend.serve(identity_app(), V2, current(V2))

    frontend.replicas[b"peer-0"].die()
    frontend.run_for(0.1)

    assert frontend.answer_of(query).answer.status == 503


def test_the_smallest_slo_of_the_apps_that_use_a_model_bounds_its_batches() -> None:
    frontend = SimulatedFrontend()
    hasty = replace(identity_app(slo_s=0.02), name="hasty")
    speed = Speed(start_s=0.001, per_query_s=0.001)
    frontend.serve(identity_app(slo_s=10.0), hasty, V1, current(V1))
    frontend.start_replica(V1, speed)
    for _ in range(300):
        frontend.ask()
    frontend.run_for(5.0)
    limit = frontend.serving.dispatches["uid-1"].limit
    assert limit.limit in (8, 9)

    frontend.serve(identity_app(slo_s=10.0), V1, current(V1))

    assert limit.limit > 9
