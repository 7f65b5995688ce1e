"""The yardstick: the least a Python process can do with an HTTP request. Fixed; no change without a decision page.

An asyncio.Protocol on uvloop. httptools parses each request whole (target, every header, body), and a reply of the size
of a prediction's goes out in one write. No model, no queue, no JSON, no routing: what a frontend adds, it adds to this.

The reply is a constant, not the body that was sent: a prediction's reply does not grow with its input either. Its body
and its headers are those of one reply of ours (query_id, output, default; request id, model, replica), so that both
servers send the same number of bytes.

Run: python benchmarks/echo.py --port 9998
"""

import argparse
import asyncio
import signal
from typing import cast

import httptools
import uvloop

_BODY = b'{"query_id":123,"output":152.13348416289597,"default":false}'
_REPLY = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: application/json\r\n"
    b"Content-Length: %d\r\n"
    b"X-Request-Id: 5f2b9c1e7a604d38-0000007b\r\n"
    b"X-Clipper-Model: clf:1\r\n"
    b"X-Clipper-Replica: clf-1-9b2e41\r\n"
    b"\r\n" % len(_BODY)
) + _BODY


class EchoProtocol(asyncio.Protocol):
    """One connection. Requests are answered as they are parsed, so pipelined ones stay in order."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class is no subclass of it, only like it

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio names it
        """Called by the loop."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.close()

    def on_message_begin(self) -> None:
        """Called by httptools."""
        self._target = b""
        self._headers = []
        self._body = b""

    def on_url(self, url: bytes) -> None:
        """Called by httptools, once for each fragment."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools."""
        self._headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        """Called by httptools, once for each fragment."""
        self._body += body

    def on_message_complete(self) -> None:
        """Called by httptools."""
        transport = self._transport
        if transport is None:
            return
        transport.write(_REPLY)
        if not self._parser.should_keep_alive():
            transport.close()


async def _serve(host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    server = await loop.create_server(EchoProtocol, host, port, backlog=1024)
    await stop.wait()
    server.close()


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    arguments = argparse.ArgumentParser(description="A bare HTTP echo: the yardstick of the throughput figures.")
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, required=True)
    given = arguments.parse_args()
    uvloop.run(_serve(given.host, given.port))


if __name__ == "__main__":
    main()
