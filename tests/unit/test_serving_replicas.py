"""Replicas and probes as a frontend meets them, on simulated time: who is taken in, what becomes of their work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clipper_nomad.protocol import wire
from clipper_nomad.protocol.wire import Header, Hello, MessageType, WireError
from clipper_nomad.state.records import ModelVersion
from clipper_nomad_frontend.serving import UNKNOWN_UID_PATIENCE_S
from tests.unit.simulation import (
    EPOCH,
    SimulatedFrontend,
    Speed,
    current,
    identity_app,
    identity_version,
)

QUICK = Speed(start_s=0.001, per_query_s=0.0001)
SLOW = Speed(start_s=1.0, per_query_s=0.0)
V1, V2 = identity_version("1"), identity_version("2")


def serving(*replicas: ModelVersion, speed: Speed = QUICK) -> SimulatedFrontend:
    """A frontend with one app at version 1, and replicas of these versions."""
    frontend = SimulatedFrontend()
    frontend.serve(identity_app(), V1, V2, current(V1))
    for version in replicas:
        frontend.start_replica(version, speed)
    return frontend


# ---- replicas come and go


def hello(of: ModelVersion, **other: str) -> Hello:
    said = Hello(
        model=of.name, version=of.version, uid=of.uid, input_type=of.input_type, replica="r",
        python="3.11", toolkit="t",
    )  # fmt: skip
    return replace(said, **other)


def test_a_replica_quicker_than_the_catalog_waits_and_is_taken_when_its_version_is_known() -> None:
    frontend = serving()
    early = identity_version("3")
    replica = frontend.start_replica(early, QUICK)
    assert [each.version for each in frontend.serving.waiting_hellos()] == ["3"]

    frontend.run_for(5.0)
    frontend.serve(identity_app(), V1, early, current(early))
    query = frontend.ask()
    frontend.run_for(1.0)

    assert replica.is_welcome
    assert frontend.serving.waiting_hellos() == []
    assert frontend.answer_of(query).model == "identity:3"


def test_a_replica_waits_on_while_the_catalog_speaks_of_others() -> None:
    frontend = serving()
    replica = frontend.start_replica(identity_version("3"), QUICK)

    frontend.serve(identity_app(), V1, current(V1))

    assert not replica.is_welcome
    assert len(frontend.serving.waiting_hellos()) == 1


def test_a_replica_that_no_catalog_knows_is_refused_after_a_while() -> None:
    frontend = serving()
    replica = frontend.start_replica(identity_version("3"), QUICK)

    frontend.run_for(UNKNOWN_UID_PATIENCE_S - 1.0)
    assert not replica.rejections
    frontend.run_for(2.0)

    assert "not in the catalog" in replica.rejections[0].reason
    assert frontend.serving.waiting_hellos() == []


def test_a_waiting_replica_that_leaves_is_forgotten() -> None:
    frontend = serving()
    replica = frontend.start_replica(identity_version("3"), QUICK)

    frontend.serving.on_message(replica.routing_id, Header(MessageType.DRAIN, 0, 0, 0, 0, 0), [])
    replica.die()
    frontend.run_for(UNKNOWN_UID_PATIENCE_S + 2.0)

    assert frontend.serving.waiting_hellos() == []
    assert not replica.rejections


@pytest.mark.parametrize("wrong", [{"model": "other"}, {"version": "2"}, {"input_type": "floats"}])
def test_a_replica_whose_name_is_not_that_of_its_uid_is_refused(wrong: dict[str, str]) -> None:
    frontend = serving(V1)

    with frontend.loop.running():
        frontend.serving.on_hello(b"peer-0 again", hello(V1, **wrong))

    assert len(frontend.serving.sessions) == 1


def test_a_refused_replica_hears_what_it_said_and_what_its_uid_is() -> None:
    frontend = serving()
    replica = frontend.start_replica(replace(V1, version="7"), QUICK)

    assert not replica.is_welcome
    assert "identity:7 (doubles)" in replica.rejections[0].reason
    assert "identity:1 (doubles)" in replica.rejections[0].reason


def test_a_connection_says_hello_once() -> None:
    frontend = serving(V1)
    waiting = frontend.start_replica(identity_version("3"), QUICK)

    for routing_id in (b"peer-0", waiting.routing_id):
        with pytest.raises(WireError, match="second hello"):
            frontend.serving.on_hello(routing_id, hello(V1))


def test_a_replica_that_is_gone_before_its_welcome_is_no_replica() -> None:
    frontend = serving()

    with frontend.loop.running():
        frontend.serving.on_hello(b"nobody", hello(V1))

    assert len(frontend.serving.sessions) == 0
    assert not frontend.serving.dispatches["uid-1"].replicas.all


def test_a_replica_that_wants_to_leave_is_told_that_nothing_follows() -> None:
    frontend = serving(V1)

    frontend.serving.on_message(b"peer-0", Header(MessageType.DRAIN, 0, 0, EPOCH, 1, 0), [])
    frontend.ask()
    frontend.run_for(1.0)

    assert frontend.router.controls == [(b"peer-0", MessageType.DRAINED)]
    assert not frontend.answered


def test_a_result_that_answers_nothing_is_counted() -> None:
    frontend = serving(V1)
    frontend.ask()
    frontend.run_for(1.0)
    header = Header(MessageType.RESULT, 0, 1, EPOCH, 1, 1)  # answered before

    frames = wire.encode_result(
        answers=header, output_type=wire.OutputType.FLOAT64, backlog=0, exec_micros=1, lengths=None, data=bytes(8)
    )
    frontend.serving.on_message(b"peer-0", header, frames)

    assert frontend.serving.process_counters.stray_results == 1
    assert len(frontend.answered) == 1


@pytest.mark.parametrize(("epoch", "session"), [(EPOCH + 1, 1), (EPOCH, 2)])
def test_a_call_of_another_session_is_counted_and_not_answered(epoch: int, session: int) -> None:
    frontend = serving(V1)

    frontend.serving.on_message(b"peer-0", Header(MessageType.FREE, 0, 0, epoch, session, 7), [])

    assert frontend.serving.process_counters.stray_results == 1
    assert not frontend.router.controls


def test_a_call_that_nobody_asked_for_is_answered_with_a_pass() -> None:
    frontend = serving(V1)

    frontend.serving.on_message(b"peer-0", Header(MessageType.FREE, 0, 0, EPOCH, 1, 7), [])

    assert frontend.router.controls == [(b"peer-0", MessageType.PASS)]


@pytest.mark.parametrize(
    ("routing_id", "kind"),
    [
        (b"stranger", MessageType.RESULT),
        (b"stranger", MessageType.FREE),
        (b"peer-0", MessageType.PREDICT),
        (b"peer-0", MessageType.ASK),
        (b"peer-0", MessageType.PASS),
    ],
)
def test_what_no_replica_may_send_is_refused(routing_id: bytes, kind: MessageType) -> None:
    frontend = serving(V1)

    with pytest.raises(WireError):
        frontend.serving.on_message(routing_id, Header(kind, 0, 1, EPOCH, 1, 1), [b""])


def test_a_replica_that_breaks_the_protocol_loses_its_work_to_others() -> None:
    frontend = serving(V1, speed=SLOW)
    query = frontend.ask(number=4.0)
    frontend.run_for(0.1)
    frontend.start_replica(V1, QUICK)

    with frontend.loop.running():
        frontend.serving.on_bad_message(b"peer-0", WireError("sizes do not add up"))
        frontend.serving.on_bad_message(b"stranger", WireError("no hello"))
    frontend.run_for(0.5)

    assert frontend.answer_of(query).output == 4.0
    assert "sizes do not add up" in frontend.replicas[b"peer-0"].rejections[0].reason
    assert frontend.serving.process_counters.protocol_errors == 2


def test_a_replica_that_dies_hands_its_work_to_others() -> None:
    frontend = serving(V1, V1, speed=SLOW)
    queries = [frontend.ask() for _ in range(2)]
    frontend.run_for(0.5)

    frontend.replicas[b"peer-0"].die()
    frontend.run_for(5.0)

    assert [frontend.answer_of(query).output for query in queries] == [0.0, 1.0]
    assert frontend.serving.dispatches["uid-1"].counters.lost == 1


def test_a_connection_that_ends_without_a_session_changes_nothing() -> None:
    frontend = serving(V1)

    frontend.serving.on_disconnect(b"stranger")

    assert len(frontend.serving.sessions) == 1


@pytest.mark.parametrize("deadly", [{10.0, 200.0}, {10.0, 20.0}, {0.0, 255.0}])
def test_two_poison_inputs_among_256_end_four_replicas_at_most_and_harm_nobody(deadly: set[float]) -> None:
    frontend = SimulatedFrontend()
    version = identity_version(batch_size=128)
    frontend.serve(identity_app(), version, current(version))
    for _ in range(3):
        frontend.start_replica(version, QUICK, deadly=frozenset(deadly), restart_s=0.2)

    queries = [frontend.ask() for _ in range(256)]
    frontend.run_for(9.0)

    statuses = [frontend.answer_of(query).answer.status for query in queries]
    assert [number for number, status in enumerate(statuses) if status == 422] == sorted(deadly)
    assert statuses.count(200) == 254
    assert all(each.output in (None, float(each.query.query_id)) for each in frontend.answered)
    assert frontend.deaths <= 4
    again = [frontend.ask(number=number) for number in deadly]
    assert [frontend.answer_of(query).answer.status for query in again] == [422, 422]


def test_a_raising_input_costs_its_mates_nothing() -> None:
    frontend = SimulatedFrontend()
    version = identity_version(batch_size=64)
    frontend.serve(identity_app(), version, current(version))
    frontend.start_replica(version, QUICK, bad=frozenset({30.0}))

    queries = [frontend.ask() for _ in range(64)]
    frontend.run_for(5.0)

    statuses = [frontend.answer_of(query).answer.status for query in queries]
    assert statuses == [200] * 30 + [500] + [200] * 33


# ---- probes


def test_a_probe_goes_the_whole_way_and_counts_for_no_app() -> None:
    frontend = serving(V1, V2)
    dispatch = frontend.serving.dispatches["uid-2"]

    with frontend.loop.running():
        query = frontend.serving.probe(dispatch, (bytes(8), 1), 1_000_000, frontend)
    frontend.run_for(1.0)

    assert frontend.answer_of(query).model == "identity:2"
    assert sum(frontend.serving.endpoints["app"].counters.outcomes) == 0
    assert not frontend.serving.owes_answers


def test_a_probe_ends_at_its_timeout() -> None:
    frontend = serving()

    with frontend.loop.running():
        query = frontend.serving.probe(frontend.serving.dispatches["uid-1"], (bytes(8), 1), 2_000_000, frontend)
    frontend.run_for(3.0)

    assert frontend.answer_of(query).at == pytest.approx(query.arrived + 2.0)


# ---- what it says of itself


def test_metrics_see_apps_versions_and_sessions() -> None:
    frontend = serving(V1)
    frontend.start_replica(identity_version("3"), QUICK)
    frontend.ask()
    frontend.run_for(1.0)
    frontend.ask(version="2")

    ((name, counters),) = frontend.serving.app_counters()
    assert (name, counters.outcomes) == ("app", [1, 0, 0, 0])
    rows = [(model, version, waiting, ready) for model, version, _, waiting, ready in frontend.serving.version_counters()]
    assert rows == [("identity", "1", 0, 1), ("identity", "2", 1, 0)]
    assert {key: value for key, _, value in frontend.serving.gauges()} == {
        "sessions": 1.0,
        "legacy_sessions": 0.0,
        "waiting_replicas": 1.0,
        "catalog_revision": 1.0,
    }


def test_before_the_first_catalog_there_is_nothing_to_tell() -> None:
    frontend = SimulatedFrontend()

    assert {key: value for key, _, value in frontend.serving.gauges()}["catalog_revision"] == -1.0
    assert list(frontend.serving.version_counters()) == []
    assert frontend.serving.waiting_hellos() == []
