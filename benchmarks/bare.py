"""The floor: the same model behind the same sockets with nothing of ours. Fixed; no change without a decision page.

HTTP on uvloop and httptools, one ZeroMQ hop to a second process, scikit-learn's predict there, and back. While a batch is
away the next ones wait, and then go together. No app, no version, no deadline, no check of a header, no reply that could
fail: what two Python processes cannot do for less. What ours costs above this is what the system costs.

Run: python benchmarks/bare.py --port 9997
"""

import argparse
import asyncio
import multiprocessing
import signal
import struct
import tempfile
from typing import cast

import httptools
import msgspec
import numpy as np
import uvloop
import zmq

_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: application/json\r\n"
    b"X-Request-Id: 5f2b9c1e7a604d38-0000007b\r\n"
    b"X-Clipper-Model: clf:1\r\n"
    b"X-Clipper-Replica: clf-1-9b2e41\r\n"
    b"Content-Length: %d\r\n\r\n%b"
)
_NOW = int(zmq.NOBLOCK)
_EVENTS = int(zmq.EVENTS)
_READABLE = int(zmq.POLLIN)


class _Body(msgspec.Struct):
    input: list[float]


class _Model:
    """The frontend's end of the hop: what waits, and what is away."""

    def __init__(self, address: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PAIR)
        self._socket.bind(address)
        self._socket.set(zmq.RCVTIMEO, 60_000)
        self._socket.recv()  # the other end is there
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._drain)
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []
        self._away: list[tuple[asyncio.Transport, bytes]] = []
        self._is_due = False

    def ask(self, transport: asyncio.Transport, packed: bytes) -> None:
        """Answer `packed`, the 10 doubles of one input, to `transport`."""
        self._waiting.append((transport, packed))
        if not self._is_due and not self._away:
            self._is_due = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._is_due = False
        if self._waiting and not self._away:
            self._away, self._waiting = self._waiting, []
            self._socket.send(b"".join([packed for _, packed in self._away]), _NOW)
            self._drain()

    def _drain(self) -> None:
        while cast("int", self._socket.getsockopt(_EVENTS)) & _READABLE:
            outputs = np.frombuffer(self._socket.recv(_NOW)).tolist()
            away, self._away = self._away, []
            for (transport, _), output in zip(away, outputs, strict=True):
                body = b'{"query_id":123,"output":%a,"default":false}' % output
                if not transport.is_closing():
                    transport.write(_HEAD % (len(body), body))
            self._send()


class _Connection(asyncio.Protocol):
    """One connection; pipelined requests stay in order because batches do."""

    def __init__(self, model: _Model) -> None:
        self._model = model
        self._parser = httptools.HttpRequestParser(self)
        self._decode = msgspec.json.Decoder(_Body).decode
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Called by httptools."""
        self._body = body

    def on_message_complete(self) -> None:
        """Called by httptools."""
        self._model.ask(self._transport, struct.pack("<10d", *self._decode(self._body).input))


def _run_model(address: str) -> None:
    from benchmarks import diabetes  # noqa: PLC0415  # the frontend needs no scikit-learn

    model = diabetes.train()
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PAIR)
    socket.connect(address)
    socket.send(b"here")
    while True:
        rows = np.frombuffer(socket.recv()).reshape(-1, diabetes.FEATURES)
        socket.send(model.predict(rows).tobytes())


async def _serve(port: int, address: str) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    model = _Model(address)
    server = await loop.create_server(lambda: _Connection(model), "127.0.0.1", port, backlog=1024)
    await stop.wait()
    server.close()


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    arguments = argparse.ArgumentParser(description="The same model behind the same sockets, with nothing of ours.")
    arguments.add_argument("--port", type=int, required=True)
    port = arguments.parse_args().port
    with tempfile.TemporaryDirectory() as folder:
        address = f"ipc://{folder}/model"
        runtime = multiprocessing.get_context("spawn").Process(target=_run_model, args=(address,), daemon=True)
        runtime.start()
        uvloop.run(_serve(port, address))


if __name__ == "__main__":
    main()
