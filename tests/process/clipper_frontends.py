"""A query frontend of Clipper's RPC version 3, for tests of our runtime: written from its byte-level description, with none
of our own code for it, and with no more behind it than a test plays by hand.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from typing import NamedTuple, Self

import zmq

from tests.waiting import wait_until

PATIENCE_S = 20.0
HEARTBEAT = "heartbeat"
_U64 = struct.Struct("<Q")


class Introduction(NamedTuple):
    """What a container says of itself."""

    model: str
    version: str
    data_type: str
    rpc_version: int


class ContainerResponse(NamedTuple):
    """The outputs of one request."""

    message_id: bytes
    outputs: list[str]


Heard = str | Introduction | ContainerResponse


class ClipperFrontend:
    """One ROUTER. `container` is the identity of whoever spoke last."""

    def __init__(self, port: int | None = None) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.ROUTER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.ROUTER_MANDATORY, 1)
        wait_until(lambda: self._is_bound(port), "the port is free", within_s=PATIENCE_S)
        self.address = self.socket.get_string(zmq.LAST_ENDPOINT)
        self.port = int(self.address.rpartition(":")[2])
        self.container = b""

    def _is_bound(self, port: int | None) -> bool:
        try:
            self.socket.bind(f"tcp://127.0.0.1:{port or '*'}")
        except zmq.ZMQError as exc:
            if exc.errno == zmq.EADDRINUSE:
                return False
            raise
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def receive(self, *, within_s: float = PATIENCE_S) -> Heard | None:
        """Return the next message, checked byte for byte; None if none comes."""
        if not self.socket.poll(int(within_s * 1000)):
            return None
        self.container, empty, kind, *rest = self.socket.recv_multipart()
        assert empty == b""
        if kind == b"\x02\0\0\0":
            assert not rest
            return HEARTBEAT
        if kind == b"\0\0\0\0":
            model, version, data_type, rpc_version = rest
            (number,) = struct.unpack("<I", rpc_version)
            return Introduction(model.decode(), version.decode(), data_type.decode("ascii"), number)
        assert kind == b"\x01\0\0\0"
        message_id, header_size, header, *outputs = rest
        assert len(message_id) == 4
        assert _U64.unpack(header_size) == (len(header),)
        count, *sizes = struct.unpack(f"<{len(header) // 8}Q", header)
        assert count == len(outputs)
        assert sizes == [len(each) for each in outputs]
        return ContainerResponse(message_id, [each.decode() for each in outputs])

    def answer_heartbeat(self, *, asks: bool) -> None:
        """Answer a heartbeat, and ask who it is, or not."""
        self.say(b"\x02\0\0\0", b"\x01\0\0\0" if asks else b"\0\0\0\0")

    def say(self, *frames: bytes, rpc_version: bytes = b"\x03\0\0\0") -> None:
        """Send any message to the container."""
        self.socket.send_multipart([self.container, b"", rpc_version, *frames])

    def send_inputs(self, data_type: int, inputs: Sequence[bytes], *, message_id: bytes = b"\x07\0\0\0") -> None:
        """Ask for predictions."""
        header = struct.pack(f"<QQ{len(inputs)}Q", data_type, len(inputs), *(len(each) for each in inputs))
        self.say(b"\x01\0\0\0", message_id, b"\0\0\0\0", _U64.pack(len(header)), header, *inputs)

    def predict(self, data_type: int, inputs: Sequence[bytes], *, message_id: bytes = b"\x07\0\0\0") -> list[str]:
        """Ask for predictions and return the outputs."""
        self.send_inputs(data_type, inputs, message_id=message_id)
        response = self.next_response()
        assert response.message_id == message_id
        return response.outputs

    def next_response(self, *, within_s: float = PATIENCE_S) -> ContainerResponse:
        """Return the next response; heartbeats are answered meanwhile."""
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            heard = self.receive(within_s=left)
            if isinstance(heard, ContainerResponse):
                return heard
            if heard == HEARTBEAT:
                self.answer_heartbeat(asks=False)
        raise AssertionError(f"no response came within {within_s:g} s")

    def meet(self) -> Introduction:
        """Wait for a container's call, ask who it is, and return what it says."""
        assert self.receive() == HEARTBEAT
        self.answer_heartbeat(asks=True)
        said = self.receive()
        assert isinstance(said, Introduction)
        return said
