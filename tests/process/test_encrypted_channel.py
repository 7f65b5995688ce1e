"""The model channel with CURVE keys, on real processes: who is let in, as whom, and who is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import zmq

from clipper_nomad.protocol.mesh_messages import PeerHello
from clipper_nomad.protocol.wire import Hello, MessageType, encode_introduction
from clipper_nomad.state.records import Record
from tests.process.bundles import pack
from tests.process.frontends import Frontend, a_version, an_app
from tests.process.replicas import Replica
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

ERRORS = "clipper_protocol_errors_total"


@dataclass(frozen=True)
class Pair:
    """A key pair, and a file with its secret."""

    public: str
    secret: str
    file: Path


def a_pair(folder: Path, name: str) -> Pair:
    public, secret = (key.decode() for key in zmq.curve_keypair())
    (folder / name).write_text(secret + "\n")
    return Pair(public, secret, folder / name)


@contextmanager
def a_replica(
    tmp_path: Path, frontends: Sequence[Frontend], server: Pair, own: Pair, *, model: str = "m", **more: object
) -> Iterator[Replica]:
    bundle = tmp_path / f"bundle-{own.file.name}"
    if not bundle.exists():
        pack(bundle, lambda inputs: [float(row.sum()) for row in inputs], input_type="doubles")
    settings = {
        "MODEL_NAME": model,
        "MODEL_VERSION": "1",
        "MODEL_UID": f"uid-of-{model}-1",
        "REPLICA_ID": f"r-{own.file.name}",
        "CURVE_SERVER_KEY": server.public,
        "CURVE_SECRET_FILE": own.file,
        **more,
    }
    with Replica(tmp_path, bundle, frontends=[each.rpc for each in frontends], **settings) as replica:
        replica.wait_for_log("replica is ready")
        yield replica


def records(*public_keys: tuple[str, str]) -> list[Record]:
    apps = [an_app(model, model=model) for model, _ in public_keys]
    return [*apps, *(a_version(model, public_key=key) for model, key in public_keys)]


def ready_count(frontend: Frontend) -> int:
    return sum(replica["state"] == "ready" for replica in frontend.report()["replicas"])


def test_a_replica_with_the_key_of_its_version_serves_through_every_frontend(tmp_path: Path) -> None:
    server, key = a_pair(tmp_path, "server"), a_pair(tmp_path, "m")
    with (
        Frontend(*records(("m", key.public)), CURVE_SECRET_FILE=server.file) as first,
        Frontend(
            *records(("m", key.public)), CURVE_SECRET_FILE=server.file, FRONTEND_ID="f2", PEER_ADDRESSES=first.rpc
        ) as second,
        a_replica(tmp_path, [first], server, key),  # it hears of the second from the first, who is its peer
    ):
        wait_until(lambda: ready_count(first) == ready_count(second) == 1, "both frontends have the replica")

        assert [each.predict("m", [1.0, 2.0]).json["output"] for each in (first, second)] == [3.0, 3.0]
        wait_until(lambda: all(row["linked"] and row["links_here"] for row in first.report()["peers"]), "peers are linked")


def test_an_unknown_key_is_not_heard_and_is_let_in_once_the_catalog_knows_it(tmp_path: Path) -> None:
    server, key, other = a_pair(tmp_path, "server"), a_pair(tmp_path, "m"), a_pair(tmp_path, "other")
    with Frontend(*records(("m", key.public)), CURVE_SECRET_FILE=server.file) as frontend:
        with a_replica(tmp_path, [frontend], server, other) as stranger:
            with a_replica(tmp_path, [frontend], server, key):
                wait_until(lambda: ready_count(frontend) == 1, "the version's own replica is there")
            assert stranger.process.poll() is None  # it goes on dialing: its key may be known later
        assert "r-other" not in str(frontend.report())
        assert frontend.metric(ERRORS) == 0


def test_a_version_s_replica_can_be_none_of_another_version(tmp_path: Path) -> None:
    server, key, other = a_pair(tmp_path, "server"), a_pair(tmp_path, "m"), a_pair(tmp_path, "n")
    with (
        Frontend(*records(("m", key.public), ("n", other.public)), CURVE_SECRET_FILE=server.file) as frontend,
        a_replica(tmp_path, [frontend], server, other, model="m"),  # n's key, m's name and uid
    ):
        wait_until(lambda: frontend.metric(ERRORS) > 0, "its hello is refused")

        assert ready_count(frontend) == 0
        assert "does not belong to the key" in frontend.log


def test_addresses_in_a_file_are_read_at_each_dial(tmp_path: Path) -> None:
    server, key = a_pair(tmp_path, "server"), a_pair(tmp_path, "m")
    file = tmp_path / "rpc-addresses"
    file.write_text("")  # nobody is registered yet
    first = Frontend(*records(("m", key.public)), CURVE_SECRET_FILE=server.file)
    second = Frontend(*records(("m", key.public)), CURVE_SECRET_FILE=server.file)
    with a_replica(tmp_path, [], server, key, RPC_ADDRESSES_FILE=file) as replica:
        with first:
            file.write_text(f"{first.rpc}\n")
            wait_until(lambda: ready_count(first) == 1, "the replica found the first frontend")
        file.write_text(f"{first.rpc},{second.rpc}")  # the first is gone, and still listed
        with second:
            wait_until(lambda: ready_count(second) == 1, "the replica found the second frontend", within_s=20)
        assert replica.process.poll() is None


@pytest.mark.parametrize("mechanism", ["none", "another server's key"])
def test_who_does_not_know_the_frontends_key_is_not_heard(tmp_path: Path, mechanism: str) -> None:
    server, key = a_pair(tmp_path, "server"), a_pair(tmp_path, "m")
    hello = Hello(model="m", version="1", uid="uid-of-m-1", input_type="doubles", replica="r", python="3.11", toolkit="t")
    with (
        zmq.Context[zmq.Socket[bytes]]() as context,
        Frontend(*records(("m", key.public)), CURVE_SECRET_FILE=server.file) as frontend,
        context.socket(zmq.DEALER) as socket,
    ):
        socket.linger = 0
        if mechanism != "none":
            wrong = zmq.curve_keypair()[0]
            socket.set(zmq.CURVE_SERVERKEY, wrong)
            socket.set(zmq.CURVE_PUBLICKEY, key.public.encode())
            socket.set(zmq.CURVE_SECRETKEY, key.secret.encode())
        socket.connect(frontend.rpc)
        socket.send_multipart(encode_introduction(MessageType.HELLO, hello))

        assert not socket.poll(1500)
        assert frontend.report()["replicas"] == []


def test_a_replica_s_key_does_not_make_a_peer(tmp_path: Path) -> None:
    server, key = a_pair(tmp_path, "server"), a_pair(tmp_path, "m")
    with (
        zmq.Context[zmq.Socket[bytes]]() as context,
        Frontend(*records(("m", key.public)), CURVE_SECRET_FILE=server.file) as frontend,
        context.socket(zmq.DEALER) as socket,
    ):
        socket.linger = 0
        socket.set(zmq.CURVE_SERVERKEY, server.public.encode())
        socket.set(zmq.CURVE_PUBLICKEY, key.public.encode())
        socket.set(zmq.CURVE_SECRETKEY, key.secret.encode())
        socket.connect(frontend.rpc)
        hello = PeerHello(frontend="evil", address="tcp://127.0.0.1:1", toolkit="t")
        socket.send_multipart(encode_introduction(MessageType.HELLO, hello))
        wait_until(lambda: frontend.metric(ERRORS) > 0, "it is refused")

        assert frontend.report()["peers"] == []


@pytest.mark.parametrize("content", [None, "", "short", "x" * 41])
def test_a_frontend_without_a_proper_key_says_so_and_does_not_start_in_clear(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    frontend = Frontend(an_app("m", model="m"), a_version("m"), CURVE_SECRET_FILE=file)
    with pytest.raises(AssertionError, match="CLIPPER_CURVE_SECRET_FILE"), frontend:
        pass


def test_frontends_with_the_old_and_the_new_key_are_peers_and_a_replica_that_knows_both_serves_both(tmp_path: Path) -> None:
    old, new, key = a_pair(tmp_path, "old"), a_pair(tmp_path, "new"), a_pair(tmp_path, "m")
    known = tmp_path / "server-keys"
    known.write_text(f"{old.public} {new.public}")
    with (
        Frontend(*records(("m", key.public)), CURVE_SECRET_FILE=old.file, CURVE_SERVER_KEYS_FILE=known) as first,
        Frontend(
            *records(("m", key.public)),
            CURVE_SECRET_FILE=new.file,
            FRONTEND_ID="f2",
            PEER_ADDRESSES=first.rpc,
            CURVE_SERVER_KEYS_FILE=known,
        ) as second,
        a_replica(
            tmp_path, [first], old, key, CURVE_SERVER_KEY="", CURVE_SERVER_KEYS_FILE=known
        ),  # it hears of the second from the first
    ):
        wait_until(lambda: ready_count(first) == ready_count(second) == 1, "both frontends have the replica")
        wait_until(lambda: all(row["linked"] and row["links_here"] for row in first.report()["peers"]), "peers are linked")

        assert [each.report()["curve_key"] for each in (first, second)] == [old.public, new.public]
        assert [each.predict("m", [1.0, 2.0]).json["output"] for each in (first, second)] == [3.0, 3.0]


def test_a_frontend_s_key_that_was_taken_away_is_no_peer_s_any_more(tmp_path: Path) -> None:
    old, new, key = a_pair(tmp_path, "old"), a_pair(tmp_path, "new"), a_pair(tmp_path, "m")
    known = tmp_path / "server-keys"
    known.write_text(new.public)
    with (
        Frontend(*records(("m", key.public)), CURVE_SECRET_FILE=new.file, CURVE_SERVER_KEYS_FILE=known) as frontend,
        Frontend(
            *records(("m", key.public)), CURVE_SECRET_FILE=old.file, FRONTEND_ID="f2", PEER_ADDRESSES=frontend.rpc
        ) as stranger,
        a_replica(tmp_path, [frontend], new, key),
    ):
        wait_until(lambda: ready_count(frontend) == 1, "the replica is there")

        assert not any(row["linked"] or row["links_here"] for row in frontend.report()["peers"])
        assert ready_count(stranger) == 0
