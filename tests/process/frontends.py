"""A real query frontend for tests, and what it serves.

`Frontend` starts `python -m clipper_nomad_frontend` on a catalog in its mirror file, with no store; http_clients.py and
peer_replicas.py are the two who talk to it. Every wait has a deadline; nothing is left behind when a block ends.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from clipper_nomad.state.records import MICROS, App, Model, ModelVersion, Record, SloPolicy, snapshot, to_json, to_mirror
from clipper_nomad.state.records import field_of as record_field
from tests.process.http_clients import Client, Reply
from tests.waiting import wait_until

PATIENCE_S = 20.0  # a loaded machine starts a process in 2 s
TOKEN = "a-token-for-tests"


# ---- what is served --------------------------------------------------------------------------------------------------


def an_app(
    name: str = "a",
    *,
    model: str | None = "m",
    input_type: str = "doubles",
    policy: SloPolicy = "late",
    slo_s: float = 10.0,
    timeout_s: float | None = None,
    default: str = "-1.0",
) -> App:
    """Return an app that is linked to `model`, or to none."""
    return App(
        name=name,
        input_type=input_type,
        default_output=default,
        slo_micros=int(slo_s * MICROS),
        slo_policy=policy,
        timeout_micros=None if timeout_s is None else int(timeout_s * MICROS),
        linked_models=() if model is None else (model,),
    )


def a_version(
    model: str = "m", version: str = "1", *, input_type: str = "doubles", **more: Any
) -> ModelVersion:  # fields of the record
    """Return a model version; its uid is made from its name, as PeerReplica's is."""
    return ModelVersion(name=model, version=version, uid=uid_of(model, version), input_type=input_type, **more)


def uid_of(model: str, version: str) -> str:
    """Return the uid that a test's version has."""
    return f"uid-of-{model}-{version}"


def mirror_of(records: Iterable[Record], *, revision: int = 1) -> bytes:
    """Return a mirror file. A model's first version is its current one, unless a Model among `records` says otherwise."""
    values: dict[str, Record] = {}
    for record in records:
        if isinstance(record, ModelVersion):
            model = Model(name=record.name, current_version=record.version)
            values.setdefault(record_field(model), model)
        values[record_field(record)] = record
    return to_mirror(snapshot("store-of-tests", revision, {name: to_json(record) for name, record in values.items()}))


# ---- the process -----------------------------------------------------------------------------------------------------


class Frontend:
    """One query frontend process, ready when its block begins and gone when it ends.

    `settings` are environment variables without CLIPPER_: MAX_BODY_BYTES=4096. It must end with exit code `ends_with`.
    """

    ends_with = 0
    inherits_port = True  # its listening socket; else it opens the port itself

    def __init__(self, *records: Record, **settings: object) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="cn-")  # short: it holds unix sockets
        self.folder = Path(self._folder.name)
        self._log = self.folder / "log"
        self._settings = settings
        self.rpc = f"ipc://{self.folder}/rpc"
        self.internal = self.folder / "internal"
        self.http = ("", 0)
        (self.folder / "mirror").write_bytes(mirror_of(records))
        (self.folder / "token").write_text(TOKEN)
        self.inherits: list[int] = []  # descriptors, besides that of its own socket
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, usually on an inherited socket, so that no other process can take the port meanwhile."""
        listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.http = listening.getsockname()
        address = f"fd://{listening.fileno()}" if self.inherits_port else "{}:{}".format(*self.http)
        with listening, self._log.open("ab") as log:
            if not self.inherits_port:
                listening.close()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "clipper_nomad_frontend"],
                env=self.environment(HTTP_ADDRESS=address),
                pass_fds=[*([listening.fileno()] if self.inherits_port else []), *self.inherits],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self._is_ready_or_gone, "the frontend is ready", within_s=PATIENCE_S)
        assert self.process.poll() is None, f"the frontend ended at once:\n{self.log}"

    def environment(self, **more: object) -> dict[str, str]:
        """Return the environment of the process; `more` as `settings`."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CLIPPER_")}
        ours = {
            "FRONTEND_ID": "f1",
            "RPC_ADDRESS": self.rpc,
            "INTERNAL_ADDRESS": f"unix://{self.internal}",
            "MIRROR_PATH": self.folder / "mirror",
            "TOKEN_FILE": self.folder / "token",
            **self._settings,
            **more,
        }
        return clean | {f"CLIPPER_{name}": str(value) for name, value in ours.items()}

    def _is_ready_or_gone(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            return True
        try:
            return self.ask("GET", "/health/ready").status == 200
        except OSError:
            return False

    @property
    def log(self) -> str:
        """What it wrote to stdout and stderr."""
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def rss_bytes(self) -> int:
        """How much memory it holds."""
        rss: int = psutil.Process(self.pid).memory_info().rss
        return rss

    def open_connections(self) -> int:
        """How many clients are connected."""
        connections = psutil.Process(self.pid).net_connections("tcp")
        return sum(each.status == psutil.CONN_ESTABLISHED and each.laddr[:2] == self.http for each in connections)

    def client(self) -> Client:
        """Connect as a client of predictions does."""
        return Client(self.http)

    def predict(self, app: str, value: object, **more: object) -> Reply:
        """Ask for one prediction on a connection of its own."""
        with self.client() as client:
            return client.predict(app, value, **more)

    def ask(self, method: str, path: str, body: bytes | None = None, *, token: str | None = TOKEN) -> Reply:
        """Ask the internal address."""
        connection = _UnixConnection(self.internal)
        try:
            connection.request(method, path, body, {} if token is None else {"Authorization": f"Bearer {token}"})
            response = connection.getresponse()
            headers = tuple((name.lower(), value) for name, value in response.getheaders())
            return Reply(response.status, headers, response.read())
        finally:
            connection.close()

    def report(self) -> dict[str, Any]:
        """What it says of itself."""
        return dict(self.ask("GET", "/_clipper/report").json)

    @property
    def legacy_rpc(self) -> str:
        """Where containers of RPC version 3 dial, host:port; with LEGACY_RPC_ADDRESS among the settings."""
        address: str = self.report()["legacy_rpc"]
        return address.removeprefix("tcp://")

    def outstanding(self, model: str = "m") -> int:
        """How many queries of `model` wait in its queue or at a replica."""
        report = self.report()
        counts = [row["queued"] for row in report["versions"] if row["model"] == model]
        counts += [row["in_flight"] for row in report["replicas"] if row["model"] == model]
        return sum(map(int, counts))

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        values = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        assert values, f"no metric {name} among:\n" + "\n".join(lines)
        return sum(values)

    def terminate(self) -> None:
        """Ask it to drain and leave."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self, *, within_s: float = PATIENCE_S) -> int:
        """Wait for its end."""
        assert self.process is not None
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the frontend still runs after {within_s} s; its log:\n{self.log}") from None

    def stop(self) -> None:
        """End it if it still runs, and check that it ended as it should, and without a traceback."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.terminate()
        code = self.exit_code()
        assert code == self.ends_with, f"exit code {code}; its log:\n{self.log}"
        assert "Traceback" not in self.log, self.log

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if exc is None:
                self.stop()
            else:
                print(self.log[-4000:])  # noqa: T201  # pytest shows it with the failure
        finally:
            self._kill()

    def _kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        self._folder.cleanup()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("internal", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.sock.close()
            raise


@contextmanager
def clients(frontend: Frontend, count: int) -> Iterator[list[Client]]:
    """Connect `count` clients."""
    with ExitStack() as stack:
        yield [stack.enter_context(frontend.client()) for _ in range(count)]
