"""Takes connections from a listening socket that several frontends inherited, each its share of them.

How many connections each has open stands in a file that all of them map, one number for each: turns.py decides by it.
Without such a file the event loop's own server is used, which takes whatever it can get.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import mmap
import os
import select
import socket
from collections.abc import Callable

from clipper_nomad_frontend.turns import MOST_FRONTENDS, Share, Turns

log = logging.getLogger(__name__)

LET_OTHERS_GO_S = 0.001  # uvloop's timers have this grain
OUT_OF_DESCRIPTORS_S = 0.5
_WIDTH = 8  # bytes of a number in the file; writes of one are whole
_COUNT_BITS = 32
_COUNT_MASK = (1 << _COUNT_BITS) - 1
_MORE_THAN_ANY = _COUNT_MASK
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_READABLE = select.POLLIN


class Counts:
    """The open connections of every frontend: its process id in the upper half of a number, the count in the lower one.

    0 is a frontend that is not there.
    """

    def __init__(self, share: Share) -> None:
        """Raises: OSError: the file cannot be made."""
        file = os.open(share.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(file, MOST_FRONTENDS * _WIDTH)
            self._counts = memoryview(mmap.mmap(file, MOST_FRONTENDS * _WIDTH)).cast("Q")
        finally:
            os.close(file)
        self._index = share.index
        self.own = 0

    def tell(self, count: int) -> None:
        """Let the others know how many connections are open here."""
        self.own = count
        self._counts[self._index] = os.getpid() << _COUNT_BITS | count

    def leave(self) -> None:
        """Be counted no more: this frontend takes no connections."""
        self._counts[self._index] = 0

    @property
    def others(self) -> list[int]:
        """What the others have."""
        return [noted & _COUNT_MASK for index, noted in enumerate(self._counts) if noted and index != self._index]

    def drop_dead(self) -> None:
        """Count those no more whose process has ended without a word."""
        for index, noted in enumerate(self._counts):
            if noted and not _is_there(noted >> _COUNT_BITS):
                self._counts[index] = 0


class SharedListener:
    """Accepts on the running event loop until it is closed. `open_here`: how many connections are open here."""

    def __init__(
        self,
        listening: socket.socket,
        share: Share,
        *,
        protocol: Callable[[], asyncio.Protocol],
        open_here: Callable[[], int],
    ) -> None:
        """Raises: OSError: the file with the counts cannot be made."""
        listening.setblocking(False)
        self._listening = listening
        self._counts = Counts(share)
        self._protocol = protocol
        self._open_here = open_here
        self._loop = asyncio.get_running_loop()
        self._turns = Turns()
        self._beginning: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._is_ending = False
        self.note()
        self._loop.add_reader(listening.fileno(), self._on_connection)

    def note(self) -> None:
        """Tell the others how many connections are open here. To be called when that changes, a moment late at most."""
        if not self._is_ending:
            self._counts.tell(self._open_here() + len(self._beginning))

    def step_back(self) -> None:
        """Take from now on only what the others leave: this frontend is about to end."""
        self._is_ending = True
        self._counts.leave()

    def close(self) -> None:
        """Take no more connections."""
        if self._listening.fileno() < 0:
            return
        self.step_back()
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listening.fileno())
        self._listening.close()

    def _on_connection(self) -> None:
        self.note()
        own = _MORE_THAN_ANY if self._is_ending else self._counts.own
        if not self._turns.is_ours(own, self._counts.others):
            self._wait(LET_OTHERS_GO_S, self._others_went)
            return
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another frontend took it, or the client has gone
        except OSError as exc:
            if exc.errno not in _NO_ROOM:
                raise
            log.error("no connection can be taken", extra={"cause": str(exc)})  # noqa: TRY400  # the reason says it all
            self._wait(OUT_OF_DESCRIPTORS_S, self._listen)
            return
        beginning = self._loop.create_task(self._begin(connection))
        self._beginning.add(beginning)
        beginning.add_done_callback(self._has_begun)
        self.note()

    def _has_begun(self, beginning: asyncio.Task[None]) -> None:
        self._beginning.discard(beginning)
        self.note()

    async def _begin(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # the client has gone
            connection.close()

    def _wait(self, pause_s: float, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self._listening.fileno())
        self._pause = self._loop.call_later(pause_s, then)

    def _others_went(self) -> None:
        poller = select.poll()
        poller.register(self._listening, _READABLE)
        in_vain = bool(poller.poll(0))
        self._turns.waited(in_vain=in_vain)
        if in_vain:
            self._counts.drop_dead()
        self._listen()

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening.fileno(), self._on_connection)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # nobody's, or by now another user's
        return False
    return True
