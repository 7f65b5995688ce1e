"""The loop of a replica: poll the links, call the model, send the result. One thread, so a long predict delays only
what waits here; libzmq's own thread keeps the links alive meanwhile.

Everything that waits on the sockets is read before a batch begins, so that a batch cancelled in time is not run and each
result tells how many batches wait. link.py decides what a message means, line.py whose batch is next, mesh.py which links
there are: it is asked when a link changed its stage, not at every batch.
"""

from __future__ import annotations

import logging
from math import inf
from time import monotonic
from typing import Any

from numpy.typing import NDArray

from clipper_nomad.protocol.datatypes import InputType, unpack_inputs
from clipper_nomad.protocol.wire import (
    MessageType,
    Reject,
    Welcome,
    WireError,
    decode_predict,
    encode_control,
    encode_result,
)
from clipper_nomad_runtime.dealer import LAST_WORDS_S, Connection, Dealer, Keys
from clipper_nomad_runtime.hang import HangWatch
from clipper_nomad_runtime.line import Line
from clipper_nomad_runtime.link import MAX_BREACHES, Batch, Link, Roster, Stage
from clipper_nomad_runtime.mesh import Mesh
from clipper_nomad_runtime.metrics import Metrics
from clipper_nomad_runtime.predict import Predictor
from clipper_nomad_runtime.stopping import Exit, StopRequest

FRESH_S = 0.001  # a predict longer than this may have let batches arrive meanwhile: they count as backlog
MAX_ROUNDS = 256  # of reading before a batch begins, so that no sender keeps the model from working
PARTING_S = 0.25  # a double stays so long after its last result: it must be read before the end of its connection is heard

log = logging.getLogger(__name__)


class Serving:
    """Everything between a model that is ready and the end of the process."""

    def __init__(
        self,
        mesh: Mesh,
        *,
        hello: list[bytes],
        input_type: InputType,
        predictor: Predictor,
        hang: HangWatch,
        metrics: Metrics,
        stop: StopRequest,
        drain_s: float,
        keys: Keys | None = None,
    ) -> None:
        self._mesh = mesh
        self._hello = hello
        self._input_type = input_type
        self._predictor = predictor
        self._hang = hang
        self._metrics = metrics
        self._stop = stop
        self._drain_s = drain_s
        self._dealer: Dealer[Link] = Dealer(stop.fileno(), keys)
        self._connections: dict[Link, Connection[Link]] = {}
        self._connected: list[Link] = []  # its keys: only these can have batches
        self._line = Line(self._send, metrics.dropped)
        self._tend_at = -inf  # when a link, or the end of the drain, is due
        self._drain_by = inf
        self._unanswered = 0  # batches left when the drain had to end

    def run(self) -> Exit:
        """Serve until every link has ended, and say how the process is to end."""
        try:
            while self._tend_if_due():
                readable, stirred = self._dealer.wait(self._patience())
                if readable:
                    self._read(readable)
                elif monotonic() >= self._hang.rest_at:
                    self._hang.rest()
                if stirred:
                    self._tend_at = -inf
                elif self._mesh.is_stirred and self._drain_by == inf:
                    self._tend_if_due()  # now, so that what is dialled connects while the model works
                self._answer_next()
        finally:
            self._hang.stop()
            self._dealer.close()
        return self._ending()

    def _patience(self) -> float:
        """Return for how long nothing but a message needs this thread."""
        if self._backlog() and not self._line.is_calling:
            return 0.0
        return max(min(self._tend_at, self._hang.rest_at, self._line.call_ends) - monotonic(), 0.0)

    def _backlog(self) -> int:
        """Return how many batches wait here, of all frontends, and how many frontends wait to be called for one."""
        waiting = 0
        for link in self._connected:
            waiting += len(link.batches) + (link.waits_since is not None)
        return waiting

    def _read(self, readable: list[Connection[Link]]) -> None:
        """Read every message that waits, `readable` first."""
        for _ in range(MAX_ROUNDS):
            for connection in readable:
                self._take_message(connection)
            readable, stirred = self._dealer.wait(0.0)
            if stirred:
                self._tend_at = -inf
            if not readable:
                return

    def _take_message(self, connection: Connection[Link]) -> None:
        link = connection.link
        asked = monotonic()
        try:
            frames = connection.receive()
            if not frames:
                return
            news = link.take(frames, asked=asked, read=monotonic())
        except WireError as exc:
            self._count_breach(link, exc)
            return
        if link.stage is Stage.LEAVING:
            self._tend_at = -inf  # it may be finished
        if news is not None:
            self._take_news(link, news)

    def _take_news(self, link: Link, news: Welcome | Reject | Roster) -> None:
        self._tend_at = -inf
        if isinstance(news, Welcome):
            if not self._mesh.welcomed(link, monotonic()):
                self._release(link)
                return
            log.info("frontend gives work", extra={"frontend": news.frontend, "address": link.address, "way": link.way})
        elif isinstance(news, Reject):
            fields = {"address": link.address, "reason": news.reason, "final": news.final}
            log.log(logging.ERROR if news.final else logging.WARNING, "frontend refused this replica", extra=fields)
            self._lose(link, "it refused this replica")
        else:
            self._mesh.told(link, monotonic())

    def _answer_next(self) -> None:
        """Answer the oldest batch of the link that is next, if one waits, or call for one."""
        link = self._line.next(self._connected, monotonic())
        if link is not None:
            self._answer(link, link.batches.popleft())

    def _send(self, link: Link, frames: list[bytes]) -> None:
        self._connections[link].send(frames)  # if it does not go, the connection is lost soon

    def _answer(self, link: Link, batch: Batch) -> None:
        header = batch.header
        begun = monotonic()
        try:
            inputs = self._unpack(batch)
        except WireError as exc:
            self._count_breach(link, exc)
            return
        unpacked = monotonic()
        self._hang.arm(unpacked)
        connection = self._connections[link]
        answer = self._predictor.answer(inputs)
        handled = monotonic()
        if answer.exec_s > FRESH_S:
            self._read([])
        ask_first = self._line.ended(self._connected, link, answer.exec_s)
        outputs = answer.outputs
        result = encode_result(
            answers=header,
            output_type=outputs.type,
            backlog=self._backlog(),
            exec_micros=int(answer.exec_s * 1e6),
            lengths=outputs.lengths,
            data=outputs.data,
            errors=answer.errors,
            ask_first=ask_first,
        )
        if self._connections.get(link) is not connection:
            self._metrics.dropped["unsent"] += 1  # it ended while the model worked
        elif not connection.send(result):
            self._metrics.dropped["unsent"] += 1
            self._lose(link, "it takes no more messages")
        if link.stage is Stage.LEAVING:
            self._tend_at = -inf
        for error in answer.errors:
            self._metrics.errors[error.kind] += 1
        self._metrics.record(
            inputs=header.count,
            recv_s=batch.read - batch.asked,
            parse_s=unpacked - begun,
            handle_s=handled - unpacked,
            end_to_end_s=monotonic() - batch.asked,
        )

    def _unpack(self, batch: Batch) -> NDArray[Any]:
        predict = decode_predict(batch.header, batch.frames)
        if predict.input_type != self._input_type:
            raise WireError(f"inputs of type {predict.input_type} came; hello said {self._input_type.word}")
        return unpack_inputs(self._input_type, batch.header.count, predict.item_length, predict.lengths, predict.data)

    # what happens to the links, seldom

    def _tend_if_due(self) -> bool:
        """Do what is due on the links. Return whether any is left."""
        now = monotonic()
        if now < self._tend_at:
            return True
        self._stop.clear()
        if self._stop.is_made and self._drain_by == inf:
            self._begin_drain(now)
        if now >= self._drain_by:
            self._end_drain()
        self._tend_at = inf
        if self._drain_by == inf and self._mesh.is_due(now):
            for link in self._mesh.plan(now):
                self._close(link)
                if link.expected not in self._mesh.wanted:
                    log.info("frontend given up", extra={"frontend": link.expected, "address": link.address})
        for link in self._mesh.links:
            self._tend(link, now)
        self._metrics.set_links(self._mesh.open_count, len(self._mesh.wanted), len(self._mesh.by_proxy))
        due = self._mesh.due if self._drain_by == inf else self._drain_by
        self._tend_at = min(self._tend_at, due, *(link.due for link in self._mesh.links))
        if self._is_over():
            self._tend_at = -inf  # asked again, it is still over
            return False
        return True

    def _is_over(self) -> bool:
        if self._drain_by == inf:
            return self._mesh.is_over
        return all(link.stage is Stage.GONE for link in self._mesh.links)

    def _tend(self, link: Link, now: float) -> None:
        connection = self._connections.get(link)
        if connection is None:
            if link.stage is Stage.WAITING and now >= link.due:
                connection = self._connections[link] = self._dealer.dial(link)
                self._connected = list(self._connections)
                self._metrics.dials[link.way] += 1
                link.dialled(now)
                if connection.is_lost:
                    self._lose(link, "its address is none")
            return
        connection.read_alarm()
        if connection.is_lost:
            self._lose(link, "its connection ended")
        elif link.is_finished and link.is_surplus and link.due == inf:
            link.due = now + PARTING_S
        elif link.is_finished and (now >= link.due or not link.is_surplus):
            self._close(link, linger_s=LAST_WORDS_S)
            link.leave()
            self._mesh.stir()
        elif link.stage is Stage.DIALING and connection.send(self._hello):
            link.greeted(now)
            self._dealer.watch()
        elif now >= link.due:
            self._lose(link, "it did not answer in time")

    def _begin_drain(self, now: float) -> None:
        log.info("asked to stop: finishing what is in hand", extra={"drain_s": self._drain_s})
        self._drain_by = now + self._drain_s
        for link in self._mesh.links:
            if link.stage is Stage.OPEN:
                self._release(link)
            elif link.stage not in {Stage.RELEASING, Stage.LEAVING}:
                self._close(link)
                link.leave()

    def _release(self, link: Link) -> None:
        """Ask the frontend to send no more; what it has sent is answered before the link ends."""
        epoch, session = link.identity
        self._connections[link].send(encode_control(MessageType.DRAIN, epoch=epoch, session=session))
        link.released()

    def _end_drain(self) -> None:
        self._unanswered = sum(len(link.batches) for link in self._mesh.links)
        log.warning("the drain took too long", extra={"drain_s": self._drain_s, "unanswered": self._unanswered})
        for link in self._mesh.links:
            self._close(link, linger_s=LAST_WORDS_S)
            link.leave()

    def _count_breach(self, link: Link, exc: WireError) -> None:
        link.breaches += 1
        self._metrics.dropped["breach"] += 1
        if link.breaches == 1:  # the first of a connection: a broken peer must not fill the log
            log.warning("frontend broke the protocol", extra={"address": link.address, "reason": str(exc)})
        if link.breaches >= MAX_BREACHES:
            self._lose(link, "it broke the protocol too often")

    def _lose(self, link: Link, why: str) -> None:
        """Give up the connection of a link; it is dialled again unless it was to end."""
        was, now = link.stage, monotonic()
        was_serving = was in {Stage.OPEN, Stage.RELEASING, Stage.LEAVING} and not link.is_surplus
        self._close(link)
        forgotten = link.lost(now)
        if self._mesh.lost(link, was, now):
            log.warning(
                "frontend cannot be dialled directly: looking for it through the proxy",
                extra={"frontend": link.expected, "address": link.address},
            )
        self._metrics.dropped["forgotten"] += forgotten
        self._tend_at = -inf
        if was_serving:
            fields = {"frontend": link.frontend, "address": link.address, "reason": why, "forgotten": forgotten}
            log.warning("frontend lost", extra=fields)
        elif link.failed_dials == 1 and link.stage is Stage.WAITING and link.expected not in self._mesh.by_proxy:
            log.info("no frontend at this address yet", extra={"address": link.address, "reason": why})  # the first of a row

    def _close(self, link: Link, *, linger_s: float = 0.0) -> None:
        connection = self._connections.pop(link, None)
        if connection is not None:
            self._connected = list(self._connections)
            self._dealer.drop(connection, linger_s=linger_s)

    def _ending(self) -> Exit:
        if self._drain_by == inf and self._mesh.refusal and not self._mesh.was_sent_away:
            log.error("every frontend refused this replica", extra={"reason": self._mesh.refusal})
            return Exit.FAILED
        return Exit.FAILED if self._unanswered else Exit.DRAINED
