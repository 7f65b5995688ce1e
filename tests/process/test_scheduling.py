"""What of Clipper's scheduling a model can see: how many inputs come, when, and to which replica. A real frontend.

The policies themselves are tested in tests/unit/test_model_queue.py and test_batching.py, the cache in test_cache.py.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.process.frontends import Frontend, a_version, an_app, clients
from tests.process.http_clients import predict_request
from tests.process.peer_replicas import PeerReplica
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


@pytest.mark.parametrize("batch_size", [-1, 8])
def test_a_batch_is_never_filled_with_copies_and_waits_for_nobody(batch_size: int) -> None:
    with Frontend(an_app(), a_version(batch_size=batch_size)) as frontend, PeerReplica(frontend.rpc) as replica:
        for number in range(3):
            assert frontend.predict("a", [float(number)]).json["output"] == number

    assert [len(replica.inputs_of(batch)) for batch in replica.sent] == [1, 1, 1]


def test_a_fixed_batch_size_is_kept_and_what_waits_goes_with_the_next_batch() -> None:
    with (
        Frontend(an_app(), a_version(batch_size=4)) as frontend,
        PeerReplica(frontend.rpc, holds=True) as replica,
        clients(frontend, 10) as all_clients,
    ):
        all_clients[0].send(predict_request("a", [0.0]))
        replica.wait_for_batches()
        for number, client in enumerate(all_clients[1:], 1):
            client.send(predict_request("a", [float(number)]))
        wait_until(lambda: frontend.report()["versions"][0]["queued"] == 9, "nine wait")
        replica.answer_all()
        outputs = [client.reply().json["output"] for client in all_clients]

    assert outputs == [float(number) for number in range(10)]
    sizes = [len(replica.inputs_of(batch)) for batch in replica.sent]
    assert sum(sizes) == 10
    assert max(sizes) <= 4


def test_replicas_take_from_one_queue() -> None:
    with Frontend(an_app(), a_version(batch_size=1)) as frontend, ExitStack() as stack:
        replicas = [stack.enter_context(PeerReplica(frontend.rpc, name=f"r-{number}", holds=True)) for number in range(2)]
        with clients(frontend, 4) as all_clients:
            for number, client in enumerate(all_clients):
                client.send(predict_request("a", [float(number)]))
            for replica in replicas:
                replica.wait_for_batches()
            replicas[1].answer_all()  # it takes all that is left: nothing was given to the other in advance
            wait_until(lambda: len(replicas[1].sent) == 3, "one replica does the rest")
            replicas[0].answer_all()
            assert [client.reply().json["output"] for client in all_clients] == [0.0, 1.0, 2.0, 3.0]


def test_an_input_of_nothing_reaches_the_model_and_its_replica_goes_on() -> None:
    with Frontend(an_app(), a_version()) as frontend, PeerReplica(frontend.rpc) as replica:
        assert frontend.predict("a", []).json["output"] == 0.0
        assert frontend.predict("a", [2.0]).json["output"] == 2.0
        assert frontend.report()["replicas"][0]["state"] == "ready"

    assert len(replica.sent) == 2
