"""The mesh as one replica sees it, with real frontends: linked to all, directly or by proxy, whoever comes or goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.process.bundles import pack_model
from tests.process.frontends import Frontend, a_version, an_app, uid_of
from tests.process.http_clients import predict_request
from tests.process.proxies import RoundRobin
from tests.process.replicas import Replica
from tests.waiting import wait_until

pytestmark = pytest.mark.process

READY = "replica is ready"
UNREACHABLE = "tcp://192.0.2.{}:7000"  # TEST-NET-1: a direct dial cannot work by accident


class Rig:
    """Frontends that know one another, and one replica."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self.frontends: list[Frontend] = []

    def frontend(self, **settings: object) -> Frontend:
        """Start one more frontend."""
        peers = {"PEER_ADDRESSES": ",".join(each.rpc for each in self.frontends[:1])} if self.frontends else {}
        name = f"f{len(self.frontends)}"
        made = Frontend(an_app(), a_version(), FRONTEND_ID=name, **peers, **settings)
        self.frontends.append(made)
        return self._stack.enter_context(made)

    def replica(self, *seeds: str, model: str = "echo_sum", **settings: object) -> Replica:
        """Start the replica."""
        bundle = self.folder / "bundle"
        pack_model(bundle, model)
        names = {"MODEL_NAME": "m", "MODEL_VERSION": "1", "MODEL_UID": uid_of("m", "1"), "REPLICA_ID": "r0"}
        return self._stack.enter_context(Replica(self.folder, bundle, frontends=seeds, **names, **settings))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(tmp_path, stack)


def is_linked(frontend: Frontend) -> bool:
    return [row["replica"] for row in frontend.report()["replicas"]] == ["r0"]


def wait_for_links(*frontends: Frontend, within_s: float) -> None:
    """Wait until the replica is linked to each, once."""
    wait_until(lambda: all(map(is_linked, frontends)), "the replica is linked to every frontend", within_s=within_s)


def joined(frontend: Frontend) -> int:
    """How often a replica joined."""
    return frontend.log.count("replica joined")


def test_a_replica_with_one_address_is_linked_to_every_frontend_within_a_second(rig: Rig) -> None:
    frontends = [rig.frontend() for _ in range(3)]
    replica = rig.replica(frontends[1].rpc)
    replica.wait_for_log(READY)

    wait_for_links(*frontends, within_s=1.0)

    assert [each.predict("a", [1.0, 2.0]).json["output"] for each in frontends] == [3.0] * 3
    assert [joined(each) for each in frontends] == [1, 1, 1]


def test_a_new_frontend_is_linked_within_three_seconds(rig: Rig) -> None:
    first = rig.frontend()
    rig.replica(first.rpc)
    wait_for_links(first, within_s=20.0)

    late = rig.frontend()

    wait_for_links(late, within_s=3.0)
    assert joined(first) == 1


def test_a_frontend_that_was_killed_is_linked_again_when_it_is_back(rig: Rig) -> None:
    stays, dies = rig.frontend(), rig.frontend()
    replica = rig.replica(stays.rpc)
    wait_for_links(stays, dies, within_s=20.0)

    assert dies.process is not None
    dies.process.kill()
    dies.process.wait(5.0)
    replica.wait_for_log("frontend lost")
    assert stays.predict("a", [1.0]).status == 200
    dies.start()

    wait_for_links(dies, within_s=3.0)
    assert joined(stays) == 1


def test_a_frontend_that_said_goodbye_is_dialled_no_more_and_linked_again_when_it_is_back(rig: Rig) -> None:
    stays, leaves = rig.frontend(), rig.frontend()
    replica = rig.replica(stays.rpc)
    wait_for_links(stays, leaves, within_s=20.0)

    leaves.terminate()
    assert leaves.exit_code() == 0
    replica.wait_for_log("frontend given up")
    assert stays.predict("a", [1.0]).status == 200
    leaves.start()

    wait_for_links(leaves, within_s=3.0)


def test_all_frontends_are_found_again_after_all_were_killed(rig: Rig) -> None:
    frontends = [rig.frontend(), rig.frontend()]
    replica = rig.replica(frontends[0].rpc)
    wait_for_links(*frontends, within_s=20.0)

    for frontend in frontends:
        assert frontend.process is not None
        frontend.process.kill()
        frontend.process.wait(5.0)
    wait_until(lambda: replica.log.count("frontend lost") == 2, "both are lost")
    for frontend in frontends:
        frontend.start()

    wait_for_links(*frontends, within_s=5.0)


def test_every_frontend_behind_a_proxy_is_met_by_dialling_it_again(rig: Rig) -> None:
    frontends = [rig.frontend(ADVERTISED_RPC_ADDRESS=UNREACHABLE.format(number)) for number in (1, 2, 3)]
    with RoundRobin([each.rpc for each in frontends]) as proxy:
        replica = rig.replica(proxy.address, RPC_MODE="proxy")
        replica.wait_for_log(READY)

        wait_for_links(*frontends, within_s=2.0)

        assert [each.predict("a", [1.0, 2.0]).json["output"] for each in frontends] == [3.0] * 3
        assert proxy.accepted <= 12


def test_a_double_is_released_and_costs_no_query(rig: Rig) -> None:
    """The proxy leads to one frontend only, under load; another that the roster names is looked for in vain."""
    busy, hidden = (rig.frontend(ADVERTISED_RPC_ADDRESS=UNREACHABLE.format(number)) for number in (1, 2))
    with RoundRobin([busy.rpc]) as proxy, ExitStack() as stack:
        replica = rig.replica(proxy.address, RPC_MODE="proxy", model="slow")
        clients = [stack.enter_context(busy.client()) for _ in range(20)]

        began = time.monotonic()
        outputs = []
        while time.monotonic() < began + 5.0:
            for client in clients:
                client.send(predict_request("a", [0.01]))
            outputs += [client.reply().json for client in clients]

        assert joined(busy) >= 5
        assert joined(busy) <= 1 + 24 + 5
        assert proxy.accepted <= 1 + 24 + 5
        assert {row["default"] for row in outputs} == {False}
        assert busy.metric("clipper_lost_replicas_total") == 0
        assert busy.metric("clipper_resent_queries_total") == 0
        assert "frontend lost" not in replica.log
        proxy.upstreams = [hidden.rpc]
        wait_for_links(hidden, within_s=6.0)


def test_auto_takes_the_proxy_where_direct_fails_and_says_so(rig: Rig) -> None:
    frontends = [rig.frontend(ADVERTISED_RPC_ADDRESS=f"ipc:///nonexistent/f{number}") for number in (1, 2, 3)]
    with RoundRobin([each.rpc for each in frontends]) as proxy:
        replica = rig.replica(proxy.address)
        replica.wait_for_log(READY)

        wait_for_links(*frontends, within_s=5.0)

        assert "frontend cannot be dialled directly" in replica.log
        assert proxy.accepted <= 12
