"""The replica's end of the model channel, for tests of a frontend: it does what it is told, also what no replica should.

A PeerReplica says hello, and answers batches with a function, at once or when it is told to. It runs in a thread of its
own; whatever a test calls is done there, in order.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import zmq
from numpy.typing import NDArray

from clipper_nomad.protocol.datatypes import InputType, input_type, unpack_inputs
from clipper_nomad.protocol.wire import (
    Header,
    Hello,
    MessageType,
    OutputError,
    OutputType,
    Predict,
    Reject,
    decode_introduction,
    decode_predict,
    encode_control,
    encode_introduction,
    encode_result,
    header_of,
)
from clipper_nomad_runtime.outputs import pack_outputs
from tests.process.frontends import uid_of
from tests.waiting import wait_until

PATIENCE_S = 20.0

Outputs = Sequence[Any] | NDArray[Any]


def sums(inputs: NDArray[Any]) -> Outputs:
    """The default model: the sum of a vector, the text itself, the number of bytes."""
    if inputs.dtype == object and inputs.size and isinstance(inputs[0], str):
        return [str(text) for text in inputs]
    if inputs.dtype in (np.int8, object):
        return [len(each) for each in inputs]
    return [float(row.sum()) for row in inputs]


class PeerReplica:
    """One replica, connected and welcome when its block begins.

    `sent` are the batches that came, `waiting` those of them that are not answered yet, `controls` the other messages.
    """

    def __init__(
        self,
        address: str,
        *,
        model: str = "m",
        version: str = "1",
        kind: str = "doubles",
        name: str = "r-0",
        predict: Callable[[NDArray[Any]], Outputs] = sums,
        holds: bool = False,
        greets: bool = True,
        **hello: str,
    ) -> None:
        """`holds`: batches wait for `answer`. `greets`: say hello at the start. `hello`: fields that differ."""
        self.hello = Hello(
            **{
                "model": model,
                "version": version,
                "uid": uid_of(model, version),
                "input_type": kind,
                "replica": name,
                "python": "3.11",
                "toolkit": "test",
                **hello,
            }
        )
        self.holds = holds
        self.sent: list[Predict] = []
        self.waiting: list[Predict] = []
        self.controls: list[Header] = []
        self.rejects: list[Reject] = []
        self.epoch = self.session = 0
        self._predict = predict
        self._greets = greets
        self._kind = input_type(kind)
        self._address = address
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._waker, self._woken = socket.socketpair()
        self._failure: BaseException | None = None
        self._linger_ms = 0
        self._socket: zmq.Socket[bytes]  # made in the thread
        self._thread = threading.Thread(target=self._run, name=f"peer {name}", daemon=True)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    # ---- what a test tells it ----------------------------------------------------------------------------------------

    @property
    def is_welcome(self) -> bool:
        """Whether the frontend took it in."""
        return self.session != 0

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait for what the thread will see."""

        def is_so() -> bool:
            if self._failure is not None:
                raise AssertionError(f"the peer {self.hello.replica} broke") from self._failure
            return bool(condition())

        wait_until(is_so, what, within_s=PATIENCE_S)

    def wait_for_batches(self, count: int = 1) -> None:
        """Wait until so many batches wait here."""
        self.wait_for(lambda: len(self.waiting) >= count, f"{count} batches at {self.hello.replica}")

    def wait_for_control(self, kind: MessageType) -> None:
        """Wait for a message that is a header only."""
        self.wait_for(lambda: any(header.type is kind for header in self.controls), f"{kind.name} came")

    def answer(self, batch: Predict | None = None, outputs: Outputs | None = None) -> None:
        """Answer a batch that waits, by default the oldest, by default with the model's outputs."""
        chosen = batch or self.waiting[0]
        self.waiting.remove(chosen)
        values = self._predict(self.inputs_of(chosen)) if outputs is None else outputs
        self.send(self.result(chosen, values))

    def answer_all(self) -> None:
        """Answer what waits, and from now on what comes."""
        self._do(self._let_go)

    def fail(self, *errors: OutputError, batch: Predict | None = None) -> None:
        """Answer a batch that waits with errors, and with 0.0 where there is none."""
        chosen = batch or self.waiting[0]
        self.waiting.remove(chosen)
        is_whole = any(error.index is None for error in errors)
        data = b"" if is_whole else np.zeros(chosen.header.count).tobytes()
        self.send(
            encode_result(
                answers=chosen.header,
                output_type=OutputType.FLOAT64,
                backlog=0,
                exec_micros=1000,
                lengths=None,
                data=data,
                errors=errors,
            )
        )

    def result(
        self, batch: Predict, outputs: Outputs, *, header: Header | None = None, exec_micros: int = 100
    ) -> list[bytes]:
        """Return the message that answers `batch`; `header` makes it the answer to another one."""
        block = pack_outputs(outputs)
        return encode_result(
            answers=header or batch.header,
            output_type=block.type,
            backlog=0,
            exec_micros=exec_micros,
            lengths=block.lengths,
            data=block.data,
        )

    def inputs_of(self, batch: Predict) -> NDArray[Any]:
        """Return the inputs of a batch as a predict function gets them."""
        return unpack_inputs(InputType(batch.input_type), batch.header.count, batch.item_length, batch.lengths, batch.data)

    def greet(self) -> None:
        """Say hello (once more)."""
        self.send(encode_introduction(MessageType.HELLO, self.hello))

    def drain(self) -> None:
        """Ask for no more work."""
        self.send(encode_control(MessageType.DRAIN, epoch=self.epoch, session=self.session))

    def send(self, frames: Sequence[bytes]) -> None:
        """Send a message, whatever it is."""
        self._do(lambda: self._socket.send_multipart(list(frames)))

    def send_each(self, messages: Iterable[Sequence[bytes]]) -> None:
        """Send many messages."""
        for frames in messages:
            self.send(frames)

    def close(self, *, linger_s: float = 0.0) -> None:
        """End the connection, by default as if killed: what was not sent is lost."""
        if self._thread.is_alive():
            self._linger_ms = int(linger_s * 1000)
            self._do(None)
            self._thread.join(PATIENCE_S)
            assert not self._thread.is_alive(), "the thread of a peer still runs"
            self._context.term()
            self._waker.close()
            self._woken.close()

    # ---- its thread --------------------------------------------------------------------------------------------------

    def _do(self, call: Callable[[], object] | None) -> None:
        self._calls.put(call)
        self._waker.send(b".")

    def _run(self) -> None:
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(self._address)
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._woken, zmq.POLLIN)
        try:
            while True:
                ready = dict(poller.poll())
                if self._woken.fileno() in ready:
                    self._woken.recv(1)
                    call = self._calls.get()
                    if call is None:
                        return
                    call()
                if self._socket in ready:
                    self._take(self._socket.recv_multipart())
        except BaseException as exc:  # noqa: BLE001  # `wait_for` tells the test
            self._failure = exc
        finally:
            self._socket.close(linger=self._linger_ms)

    def _take(self, frames: list[bytes]) -> None:
        header = header_of(frames[0])
        match header.type:
            case MessageType.WELCOME:
                self.epoch, self.session = header.epoch, header.session
            case MessageType.REJECT:
                self.rejects.append(decode_introduction(frames, Reject))
            case MessageType.PREDICT:
                batch = decode_predict(header, frames)
                self.sent.append(batch)
                self.waiting.append(batch)
                if not self.holds:
                    self._let_go()
            case MessageType.ASK:
                self._socket.send_multipart(
                    encode_control(MessageType.FREE, epoch=self.epoch, session=self.session, batch=1)
                )
            case _:
                self.controls.append(header)

    def _let_go(self) -> None:
        self.holds = False
        while self.waiting:
            batch = self.waiting.pop(0)
            self._socket.send_multipart(self.result(batch, self._predict(self.inputs_of(batch))))

    def __enter__(self) -> Self:
        self._thread.start()
        if self._greets:
            self.greet()
            self.wait_for(lambda: self.is_welcome, f"{self.hello.replica} is welcome")
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
