"""Frontends that know each other, as real processes, and clients who check what one of them answers.

The replicas of their tests stay with the frontend that they are given: what the others answer came over a relay.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Self

from numpy.typing import NDArray

from clipper_nomad.state.records import Record
from tests.models.tagged import answer
from tests.process.frontends import Frontend, a_version, an_app, uid_of
from tests.waiting import wait_until

UID = uid_of("m", "1")


def frontends(count: int, *records: Record, **settings: object) -> list[Frontend]:
    """Return frontends that know each other, not started yet. Replicas cannot find them by what they advertise."""
    made = [Frontend(*records, FRONTEND_ID=f"f{number}", **settings) for number in range(1, count + 1)]
    for frontend in made:
        peers = ",".join(other.rpc for other in made if other is not frontend)
        frontend._settings |= {"PEER_ADDRESSES": peers, "ADVERTISED_RPC_ADDRESS": f"ipc://{frontend.folder}/no"}  # noqa: SLF001  # they must all be there first
    return made


def has_links(frontend: Frontend, count: int) -> bool:
    """Whether it has, or had, links to so many peers."""
    return frontend.log.count("linked to peer") >= count


@contextmanager
def mesh(count: int, *records: Record, **settings: object) -> Iterator[list[Frontend]]:
    """Run frontends, each of them linked to each."""
    made = frontends(count, *(records or (an_app(), a_version())), **settings)
    with ExitStack() as stack:
        for frontend in made:
            stack.enter_context(frontend)
        for frontend in made:
            wait_until(partial(has_links, frontend, count - 1), f"{frontend.rpc} has its links")
        yield made


def killed(frontend: Frontend) -> None:
    """As kill -9."""
    assert frontend.process is not None
    frontend.ends_with = -signal.SIGKILL
    frontend.process.kill()


def tags(inputs: NDArray[Any]) -> list[str]:
    """The model of tests/models/tagged.py, without a process."""
    return [answer(float(row[0]), UID) for row in inputs]


class Load:
    """Clients who ask one frontend for numbers never asked for before, without a retry, until the block ends."""

    def __init__(self, frontend: Frontend, *, clients: int = 8, first: int = 0) -> None:
        self.statuses: list[int] = []
        self.wrong: list[bytes] = []
        self.failures: list[BaseException] = []
        self._frontend = frontend
        self._is_over = threading.Event()
        ranges = [range(first + start, 10**9, clients) for start in range(clients)]
        self._threads = [threading.Thread(target=self._ask, args=(each,), daemon=True) for each in ranges]

    def _ask(self, numbers: Sequence[int]) -> None:
        try:
            with self._frontend.client() as client:
                for number in numbers:
                    if self._is_over.is_set():
                        return
                    reply = client.predict("a", [float(number)])
                    self.statuses.append(reply.status)
                    if reply.status == 200 and reply.json["output"] != answer(number, UID):
                        self.wrong.append(reply.body)
        except BaseException as exc:  # noqa: BLE001  # the test looks at it
            self.failures.append(exc)

    def wait_for(self, more: int) -> None:
        """Wait until so many more answers came."""
        least = len(self.statuses) + more
        wait_until(lambda: len(self.statuses) >= least or self.failures, f"{more} answers", within_s=30)

    @property
    def failed_share(self) -> float:
        """How many of the answers are none."""
        return sum(status != 200 for status in self.statuses) / len(self.statuses)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.wait_for(100)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(30)
        assert not self.failures
        assert not self.wrong
