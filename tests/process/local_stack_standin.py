"""Stands in for a frontend, admin or a model replica: `python local_stack_standin.py frontend|admin|replica`.

It keeps the real processes' environment, exit codes and manners (ready file, SIGTERM), starts at once and imports
nothing of ours, so that the tests of local mode are about local mode. A replica behaves as the text in its bundle's
func.pkl says: see `replica`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    {"frontend": frontend, "admin": admin, "replica": replica}[sys.argv[1]]()


def frontend() -> None:
    """Answer on the shared public socket and on the internal one."""
    path = os.environ["CLIPPER_INTERNAL_ADDRESS"].removeprefix("unix://")
    internal = socket.socket(socket.AF_UNIX)
    internal.bind(path)
    internal.listen()
    Path(os.environ["CLIPPER_RPC_ADDRESS"].removeprefix("ipc://")).touch()
    threading.Thread(target=answer, args=[internal], daemon=True).start()
    answer(inherited("CLIPPER_HTTP_ADDRESS"))


def admin() -> None:
    """Answer on the inherited socket."""
    answer(inherited("CLIPPER_ADMIN_ADDRESS"))


def replica() -> None:
    """Behave as the bundle says.

    serve · write (a file) · fork (with a child of its own) · once (ready, then exit 1) · hang · raise, settings, missing
    (exit 1, 2, 3) · exit (3, without a word) · flood (its log, wait until that is emptied, raise)
    """
    folder = Path(os.environ["CLIPPER_MODEL_PATH"])
    what = (folder / "func.pkl").read_text()
    sys.stderr.write(f"loading {os.environ['CLIPPER_REPLICA_ID']}\n")
    if what == "raise":
        raise ValueError("the weights are not a matrix")
    if what in {"settings", "missing"}:
        code, why = {"settings": (2, "CLIPPER_RPC_ADDRESSES is ''"), "missing": (3, "ModuleNotFoundError: No module")}[what]
        sys.stderr.write(f"{why}\n")
        sys.exit(code)
    if what == "exit":
        os._exit(3)
    if what == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if what == "write":
        Path("written-by-the-model").write_text("a checkpoint, a core dump")
    if what == "fork" and os.fork() == 0:
        os.execvp("sleep", ["sleep", "1000"])  # noqa: S606, S607  # a process that is not ours
    if what == "flood":
        sys.stderr.write("drop\n" * (2 << 20))
        while os.fstat(2).st_size > 1 << 20:
            time.sleep(0.01)
        raise ValueError("after the flood")
    Path(os.environ["CLIPPER_READY_FILE"]).write_text("READY")
    if what == "once":
        sys.exit(1)
    while True:
        time.sleep(60)


def inherited(name: str) -> socket.socket:
    return socket.socket(fileno=int(os.environ[name].removeprefix("fd://")))


def answer(listener: socket.socket) -> None:
    """Answer every connection with 200 and the name and pid of this process."""
    said = f"{sys.argv[1]} {os.getpid()}".encode()
    while True:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(said), said))
        connection.close()


if __name__ == "__main__":
    main()
