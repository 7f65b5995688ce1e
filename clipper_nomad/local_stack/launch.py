"""From the user's process: attach to the stack that runs, or start one and attach to that. Also: wait for its end.

Two that do this at the same instant both start a supervisor; one gets the lock, the other's says "held" and ends, and
both attach to the first. No lock is taken in this process: a forked worker would keep it.
"""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import IO

from clipper_nomad.container_manager import MOST_FRONTENDS
from clipper_nomad.errors import StackError
from clipper_nomad.local_stack.control import Attach, StackStatus, Stop
from clipper_nomad.local_stack.control_client import NotRunning, RefusedByStack, ask
from clipper_nomad.local_stack.janitor import LOCK_IS_HELD, janitor_argv
from clipper_nomad.local_stack.lock import read_holder
from clipper_nomad.local_stack.parts import START_EACH_S, START_WITHIN_S, StackSettings
from clipper_nomad.local_stack.place import Place

_GRACE_S = 10.0  # the supervisor itself gives up before, and says why
_ATTACH_WITHIN_S = START_WITHIN_S + START_EACH_S * MOST_FRONTENDS + _GRACE_S
_SPAWN_WITHIN_S = 15.0
_STOP_ANSWER_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.02
_SPAWN_AGAIN_S = 1.0  # the lock is held and nobody answers: its holder is starting, or ending

_log = logging.getLogger("clipper_nomad.local")


def running_place(place: Place) -> Place:
    """Return `place` with the runtime directory that the lock's holder uses; another environment may choose another."""
    holder = read_holder(place.lock)
    return place if holder is None else replace(place, runtime=Path(holder.runtime))


def attach(place: Place, request: Attach, *, within_s: float = _ATTACH_WITHIN_S) -> tuple[Place, StackStatus]:
    """Return where the running stack is and how it is, once it is up; this process then owns it too.

    Raises: NotRunning. RefusedByStack: another version or port runs, or it failed to start.
    """
    found = running_place(place)
    reply = ask(found.runtime, request, within_s=within_s)
    if not isinstance(reply, StackStatus):
        raise StackError(f"The supervisor answered {type(reply).__name__} where its status was expected.")
    if Path(reply.python).parent != Path(sys.executable).parent:
        _log.warning("models run in the environment of %s, which started this stack", reply.python)
    return found, reply


def start_or_attach(
    place: Place, settings: StackSettings, *, frontends: int | None = None, cache_size: int | None = None
) -> tuple[Place, StackStatus]:
    """Return the stack of `place`, up and owned by this process: the one that runs, else a new one.

    `frontends`, `cache_size`: how many, or how much, one that runs must have; None: it does not matter.
    Raises: StackError: it cannot be started, or is not up in time; the message says why.
    """
    request = Attach(
        pid=os.getpid(),
        toolkit=settings.toolkit,
        port=settings.port,
        frontends=frontends,
        keep=settings.keep,
        cache_size=cache_size,
    )
    within_s = settings.start_within_s + _GRACE_S
    deadline = time.monotonic() + within_s
    spawn_after = 0.0
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            return attach(place, request, within_s=left_s)
        except RefusedByStack as refused:
            if refused.kind != "stopping":
                raise
        except NotRunning as not_running:
            if time.monotonic() >= spawn_after:
                if _spawn(settings):
                    found, status = _attach_to_ours(place, request, within_s=left_s, cause=not_running)
                    if status.note:
                        _log.warning(status.note)
                    return found, status
                _check_host(place)
                spawn_after = time.monotonic() + _SPAWN_AGAIN_S
        time.sleep(_LOOK_EVERY_S)
    raise StackError(
        f"Gave up after {within_s:g} s: {place.lock} is held by a local stack that neither answers nor ends.",
        hint=f"Its supervisor: {read_holder(place.lock)}",
    )


def stop(place: Place, request: Stop, *, within_s: float) -> bool:
    """Stop the stack and return when its sockets are removed, or at once False if none runs. Purges a stopped one.

    Raises: StackError: it has not ended within `within_s`, or the data to purge are in use.
    """
    deadline = time.monotonic() + within_s
    while True:
        found = running_place(place)
        try:
            ask(found.runtime, request, within_s=_STOP_ANSWER_WITHIN_S)
        except NotRunning:
            if not request.purge or _purge_stopped(found):
                return False
        else:
            _wait_gone(found, deadline=deadline, within_s=within_s)
            return True
        if time.monotonic() > deadline:
            raise StackError(f"Gave up after {within_s:g} s: {place.lock} is held by a local stack that does not answer.")
        time.sleep(_LOOK_EVERY_S)


def _wait_gone(place: Place, *, deadline: float, within_s: float) -> None:
    while place.runtime.exists():
        if time.monotonic() > deadline:
            raise StackError(
                f"Gave up after {within_s:g} s: the local stack has not ended.",
                hint=f"See {place.supervisor_log}; stop_all(graceful=False) does not wait for models.",
            )
        time.sleep(_LOOK_EVERY_S)


def _purge_stopped(place: Place) -> bool:
    """Remove the kept data of a stack that does not run; return False if one just starts or ends."""
    if not place.data.is_dir():
        return True
    done = subprocess.run(
        janitor_argv(place, lock=None),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_SPAWN_WITHIN_S,
        check=False,
    )
    if done.returncode not in {0, LOCK_IS_HELD}:
        raise StackError(f"The data in {place.data} could not be removed: {done.stderr.decode().strip()}")
    return done.returncode == 0


def _attach_to_ours(place: Place, request: Attach, *, within_s: float, cause: NotRunning) -> tuple[Place, StackStatus]:
    try:
        return attach(place, request, within_s=within_s)
    except NotRunning as exc:
        raise StackError(
            f"The supervisor of the local stack ended while it started the parts: {exc.msg}",
            hint=f"What it logged, if that is kept: {place.supervisor_log}",
        ) from cause


def _spawn(settings: StackSettings) -> bool:
    """Start a supervisor and return whether it runs the stack (False: another one does)."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "clipper_nomad.local_stack.supervisor", settings.to_json()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            env=_environment(),
            cwd="/",
        )
        with process:  # it leaves a grandchild of its own behind and ends
            assert process.stdout is not None  # noqa: S101  # a PIPE was asked for
            said = _read_line(process.stdout)
        errors.seek(0)
        wrote = errors.read().decode(errors="replace").strip()
    if not said:
        raise StackError(f"The supervisor of the local stack ended at its start:\n{wrote or 'it was killed'}")
    event = json.loads(said)
    if event["event"] == "error":
        raise StackError(event["message"], hint=event["hint"])
    return bool(event["event"] == "listening")


def _read_line(pipe: IO[bytes]) -> bytes:
    """Return what the supervisor says, or nothing if it ended without a word."""
    deadline = time.monotonic() + _SPAWN_WITHIN_S
    said = b""
    while not said.endswith(b"\n"):
        readable, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise StackError(f"Gave up after {_SPAWN_WITHIN_S:g} s: the supervisor of the local stack does not start.")
        piece = os.read(pipe.fileno(), 65536)
        if not piece:
            return b""
        said += piece
    return said


def _environment() -> dict[str, str]:
    """This process's environment; paths relative to its directory would mean another one in a part's."""
    environ = dict(os.environ)
    if environ.get("PYTHONPATH"):
        paths = environ["PYTHONPATH"].split(os.pathsep)
        environ["PYTHONPATH"] = os.pathsep.join(str(Path(path).absolute()) for path in paths)
    return environ


def _check_host(place: Place) -> None:
    holder = read_holder(place.lock)
    if holder is not None and holder.host != socket.gethostname():
        raise StackError(
            f"The local stack of cluster {place.cluster!r} runs on host {holder.host!r}, which shares {place.data}.",
            hint="Use another cluster_name here, or set CLIPPER_HOME to a directory of this host.",
        )
