"""Frontends among each other, as real processes: whoever dies, stands still, leaves, comes or lies."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from clipper_nomad.protocol import mesh_messages, wire
from clipper_nomad.protocol.mesh_messages import Announcement, PeerHello, RelayedAnswer, RosterEntry
from clipper_nomad.protocol.wire import Header, MessageType
from clipper_nomad.state.commit import Commit
from clipper_nomad.state.records import Model
from clipper_nomad.state.store import Store
from tests.models.tagged import answer
from tests.process.frontends import Frontend, a_version, an_app
from tests.process.http_clients import predict_request
from tests.process.meshes import UID, Load, frontends, killed, mesh, tags
from tests.process.peer_replicas import PeerReplica
from tests.process.replicas import PeerFrontend
from tests.process.stores import StoreServer
from tests.unit.test_wire_broken import damaged
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


# ---- whoever dies, stops or leaves -----------------------------------------------------------------------------------


def test_a_frontend_that_is_killed_costs_the_others_no_answer_while_there_is_another_way() -> None:
    with (
        mesh(3) as (first, asked, third),
        PeerReplica(first.rpc, predict=tags),
        PeerReplica(third.rpc, predict=tags, name="r-1"),
        Load(asked) as load,
    ):
        killed(first)
        load.wait_for(1000)

        assert load.failed_share <= 0.01
        assert "Traceback" not in asked.log


def test_the_queries_of_a_killed_frontend_s_clients_are_forgotten_by_those_who_worked_on_them() -> None:
    with (
        mesh(2) as (direct, asked),
        PeerReplica(direct.rpc, holds=True, predict=tags) as replica,
        asked.client() as client,
    ):
        client.send(predict_request("a", [1.0]))
        replica.wait_for_batches()
        killed(asked)
        wait_until(lambda: "peer left" in direct.log, "the link is lost")
        replica.answer_all()

        assert direct.predict("a", [5.0]).json["output"] == answer(5, UID)


def test_a_frontend_that_stands_still_is_given_up_within_three_seconds() -> None:
    with (
        mesh(3) as (first, asked, third),
        PeerReplica(first.rpc, predict=tags),
        PeerReplica(third.rpc, predict=tags, name="r-1"),
    ):
        asked.predict("a", [1.0])
        assert first.process is not None
        first.process.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            with Load(asked, clients=4) as load:
                load.wait_for(200)
            took_s = time.monotonic() - began
            wait_until(lambda: "peer left" in asked.log, "the link is given up", within_s=5)
        finally:
            first.process.send_signal(signal.SIGCONT)

        assert set(load.statuses) == {200}
        assert took_s < 4.5  # 2.5 s without a sign of life, and 300 answers on a loaded machine
        wait_until(lambda: asked.log.count("peer joined") >= 3, "it is back")


def test_a_frontend_that_is_stopped_loses_nothing_of_what_was_relayed_to_it() -> None:
    with (
        mesh(3) as (first, asked, third),
        PeerReplica(first.rpc, predict=tags),
        PeerReplica(third.rpc, predict=tags, name="r-1"),
        Load(asked) as load,
    ):
        first.terminate()
        assert first.exit_code() == 0
        load.wait_for(500)

        assert set(load.statuses) == {200}
        assert asked.metric("clipper_resent_queries_total") == 0


def refuses(frontend: Frontend) -> bool:
    """Whether it takes no connections."""
    try:
        frontend.client().close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_frontend_that_is_stopped_answers_what_was_relayed_to_it_before_it_ends() -> None:
    """It waited for its own clients only, and the queries of its peers were lost with it."""
    with (
        mesh(2) as (direct, asked),
        PeerReplica(direct.rpc, holds=True, predict=tags) as replica,
        asked.client() as client,
    ):
        client.send(predict_request("a", [1.0]))
        replica.wait_for_batches()
        direct.terminate()
        wait_until(lambda: direct.ask("GET", "/health/ready").status == 503, "it drains")
        wait_until(lambda: refuses(direct), "nobody can connect any more: it waits for nothing but answers")
        replica.answer_all()

        assert client.reply().json["output"] == answer(1, UID)
        assert direct.exit_code() == 0
        assert asked.metric("clipper_resent_queries_total") == 0


# ---- who is new, and how frontends find each other -------------------------------------------------------------------


def without_mirror(**settings: object) -> Frontend:
    made = Frontend(**settings)
    (made.folder / "mirror").unlink()
    return made


def test_a_new_frontend_without_store_and_mirror_answers_in_its_first_second() -> None:
    with (
        mesh(2) as (direct, other),
        PeerReplica(direct.rpc, predict=tags),
        without_mirror(FRONTEND_ID="new", PEER_ADDRESSES=other.rpc) as new,
    ):
        began = time.monotonic()
        reply = new.predict("a", [3.0])
        took_s = time.monotonic() - began

        assert reply.json["output"] == answer(3, UID)
        assert took_s < 1.0
        assert "catalog from a peer" in new.log
        assert (new.folder / "mirror").exists()
        assert "peer joined peer=f1" in new.log  # which it was not told of


def test_addresses_that_lead_nowhere_or_back_keep_nobody_from_the_mesh() -> None:
    direct, other = frontends(2, an_app(), a_version())
    seeds = ["ipc:///tmp/cn-nowhere", "tcp://127.0.0.1:9", "tcp://no-such-host.invalid:7000", other.rpc, direct.rpc]
    other._settings |= {"PEER_ADDRESSES": ",".join(seeds)}  # noqa: SLF001  # not started yet
    with direct, other, PeerReplica(direct.rpc, predict=tags):
        assert other.predict("a", [4.0]).json["output"] == answer(4, UID)


@contextmanager
def sharing(server: StoreServer) -> Iterator[tuple[Frontend, Frontend]]:
    """Run two frontends that have nothing in common but a store."""

    async def fill() -> None:
        store = await Store.open(server.url, "default-cluster", create=True)
        try:
            model = Model(name="m", current_version="1")
            await store.commit(lambda _: Commit(put=(an_app(), model, a_version())))
        finally:
            await store.close()

    asyncio.run(fill())
    with (
        without_mirror(FRONTEND_ID="f1", STORE_URL=server.url) as one,
        without_mirror(FRONTEND_ID="f2", STORE_URL=server.url) as other,
    ):
        yield one, other


def test_frontends_that_share_a_store_find_each_other(one_store_server: StoreServer) -> None:
    with sharing(one_store_server) as (one, other), PeerReplica(one.rpc, predict=tags):
        assert other.predict("a", [5.0]).json["output"] == answer(5, UID)


def test_a_store_that_lost_everything_parts_nobody(one_store_server: StoreServer) -> None:
    with sharing(one_store_server) as (one, other), PeerReplica(one.rpc, predict=tags):
        other.predict("a", [1.0])
        one_store_server.kill()
        one_store_server.wipe()
        one_store_server.start()
        wait_until(lambda: one.report()["conflict"] and other.report()["conflict"], "both have seen it", within_s=20)

        assert other.predict("a", [6.0]).json["output"] == answer(6, UID)
        assert "peer lost" not in one.log + other.log
        assert "peer left" not in one.log + other.log


# ---- whoever breaks the protocol -------------------------------------------------------------------------------------


def hostile_messages(rng: random.Random, epoch: int, session: int) -> Iterator[list[bytes]]:
    """Messages of peers, damaged; and well-formed ones that answer nothing."""
    said = Announcement(served={UID: mesh_messages.Served(1, 0)}, store_id="other", revision=99, confirmed=True)
    header = Header(MessageType.RELAY, 0, 1, epoch, session, 1)
    ids = {"epoch": epoch, "session": session}
    good = [
        mesh_messages.encode_announcement(said, **ids),
        mesh_messages.encode_roster([RosterEntry("x", "ipc:///x")], **ids),
        mesh_messages.encode_catalog(b"{}", **ids),
        mesh_messages.encode_relayed(header, [RelayedAnswer(fate=mesh_messages.Fate.ANSWERED, output=b"0")]),
        wire.encode_control(MessageType.DRAIN, **ids),
        wire.encode_control(MessageType.WANT_CATALOG, **ids),
    ]
    yield good[3]
    for _ in range(40):
        yield damaged(rng, rng.choice(good)) if rng.random() < 0.8 else [rng.randbytes(rng.randrange(80)) for _ in range(3)]


def test_a_peer_of_random_frames_harms_nobody_and_is_counted() -> None:
    rng = random.Random(4)
    with (
        mesh(2) as (direct, other),
        PeerReplica(direct.rpc, predict=tags),
        Load(other, clients=2) as load,
        zmq.Context() as context,
    ):
        for number in range(40):
            socket = context.socket(zmq.DEALER)
            socket.connect(direct.rpc)
            hello = PeerHello(frontend=f"x{number}", address="ipc:///tmp/cn-nowhere", toolkit="t")
            socket.send_multipart(wire.encode_introduction(MessageType.HELLO, hello))
            assert socket.poll(10_000)
            header = wire.header_of(socket.recv_multipart()[0])
            for frames in hostile_messages(rng, header.epoch, header.session):
                socket.send_multipart(frames)
            socket.close(linger=1000)
        load.wait_for(300)

        assert set(load.statuses) == {200}
        assert direct.metric("clipper_protocol_errors_total") >= 40
        assert direct.metric("clipper_stray_results_total") >= 1
        assert "missed a beat" not in direct.log + other.log


def test_a_frontend_that_answers_its_peers_with_noise_is_dialled_anew_and_harms_nobody(tmp_path: Path) -> None:
    rng = random.Random(5)
    noisy = f"ipc://{tmp_path}/noisy"
    direct, other = frontends(2, an_app(), a_version())
    other._settings["PEER_ADDRESSES"] = f"{noisy},{direct.rpc}"  # noqa: SLF001  # not started yet
    with PeerFrontend(noisy) as peer, direct, other, PeerReplica(direct.rpc, predict=tags):
        for _ in range(3):
            header, _ = peer.expect(MessageType.HELLO)
            assert header.type is MessageType.HELLO
            peer.send([rng.randbytes(60)])

        assert other.predict("a", [8.0]).json["output"] == answer(8, UID)
        assert "missed a beat" not in other.log
