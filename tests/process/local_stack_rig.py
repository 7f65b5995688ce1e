"""What the tests of local mode share: a home of their own, owners to kill, and the proof that nothing stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import psutil

from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.local_stack.control import PartStatus, StackStatus
from clipper_nomad.local_stack.manager import LocalContainerManager
from clipper_nomad.local_stack.parts import Programs
from clipper_nomad.protocol.bundle import Manifest, file_digests, python_minor, write_manifest
from tests.waiting import wait_until

HERE = Path(__file__).parent
GONE_WITHIN_S = 5.0  # decision 32


def stand_in(kind: str) -> tuple[str, ...]:
    return (sys.executable, "-S", str(HERE / "local_stack_standin.py"), kind)


STAND_INS = Programs(admin=stand_in("admin"), frontend=stand_in("frontend"), replica=stand_in("replica"))


class Owner:
    """A process that started or attached to the stack of a home, as a notebook's kernel does."""

    def __init__(self, arguments: dict[str, object], *, words: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "local_stack_owner.py"), json.dumps(arguments), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def line(self) -> str:
        """Return the next line it prints: "up <address>", "worker <pid>", "interrupted" or "error …"."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def up(self) -> str:
        """Return the stack's address, when it is up."""
        word, _, address = self.line().partition(" ")
        assert word == "up", address
        return address

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def interrupt_group(self) -> None:
        """As Jupyter does: SIGINT to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def close(self) -> None:
        """End it in an orderly way, if it still runs."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


class Home:
    """A directory of its own for everything of a local stack."""

    def __init__(self, path: Path, programs: Programs) -> None:
        self.path = path
        self._programs = programs
        self._owners: list[Owner] = []

    def manager(
        self, *, port: int | None = 0, frontends: int | None = None, keep: bool = False, legacy_rpc: bool = True
    ) -> LocalContainerManager:
        """A manager in this process, usually with stand-ins for all parts but the store."""
        return LocalContainerManager(
            port=port, frontends=frontends, keep=keep, home=self.path, legacy_rpc=legacy_rpc, programs=self._programs
        )

    def owner(self, *words: str, keep: bool = False, port: int | None = 0, frontends: int | None = None) -> Owner:
        """Start an owner in a process of its own; it is up when its `up` returns."""
        programs = {kind: argv for kind, argv in asdict(self._programs).items() if argv is not None}
        arguments: dict[str, object] = {"home": str(self.path), "port": port, "keep": keep, "programs": programs}
        arguments["frontends"] = frontends
        self._owners.append(Owner(arguments, words=words))
        return self._owners[-1]

    def bundle(self, behaviour: str) -> Path:
        """A bundle for the stand-in of a replica, which behaves so."""
        folder = self.path.parent / f"{self.path.name}-bundle-{behaviour}"
        folder.mkdir()
        (folder / "func.pkl").write_text(behaviour)
        manifest = Manifest(input_type="doubles", python=python_minor(), packages={}, files=file_digests(folder))
        write_manifest(folder, manifest)
        return folder

    def deploy(
        self,
        manager: LocalContainerManager,
        behaviour: str,
        *,
        name: str = "m",
        replicas: int = 1,
        options: JobOptions | None = None,
    ) -> None:
        image = manager.publish_bundle(name, "1", self.bundle(behaviour))
        manager.deploy_model(name, "1", "doubles", image, replicas, uid="u1", options=options)

    def processes(self) -> dict[int, str]:
        """Every process that has something to do with this home, but for the tests' own: pid → command."""
        own = {os.getpid(), *(owner.process.pid for owner in self._owners)}
        found: dict[int, str] = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                said = " ".join([*process.cmdline(), *process.environ().values()])
                if str(self.path) in said and process.pid not in own and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = " ".join(process.cmdline())
        return found

    def pid_of(self, word: str) -> int:
        """The one process of this home whose command has `word` in it."""
        (pid,) = (pid for pid, command in self.processes().items() if word in command)
        return pid

    def assert_nothing_left(self) -> None:
        """No process, socket, file or directory, 5 s after the end at the latest."""
        wait_until(
            lambda: not self.processes() and not list(self.path.iterdir()),
            f"nothing is left of the stack in {self.path}",
            within_s=GONE_WITHIN_S,
        )

    def close(self) -> None:
        for owner in self._owners:
            owner.close()
        manager = self.manager()
        manager.stop_all(graceful=False, purge=True)
        self.assert_nothing_left()


@contextlib.contextmanager
def home_of_its_own(*, programs: Programs = STAND_INS) -> Iterator[Home]:
    """A short path, because sockets lie below it; on leaving the stack is stopped and nothing may be left of it."""
    with tempfile.TemporaryDirectory(prefix="cl-", dir="/tmp") as folder:
        path = Path(folder) / "h"
        path.mkdir(mode=0o700)
        home = Home(path, programs)
        try:
            yield home
        finally:
            home.close()


def part(status: StackStatus, name: str) -> PartStatus:
    (found,) = (item for item in status.parts if item.name == name)
    return found


def pid_of_part(manager: LocalContainerManager, name: str) -> int:
    pid = part(manager.status(), name).pid
    assert pid is not None
    return pid


def wait_restarted(manager: LocalContainerManager, name: str, *, after: int) -> None:
    """Return when the part runs under another pid than `after`."""
    wait_until(lambda: part(manager.status(), name).pid not in {None, after}, f"{name} runs again", within_s=5)


def ask(address: str, *, within_s: float = 5.0) -> str:
    """Return what a stand-in answers: "frontend <pid>" or "admin <pid>"."""
    with urllib.request.urlopen(f"http://{address}/", timeout=within_s) as reply:
        text: str = reply.read().decode()
        return text


def answers(address: str) -> bool:
    try:
        return bool(ask(address, within_s=0.5))
    except OSError:
        return False


def listener() -> socket.socket:
    """A stranger's socket, on a port of the system's choice."""
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    return taken
