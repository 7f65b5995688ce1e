"""A frontend among peers that a test plays by hand: who is let in, what is told, and that nothing of the gone is kept."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from clipper_nomad.protocol import mesh_messages, wire
from clipper_nomad.protocol.mesh_messages import (
    Announcement,
    Fate,
    Known,
    PeerHello,
    RelayedAnswer,
    RosterEntry,
    Served,
    Terms,
)
from clipper_nomad.protocol.wire import Header, Hello, MessageType, Reject, Welcome, WireError, encode_control, header_of
from clipper_nomad.state.messages import Presence
from clipper_nomad.state.records import Snapshot, to_mirror
from clipper_nomad_frontend.catalog import Catalog
from clipper_nomad_frontend.mesh import Mesh
from clipper_nomad_frontend.peer_links import PeerLink
from clipper_nomad_frontend.router import Router
from clipper_nomad_frontend.sessions import Batch, Session
from tests.unit.simulation import (
    EPOCH,
    SimulatedFrontend,
    SimulatedRouter,
    Speed,
    current,
    identity_app,
    identity_version,
)

V1, V2 = identity_version("1"), identity_version("2")
QUICK = Speed(start_s=0.001, per_query_s=0.0001)
A = PeerHello(frontend="a", address="ipc:///a", toolkit="t")


def catalog_of(*, revision: int = 1, store: str = "store") -> Snapshot:
    return Snapshot(
        store_id=store,
        revision=revision,
        apps={"app": identity_app()},
        models={"identity": current(V1)},
        versions={V1.key: V1},
    )


class NotingRouter(SimulatedRouter):
    """Notes what goes to peers, by routing id."""

    def __init__(self, frontend: SimulatedFrontend) -> None:
        super().__init__(frontend)
        self.sent: list[tuple[bytes, list[bytes]]] = []
        self.relayed: list[tuple[Session, Batch]] = []
        self.rejected: list[bytes] = []

    def send_frames(self, routing_id: bytes, frames: list[bytes]) -> bool:
        self.sent.append((routing_id, frames))
        return True

    def send_welcome(self, session: Session, welcome: Welcome) -> bool:
        return session.hello.role == "peer" or super().send_welcome(session, welcome)

    def send_reject(self, routing_id: bytes, reject: Reject) -> bool:
        self.rejected.append(routing_id)
        return True

    def send_relay(self, session: Session, batch: Batch, *, uid: str, input_type: int, item_length: int, now: float) -> bool:
        self.relayed.append((session, batch))
        return True


class FakeLink:
    """A link that stands, to the frontend `a`."""

    is_open = True
    epoch, session, address = 5, 6, "ipc:///a"

    def __init__(self, frontend: str = "a") -> None:
        self.frontend = frontend
        self.sent: list[list[bytes]] = []
        self.rested = 0

    def send(self, frames: list[bytes]) -> bool:
        self.sent.append(frames)
        return True

    def rest(self, now: float) -> None:
        self.rested += 1
        self.is_open = False


class Rig:
    """One frontend with its mesh. Its methods are what peers do."""

    def __init__(self, *, serves: bool = True) -> None:
        self.frontend = SimulatedFrontend()
        self.serving = self.frontend.serving
        self.router = NotingRouter(self.frontend)
        self.serving.router = cast("Router", self.router)
        self.catalog = Catalog(None, self._apply)
        self.mesh = Mesh(
            self.serving, self.catalog, frontend_id="me", toolkit="t", epoch=EPOCH, clock=self.frontend.loop.time
        )
        if serves:
            self.catalog.accept(catalog_of())

    def _apply(self, snapshot: Snapshot) -> None:
        with self.frontend.loop.running():
            self.serving.apply(snapshot)

    def come(self, routing_id: bytes = b"a", hello: PeerHello = A) -> None:
        self.mesh.on_peer_hello(routing_id, hello)

    def say(self, frames: list[bytes], routing_id: bytes = b"a") -> None:
        self.mesh.on_message(routing_id, header_of(frames[0]), frames)

    def announce(self, served: dict[str, Served], routing_id: bytes = b"a", **more: object) -> None:
        said = Announcement(served=served, **more)  # type: ignore[arg-type]  # fields of many types
        self.say(mesh_messages.encode_announcement(said, epoch=EPOCH, session=1), routing_id)

    def slots(self, uid: str = V1.uid) -> int:
        return len(self.serving.dispatches[uid].relays.all)

    def remember(self, link: FakeLink) -> PeerLink:
        known = cast("PeerLink", link)
        self.mesh._links[link.address] = known  # noqa: SLF001  # as if it had been dialled
        return known


ONE = {V1.uid: Served(1, 0)}


# ---- who is let in


def test_a_peer_is_welcomed_told_the_roster_and_taken_into_it() -> None:
    rig = Rig()

    rig.come()

    assert rig.mesh.roster.others == (RosterEntry("a", "ipc:///a"),)
    (frames,) = [frames for _, frames in rig.router.sent]
    assert mesh_messages.decode_roster(frames) == rig.mesh.roster.entries


def test_a_connection_says_hello_once_as_a_peer_or_as_a_replica() -> None:
    rig = Rig()
    replica = Hello(model="m", version="1", uid="unknown", input_type="", replica="r", python="", toolkit="")
    with rig.frontend.loop.running():
        rig.mesh.on_hello(b"waiting", replica)
    rig.come()

    with pytest.raises(WireError):
        rig.come()
    with pytest.raises(WireError):
        rig.mesh.on_hello(b"a", replica)
    with pytest.raises(WireError):
        rig.come(b"waiting")


def test_a_hello_is_told_the_roster_without_a_look_at_every_other_session() -> None:
    """With ten thousand replicas each hello looked at all of them."""
    rig = Rig()
    for number in range(50):
        rig.come(b"%d" % number, PeerHello(frontend=f"f{number}", address="", toolkit=""))

    assert len(rig.router.sent) == 50

    rig.mesh.tick(0.0)
    assert len(rig.router.sent) == 99  # the last of them knew all


@pytest.mark.parametrize("kind", [MessageType.ANNOUNCE, MessageType.RELAYED, MessageType.CATALOG])
def test_a_replica_sends_nothing_that_peers_send(kind: MessageType) -> None:
    rig = Rig()
    rig.frontend.start_replica(V1, QUICK)

    with pytest.raises(WireError, match=kind.name):
        rig.say(encode_control(kind, epoch=EPOCH), b"peer-0")


def test_a_peer_that_breaks_the_protocol_is_counted_refused_and_forgotten() -> None:
    rig = Rig()
    rig.come()
    rig.announce(ONE)

    rig.mesh.on_bad_message(b"a", WireError("no"))

    assert rig.serving.process_counters.protocol_errors == 1
    assert rig.router.rejected == [b"a"]
    assert rig.slots() == 0


def test_a_peer_s_word_from_before_a_restart_is_refused() -> None:
    rig = Rig()
    rig.come()

    with pytest.raises(WireError):
        rig.say(mesh_messages.encode_announcement(Announcement(), epoch=EPOCH + 1, session=1))


# ---- what is relayed


def test_a_query_goes_to_the_peer_that_announced_and_its_answer_comes_back() -> None:
    rig = Rig()
    rig.come()
    rig.announce(ONE)
    query = rig.frontend.ask(number=4.0)
    rig.frontend.run_for(0.01)
    ((session, batch),) = rig.router.relayed
    header = Header(MessageType.RELAY, 0, 1, EPOCH, session.id, batch.id)
    row = RelayedAnswer(fate=Fate.ANSWERED, replica="r", output=b"4.0")

    with rig.frontend.loop.running():
        rig.say(mesh_messages.encode_relayed(header, [row]))
        rig.say(mesh_messages.encode_relayed(header, [row]))

    assert rig.frontend.answer_of(query).output == 4.0
    assert rig.serving.process_counters.stray_results == 1


def test_an_answer_on_another_peer_s_connection_is_dropped() -> None:
    rig = Rig()
    rig.come()
    rig.come(b"b", PeerHello(frontend="b", address="ipc:///b", toolkit="t"))
    rig.announce(ONE)
    rig.frontend.ask(number=4.0)
    rig.frontend.run_for(0.01)
    ((session, batch),) = rig.router.relayed

    header = Header(MessageType.RELAY, 0, 1, EPOCH, session.id, batch.id)
    rig.say(mesh_messages.encode_relayed(header, [RelayedAnswer(fate=Fate.ANSWERED, output=b"9.0")]), b"b")

    assert not rig.frontend.answered
    assert rig.serving.process_counters.stray_results == 1


def test_a_peer_that_says_goodbye_gets_nothing_more_and_leaves_the_roster() -> None:
    rig = Rig()
    rig.come()
    rig.announce(ONE)

    rig.say(encode_control(MessageType.DRAIN, epoch=EPOCH))
    rig.announce(ONE)

    assert rig.serving.dispatches[V1.uid].relays.ready == 0
    assert rig.mesh.roster.others == ()


# ---- nothing of the gone is kept


def test_slots_at_a_removed_version_are_forgotten_once_nothing_is_in_hand() -> None:
    """Each version that ever was stayed in memory as long as the peer."""
    rig = Rig()
    rig.come()
    rig.announce(ONE)
    rig.frontend.ask(number=4.0)
    rig.frontend.run_for(0.01)
    ((session, batch),) = rig.router.relayed
    (peer,) = rig.mesh._incoming.values()  # noqa: SLF001  # what grows is not seen from outside

    rig.frontend.serve(identity_app(), V2, current(V2))
    rig.announce(ONE)
    assert list(peer.by_session) == [session.id]

    header = Header(MessageType.RELAY, 0, 1, EPOCH, session.id, batch.id)
    with rig.frontend.loop.running():
        rig.say(mesh_messages.encode_relayed(header, [RelayedAnswer(fate=Fate.ANSWERED, output=b"4.0")]))
    rig.announce(ONE)

    assert not peer.by_session
    assert not peer.slots
    assert len(rig.frontend.answered) == 1


def test_nothing_stays_of_a_peer_that_left() -> None:
    rig = Rig()
    rig.come()
    rig.announce(ONE)

    with rig.frontend.loop.running():
        rig.mesh.on_disconnect(b"a")

    assert rig.slots() == 0
    assert not rig.mesh._told  # noqa: SLF001  # what grows is not seen from outside
    assert not rig.mesh._incoming  # noqa: SLF001  # as above


def test_of_a_link_s_queries_only_those_under_way_are_kept() -> None:
    rig = Rig()
    rig.frontend.start_replica(V1, QUICK)
    link = FakeLink()
    known = rig.remember(link)
    frames = mesh_messages.encode_relay(
        epoch=5,
        session=9,
        batch=1,
        uid=V1.uid,
        input_type=3,
        item_length=1,
        is_alone=False,
        terms=[Terms(0, 10**6, 10**7)],
        inputs=[bytes(8)],
    )
    with rig.frontend.loop.running():
        rig.mesh.on_link_message(known, header_of(frames[0]), frames)
    assert rig.mesh._executing[known]  # noqa: SLF001  # what grows is not seen from outside

    rig.frontend.run_for(1.0)

    assert not rig.mesh._executing[known]  # noqa: SLF001  # as above
    (answer,) = link.sent
    assert mesh_messages.decode_relayed(header_of(answer[0]), answer)[0].output == b"0.0"


# ---- the roster and the catalog


def test_the_roster_a_link_brings_speaks_for_its_own_frontend_alone() -> None:
    """A dead frontend went round for ever: each roster that was pushed made it alive again."""
    rig = Rig()
    link = FakeLink()
    frames = mesh_messages.encode_roster(
        [RosterEntry("a", "ipc:///direct"), RosterEntry("dead", "ipc:///dead")], epoch=5, session=6
    )

    rig.mesh.on_link_message(rig.remember(link), header_of(frames[0]), frames)

    assert rig.mesh.roster.others == (RosterEntry("a", "ipc:///direct"),)


def test_what_a_peer_announces_of_others_is_taken_with_its_age() -> None:
    rig = Rig()
    rig.come()

    rig.announce({}, roster=(Known(RosterEntry("b", "ipc:///b"), 29.9), Known(RosterEntry("c", "ipc:///c"), 30.1)))

    assert {entry.frontend for entry in rig.mesh.roster.others} == {"a", "b"}


@pytest.mark.parametrize("frontend", ["me", "a"])
def test_a_link_that_leads_to_ourselves_or_where_another_leads_rests(frontend: str) -> None:
    rig = Rig()
    rig.remember(FakeLink("a"))
    link = FakeLink(frontend)
    link.address = "ipc:///seed"

    rig.mesh.on_link_open(rig.remember(link))

    assert link.rested == 1
    assert not link.sent


def test_the_presence_of_a_frontend_is_news_once() -> None:
    rig = Rig()

    assert rig.mesh.heard(Presence(frontend="b", address="ipc:///b"))
    assert not rig.mesh.heard(Presence(frontend="b", address="ipc:///b"))
    assert rig.mesh.roster.others == (RosterEntry("b", "ipc:///b"),)


def test_a_presence_that_is_not_taken_in_is_no_news() -> None:
    """Two frontends of names that are too long answered each other's presence for ever, as fast as the store could."""
    rig = Rig()

    assert not rig.mesh.heard(Presence(frontend="x" * 1000, address="ipc:///b"))
    assert not rig.mesh.heard(Presence(frontend="me", address="ipc:///b"))


def test_a_frontend_that_drains_tells_nobody_of_itself() -> None:
    """What it told after its goodbye brought it back to the rosters of the others."""
    rig = Rig()
    rig.come()
    rig.frontend.start_replica(V1, QUICK)
    link = FakeLink()
    rig.mesh.on_link_open(rig.remember(link))

    rig.mesh.drain()
    rig.come(b"b", PeerHello(frontend="b", address="ipc:///b", toolkit="t"))
    rig.mesh.tick(0.0)

    last = {to: mesh_messages.decode_roster(frames) for to, frames in rig.router.sent}
    assert set(last) == {b"a", b"b", b"peer-0"}
    assert all(entry.frontend != "me" for entries in last.values() for entry in entries)
    assert MessageType.DRAIN in [header_of(frames[0]).type for frames in link.sent]


def test_of_many_peers_with_a_newer_catalog_one_is_asked() -> None:
    rig = Rig(serves=False)
    for number in range(10):
        rig.come(b"%d" % number, PeerHello(frontend=f"f{number}", address="", toolkit=""))
        rig.announce({}, b"%d" % number, store_id="store", revision=3)

    asked = [to for to, frames in rig.router.sent if header_of(frames[0]).type is MessageType.WANT_CATALOG]
    assert asked == [b"0"]


def test_what_a_peer_announced_before_its_catalog_came_counts_as_soon_as_it_has() -> None:
    """A new frontend waited a second for the next announcement, with queries in its queue."""
    rig = Rig(serves=False)
    rig.come()
    rig.announce(ONE, store_id="store", revision=3)

    rig.say(mesh_messages.encode_catalog(to_mirror(catalog_of(revision=3)), epoch=EPOCH, session=1))

    assert rig.serving.dispatches[V1.uid].has_replicas


def test_a_catalog_from_the_store_makes_old_announcements_count_within_a_tick() -> None:
    rig = Rig(serves=False)
    rig.come()
    rig.announce(ONE)
    rig.catalog.accept(catalog_of())

    rig.mesh.tick(0.0)

    assert rig.serving.dispatches[V1.uid].has_replicas


def test_what_is_said_of_the_catalog_says_whether_a_store_confirmed_it(tmp_path: Path) -> None:
    (tmp_path / "mirror").write_bytes(to_mirror(catalog_of()))
    rig = Rig(serves=False)
    rig.mesh._catalog = catalog = Catalog(tmp_path / "mirror", rig._apply)  # noqa: SLF001  # the one with a mirror
    catalog.start_from_mirror()
    link = FakeLink()

    rig.mesh.on_link_open(rig.remember(link))
    catalog.accept(catalog_of())
    rig.mesh.tick(0.0)

    said = [mesh_messages.decode_announcement(frames).confirmed for frames in link.sent]
    assert said == [False, True]
    assert wire.header_of(link.sent[0][0]).epoch == link.epoch
