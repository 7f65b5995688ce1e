"""Containers of RPC version 3 on simulated time: who is taken in, who is dropped, and what becomes of their work."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

import pytest

from clipper_nomad.protocol import rpc3
from clipper_nomad.protocol.rpc3 import FrontendHeartbeat, HeartbeatType, Request, decode_from_frontend
from clipper_nomad.state.records import Model, ModelVersion, Record
from clipper_nomad_frontend.legacy_peers import MAX_BAD_MESSAGES, LegacyPeers
from clipper_nomad_frontend.legacy_router import CHECK_EVERY_S
from tests.unit.simulation import SimulatedFrontend, Speed, current, identity_app, identity_version

V1 = identity_version("1")
QUICK = Speed(start_s=0.001, per_query_s=0.0001)
FIRST_ID = 2**32 - 3  # so that the ids wrap
ASKED = FrontendHeartbeat(HeartbeatType.INTRODUCE)
KEPT = FrontendHeartbeat(HeartbeatType.KEEP_ALIVE)


@dataclass
class Rig:
    """A frontend on simulated time with a channel of RPC version 3, of which a test is every container."""

    frontend: SimulatedFrontend = field(default_factory=SimulatedFrontend)
    gone: set[bytes] = field(default_factory=set)
    sent: list[tuple[bytes, FrontendHeartbeat | Request]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.peers = LegacyPeers(
            self.frontend.serving,
            frontend_id="f",
            send=self._send,
            clock=self.frontend.loop.time,
            later=self.frontend.loop.call_soon,
            first_message_id=FIRST_ID,
        )
        self._check()

    def _check(self) -> None:
        self.peers.check()
        self.frontend.loop.call_later(CHECK_EVERY_S, self._check)

    def _send(self, routing_id: bytes, frames: list[bytes]) -> bool:
        if routing_id in self.gone:
            return False
        self.sent.append((routing_id, decode_from_frontend(frames)))
        return True

    def serve(self, *versions: ModelVersion) -> None:
        """Serve these versions, the first as current; or none."""
        models: list[Record] = [current(versions[0])] if versions else [Model(name="identity")]
        self.frontend.serve(identity_app(), *models, *versions)
        with self.frontend.loop.running():
            self.peers.on_catalog()

    def say(self, container: bytes, frames: list[bytes]) -> None:
        """Let a container say something."""
        with self.frontend.loop.running():
            self.peers.on_message(container, frames)

    def beat(self, container: bytes = b"c") -> FrontendHeartbeat | Request:
        """Let a container send a heartbeat, and return the answer."""
        self.say(container, rpc3.encode_heartbeat())
        return self.sent[-1][1]

    def introduce(self, container: bytes = b"c", *, version: str = "1", kind: int = 3) -> None:
        """Let a container say who it is."""
        self.say(container, rpc3.encode_new_container("identity", version, kind))

    def respond(self, request: Request, *outputs: str, container: bytes = b"c") -> None:
        """Let a container answer a request; by default as the identity."""
        texts = list(outputs) or [str(struct.unpack("<d", each)[0]) for each in request.inputs]
        self.say(container, rpc3.encode_response(request.message_id, [text.encode() for text in texts]))

    def requests(self, container: bytes = b"c") -> list[Request]:
        """Return the requests that a container was sent."""
        return [message for to, message in self.sent if to == container and isinstance(message, Request)]

    def ready(self) -> list[str]:
        """Return the names of the replicas that are ready."""
        return [replica.name for each in self.frontend.serving.dispatches.values() for replica in each.replicas.ready]

    def waiting(self) -> list[str]:
        """Return the versions of the containers that get no work."""
        return [hello.version for hello in self.peers.waiting_hellos()]


def rig(*versions: ModelVersion) -> Rig:
    made = Rig()
    made.serve(*(versions or (V1,)))
    return made


# ---- coming ----------------------------------------------------------------------------------------------------------


def test_whom_it_does_not_know_is_asked_and_whom_it_knows_is_kept() -> None:
    world = rig()

    assert world.beat() == ASKED
    assert world.beat() == ASKED
    world.introduce()
    assert world.beat() == KEPT
    assert world.ready() == ["rpc3-f-1"]


def test_a_container_quicker_than_the_registration_waits_and_is_taken_at_once() -> None:
    world = Rig()
    world.beat()
    world.introduce()
    assert world.waiting() == ["1"]

    world.serve()
    assert world.waiting() == ["1"]
    world.serve(V1)
    query = world.frontend.ask()
    world.respond(world.requests()[0])

    assert world.frontend.answer_of(query).output == 0.0
    assert world.waiting() == []


def test_a_replica_that_returns_has_another_name_and_number() -> None:
    world = rig()
    for container in (b"a", b"b", b"c"):
        world.beat(container)
        world.introduce(container)
        with world.frontend.loop.running():
            world.peers.on_end(container)
    world.beat(b"d")
    world.introduce(b"d")

    (replica,) = world.frontend.serving.dispatches[V1.uid].replicas.ready
    assert (replica.id, replica.name) == (3, "rpc3-f-4")


@pytest.mark.parametrize("image", ["registry/m:1", "bundle:sha256-1"])
def test_no_container_serves_a_version_with_an_image_of_ours(image: str) -> None:
    world = rig(replace(V1, image=image))

    world.beat()
    world.introduce()

    assert (world.ready(), world.waiting(), world.beat()) == ([], ["1"], ASKED)


def test_a_container_serves_a_version_that_was_deployed_with_an_image_of_clippers() -> None:
    world = rig(replace(V1, image="clipper/sum-container", legacy=True))

    world.beat()
    world.introduce()

    assert world.ready() == ["rpc3-f-1"]


# ---- silence ---------------------------------------------------------------------------------------------------------


def test_a_container_that_beats_every_five_seconds_is_kept() -> None:
    world = rig()
    world.beat()
    world.introduce()

    for _ in range(30):
        world.frontend.run_for(rpc3.POLL_S)
        assert world.beat() == KEPT


def test_a_container_is_dropped_after_half_a_minute_of_silence_and_taken_back_under_another_name() -> None:
    world = rig()
    world.beat()
    world.introduce()

    world.frontend.run_for(rpc3.LOST_AFTER_S - 1)
    assert world.ready() == ["rpc3-f-1"]
    world.frontend.run_for(CHECK_EVERY_S + 2)
    assert world.ready() == []

    assert world.beat() == ASKED
    world.introduce()
    assert world.ready() == ["rpc3-f-2"]


def test_what_a_silent_container_held_is_answered_by_another_and_its_late_answer_by_nobody() -> None:
    world = rig()
    world.beat()
    world.introduce()
    query = world.frontend.ask()
    held = world.requests()[0]

    world.frontend.run_for(rpc3.LOST_AFTER_S + CHECK_EVERY_S + 1)
    world.beat(b"other")
    world.introduce(b"other")
    world.respond(held, "666")
    world.beat()
    world.introduce()
    world.respond(held, "666")
    world.respond(world.requests(b"other")[0], container=b"other")

    assert world.frontend.answer_of(query).output == 0.0
    assert query.tries == 2
    assert world.frontend.serving.process_counters.stray_results == 2


def test_a_silent_container_that_waits_is_not_given_work() -> None:
    world = Rig()
    world.serve()
    world.beat()
    world.introduce()
    world.frontend.run_for(rpc3.LOST_AFTER_S + CHECK_EVERY_S + 1)

    world.serve(V1)

    assert world.ready() == []


# ---- work ------------------------------------------------------------------------------------------------------------


def test_message_ids_are_never_used_twice_and_wrap() -> None:
    world = rig()
    world.beat()
    world.introduce()
    for _ in range(6):
        world.frontend.ask()
        world.respond(world.requests()[-1])

    assert [request.message_id for request in world.requests()] == [2**32 - 2, 2**32 - 1, 0, 1, 2, 3]


def test_a_container_gets_one_batch_at_a_time_and_is_never_asked_to_call() -> None:
    world = rig()
    with world.frontend.loop.running():
        world.frontend.serving.set_frontends(3)
    world.beat()
    world.introduce()

    queries = [world.frontend.ask() for _ in range(10)]
    world.frontend.run_for(0.1)
    assert len(world.requests()) == 1
    while not queries[-1].is_done:
        world.respond(world.requests()[-1])
        world.frontend.run_for(0.01)

    assert [world.frontend.answer_of(query).output for query in queries] == [float(number) for number in range(10)]
    assert sum(len(request.inputs) for request in world.requests()) == 10, "no batch is filled up with copies"


def test_the_time_to_its_answer_teaches_the_batch_limit() -> None:
    world = rig()
    world.beat()
    world.introduce()
    for _ in range(3):
        world.frontend.ask()
        world.frontend.run_for(0.25)
        world.respond(world.requests()[-1])

    assert world.frontend.serving.dispatches[V1.uid].limit.per_query_s == pytest.approx(0.25, rel=0.1)


def test_what_cannot_be_sent_goes_to_another() -> None:
    world = rig()
    world.beat()
    world.introduce()
    world.gone.add(b"c")

    query = world.frontend.ask()
    world.beat(b"other")
    world.introduce(b"other")
    world.respond(world.requests(b"other")[0], container=b"other")

    assert world.frontend.answer_of(query).output == 0.0
    assert query.tries == 1


# ---- leaving ---------------------------------------------------------------------------------------------------------


def test_a_removed_version_lets_its_container_finish_and_gives_it_no_more() -> None:
    world = rig()
    world.beat()
    world.introduce()
    query = world.frontend.ask()

    world.serve()
    world.frontend.run_for(0.1)
    world.respond(world.requests()[0])

    assert world.frontend.answer_of(query).output == 0.0
    assert world.beat() == ASKED
    world.introduce()
    assert world.waiting() == ["1"]


def test_a_container_at_rest_is_forgotten_with_its_version() -> None:
    world = rig()
    world.beat()
    world.introduce()

    world.serve()
    world.frontend.run_for(0.1)

    assert world.beat() == ASKED


def test_a_connection_serves_no_second_build_of_its_version() -> None:
    """Registered anew, `m:1` is another one: the container may still run the code of the first."""
    world = rig()
    world.beat()
    world.introduce()
    world.serve()
    world.frontend.run_for(0.1)

    world.serve(replace(V1, uid="built-anew"))
    world.introduce()
    assert world.ready() == []

    world.beat(b"started anew")
    world.introduce(b"started anew")
    assert world.ready() == ["rpc3-f-2"]


def test_a_version_that_only_changed_keeps_its_container() -> None:
    world = rig()
    world.beat()
    world.introduce()

    world.serve(replace(V1, labels=("blue",)))
    world.frontend.run_for(0.1)

    assert world.ready() == ["rpc3-f-1"]


def test_who_breaks_the_protocol_too_often_is_not_listened_to_any_more() -> None:
    world = rig()
    for _ in range(MAX_BAD_MESSAGES):
        assert world.beat() == ASKED
        world.introduce()
        world.say(b"c", [b"none of it"])
    answers = len(world.sent)

    world.say(b"c", rpc3.encode_heartbeat())

    assert len(world.sent) == answers
    assert world.ready() == []
    assert world.frontend.serving.process_counters.protocol_errors == MAX_BAD_MESSAGES


def test_who_is_shut_out_is_heard_again_on_another_connection_only() -> None:
    world = rig()
    world.peers.shut_out(b"stranger")
    world.say(b"stranger", rpc3.encode_heartbeat())
    world.introduce(b"stranger")
    assert (world.sent, world.ready()) == ([], [])

    with world.frontend.loop.running():
        world.peers.on_end(b"stranger")
    assert world.beat(b"stranger") == ASKED


def test_a_container_cannot_become_another_on_one_connection() -> None:
    world = rig(V1, identity_version("2"))
    world.beat()
    world.introduce()

    world.introduce(version="2")

    assert world.ready() == []
    assert world.frontend.serving.process_counters.protocol_errors == 1


def test_replicas_of_both_protocols_share_a_version() -> None:
    world = rig()
    world.beat()
    world.introduce()
    ours = world.frontend.start_replica(V1, QUICK)
    queries = [world.frontend.ask() for _ in range(8)]
    world.frontend.run_for(0.1)
    for request in world.requests():
        world.respond(request)
    world.frontend.run_for(0.1)

    assert [world.frontend.answer_of(query).output for query in queries] == [float(number) for number in range(8)]
    assert world.requests()
    assert ours.executed
    gauges = {key: value for key, _, value in world.frontend.serving.gauges()}
    assert (gauges["sessions"], gauges["legacy_sessions"]) == (1.0, 1.0)
