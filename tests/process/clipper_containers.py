"""A model container of Clipper's RPC version 3, for tests of a frontend: written from its byte-level description, with
none of our own code for it, so that an error there is none here too.

`LegacyContainer` is the bytes: what a test tells it to say, it says. `ServingContainer` behaves as a container does: in a
thread of its own it introduces itself when asked, sends heartbeats, answers requests with a function.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import zmq
from numpy.typing import NDArray

PATIENCE_S = 20.0
TYPES = {"bytes": 0, "integers": 1, "floats": 2, "doubles": 3, "strings": 4}
_ARRAYS: dict[int, np.dtype[Any]] = {0: np.dtype("i1"), 1: np.dtype("<i4"), 2: np.dtype("<f4"), 3: np.dtype("<f8")}

KEEP_ALIVE, INTRODUCE = "keep alive", "introduce yourself"


class PredictRequest(NamedTuple):
    """A request as it came."""

    message_id: bytes
    data_type: int
    inputs: list[bytes]


class LegacyContainer:
    """One socket of a container."""

    def __init__(self, address: str, *, model: str = "m", version: str = "1", kind: str = "doubles") -> None:
        self.model, self.version, self.data_type = model, version, TYPES[kind]
        self.came: list[PredictRequest] = []  # while it waited for something else
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.connect(f"tcp://{address}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def beat(self) -> None:
        """Send a heartbeat."""
        self.socket.send_multipart([b"", b"\x02\0\0\0"])

    def introduce(self, *, rpc_version: bytes | None = b"\x03\0\0\0", behind_the_type: bytes = b"") -> None:
        """Say who it is."""
        data_type = str(self.data_type).encode() + behind_the_type
        said = [b"", b"\0\0\0\0", self.model.encode(), self.version.encode(), data_type]
        self.socket.send_multipart(said if rpc_version is None else [*said, rpc_version])

    def respond(self, message_id: bytes, outputs: Sequence[str | bytes]) -> None:
        """Send the outputs of a request."""
        texts = [text.encode() if isinstance(text, str) else text for text in outputs]
        header = struct.pack(f"<Q{len(texts)}Q", len(texts), *(len(text) for text in texts))
        self.socket.send_multipart([b"", b"\x01\0\0\0", message_id, struct.pack("<Q", len(header)), header, *texts])

    def receive(self, *, within_s: float = PATIENCE_S) -> str | PredictRequest | None:
        """Return the next message, checked byte for byte; None if none comes."""
        if not self.socket.poll(int(within_s * 1000)):
            return None
        frames = self.socket.recv_multipart()
        assert frames[0] == b""
        assert frames[1] == b"\x03\0\0\0"
        if frames[2] == b"\x02\0\0\0":
            assert len(frames) == 4
            return {b"\0\0\0\0": KEEP_ALIVE, b"\x01\0\0\0": INTRODUCE}[frames[3]]
        assert frames[2] == b"\x01\0\0\0"
        message_id, request_type, header_size, header, *inputs = frames[3:]
        assert len(message_id) == 4
        assert request_type == b"\0\0\0\0"
        assert struct.unpack("<Q", header_size) == (len(header),)
        data_type, count, *sizes = struct.unpack(f"<{len(header) // 8}Q", header)
        assert sizes == [len(each) for each in inputs]
        assert count == len(inputs)
        return PredictRequest(message_id, data_type, inputs)

    def request(self, *, within_s: float = PATIENCE_S) -> PredictRequest:
        """Return the next request; heartbeats are passed over."""
        if self.came:
            return self.came.pop(0)
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            message = self.receive(within_s=left)
            if isinstance(message, PredictRequest):
                return message
        raise AssertionError(f"no request came within {within_s:g} s")

    def join(self) -> None:
        """Call, be asked, and introduce itself. A further heartbeat tells that it is taken in."""
        self.beat()
        assert self.receive() == INTRODUCE
        self.introduce()
        self.beat()
        while (message := self.receive()) != KEEP_ALIVE:
            assert isinstance(message, PredictRequest), f"{message} where it should be taken in"
            self.came.append(message)

    def inputs_of(self, request: PredictRequest) -> list[Any]:
        """Return the inputs as a container's predict function gets them."""
        assert request.data_type == self.data_type
        if request.data_type == TYPES["strings"]:
            return [text.decode() for text in request.inputs]
        return [np.frombuffer(each, _ARRAYS[request.data_type]) for each in request.inputs]


def sums(inputs: list[Any]) -> list[str]:
    """Answer with the sum of a vector, or the text itself."""
    return [each if isinstance(each, str) else str(_sum(each)) for each in inputs]


def _sum(vector: NDArray[Any]) -> int | float:
    total: int | float = vector.sum(dtype=np.float64 if vector.dtype.kind == "f" else np.int64).item()
    return total


class ServingContainer(LegacyContainer):
    """A container at work, until its block ends. `batches` are the sizes of the requests that it answered."""

    def __init__(
        self, address: str, *, predict: Callable[[list[Any]], list[str]] = sums, poll_s: float = 5.0, **more: str
    ) -> None:
        super().__init__(address, **more)
        self.batches: list[int] = []
        self.heard: list[str] = []
        self.error: BaseException | None = None
        self._predict = predict
        self._poll_s = poll_s
        self._is_over = threading.Event()
        self._is_in = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_in.wait(PATIENCE_S), f"the container was not taken in: {self.heard} {self.error}"
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        self._thread.join(PATIENCE_S)
        super().__exit__(*exc)
        if self.error is not None and exc[0] is None:
            raise self.error

    def _run(self) -> None:
        try:
            self.beat()
            silent_since = time.monotonic()
            while not self._is_over.is_set():
                message = self.receive(within_s=0.05)
                if message is None:
                    if self.heard and time.monotonic() - silent_since > self._poll_s:
                        self.beat()
                        silent_since = time.monotonic()
                    continue
                silent_since = time.monotonic()
                self._obey(message)
        except BaseException as exc:  # noqa: BLE001  # the test that owns the thread raises it
            self.error = exc

    def _obey(self, message: str | PredictRequest) -> None:
        if isinstance(message, PredictRequest):
            outputs = self._predict(self.inputs_of(message))
            self.respond(message.message_id, outputs)
            self.batches.append(len(outputs))
            return
        self.heard.append(message)
        if message == INTRODUCE:
            self.introduce()
            self.beat()
        else:
            self._is_in.set()
