"""The process that owns a local stack: `python -m clipper_nomad.local_stack.supervisor '<StackSettings as JSON>'`.

Its life: leave the user's process and session → take the lock → bind the port → start the janitor and all parts →
serve the control socket → stop, when asked or when the last owner has ended. It cleans nothing up itself: the janitor
does, when this process is gone, so that an orderly end and a kill -9 leave the same.

It says on its standard output what became of it, one JSON line: {"event": "held"} (another one runs the stack),
"listening", or "error" with message and hint. launch.py reads it. One thread only: see event_loop.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import TextIO

from clipper_nomad.errors import ClipperException, StackError
from clipper_nomad.local_stack.control import Refused
from clipper_nomad.local_stack.control_server import ControlServer
from clipper_nomad.local_stack.event_loop import EventLoop
from clipper_nomad.local_stack.exits import ExitWatch
from clipper_nomad.local_stack.failure import explain
from clipper_nomad.local_stack.janitor_link import JanitorLink
from clipper_nomad.local_stack.keeper import Keeper
from clipper_nomad.local_stack.kept import KeptState, read_state, write_state
from clipper_nomad.local_stack.lock import Lock
from clipper_nomad.local_stack.logs import open_log
from clipper_nomad.local_stack.parts import PartTable, StackSettings
from clipper_nomad.local_stack.place import Place, make_place
from clipper_nomad.local_stack.ports import bind_any, bind_legacy_rpc, bind_public
from clipper_nomad.local_stack.serving import Serving
from clipper_nomad.local_stack.stack import AT_ONCE, GRACEFUL, QUICK, Patience, Sockets, Stack
from clipper_nomad.local_stack.store_binary import find_store_binary
from clipper_nomad.local_stack.sweep import remove_data, remove_sockets, remove_unused_bundles, remove_unused_environments
from clipper_nomad.protocol.log_lines import log_to_stderr

TELL_WITHIN_S = 1.0

_log = logging.getLogger("clipper_nomad.local_stack.supervisor")  # __name__ is __main__ here


def main() -> int:
    """Run a stack until its end."""
    settings = StackSettings.from_json(sys.argv[1])
    owner = _watch_owner(settings)
    _leave_session()
    os.umask(0o077)
    try:
        lock = _take_lock(settings.place)
        supervisor = Supervisor(settings, lock) if lock is not None else None
    except ClipperException as exc:
        _report("error", message=exc.msg, hint=exc.hint)
        return 1
    if supervisor is None:
        _report("held")
        return 0
    _report("listening")
    supervisor.run(owner)
    return 0


class Supervisor:
    """The running stack. Made with the lock held; when making it fails, the janitor cleans up."""

    def __init__(self, settings: StackSettings, lock: Lock) -> None:
        place = settings.place
        self._janitor = JanitorLink(place, lock)  # first: from here on a kill leaves nothing behind
        lock.tell(place.runtime)
        public = bind_public(settings.port)
        admin = bind_any()
        legacy = bind_legacy_rpc() if settings.legacy_rpc else None
        store = settings.programs.store or (find_store_binary(os.environ),)
        state = _open_data(place, keep=settings.keep)  # after what may fail: of such a first start nothing is kept
        _write_token(place)
        _log_to(place)
        if public.note:
            _log.warning("the default port is taken", extra={"note": public.note})
        self._settings = settings
        self._loop = EventLoop()
        admin_port: int = admin.getsockname()[1]
        self._sockets = (public, admin, legacy)  # open as long as this process
        self._stack = Stack(
            settings,
            parts=PartTable(settings, environ=os.environ),
            loop=self._loop,
            state=state,
            store=store,
            sockets=Sockets(
                public=public.socket.fileno(),
                admin=admin.fileno(),
                admin_port=admin_port,
                legacy=legacy.socket.fileno() if legacy is not None else None,
            ),
            groups=self._janitor.tell,
            failed=self._part_failed,
        )
        self._serving = Serving(
            settings,
            loop=self._loop,
            stack=self._stack,
            pid=os.getpid(),
            addresses=(public.address, f"127.0.0.1:{admin_port}"),
            rpc_addr=legacy.address if legacy is not None else None,
            note=public.note,
            stop=self._stop,
        )
        self._server = ControlServer(place.control, loop=self._loop, handle=self._serving.handle)

    def run(self, owner: ExitWatch | None) -> None:
        """Start everything and run until it is stopped."""
        self._loop.on_signal(signal.SIGCHLD, self._look)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.on_signal(number, self._stop_by_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if owner is not None:
            self._serving.owners.add(owner)
        deadline = self._loop.after(self._settings.start_within_s, self._start_took_too_long)
        self._stack.start(lambda: self._is_up(deadline.cancel))
        self._loop.run()
        self._janitor.look()  # there must be one to clean up behind this process
        _log.info("stack has stopped")

    def _look(self) -> None:
        self._stack.look()
        self._janitor.look()

    def _is_up(self, cancel_deadline: Callable[[], None]) -> None:
        cancel_deadline()
        _log.info("stack is up", extra={"age_s": f"{self._serving.age_s:.2f}"})
        self._serving.is_up()

    def _part_failed(self, keeper: Keeper) -> None:
        if keeper.last_death is not None:
            reason = explain(f"The part {keeper.part.name!r}", keeper.last_death, log=str(keeper.part.log))
            self._start_failed(f"{reason.cause}\n{reason.log_tail}")

    def _start_took_too_long(self) -> None:
        waited_for = ", ".join(self._stack.waited_for)
        self._start_failed(f"gave up after {self._settings.start_within_s:g} s: {waited_for} did not become ready")

    def _start_failed(self, why: str) -> None:
        if self._serving.state != "starting":
            return
        message = f"The local stack of cluster {self._settings.cluster!r} did not start: {why}"
        _log.error("start failed", extra={"why": why})
        self._stop(QUICK, Refused(kind="failed", message=message))

    def _stop_by_signal(self) -> None:
        self._stop(AT_ONCE if self._serving.state == "stopping" else GRACEFUL)  # a second one: now

    def _stop(self, patience: Patience, refusal: Refused | None = None) -> None:
        if self._serving.state == "stopping":
            if patience is AT_ONCE:
                self._stack.kill()
            return
        _log.info("stack stops", extra={"patience": patience.name})
        self._serving.is_stopping(refusal)
        self._stack.stop(patience, self._stopped)

    def _stopped(self) -> None:
        if self._serving.owes_reason:  # it failed before the process that started it could ask
            self._loop.after(TELL_WITHIN_S, self._loop.stop)
        else:
            self._loop.stop()


def _watch_owner(settings: StackSettings) -> ExitWatch | None:
    """Watch the process that started this one: it is the parent now, so its pid cannot be another's yet."""
    if settings.owner is None:
        return None
    watch = ExitWatch(settings.owner)
    if os.getppid() != settings.owner:
        raise SystemExit(f"process {settings.owner} ended while it started the local stack")
    return watch


def _leave_session() -> None:
    """Become nobody's child in a session of its own: Ctrl-C and the end of a kernel's children do not reach it."""
    if os.fork() > 0:
        os._exit(0)
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # what the user's thread blocked would be blocked in every part


def _take_lock(place: Place) -> Lock | None:
    for _ in range(10):  # a clean-up may remove the directory between these two lines
        make_place(place)
        with contextlib.suppress(FileNotFoundError):
            return Lock.take(place.lock)
    raise StackError(f"The directory {place.data} is removed as soon as it is made.")


def _open_data(place: Place, *, keep: bool) -> KeptState:
    """Return what was kept; without it remove what a stack that was killed with its janitor left, and begin anew."""
    state = read_state(place.state)
    if state is None and (strange := _strangers(place)):
        raise StackError(
            f"{place.data} holds {', '.join(strange)}, and is no local stack's directory.",
            hint="Move that away, or set CLIPPER_HOME (or home=) to another directory.",
        )
    remove_data(place)
    remove_sockets(place)
    make_place(place)
    # systemd-tmpfiles removes old files of /tmp, but not below a directory that is locked
    fcntl.flock(os.open(place.runtime, os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)
    if state is None or not state.keep:
        state = KeptState(keep=keep)
    write_state(place.state, state)
    remove_unused_bundles(place, state.digests)
    remove_unused_environments(place, state.environments)
    return state


def _strangers(place: Place) -> list[str]:
    empty = {path for path in place.data.iterdir() if path.is_dir() and not any(path.iterdir())}
    return sorted(path.name for path in place.data.iterdir() if path != place.lock and path not in empty)


def _write_token(place: Place) -> None:
    with contextlib.suppress(FileExistsError):
        fd = os.open(place.token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(os.urandom(32).hex())


def _log_to(place: Place) -> None:
    """Log into the data directory, with what else this process writes on its standard error."""
    log = open_log(place.supervisor_log)
    os.dup2(log, sys.stderr.fileno())
    os.close(log)
    log_to_stderr("clipper_nomad")


def _report(event: str, **fields: str | None) -> None:
    """Say what became of this process, once, and let go of the pipe."""
    out: TextIO = sys.stdout
    with contextlib.suppress(BrokenPipeError):  # who started it has ended
        out.write(json.dumps({"event": event, **fields}) + "\n")
        out.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, out.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
