"""What a frontend does for its peers, on simulated time: queries relayed to it, and what goes back."""

from __future__ import annotations

import struct

from clipper_nomad.protocol.mesh_messages import Fate, Relay, RelayedAnswer, Terms
from clipper_nomad.protocol.wire import Header, MessageType
from clipper_nomad.state.records import MICROS, ModelVersion
from clipper_nomad_frontend.endpoints import Query
from clipper_nomad_frontend.guests import MOST_TERMS
from tests.unit.simulation import SimulatedFrontend, Speed, current, identity_app, identity_version

QUICK = Speed(start_s=0.001, per_query_s=0.0001)
SLOW = Speed(start_s=1.0, per_query_s=0.0)
V1, V2 = identity_version("1"), identity_version("2")


class Peer:
    """The other frontend's end of a link."""

    def __init__(self, frontend: SimulatedFrontend) -> None:
        self._frontend = frontend
        self.replies: list[list[RelayedAnswer]] = []

    def relay(
        self,
        *numbers: float,
        uid: str = V1.uid,
        kind: int = 3,
        waited_s: float = 0.0,
        slo_s: float = 1.0,
        alone: bool = False,
    ) -> list[Query]:
        terms = Terms(int(waited_s * MICROS), int(slo_s * MICROS), int(10 * slo_s * MICROS))
        relay = Relay(
            Header(MessageType.RELAY, 0, len(numbers), 1, 2, 3),
            uid,
            kind,
            1,
            alone,
            (terms,) * len(numbers),
            tuple(struct.pack("<d", number) for number in numbers),
        )
        with self._frontend.loop.running():
            return self._frontend.serving.submit_relayed(relay, self.replies.append)

    def fates(self) -> list[list[Fate]]:
        return [[row.fate for row in rows] for rows in self.replies]


def serving(*replicas: ModelVersion, speed: Speed = QUICK) -> tuple[SimulatedFrontend, Peer]:
    frontend = SimulatedFrontend()
    frontend.serve(identity_app(), V1, V2, current(V1))
    for version in replicas:
        frontend.start_replica(version, speed)
    return frontend, Peer(frontend)


def test_a_relayed_batch_is_executed_and_each_output_goes_back_in_its_place() -> None:
    frontend, peer = serving(V1)

    peer.relay(3.0, 1.0, 2.0)
    frontend.run_for(1.0)

    (rows,) = peer.replies
    assert [row.output for row in rows] == [b"3.0", b"1.0", b"2.0"]
    assert {row.replica for row in rows} == {"identity-1-0"}
    assert not frontend.serving.owes_answers


def test_a_version_that_is_not_served_here_is_refused_at_once() -> None:
    frontend, peer = serving(V1)

    peer.relay(1.0, uid="unknown")
    peer.relay(1.0, uid=V2.uid)
    peer.relay(1.0, kind=1)

    assert peer.fates() == [[Fate.REFUSED]] * 3
    assert not frontend.serving.owes_answers


def test_what_waits_for_a_version_that_is_removed_goes_back() -> None:
    """It was answered with a default output, which no peer can be told: the batch was never answered."""
    frontend, peer = serving(V1, speed=SLOW)
    frontend.ask()
    frontend.run_for(0.1)
    peer.relay(1.0, 2.0)

    frontend.serve(identity_app(), V2, current(V2))
    frontend.run_for(5.0)

    assert peer.fates() == [[Fate.REFUSED, Fate.REFUSED]]
    assert not frontend.serving.owes_answers


def test_what_cannot_be_executed_in_its_time_goes_back() -> None:
    frontend, peer = serving(V1)
    next(iter(frontend.replicas.values())).pause(1000.0)
    frontend.ask()
    frontend.run_for(0.01)

    peer.relay(1.0, waited_s=9.0)
    frontend.run_for(30.0)

    assert peer.fates() == [[Fate.REFUSED]] or peer.fates() == [[Fate.LOST]]


def test_a_relayed_query_counts_for_no_app() -> None:
    frontend, peer = serving(V1)

    peer.relay(1.0)
    frontend.run_for(1.0)

    assert [sum(counters.outcomes) for _, counters in frontend.serving.app_counters()] == [0]


def test_what_a_lost_link_left_behind_is_forgotten() -> None:
    frontend, peer = serving(V1, speed=SLOW)
    queries = peer.relay(1.0, 2.0)

    for query in queries:
        frontend.serving.abandon(query)
    frontend.run_for(5.0)

    assert not peer.replies
    assert not frontend.serving.owes_answers


def test_terms_without_number_are_no_endpoints_without_number() -> None:
    frontend, peer = serving(V1)

    for number in range(3 * MOST_TERMS):
        peer.relay(1.0, slo_s=1.0 + number)
        frontend.run_for(0.01)

    assert len(peer.replies) == 3 * MOST_TERMS
    assert len([*frontend.serving._guests]) <= MOST_TERMS  # noqa: SLF001  # what grows is not seen from outside


def test_terms_of_any_size_harm_nobody() -> None:
    frontend, peer = serving(V1)

    for terms in (Terms(2**64 - 1, 0, 0), Terms(0, 2**64 - 1, 2**64 - 1), Terms(0, 0, 0)):
        relay = Relay(
            header=Header(MessageType.RELAY, 0, 1, 1, 2, 3),
            uid=V1.uid,
            input_type=3,
            item_length=1,
            is_alone=False,
            terms=(terms,),
            inputs=(bytes(8),),
        )
        with frontend.loop.running():
            frontend.serving.submit_relayed(relay, peer.replies.append)
        frontend.run_for(0.1)
    own = frontend.ask(number=5.0)
    frontend.run_for(1.0)

    assert len(peer.replies) == 3
    assert frontend.answer_of(own).output == 5.0
