"""A replica as a real process, and a frontend as it sees one: a ROUTER that speaks our protocol and says what it is told.

`Replica` starts `python -m clipper_nomad_runtime` on a bundle. `PeerFrontend` holds the other end of its link; every wait
of both has a deadline.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import zmq

from clipper_nomad.protocol.datatypes import FIXED_WIDTH, InputType
from clipper_nomad.protocol.wire import (
    Header,
    Hello,
    MessageType,
    Reject,
    Result,
    Welcome,
    decode_introduction,
    decode_result,
    encode_control,
    encode_introduction,
    encode_predict,
    header_of,
)
from tests.process.bundles import pack_model
from tests.waiting import wait_until

PATIENCE_S = 20.0  # a loaded machine starts a process in 2 s


class Replica:
    """One model runtime process. Leaves nothing behind when its block ends."""

    def __init__(self, folder: Path, bundle: Path, *, frontends: Sequence[str] = (), **settings: object) -> None:
        """`settings` are environment variables without CLIPPER_: HANG_AFTER_S=0.5."""
        self._log = folder / f"replica-{secrets.token_hex(3)}.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CLIPPER_")}
        environment = {
            **clean,
            "CLIPPER_MODEL_NAME": "iris",
            "CLIPPER_MODEL_VERSION": "3",
            "CLIPPER_MODEL_UID": "uid-of-iris-3",
            "CLIPPER_MODEL_PATH": str(bundle),
            "CLIPPER_REPLICA_ID": "iris-3-0",
            "CLIPPER_RPC_ADDRESSES": ",".join(frontends),
            **{f"CLIPPER_{name}": str(value) for name, value in settings.items()},
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.program(folder)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def program(self, folder: Path) -> Sequence[str]:
        """What Python runs; a subclass may have another one."""
        return ("-m", "clipper_nomad_runtime")

    @property
    def log(self) -> str:
        """What it wrote to stdout and stderr."""
        return self._log.read_text(errors="replace")

    def wait_for_log(self, text: str) -> None:
        wait_until(lambda: text in self.log, f"{text!r} in the replica's log", within_s=PATIENCE_S)

    def exit_code(self, *, within_s: float = PATIENCE_S) -> int:
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the replica still runs after {within_s} s; its log:\n{self.log}") from None

    def terminate(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)
        if exc is not None:
            print(self.log)  # noqa: T201  # pytest shows it with the failure


class PeerFrontend:
    """The frontend's end of a link, message by message."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.epoch = secrets.randbits(64)
        self.session = secrets.randbits(64)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.bind(address)
        self._peer = b""

    def receive(self, *, within_s: float = PATIENCE_S) -> list[bytes]:
        """Return the next message of the replica."""
        if not self._socket.poll(int(within_s * 1000)):
            raise AssertionError(f"the replica sent nothing for {within_s} s")
        self._peer, *frames = self._socket.recv_multipart()
        return frames

    def expect(self, kind: MessageType, *, within_s: float = PATIENCE_S) -> tuple[Header, list[bytes]]:
        frames = self.receive(within_s=within_s)
        header = header_of(frames[0])
        assert header.type is kind, f"{header.type.name} came, not {kind.name}"
        return header, frames

    def expect_hello(self) -> Hello:
        return decode_introduction(self.expect(MessageType.HELLO)[1], Hello)

    def expect_silence(self, *, for_s: float) -> None:
        if self._socket.poll(int(for_s * 1000)):
            _, *frames = self._socket.recv_multipart()
            raise AssertionError(f"the replica sent {header_of(frames[0])}")

    def welcome(self) -> Hello:
        """Wait for a hello and answer it."""
        hello = self.expect_hello()
        body = Welcome(frontend="frontend-1", toolkit="test")
        self.send(encode_introduction(MessageType.WELCOME, body, epoch=self.epoch, session=self.session))
        return hello

    def reject(self, reason: str, *, final: bool) -> None:
        self.send(encode_introduction(MessageType.REJECT, Reject(reason=reason, final=final)))

    def send(self, frames: Sequence[bytes]) -> None:
        self._socket.send_multipart([self._peer, *frames])

    def control(self, kind: MessageType, *, batch: int = 0) -> None:
        self.send(encode_control(kind, epoch=self.epoch, session=self.session, batch=batch))

    def predict(
        self,
        inputs: Sequence[Any],
        *,
        batch: int = 1,
        kind: InputType = InputType.DOUBLES,
        epoch: int | None = None,
        session: int | None = None,
    ) -> None:
        """Send one batch: vectors, texts or bytes."""
        packed = [_bytes_of(each, kind) for each in inputs]
        self.send(
            encode_predict(
                epoch=self.epoch if epoch is None else epoch,
                session=self.session if session is None else session,
                batch=batch,
                input_type=kind,
                item_length=len(inputs[0]) if kind in FIXED_WIDTH else 0,
                budget_micros=10_000_000,
                inputs=packed,
            )
        )

    def result(self, *, batch: int = 1, within_s: float = PATIENCE_S) -> Result:
        """Wait for the result of a batch; it must be the next message and of this session."""
        header, frames = self.expect(MessageType.RESULT, within_s=within_s)
        assert (header.epoch, header.session, header.batch) == (self.epoch, self.session, batch)
        return decode_result(header, frames)

    def ask(self, inputs: Sequence[Any], *, batch: int = 1, kind: InputType = InputType.DOUBLES) -> Result:
        self.predict(inputs, batch=batch, kind=kind)
        return self.result(batch=batch)

    def close(self) -> None:
        self._socket.close(linger=0)
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if not self._socket.closed:
            self.close()


class Bench:
    """What one test of the runtime works with, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bundle = folder / "bundle"

    def address(self, number: int = 0) -> str:
        return f"ipc://{self.folder}/f{number}"

    def frontend(self, number: int = 0) -> PeerFrontend:
        return PeerFrontend(self.address(number))

    def replica(
        self,
        model: str | None,
        *,
        input_type: str = "doubles",
        sample: object = None,
        frontends: int = 1,
        **settings: object,
    ) -> Replica:
        """Start a replica of a model of tests/models, or (None) of what is packed in `bundle`."""
        if model is not None:
            pack_model(self.bundle, model, input_type=input_type, sample=sample)
        addresses = [self.address(number) for number in range(frontends)]
        return Replica(self.folder, self.bundle, frontends=addresses, **settings)


def numbers(result: Result) -> list[Any]:
    """Return the outputs of a numeric result."""
    dtype = {1: "<i8", 2: "<f8", 3: "<f4", 4: "<f2", 5: "?"}[result.output_type]
    values: list[Any] = np.frombuffer(result.data, dtype).tolist()
    return values


def texts(result: Result) -> list[str]:
    """Return the outputs of a TEXT result."""
    assert result.lengths is not None
    ends = np.cumsum(result.lengths, dtype=np.int64).tolist()
    return [result.data[end - length : end].decode() for end, length in zip(ends, result.lengths.tolist(), strict=True)]


def first_number(text: str, name: str) -> float:
    """Return the value of a metric in Prometheus' text form."""
    for line in text.splitlines():
        if line.startswith(name) and line[len(name)] in " {":
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no metric {name} in:\n{text}")


def within(seconds: float) -> float:
    """Return the monotonic instant that is so far away."""
    return time.monotonic() + seconds


def _bytes_of(value: Any, kind: InputType) -> bytes:  # noqa: ANN401  # by kind: numbers, text or bytes
    if kind is InputType.STRINGS:
        return str(value).encode()
    if kind is InputType.BYTES:
        return bytes(value)
    return np.asarray(value, FIXED_WIDTH[kind]).tobytes()
