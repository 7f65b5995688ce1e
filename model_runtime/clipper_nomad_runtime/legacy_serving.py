"""The loop of a replica that serves frontends of Clipper's own, by RPC version 3: in place of serving.py and mesh.py, where
CLIPPER_RPC_VERSION says so.

Version 3 has texts for outputs and nothing for errors. Clipper's containers ended when their function raised, and the query
got its app's default output. This one ends the link, which is the same to the frontend, and calls again; its log and its
metrics tell of the error. A batch fails as a whole, because no output can be left out.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipper_nomad.protocol import rpc3
from clipper_nomad.protocol.datatypes import FIXED_WIDTH, InputType, unpack_inputs
from clipper_nomad.protocol.rpc3 import Request
from clipper_nomad.protocol.wire import WireError
from clipper_nomad_runtime.dealer import LAST_WORDS_S, Connection, Dealer
from clipper_nomad_runtime.hang import HangWatch
from clipper_nomad_runtime.legacy_link import Batch, LegacyLink, Stage
from clipper_nomad_runtime.metrics import Metrics
from clipper_nomad_runtime.outputs import as_texts
from clipper_nomad_runtime.predict import Predictor
from clipper_nomad_runtime.stopping import Exit, StopRequest

log = logging.getLogger(__name__)


class LegacyServing:
    """Everything between a model that is ready and the end of the process."""

    def __init__(
        self,
        frontends: Sequence[str],
        *,
        introduction: list[bytes],
        input_type: InputType,
        predictor: Predictor,
        hang: HangWatch,
        metrics: Metrics,
        stop: StopRequest,
    ) -> None:
        self._links = [LegacyLink(each, introduction=introduction, jitter=random.random) for each in frontends]
        self._input_type = input_type
        self._predictor = predictor
        self._hang = hang
        self._metrics = metrics
        self._stop = stop
        # libzmq's own heartbeats are left out: an old frontend's libzmq may not answer them
        self._dealer: Dealer[LegacyLink] = Dealer(stop.fileno(), max_frames=rpc3.MAX_FRAMES, options={})
        self._connections: dict[LegacyLink, Connection[LegacyLink]] = {}
        self._turn = 0

    def run(self) -> Exit:
        """Serve until this process is asked to stop; what it has in hand then is answered."""
        try:
            while not self._stop.is_made:
                self._tend()
                readable, _ = self._dealer.wait(self._patience())
                for connection in readable:
                    self._read(connection)
                if monotonic() >= self._hang.rest_at:
                    self._hang.rest()
                self._answer_next()
            while self._answer_next():
                pass
            for link in list(self._connections):
                self._dealer.drop(self._connections.pop(link), linger_s=LAST_WORDS_S)
        finally:
            self._hang.stop()
            self._dealer.close()
        return Exit.DRAINED

    def _patience(self) -> float:
        if any(link.batches for link in self._links):
            return 0.0
        return max(min(self._hang.rest_at, *(link.due for link in self._links)) - monotonic(), 0.0)

    def _read(self, connection: Connection[LegacyLink]) -> None:
        """Read every message that waits on one connection."""
        link = connection.link
        try:
            while frames := connection.receive():
                asked = monotonic()
                reply = link.take(frames, asked=asked, read=monotonic())
                if link.is_of_other_version:
                    link.is_of_other_version = False
                    log.error("the frontend speaks another RPC version", extra={"address": link.address})
                if reply is not None:
                    connection.send(reply)
        except WireError as exc:
            self._metrics.dropped["breach"] += 1
            self._lose(link, f"it broke the protocol: {exc}")

    def _answer_next(self) -> bool:
        """Answer a request, of each link in its turn. Return whether there was one."""
        for offset in range(len(self._links)):
            place = (self._turn + offset) % len(self._links)
            link = self._links[place]
            if link.batches:
                self._turn = place + 1
                self._answer(link, link.batches.popleft())
                return True
        return False

    def _answer(self, link: LegacyLink, batch: Batch) -> None:
        begun = monotonic()
        try:
            inputs = unpack_request(self._input_type, batch.request)
        except WireError as exc:
            self._metrics.dropped["breach"] += 1
            self._lose(link, f"it broke the protocol: {exc}")
            return
        unpacked = monotonic()
        self._hang.arm(unpacked)
        answer = self._predictor.answer(inputs)
        handled = monotonic()
        link.worked(handled)
        for error in answer.errors:
            self._metrics.errors[error.kind] += 1
        if answer.errors:
            self._lose(link, f"RPC version 3 has no way to tell of an error: {answer.errors[0].message}")
            return
        response = rpc3.encode_response(batch.request.message_id, as_texts(answer.outputs))
        if not self._connections[link].send(response):
            self._metrics.dropped["unsent"] += 1
            self._lose(link, "it takes no more messages")
        self._metrics.record(
            inputs=len(batch.request.inputs),
            recv_s=batch.read - batch.asked,
            parse_s=unpacked - begun,
            handle_s=handled - unpacked,
            end_to_end_s=monotonic() - batch.asked,
        )

    def _tend(self) -> None:
        """Do what is due on the links."""
        self._stop.clear()
        now = monotonic()
        for link in self._links:
            connection = self._connections.get(link)
            if connection is None:
                if now < link.due:
                    continue
                connection = self._connections[link] = self._dealer.dial(link)
                self._metrics.dials["seed"] += 1
                link.dialled(now)
            connection.read_alarm()
            if connection.is_lost:
                self._lose(link, "its connection ended")
            elif link.stage is Stage.DIALING and connection.send(rpc3.encode_heartbeat()):
                link.called(now)
                self._dealer.watch()
            elif now >= link.due:
                self._on_due(link, connection, now)
        self._metrics.set_links(sum(link.stage is Stage.OPEN for link in self._links), len(self._links), 0)

    def _on_due(self, link: LegacyLink, connection: Connection[LegacyLink], now: float) -> None:
        if link.is_silent(now):
            self._lose(link, "it said nothing for too long")
        elif connection.send(rpc3.encode_heartbeat()):
            link.beaten(now)
        else:
            self._lose(link, "it takes no more messages")

    def _lose(self, link: LegacyLink, why: str) -> None:
        was_open = link.stage is Stage.OPEN
        connection = self._connections.pop(link, None)
        if connection is not None:
            self._dealer.drop(connection)
        self._metrics.dropped["forgotten"] += link.lost(monotonic())
        if was_open:
            log.warning("frontend lost", extra={"address": link.address, "reason": why})


def unpack_request(kind: InputType, request: Request) -> NDArray[Any]:
    """Return the inputs of a request as the array a predict function takes.

    As `unpack_inputs`; vectors of unequal lengths, which Clipper's frontends put into one batch, are an object array of
    one-dimensional arrays, shape (count,). Raises: WireError: they are of another type, none, or no such vectors.
    """
    inputs = request.inputs
    if request.input_type != int(kind):
        raise WireError(f"inputs of type {request.input_type} came; this container takes {int(kind)} ({kind.word})")
    if not inputs:
        raise WireError("a request without inputs came")
    lengths = np.fromiter(map(len, inputs), np.uint32, len(inputs))
    dtype = FIXED_WIDTH.get(kind)
    if dtype is None:
        return unpack_inputs(kind, len(inputs), 0, lengths, b"".join(inputs))
    if (lengths % dtype.itemsize).any():
        raise WireError(f"an input of {kind.word} does not have a whole number of them")
    if (lengths == lengths[0]).all():
        return unpack_inputs(kind, len(inputs), int(lengths[0]) // dtype.itemsize, None, b"".join(inputs))
    ragged = np.empty(len(inputs), dtype=object)
    for index, each in enumerate(inputs):
        ragged[index] = np.frombuffer(each, dtype).copy()
    return ragged
