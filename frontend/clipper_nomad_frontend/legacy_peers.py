"""Clipper's own model containers, which speak RPC version 3, as replicas among the others. No socket and no clock here.

legacy_router.py brings what containers say and when; a container that introduced itself becomes a Replica of the version
that it names, in the same dispatch as all others. What version 3 lacks is made up for here:

- a container proves nothing, and knows no uid: it serves only versions that no image of ours serves, and one connection
  only one build of a version;
- a session lasts from an introduction to the end of the connection, or of the container's heartbeats: what it says of
  another session's work finds no such message id, and is dropped;
- it does not tell how long a batch took: the time from sending to its answer stands for it.

Source: docs/decisions/0014-clipper-rpc.md
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import numpy as np

from clipper_nomad.protocol import rpc3
from clipper_nomad.protocol.datatypes import InputType
from clipper_nomad.protocol.rpc3 import HeartbeatType, NewContainer, Response
from clipper_nomad.protocol.wire import ErrorKind, Header, Hello, MessageType, OutputError, OutputType, Result, WireError
from clipper_nomad.state.records import MICROS, ModelVersion
from clipper_nomad_frontend.dispatch import VersionDispatch
from clipper_nomad_frontend.serving import Serving
from clipper_nomad_frontend.sessions import Batch, Session

log = logging.getLogger(__name__)

MAX_BAD_MESSAGES = 10  # of one connection: then it is not listened to any more
_MOST_MICROS = 0xFFFFFFFF


class Peer:
    """One connection of a container. It has a session while it is a replica; then `dispatch` is its version's."""

    __slots__ = (
        "bad", "dispatch", "heard_at", "is_dismissed", "message_id", "refusal", "routing_id", "said", "served", "session",
    )  # fmt: skip

    def __init__(self, routing_id: bytes) -> None:
        self.routing_id = routing_id
        self.heard_at = 0.0
        self.said: NewContainer | None = None  # who it is, unless it was silent or refused since
        self.session: Session | None = None
        self.dispatch: VersionDispatch | None = None
        self.message_id: int | None = None  # of the batch that it has in hand
        self.served: str | None = None  # the uid of the version that it served first
        self.is_dismissed = False
        self.refusal = ""  # why it gets no work, as was logged last
        self.bad = 0


class LegacyPeers:
    """Every container of RPC version 3 that is connected here; the LegacyChannel of those that serve."""

    def __init__(
        self,
        serving: Serving,
        *,
        frontend_id: str,
        send: Callable[[bytes, list[bytes]], bool],
        clock: Callable[[], float],
        later: Callable[[Callable[[], None]], object],
        first_message_id: int,
    ) -> None:
        """`send` a message to a routing id; False if nobody is there. `later`: call when what is going on is over.

        `clock` must be that of `serving`. `first_message_id`: random, so that no two starts of a frontend use the same.
        """
        self._serving = serving
        self._frontend_id = frontend_id
        self._send = send
        self._clock = clock
        self._later = later
        self._message_id = first_message_id
        self._peers: dict[bytes, Peer] = {}
        self._by_session: dict[int, Peer] = {}
        self._last_name = 0

    # ---- what comes in ---------------------------------------------------------------------------------------------

    def on_message(self, routing_id: bytes, frames: list[bytes]) -> None:
        """A container said something."""
        peer = self._peers.get(routing_id)
        if peer is None:
            peer = self._peers[routing_id] = Peer(routing_id)
        if peer.bad >= MAX_BAD_MESSAGES:
            return
        peer.heard_at = self._clock()
        try:
            match rpc3.decode_from_container(frames):
                case NewContainer() as said:
                    self._introduce(peer, said)
                case Response() as response:
                    self._on_response(peer, response)
                case _:
                    kind = HeartbeatType.INTRODUCE if peer.session is None else HeartbeatType.KEEP_ALIVE
                    self._send(routing_id, rpc3.encode_frontend_heartbeat(kind))
        except WireError as exc:
            peer.bad += 1
            peer.said = None
            self.on_torn(exc)
            self._lose(peer, "it sent what is not of the protocol")

    def shut_out(self, routing_id: bytes) -> None:
        """Listen to nothing that is said on this new connection."""
        peer = self._peers[routing_id] = Peer(routing_id)
        peer.bad = MAX_BAD_MESSAGES

    def on_end(self, routing_id: bytes) -> None:
        """A connection has ended."""
        peer = self._peers.pop(routing_id, None)
        if peer is not None:
            self._lose(peer, "its connection ended")

    def on_torn(self, error: WireError) -> None:
        """Something came that is not of this protocol."""
        self._serving.process_counters.protocol_errors += 1
        log.warning("bad message on the channel of RPC version 3", extra={"cause": str(error)})

    def on_catalog(self) -> None:
        """The catalog has changed: whoever waited may be known now."""
        for peer in list(self._peers.values()):
            if peer.said is not None and peer.session is None:
                self._admit(peer, peer.said)

    def check(self) -> None:
        """Forget containers that have been silent for too long, as Clipper does every ten seconds."""
        silent_since = self._clock() - rpc3.LOST_AFTER_S
        for peer in list(self._peers.values()):
            if peer.said is not None and peer.heard_at < silent_since:
                peer.said = None  # asked anew when it is heard again
                self._lose(peer, f"it was silent for {rpc3.LOST_AFTER_S:g} s")

    def waiting_hellos(self) -> Iterator[Hello]:
        """Return the containers that introduced themselves and get no work."""
        for peer in self._peers.values():
            if peer.said is not None and peer.session is None:
                yield self._hello(peer.said, None)

    # ---- who may serve ---------------------------------------------------------------------------------------------

    def _introduce(self, peer: Peer, said: NewContainer) -> None:
        if peer.session is not None:
            if said != peer.said:
                raise WireError("a container cannot become another on one connection")
            return  # it was asked twice
        peer.said = said
        self._admit(peer, said)

    def _admit(self, peer: Peer, said: NewContainer) -> None:
        key = f"{said.model}:{said.version}"
        snapshot = self._serving.snapshot
        record = snapshot.versions.get(key) if snapshot is not None else None
        refusal = _refusal(peer, said, record)
        if record is None or refusal:
            if refusal != peer.refusal:  # once: it asks every few seconds
                log.warning("container gets no work", extra={"model": key, "reason": refusal})
            peer.refusal = refusal
            return
        dispatch = self._serving.dispatches[record.uid]
        self._last_name += 1
        hello = self._hello(said, self._last_name)
        peer.session = self._serving.sessions.open_relay(peer.routing_id, hello)
        peer.dispatch, peer.served, peer.refusal = dispatch, record.uid, ""
        self._by_session[peer.session.id] = peer
        log.info("container joined", extra={"model": key, "replica": hello.replica})
        dispatch.join(peer.session, self)
        dispatch.pump(self._clock())
        self._serving.watch_progress()

    def _hello(self, said: NewContainer, number: int | None) -> Hello:
        known = said.input_type in tuple(InputType)
        return Hello(
            model=said.model,
            version=said.version,
            uid="",
            input_type=InputType(said.input_type).word if known else str(said.input_type),
            replica=f"rpc3-{self._frontend_id}" + (f"-{number}" if number is not None else ""),
            python="",
            toolkit="",
        )

    def _lose(self, peer: Peer, why: str) -> None:
        """End the session of a peer, if it has one: its work goes to others."""
        session, dispatch = peer.session, peer.dispatch
        if session is None or dispatch is None:
            return
        peer.session = peer.dispatch = peer.message_id = None
        peer.is_dismissed = False
        del self._by_session[session.id]
        level = logging.WARNING if session.in_flight else logging.INFO
        log.log(level, "container left", extra={"model": dispatch.key, "replica": session.hello.replica, "reason": why})
        now = self._clock()
        dispatch.on_lost(session, now)
        dispatch.pump(now)
        self._serving.watch_progress()

    # ---- work: the LegacyChannel, and what comes of it -------------------------------------------------------------

    def send_batch(self, session: Session, batch: Batch, *, input_type: int, item_length: int, budget_micros: int) -> bool:  # noqa: ARG002  # version 3 says neither
        """See channel.LegacyChannel."""
        peer = self._by_session.get(session.id)
        if peer is None:
            return False
        inputs = [query.data for query in batch.queries]
        if not any(inputs):
            self._later(lambda: self._finish(peer, session, batch, _no_bytes(len(inputs))))
            return True
        self._message_id = (self._message_id + 1) % 2**32
        if not self._send(peer.routing_id, rpc3.encode_request(self._message_id, input_type, inputs)):
            return False
        peer.message_id = self._message_id
        return True

    def dismiss(self, session: Session) -> None:
        """See channel.LegacyChannel."""
        peer = self._by_session.get(session.id)
        if peer is not None:
            peer.is_dismissed = True
            self._later(lambda: self._part(peer))

    def _part(self, peer: Peer) -> None:
        if peer.is_dismissed and peer.session is not None and not peer.session.in_flight:
            self._lose(peer, "its version was removed")

    def _on_response(self, peer: Peer, response: Response) -> None:
        session = peer.session
        if session is None or response.message_id != peer.message_id:
            self._serving.process_counters.stray_results += 1
            return
        peer.message_id = None
        batch = next(iter(session.in_flight.values()))  # it has one
        self._finish(peer, session, batch, _outputs(response.outputs, len(batch.queries)))

    def _finish(self, peer: Peer, session: Session, batch: Batch, outputs: Outputs) -> None:
        dispatch = peer.dispatch
        if dispatch is None or peer.session is not session:
            return
        sessions, now = self._serving.sessions, self._clock()
        header = Header(MessageType.RESULT, 0, len(batch.queries), sessions.epoch, session.id, batch.id)
        if sessions.finish(session, header) is None:
            return
        took = min(round((now - batch.sent_at) * MICROS), _MOST_MICROS)
        lengths, data, errors = outputs
        dispatch.on_result(session, batch, Result(header, OutputType.TEXT, 0, took, lengths, data, errors), now)
        self._serving.watch_progress()
        self._part(peer)


Outputs = tuple["np.ndarray[tuple[int], np.dtype[np.uint32]] | None", bytes, tuple[OutputError, ...]]


def _refusal(peer: Peer, said: NewContainer, record: ModelVersion | None) -> str:
    """Return why a container gets no work, or "" if it may."""
    if said.rpc_version != rpc3.VERSION:
        spoken = "no RPC version" if said.rpc_version is None else f"RPC version {said.rpc_version}"
        return f"it speaks {spoken}; version {rpc3.VERSION} is served here"
    if record is None:
        return "its version is not in the catalog; register it"
    if not record.takes_legacy:
        return f"{record.key} was deployed with an image of its own ({record.image}); only its own replicas serve it"
    if said.input_type != int(record.kind):
        return f"it takes input type {said.input_type}, and {record.key} takes {int(record.kind)} ({record.kind.word})"
    if peer.served not in (None, record.uid):
        return f"it served a version {record.key} that was removed; start it anew to serve this one"
    return ""


def _outputs(outputs: list[bytes], count: int) -> Outputs:
    if len(outputs) != count:
        message = f"The input list has length {count}, but the container returned {len(outputs)} outputs."
        return None, b"", (OutputError(None, ErrorKind.WRONG_COUNT, message, ""),)
    return np.fromiter(map(len, outputs), np.dtype("<u4"), count), b"".join(outputs), ()


def _no_bytes(count: int) -> Outputs:
    """Clipper's frontend could not send such a batch either, and gave its replica no work again."""
    what = "An input without bytes" if count == 1 else f"A batch of {count} inputs without bytes"
    message = f"{what} cannot be sent by RPC version 3."
    return None, b"", (OutputError(None, ErrorKind.WRONG_TYPE, message, ""),)
