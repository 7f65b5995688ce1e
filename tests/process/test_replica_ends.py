"""What becomes of the work of a replica that is killed, fails, hangs, or leaves in order. Peers are replicas."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clipper_nomad.protocol.wire import ErrorKind, MessageType, OutputError
from tests.process.frontends import Frontend, a_version, an_app, clients
from tests.process.http_clients import Client, predict_request
from tests.process.peer_replicas import PeerReplica
from tests.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def frontend() -> Iterator[Frontend]:
    """The replicas of app `b` and of app `once`, whose version may be tried only once, are each test's own."""
    with Frontend(an_app("b"), an_app("once", model="once"), a_version(), a_version("once", retry=False)) as running:
        yield running


@pytest.fixture
def peer(frontend: Frontend) -> Iterator[PeerReplica]:
    """A replica of `b` that waits to be told."""
    wait_until(lambda: not states(frontend), "the replicas of other tests have gone")
    with PeerReplica(frontend.rpc, holds=True) as connected:
        yield connected


@pytest.fixture
def client(frontend: Frontend) -> Iterator[Client]:
    with frontend.client() as connected:
        yield connected


def states(frontend: Frontend) -> list[str]:
    return [row["state"] for row in frontend.report()["replicas"]]


def test_the_work_of_a_killed_replica_is_answered_by_its_sibling(
    frontend: Frontend, client: Client, peer: PeerReplica
) -> None:
    client.send(predict_request("b", [1.0]) + predict_request("b", [2.0]) + predict_request("b", [3.0]))
    peer.wait_for_batches()
    with PeerReplica(frontend.rpc, name="r-1"):
        peer.close()
        replies = [client.reply() for _ in range(3)]

    assert [reply.json["output"] for reply in replies] == [1.0, 2.0, 3.0]
    assert {reply.header("X-Clipper-Replica") for reply in replies} == {"r-1"}
    assert frontend.metric("clipper_lost_replicas_total") >= 1


def test_a_whole_batch_of_a_killed_replica_is_answered(frontend: Frontend, peer: PeerReplica) -> None:
    with clients(frontend, 20) as connected:
        for _ in range(4):  # so that it gets batches
            peer.answer_all()
            connected[0].predict("b", [0.0])
        peer.holds = True
        for number, each in enumerate(connected):
            each.send(predict_request("b", [float(number)]))
        wait_until(lambda: frontend.outstanding() == 20, "all are under way")
        with PeerReplica(frontend.rpc, name="r-1"):
            peer.close()
            outputs = [each.reply().json["output"] for each in connected]

    assert outputs == [float(number) for number in range(20)]


def test_an_input_that_ends_two_replicas_is_poison_and_refused_from_then_on(frontend: Frontend, client: Client) -> None:
    wait_until(lambda: not states(frontend), "the replicas of other tests have gone")
    poison = [6.0, 6.0, 6.0]
    with (
        PeerReplica(frontend.rpc, name="r-0", holds=True) as first,
        PeerReplica(frontend.rpc, name="r-1", holds=True) as second,
        PeerReplica(frontend.rpc, name="r-2", holds=True) as third,
    ):
        replicas = [first, second, third]
        client.send(predict_request("b", poison))
        for _ in range(2):
            wait_until(lambda: any(replica.waiting for replica in replicas), "a replica has it")
            victim = next(replica for replica in replicas if replica.waiting)
            replicas.remove(victim)
            victim.close()
        reply = client.reply()
        replicas[0].answer_all()

        assert (reply.status, reply.json["error"]) == (422, "poison_input")
        assert "m:1" in reply.json["cause"]
        assert client.predict("b", poison).status == 422
        assert client.predict("b", [1.0]).json["output"] == 1.0
        assert not replicas[0].waiting


def test_a_version_deployed_without_retry_answers_503_when_its_replica_is_killed(frontend: Frontend, client: Client) -> None:
    with PeerReplica(frontend.rpc, model="once", holds=True) as first:
        client.send(predict_request("once", [1.0]))
        first.wait_for_batches()
        with PeerReplica(frontend.rpc, model="once", name="r-1", holds=True) as second:
            first.close()
            reply = client.reply()

            assert reply.status == 503
            assert reply.header("Retry-After") is not None
            assert not second.sent


def test_a_batch_that_raised_is_tried_again_one_by_one_and_only_the_bad_input_fails(
    frontend: Frontend, peer: PeerReplica
) -> None:
    with clients(frontend, 8) as connected:
        peer.answer_all()
        for _ in range(6):
            connected[0].predict("b", [0.0])
        peer.holds = True
        connected[0].send(predict_request("b", [0.0]))
        peer.wait_for_batches()
        for number, each in enumerate(connected[1:], start=1):
            each.send(predict_request("b", [float(number)]))
        wait_until(lambda: frontend.outstanding() == 8, "all are under way")
        answered = 0
        while answered < 8:
            peer.wait_for_batches()
            inputs = peer.inputs_of(peer.waiting[0])[:, 0].tolist()
            if 3.0 not in inputs:
                peer.answer()
                answered += len(inputs)
            elif len(inputs) > 1:
                peer.fail(OutputError(None, ErrorKind.RAISED, "bad batch", "tb-1"))
            else:
                peer.fail(OutputError(0, ErrorKind.RAISED, "bad input", "tb-2"))
                answered += 1
        replies = [each.reply() for each in connected]

    assert [reply.status for reply in replies] == [200] * 3 + [500] + [200] * 4
    assert "bad input" in replies[3].json["cause"]


def test_a_replica_that_is_overdue_gets_nothing_until_it_answers(
    frontend: Frontend, client: Client, peer: PeerReplica
) -> None:
    client.send(predict_request("b", [1.0]))
    peer.wait_for_batches()
    with PeerReplica(frontend.rpc, name="r-1"), frontend.client() as other:
        wait_until(lambda: "stalled" in states(frontend), "it is out of rotation")
        replies = [other.predict("b", [2.0]) for _ in range(10)]
        assert {reply.header("X-Clipper-Replica") for reply in replies} == {"r-1"}
        peer.answer_all()

        assert client.reply().json["output"] == 1.0
        wait_until(lambda: states(frontend) == ["ready", "ready"], "it is back")


# ---- drain -----------------------------------------------------------------------------------------------------------


def test_a_replica_that_drains_finishes_gets_nothing_more_and_loses_nothing(
    frontend: Frontend, client: Client, peer: PeerReplica
) -> None:
    lost = frontend.metric("clipper_lost_replicas_total")
    client.send(predict_request("b", [1.0]))
    peer.wait_for_batches()
    peer.drain()
    peer.wait_for_control(MessageType.DRAINED)
    with PeerReplica(frontend.rpc, name="r-1"), frontend.client() as other:
        assert other.predict("b", [2.0]).header("X-Clipper-Replica") == "r-1"
        peer.answer()

        assert client.reply().header("X-Clipper-Replica") == "r-0"
        assert len(peer.sent) == 1
        peer.close(linger_s=1)
        wait_until(lambda: states(frontend) == ["ready"], "it has left")
    assert frontend.metric("clipper_lost_replicas_total") == lost


def test_queries_wait_for_the_next_replica_when_the_only_one_drains(
    frontend: Frontend, client: Client, peer: PeerReplica
) -> None:
    peer.drain()
    peer.wait_for_control(MessageType.DRAINED)
    client.send(predict_request("b", [1.0]))
    wait_until(lambda: frontend.outstanding() == 1, "it waits")
    with PeerReplica(frontend.rpc, name="r-1"):
        assert client.reply().json["output"] == 1.0
