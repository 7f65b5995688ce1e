"""This frontend among its peers: who is there, what each serves, and what goes between them.

It stands between the router and serving.py: replicas pass through, peers end here. What a peer announces becomes a relay
slot of the version's dispatch; what a peer relays to us is executed like our own. Roster and catalog spread the same way,
so a frontend finds the others, and a catalog, with the store away. Source: docs/decisions/0009-mesh.md
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from time import monotonic

from clipper_nomad.protocol import mesh_messages
from clipper_nomad.protocol.mesh_messages import Announcement, PeerHello, RelayedAnswer, RosterEntry, Served
from clipper_nomad.protocol.wire import Header, Hello, MessageType, Reject, Welcome, WireError, encode_control
from clipper_nomad.state.messages import Presence
from clipper_nomad.state.records import MICROS, Snapshot
from clipper_nomad_frontend.catalog import Catalog
from clipper_nomad_frontend.channel_keys import ChannelKeys
from clipper_nomad_frontend.dispatch import VersionDispatch
from clipper_nomad_frontend.endpoints import Query
from clipper_nomad_frontend.peer_links import Context, PeerLink
from clipper_nomad_frontend.relays import NOTHING
from clipper_nomad_frontend.roster import Roster
from clipper_nomad_frontend.serving import Serving
from clipper_nomad_frontend.sessions import Session

log = logging.getLogger(__name__)

TICK_S = 0.25
ASK_CATALOG_EVERY_S = 0.5  # every peer may have a newer one: one at a time is asked
ANNOUNCE_EVERY_S = 1.0  # at least; at once, within a tick, when what is served changes


class IncomingPeer:
    """A peer that dialled us: it executes for us what we cannot."""

    def __init__(self, hello: PeerHello, session: int) -> None:
        self.hello = hello
        self.session = session
        self.slots: dict[str, tuple[VersionDispatch, Session]] = {}  # by uid
        self.by_session: dict[int, tuple[VersionDispatch, Session]] = {}
        self.served: Mapping[str, Served] = {}  # as announced last
        self.has_confirmed_catalog = False
        self.is_leaving = False


class Mesh:
    """The router's Listener, and the links' LinkListener."""

    def __init__(
        self,
        serving: Serving,
        catalog: Catalog,
        *,
        frontend_id: str,
        toolkit: str,
        epoch: int,
        seeds: Iterable[str] = (),
        keys: ChannelKeys | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`keys`: of the cluster's frontends, for an encrypted channel. `clock` must be that of `serving`."""
        self.roster = Roster(RosterEntry(frontend_id, ""))
        self._serving = serving
        self._catalog = catalog
        self._epoch = epoch
        self._toolkit = toolkit
        self._seeds = tuple(seeds)
        self._keys = keys
        self._clock = clock
        self._incoming: dict[bytes, IncomingPeer] = {}
        self._links: dict[str, PeerLink] = {}  # by address
        self._told: dict[bytes, tuple[int, int]] = {}  # routing id → session and version of the roster that it knows
        self._announced: Announcement | None = None
        self._announced_at = float("-inf")
        self._executing: dict[PeerLink, dict[int, list[Query]]] = {}  # by the peer's number of the batch
        self._asked_catalog_at = float("-inf")
        self._spread_for: Snapshot | None = None  # the catalog under which every peer's word was given to the dispatches
        self._context: Context | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._is_leaving = False

    # ---- life ------------------------------------------------------------------------------------------------------

    def start(self, context: Context, address: str) -> None:
        """Begin to dial. `context`: the router's, so that its I/O thread serves all sockets; `address`: where it listens."""
        self._context = context
        self.roster.own = RosterEntry(self.roster.own.frontend, address)
        self._ticking = asyncio.create_task(self._tick())

    def drain(self) -> None:
        """Tell every peer goodbye: it sends nothing more, and forgets this frontend. Nobody is told of it any more."""
        self._is_leaving = True
        self._told.clear()
        self._push_rosters()
        for link in self._links.values():
            if link.is_open:
                self._say_goodbye(link)

    def close(self) -> None:
        """End every link."""
        if self._ticking is not None:
            self._ticking.cancel()
        for link in self._links.values():
            link.close()

    async def _tick(self) -> None:
        while True:
            try:
                self.tick(self._clock())
            except Exception:  # a bug here must not end the mesh
                log.exception("the mesh missed a beat")
            await asyncio.sleep(TICK_S)

    def tick(self, now: float) -> None:
        """Dial who is not linked, tell what changed, forget who is gone."""
        self.roster.forget(now)
        self._spread_anew()
        self._dial(now)
        self._announce(now)
        self._push_rosters()
        self._serving.set_frontends(len(self.roster.entries))

    def heard(self, presence: Presence) -> bool:
        """Another frontend is there, says the store. Return whether that is news."""
        is_known = presence.frontend in self.roster
        self.roster.heard(RosterEntry(presence.frontend, presence.address), self._clock())
        return not is_known and presence.frontend in self.roster  # one that is not taken in would be news for ever

    # ---- replicas pass through -------------------------------------------------------------------------------------

    def on_hello(self, routing_id: bytes, hello: Hello) -> None:
        """See router.Listener."""
        if routing_id in self._incoming:
            raise WireError("a second hello on one connection")
        self._serving.on_hello(routing_id, hello)
        session = self._serving.sessions.find(routing_id)
        if session is not None:
            self._push_roster(routing_id, session.id)

    def on_message(self, routing_id: bytes, header: Header, frames: list[bytes]) -> None:
        """See router.Listener."""
        if header.type in _OF_PEERS or routing_id in self._incoming:
            self._on_peer_message(routing_id, header, frames)
        else:
            self._serving.on_message(routing_id, header, frames)

    def on_disconnect(self, routing_id: bytes) -> None:
        """See router.Listener."""
        self._told.pop(routing_id, None)
        peer = self._incoming.pop(routing_id, None)
        if peer is None:
            self._serving.on_disconnect(routing_id)
            return
        now = self._clock()
        for dispatch, session in peer.by_session.values():
            dispatch.on_relay_lost(session, now)
        self._serving.watch_progress()
        self._note_link(peer.hello.frontend, now)
        log.info("peer left", extra={"peer": peer.hello.frontend})

    def on_bad_message(self, routing_id: bytes, error: WireError) -> None:
        """See router.Listener."""
        self._serving.on_bad_message(routing_id, error)
        if routing_id in self._incoming and self._serving.router is not None:
            self._serving.router.send_reject(routing_id, Reject(reason=str(error), final=False))
            self.on_disconnect(routing_id)

    # ---- peers that dialled us -------------------------------------------------------------------------------------

    def on_peer_hello(self, routing_id: bytes, hello: PeerHello) -> None:
        """Welcome another frontend, and dial it in turn."""
        if routing_id in self._incoming or self._serving.knows(routing_id):
            raise WireError("a second hello on one connection")
        link = self._serving.sessions.open_relay(routing_id, _hello_of(hello, "", ""))
        router = self._serving.router
        assert router is not None  # noqa: S101  # it is who called
        welcome = Welcome(frontend=self.roster.own.frontend, toolkit=self._toolkit)
        if not router.send_welcome(link, welcome):
            return
        self._incoming[routing_id] = IncomingPeer(hello, link.id)
        if hello.frontend != self.roster.own.frontend:
            now = self._clock()
            self.roster.heard(RosterEntry(hello.frontend, hello.address), now)
            self.roster.linked(hello.frontend, now)
            log.info("peer joined", extra={"peer": hello.frontend})
        self._push_roster(routing_id, link.id)

    def _on_peer_message(self, routing_id: bytes, header: Header, frames: list[bytes]) -> None:
        peer = self._incoming.get(routing_id)
        if peer is None:
            raise WireError(f"a replica does not send {header.type.name}")
        if header.epoch != self._epoch:
            raise WireError(f"{header.type.name} of another epoch")
        match header.type:
            case MessageType.ANNOUNCE:
                self._on_announcement(routing_id, peer, mesh_messages.decode_announcement(frames))
            case MessageType.RELAYED:
                self._on_relayed(peer, header, mesh_messages.decode_relayed(header, frames))
            case MessageType.CATALOG:
                mirror = mesh_messages.decode_catalog(frames)
                name, is_confirmed = peer.hello.frontend, peer.has_confirmed_catalog
                self._catalog.take_from_peer(mirror, name, is_confirmed=is_confirmed)
                self._spread_anew()
            case MessageType.DRAIN:
                peer.is_leaving = True
                peer.served = {}
                self.roster.goodbye(peer.hello.frontend, self._clock())
                self._spread(routing_id, peer)
            case _:
                raise WireError(f"a peer does not send {header.type.name}")

    def _on_announcement(self, routing_id: bytes, peer: IncomingPeer, said: Announcement) -> None:
        if peer.hello.frontend == self.roster.own.frontend:
            return  # ourselves, by a seed that leads back here
        now = self._clock()
        for known in said.roster:
            self.roster.told(known, now)
        peer.served = {} if peer.is_leaving else said.served
        peer.has_confirmed_catalog = said.confirmed
        self._spread(routing_id, peer)
        if now < self._asked_catalog_at + ASK_CATALOG_EVERY_S:
            return
        if self._catalog.wants(said.store_id, said.revision, is_confirmed=said.confirmed):
            self._asked_catalog_at = now
            router = self._serving.router
            assert router is not None  # noqa: S101  # it is who called
            frames = encode_control(MessageType.WANT_CATALOG, epoch=self._epoch, session=peer.session)
            router.send_frames(routing_id, frames)

    def _spread_anew(self) -> None:
        """A catalog has come: what peers said of its versions before is of use now."""
        if self._serving.snapshot is not self._spread_for:
            self._spread_for = self._serving.snapshot
            for routing_id, peer in list(self._incoming.items()):
                self._spread(routing_id, peer)

    def _spread(self, routing_id: bytes, peer: IncomingPeer) -> None:
        """Give every dispatch the peer's word on its version."""
        self._drop_removed(peer)
        for uid, now_served in peer.served.items():
            dispatch = self._serving.dispatches.get(uid)
            if dispatch is None:
                continue
            if uid not in peer.slots or peer.slots[uid][0] is not dispatch:
                record = dispatch.record
                session = self._serving.sessions.open_relay(routing_id, _hello_of(peer.hello, record.name, record.version))
                peer.slots[uid] = peer.by_session[session.id] = (dispatch, session)
            dispatch.relays.announced(peer.slots[uid][1], now_served)
            dispatch.pump(self._clock())
        for uid, (dispatch, session) in peer.slots.items():
            if uid not in peer.served:
                dispatch.relays.announced(session, NOTHING)
        self._serving.watch_progress()

    def _drop_removed(self, peer: IncomingPeer) -> None:
        """Forget the slots at versions that are not served any more, once nothing is in hand there."""
        for number, (dispatch, session) in list(peer.by_session.items()):
            uid = dispatch.record.uid
            if self._serving.dispatches.get(uid) is not dispatch:
                dispatch.relays.remove(number)
                if peer.slots.get(uid) == (dispatch, session):
                    del peer.slots[uid]
                if not session.in_flight:
                    del peer.by_session[number]

    def _on_relayed(self, peer: IncomingPeer, header: Header, rows: list[RelayedAnswer]) -> None:
        found = peer.by_session.get(header.session)
        batch = self._serving.sessions.finish(found[1], header) if found is not None else None
        if found is None or batch is None:
            self._serving.process_counters.stray_results += 1
            return
        dispatch, session = found
        dispatch.on_relayed(session, batch, rows, self._clock())
        self._serving.watch_progress()

    # ---- peers that we dial ----------------------------------------------------------------------------------------

    def _dial(self, now: float) -> None:
        if self._context is None or self._is_leaving:
            return
        own = self.roster.own
        linked = {link.frontend for link in self._links.values() if link.is_open}
        wanted = {entry.address for entry in self.roster.others if entry.address and entry.frontend not in linked}
        wanted.update(self._seeds)  # always: two halves of a mesh that forgot each other find together by these
        wanted.discard(own.address)
        for address in wanted - self._links.keys():
            hello = PeerHello(frontend=own.frontend, address=own.address, toolkit=self._toolkit)
            self._links[address] = PeerLink(self._context, address, hello, self, self._keys)
        for address, link in list(self._links.items()):
            if address not in wanted and not link.is_open:
                link.close()
                del self._links[address]
            else:
                link.tend(now)

    def on_link_open(self, link: PeerLink) -> None:
        """See LinkListener."""
        now = self._clock()
        if link.frontend == self.roster.own.frontend or self._is_linked(link.frontend, beside=link):
            link.rest(now)  # a seed that leads back here, or to where another link leads
            return
        self.roster.linked(link.frontend, now)
        if self._is_leaving:
            self._say_goodbye(link)
        self._announce_on(link, self._announcement(now))
        log.info("linked to peer", extra={"peer": link.frontend, "address": link.address})

    def on_link_message(self, link: PeerLink, header: Header, frames: list[bytes]) -> None:
        """See LinkListener."""
        match header.type:
            case MessageType.RELAY:
                self._execute(link, mesh_messages.decode_relay(header, frames))
            case MessageType.ROSTER:
                for entry in mesh_messages.decode_roster(frames):
                    if entry.frontend == link.frontend:  # how old the rest of its word is, it announces
                        self.roster.heard(entry, self._clock())
            case MessageType.WANT_CATALOG:
                mirror = self._catalog.mirror_bytes()
                if mirror is not None:
                    link.send(mesh_messages.encode_catalog(mirror, epoch=link.epoch, session=link.session))
            case _:
                raise WireError(f"a frontend does not send {header.type.name} to a peer")

    def on_link_lost(self, link: PeerLink) -> None:
        """See LinkListener."""
        for queries in self._executing.pop(link, {}).values():
            for query in queries:
                self._serving.abandon(query)  # its own frontend has taken it back
        self._note_link(link.frontend, self._clock())

    def _execute(self, link: PeerLink, relay: mesh_messages.Relay) -> None:
        session = (link.epoch, link.session)
        under_way = self._executing.setdefault(link, {})

        def reply(rows: list[RelayedAnswer]) -> None:
            under_way.pop(relay.header.batch, None)
            if (link.epoch, link.session) == session:
                link.send(mesh_messages.encode_relayed(relay.header, rows))

        queries = self._serving.submit_relayed(relay, reply)
        if not all(query.is_done for query in queries):
            under_way[relay.header.batch] = queries

    # ---- what is told ----------------------------------------------------------------------------------------------

    def _announcement(self, now: float) -> Announcement:
        served = self._catalog.served
        return Announcement(
            served={
                dispatch.record.uid: Served(len(dispatch.replicas.ready), round(dispatch.delay_s * MICROS))
                for dispatch in self._serving.dispatches.values()
                if dispatch.replicas.ready
            },
            store_id=served.store_id if served else "",
            revision=served.revision if served else -1,
            confirmed=self._catalog.is_confirmed,
            roster=self.roster.known(now),
        )

    def _announce(self, now: float) -> None:
        said = self._announcement(now)
        if now < self._announced_at + ANNOUNCE_EVERY_S and _gist(said) == _gist(self._announced):
            return
        self._announced, self._announced_at = said, now
        for link in self._links.values():
            if link.is_open:
                self._announce_on(link, said)

    @staticmethod
    def _say_goodbye(link: PeerLink) -> None:
        link.send(encode_control(MessageType.DRAIN, epoch=link.epoch, session=link.session))

    @staticmethod
    def _announce_on(link: PeerLink, said: Announcement) -> None:
        link.send(mesh_messages.encode_announcement(said, epoch=link.epoch, session=link.session))

    def _push_rosters(self) -> None:
        for routing_id, session in self._sessions():
            self._push_roster(routing_id, session)

    def _push_roster(self, routing_id: bytes, session: int) -> None:
        knows = (session, self.roster.version)
        router = self._serving.router
        if router is not None and self._told.get(routing_id) != knows:
            self._told[routing_id] = knows
            entries = self.roster.others if self._is_leaving else self.roster.entries
            frames = mesh_messages.encode_roster(entries, epoch=self._epoch, session=session)
            router.send_frames(routing_id, frames)

    def _sessions(self) -> Iterable[tuple[bytes, int]]:
        yield from ((session.routing_id, session.id) for session in self._serving.sessions.all())
        yield from ((routing_id, peer.session) for routing_id, peer in self._incoming.items())

    def _note_link(self, frontend: str, now: float) -> None:
        """A link to `frontend` has ended: note it if that was the last."""
        if not self._is_linked(frontend) and not any(peer.hello.frontend == frontend for peer in self._incoming.values()):
            self.roster.unlinked(frontend, now)

    def _is_linked(self, frontend: str, *, beside: PeerLink | None = None) -> bool:
        links = self._links.values()
        return any(link.is_open and link.frontend == frontend and link is not beside for link in links)

    # ---- for the report --------------------------------------------------------------------------------------------

    def report(self) -> list[dict[str, object]]:
        """Every other frontend, and whether links to and from it stand. Plain values."""
        to_it = {link.frontend for link in self._links.values() if link.is_open}
        from_it = {peer.hello.frontend for peer in self._incoming.values()}
        return [
            {
                "frontend": entry.frontend,
                "address": entry.address,
                "linked": entry.frontend in to_it,
                "links_here": entry.frontend in from_it,
            }
            for entry in self.roster.others
        ]


_OF_PEERS = frozenset({MessageType.ANNOUNCE, MessageType.RELAYED, MessageType.CATALOG})


def _hello_of(peer: PeerHello, model: str, version: str) -> Hello:
    return Hello(
        model=model,
        version=version,
        uid="",
        input_type="",
        replica=peer.frontend,
        python="",
        toolkit=peer.toolkit,
        role="peer",
    )


def _gist(said: Announcement | None) -> object:
    """Return what of an announcement is worth telling at once."""
    if said is None:
        return None
    ready = {uid: served.ready for uid, served in said.served.items()}
    return ready, said.store_id, said.revision, said.confirmed, [known.entry for known in said.roster]
