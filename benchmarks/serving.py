"""What is measured: `Serving` is the seam; echo, bare and FastAPI are the servers ours is compared with.

figures.py starts each, loads its `url`, counts the processor time of its `pids`, and stops it. Ours is started in
ours.py. A server counts as started when it has answered one real input, so `started_in_s` is the time to the first
answer.
"""

import http.client
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import urlsplit

HOST = "127.0.0.1"
PATH = "/app-1/predict"
FIRST_INPUT = b'{"input":[0.01,0.02,0.03,0.04,0.05,0.06,0.07,0.08,0.09,0.1]}'

_START_S = 60.0
_STOP_S = 10.0
_POLL_S = 0.01
_LOG_TAIL = 2000
_ROOT = Path(__file__).resolve().parent.parent


class ServingError(Exception):
    """A server under test did not start, or died."""


class Serving(Protocol):
    """One server under test."""

    name: str  # "ours", "echo", "bare", "fastapi"
    url: str  # where inputs are posted
    started_in_s: float  # from the first command to the first right answer

    def pids(self) -> Mapping[str, int]:
        """Return the processes that serve, by role: all of them, since their processor time is the main figure.

        Children of these are counted without being named. Ours has a "frontend" and a "runtime" (memory is read of
        both) and whatever else is up: store, admin, supervisor.
        """
        ...

    def stop(self) -> None:
        """End all processes and wait for that."""
        ...


class CommandServing:
    """A server that is one command; its output is kept for the error message."""

    def __init__(self, name: str, command: Sequence[str], *, port: int) -> None:
        self.name = name
        self.url = f"http://{HOST}:{port}{PATH}"
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        began = time.monotonic()
        self._process = subprocess.Popen(command, cwd=_ROOT, stdout=self._output, stderr=subprocess.STDOUT)
        try:
            self._wait_for_answer(began + _START_S)
        except BaseException:
            self.stop()
            raise
        self.started_in_s = time.monotonic() - began

    def pids(self) -> Mapping[str, int]:
        """See `Serving`."""
        return {"server": self._process.pid}

    def stop(self) -> None:
        """See `Serving`."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    def _wait_for_answer(self, deadline: float) -> None:
        while not answers(self.url):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._output.seek(0)
                tail = self._output.read()[-_LOG_TAIL:].decode("utf-8", "replace")
                ended = self._process.returncode
                what = f"gave no answer within {_START_S:.0f} s" if ended is None else f"ended with {ended} at its start"
                raise ServingError(f"{self.name} {what}; it printed:\n{tail}")
            time.sleep(_POLL_S)


def start_echo() -> Serving:
    """Start the yardstick."""
    port = free_port()
    return CommandServing("echo", [sys.executable, "benchmarks/echo.py", "--port", str(port)], port=port)


def start_bare() -> Serving:
    """Start the floor: the same model and sockets, with nothing of ours."""
    port = free_port()
    return CommandServing("bare", [sys.executable, "-m", "benchmarks.bare", "--port", str(port)], port=port)


def start_fastapi() -> Serving:
    """Start FastAPI with the same model, on the fastest parts that uvicorn has, in one process."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks.fastapi_app:app", "--host", HOST, "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    return CommandServing("fastapi", command, port=port)


def free_port() -> int:
    """Return a TCP port that was free just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str) -> bool:
    """Whether one input posted to `url` is answered with 200, and not with a default output."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or HOST, parts.port, timeout=5)
    try:
        connection.request("POST", parts.path, FIRST_INPUT, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        body = reply.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return reply.status == 200 and b'"default":true' not in body
