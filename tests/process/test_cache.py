"""The prediction cache of real frontends: hits, joins, what is never kept, peers, containers of Clipper's, a redeploy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import clipper_nomad
from clipper_nomad import ClipperConnection, LocalContainerManager
from clipper_nomad.container_manager import USUAL_CACHE_BYTES
from clipper_nomad.errors import StackError
from clipper_nomad.protocol.wire import ErrorKind, OutputError
from tests.process.clipper_containers import ServingContainer
from tests.process.frontends import Frontend, a_version, an_app
from tests.process.http_clients import predict_request
from tests.process.meshes import mesh
from tests.process.peer_replicas import PeerReplica
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

CACHE = 1 << 20
RECORDS = (an_app(), a_version())


@pytest.fixture
def frontend() -> Iterator[Frontend]:
    with Frontend(*RECORDS, CACHE_BYTES=CACHE) as running:
        yield running


def joins(frontend: Frontend) -> float:
    return frontend.metric("clipper_cache_joins_total")


# ---- hits


def test_a_hit_says_so_and_needs_no_replica(frontend: Frontend) -> None:
    with PeerReplica(frontend.rpc) as replica:
        first = frontend.predict("a", [1.0, 2.0])
        second = frontend.predict("a", [1.0, 2.0])
    wait_until(lambda: not frontend.report()["replicas"], "the replica has left")
    third = frontend.predict("a", [1.0, 2.0])

    assert [reply.json["output"] for reply in (first, second, third)] == [3.0, 3.0, 3.0]
    assert [reply.header("X-Clipper-Cache") for reply in (first, second, third)] == [None, "hit", "hit"]
    assert [reply.header("X-Clipper-Replica") for reply in (first, third)] == ["r-0", None]
    assert third.header("X-Clipper-Model") == "m:1"
    assert [reply.json["query_id"] for reply in (first, second, third)] == [0, 1, 2]
    assert len(replica.sent) == 1


def test_inputs_that_are_nearly_the_same_are_not_the_same(frontend: Frontend) -> None:
    inputs = [[0.0], [-0.0], [1.0], [np.nextafter(1.0, 2.0)], [1.0, 0.0], [0.0, 1.0], []]
    with PeerReplica(frontend.rpc, predict=lambda rows: [repr(row.tolist()) for row in rows]) as replica:
        for value in inputs:
            assert frontend.predict("a", value).header("X-Clipper-Cache") is None
        for value in inputs:
            reply = frontend.predict("a", value)
            assert reply.header("X-Clipper-Cache") == "hit"
            assert np.array_equal(reply.json["output"], value)

    assert len(replica.sent) == len(inputs)


def test_what_is_cached_of_a_batch_is_not_executed_again_and_the_order_stays(frontend: Frontend) -> None:
    with PeerReplica(frontend.rpc) as replica, frontend.client() as client:
        client.predict("a", [1.0])
        reply = client.ask("POST", "/a/predict", b'{"input_batch": [[2.0], [1.0], [2.0], [3.0], [1.0]]}')
        again = client.ask("POST", "/a/predict", b'{"input_batch": [[3.0], [2.0]]}')

    outputs = [row["output"] for row in reply.json["batch_predictions"]]
    assert outputs == [2.0, 1.0, 2.0, 3.0, 1.0]
    assert [row["output"] for row in again.json["batch_predictions"]] == [3.0, 2.0]
    executed = sorted(float(row[0]) for batch in replica.sent for row in replica.inputs_of(batch))
    assert executed == [1.0, 2.0, 3.0]


def test_pipelined_queries_are_answered_in_their_order_whether_hit_or_not(frontend: Frontend) -> None:
    with PeerReplica(frontend.rpc), frontend.client() as client:
        client.predict("a", [1.0])
        client.send(b"".join(predict_request("a", [number]) for number in (5.0, 1.0, 6.0, 1.0)))
        outputs = [client.reply().json["output"] for _ in range(4)]

    assert outputs == [5.0, 1.0, 6.0, 1.0]


def test_every_input_type_is_cached(frontend: Frontend) -> None:
    del frontend  # of doubles alone
    inputs: dict[str, Any] = {
        "integers": [1, 2],
        "floats": [1.5],
        "doubles": [1.5],
        "strings": "text",
        "bytes": "AAEC",
    }
    records = [
        record for kind in inputs for record in (an_app(kind, model=kind, input_type=kind), a_version(kind, input_type=kind))
    ]
    with Frontend(*records, CACHE_BYTES=CACHE) as running:
        for kind, value in inputs.items():
            with PeerReplica(running.rpc, model=kind, kind=kind) as replica:
                first, second = running.predict(kind, value), running.predict(kind, value)
            assert first.json["output"] == second.json["output"]
            assert second.header("X-Clipper-Cache") == "hit"
            assert len(replica.sent) == 1


def test_with_no_cache_every_query_is_executed() -> None:
    with Frontend(*RECORDS) as frontend, PeerReplica(frontend.rpc) as replica:
        for _ in range(3):
            assert frontend.predict("a", [1.0]).header("X-Clipper-Cache") is None
        assert len(replica.sent) == 3
        assert frontend.report()["cache"] is None


def test_errors_and_probes_are_not_kept(frontend: Frontend) -> None:
    with PeerReplica(frontend.rpc, holds=True) as replica:
        for _ in range(2):
            with frontend.client() as client:
                client.send(predict_request("a", [1.0]))
                replica.wait_for_batches()
                replica.fail(OutputError(None, ErrorKind.RAISED, "ValueError: no", "t1"))
                assert client.reply().status == 500
        replica.answer_all()
        for _ in range(2):
            assert frontend.ask("POST", "/_clipper/probe/m/1", b'{"input":[1.0]}').status == 200

        assert frontend.report()["cache"]["entries"] == 0
        assert frontend.metric("clipper_cache_misses_total") == 2


# ---- identical queries under way


def test_a_client_that_leaves_does_not_take_along_those_who_joined_it(frontend: Frontend) -> None:
    with (
        PeerReplica(frontend.rpc, holds=True) as replica,
        frontend.client() as first,
        frontend.client() as second,
        frontend.client() as third,
    ):
        first.send(predict_request("a", [1.0]))
        replica.wait_for_batches()
        for client in (second, third):
            client.send(predict_request("a", [1.0]))
        wait_until(lambda: joins(frontend) == 2, "two have joined")
        first.vanish()
        wait_until(lambda: frontend.open_connections() == 2, "the first one's end was seen")
        replica.answer()

        assert [client.reply().json["output"] for client in (second, third)] == [1.0, 1.0]
        assert len(replica.sent) == 1


def test_an_output_for_nobody_is_there_for_who_comes_again(frontend: Frontend) -> None:
    with PeerReplica(frontend.rpc, holds=True) as replica, frontend.client() as client:
        client.send(predict_request("a", [1.0]))
        replica.wait_for_batches()
        client.vanish()
        wait_until(lambda: frontend.open_connections() == 0, "its end was seen")
        replica.answer()
        wait_until(lambda: frontend.report()["cache"]["entries"] == 1, "the output is kept")

        assert frontend.predict("a", [1.0]).header("X-Clipper-Cache") == "hit"
        assert len(replica.sent) == 1


def test_a_late_output_is_there_for_a_retry() -> None:
    records = (an_app(slo_s=0.1, policy="default"), a_version())
    with Frontend(*records, CACHE_BYTES=CACHE) as frontend, PeerReplica(frontend.rpc, holds=True) as replica:
        missed = frontend.predict("a", [1.0])
        replica.answer()
        wait_until(lambda: frontend.report()["cache"]["entries"] == 1, "the output is kept")
        retry = frontend.predict("a", [1.0])

    assert (missed.json["default"], retry.json["default"], retry.json["output"]) == (True, False, 1.0)


def test_many_who_ask_the_same_at_once_cost_one_execution(frontend: Frontend) -> None:
    replies = []

    def ask() -> None:
        replies.append(frontend.predict("a", [7.0]).json["output"])

    with PeerReplica(frontend.rpc, holds=True) as replica:
        threads = [threading.Thread(target=ask) for _ in range(20)]
        for thread in threads:
            thread.start()
        wait_until(lambda: joins(frontend) == 19, "all but one have joined")
        replica.answer()
        for thread in threads:
            thread.join(20)

    assert replies == [7.0] * 20
    assert len(replica.sent) == 1


# ---- peers, and containers of Clipper's


def test_each_frontend_keeps_what_its_own_clients_got_also_from_a_peer_s_replica() -> None:
    with mesh(2, *RECORDS, CACHE_BYTES=CACHE) as (direct, other), PeerReplica(direct.rpc) as replica:
        wait_until(lambda: other.report()["versions"][0]["via_peers"] == 1, "the peer is known to have a replica")
        first, second = other.predict("a", [1.0]), other.predict("a", [1.0])
        third, fourth = direct.predict("a", [1.0]), direct.predict("a", [1.0])

        hits = [reply.header("X-Clipper-Cache") for reply in (first, second, third, fourth)]
        assert hits == [None, "hit", None, "hit"]
        assert {reply.json["output"] for reply in (first, second, third, fourth)} == {1.0}
        assert len(replica.sent) == 2
        assert [each.report()["cache"]["entries"] for each in (direct, other)] == [1, 1]
        assert direct.metric("clipper_cache_misses_total") == 1  # what the peer relayed passed it by


def test_what_a_container_of_clipper_s_answered_is_kept() -> None:
    with Frontend(*RECORDS, CACHE_BYTES=CACHE, LEGACY_RPC_ADDRESS="tcp://127.0.0.1:0") as frontend:
        with ServingContainer(frontend.legacy_rpc):
            first = frontend.predict("a", [1.0, 2.0])
        wait_until(lambda: not frontend.report()["replicas"], "the container has left")
        second = frontend.predict("a", [1.0, 2.0])

    assert (first.json["output"], second.json["output"]) == (3.0, 3.0)
    assert second.header("X-Clipper-Cache") == "hit"


# ---- metrics


def test_metrics_have_the_cache_under_prometheus_and_clipper_s_names(frontend: Frontend) -> None:
    with PeerReplica(frontend.rpc):
        for value in (1.0, 1.0, 1.0, 2.0):
            frontend.predict("a", [value])

    document = frontend.ask("GET", "/metrics", None).body.decode()
    for name, value in (("hits", 2), ("misses", 2), ("joins", 0)):
        assert frontend.metric(f"clipper_cache_{name}_total") == value
    assert frontend.metric("clipper_cache_entries") == 2
    assert 0 < frontend.metric("clipper_cache_bytes") < frontend.metric("clipper_cache_capacity_bytes") == CACHE
    assert "clipper_cache_evicted_entries 0.0" in document
    with frontend.client() as client:
        clippers = client.ask("GET", "/metrics").json
    ratios = {name: leaf["ratio"] for each in clippers["ratio_counters"] for name, leaf in each.items()}
    counters = {name: leaf["count"] for each in clippers["counters"] for name, leaf in each.items()}
    assert ratios["internal:prediction_cache_hit_ratio"] == ratios["model:m:1:cache_hit_ratio"] == "0.5"
    assert counters["internal:prediction_cache_lookups"] == "4"
    assert counters["internal:aggregate_num_predictions"] == "2"


# ---- a whole stack


def double(inputs: NDArray[Any]) -> list[float]:
    return [float(2 * row.sum()) for row in inputs]


def triple(inputs: NDArray[Any]) -> list[float]:
    return [float(3 * row.sum()) for row in inputs]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClipperConnection]:
    """Started as Clipper's users start it, who have a cache of 32 MiB."""
    connection = ClipperConnection(LocalContainerManager(home=tmp_path_factory.mktemp("stack"), port=0))
    connection.start_clipper()
    try:
        yield connection
    finally:
        connection.stop_all()


def test_clipper_s_start_has_clipper_s_cache_and_a_redeploy_under_the_same_version_answers_anew(
    stack: ClipperConnection,
) -> None:
    [frontend] = stack.frontends()
    assert frontend["cache"]["capacity"] == USUAL_CACHE_BYTES
    for function, factor in ((double, 2), (triple, 3), (double, 2)):
        app = stack.deploy(function, name="factors", version="1", sample=[1.0])
        first, second = app.predict([5.0]), app.predict([5.0])
        assert (first.output, second.output) == (5.0 * factor, 5.0 * factor)
        assert (first.cached, second.cached) == (False, True)
        stack.stop_versioned_models({"factors": ["1"]})
    assert stack.frontends()[0]["cache"]["entries"] == 0


def test_a_stack_that_runs_keeps_its_cache_unless_another_size_is_named(stack: ClipperConnection) -> None:
    manager = stack.cm
    assert isinstance(manager, LocalContainerManager)
    pids = [part.pid for part in manager.status().parts if part.kind == "frontend"]

    stack.start_clipper()
    with pytest.raises(StackError, match=f"a prediction cache of {USUAL_CACHE_BYTES} bytes; 4096 were asked for"):
        stack.start_clipper(cache_size=4096)
    with pytest.raises(StackError, match="0 were asked for"):
        stack.start_clipper(cache_size=0)

    assert [part.pid for part in manager.status().parts if part.kind == "frontend"] == pids


def test_our_own_start_has_a_cache_if_it_is_told_so(tmp_path: Path) -> None:
    for size, expected in ((None, None), (4096, 4096)):
        with_size = clipper_nomad.local(home=tmp_path, port=0, cache_size=size)
        try:
            found = with_size.frontends()[0]["cache"]
            assert (None if found is None else found["capacity"]) == expected
        finally:
            with_size.stop_all()


def test_a_size_that_cannot_be_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(clipper_nomad.ClipperException, match="cache_size is -1; expected a number of bytes"):
        ClipperConnection(LocalContainerManager(home=tmp_path, port=0)).start_clipper(cache_size=-1)
