"""A store whose URL stands in a file: it may move, and who uses it follows at the next connect."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.ports import quiet_port
from clipper_nomad.errors import StoreError
from clipper_nomad.state.commit import Commit
from clipper_nomad.state.records import App, Snapshot
from clipper_nomad.state.store import Store
from clipper_nomad.state.watch import watch_catalog
from tests.process.stores import BINARIES, binary

pytestmark = pytest.mark.process

CLUSTER = "test"
APP = App(name="digits", input_type="doubles", default_output="-1.0", slo_micros=100_000)


@contextmanager
def tcp_store(folder: Path, port: int, password: str) -> Iterator[subprocess.Popen[bytes]]:
    program = next(path for path in map(binary, BINARIES) if path is not None)
    options = ["--bind", "127.0.0.1", "--port", str(port), "--requirepass", password, "--save", "", "--dir", str(folder)]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


async def committed(file: Path) -> int:
    """Commit an app through the store that the file names, once it answers; return the revision."""
    for _ in range(100):
        with contextlib.suppress(StoreError):
            store = await Store.open(f"file://{file}", CLUSTER, create=True)
            try:
                return (await store.commit(lambda _: Commit(put=(APP,), reply=""))).revision
            finally:
                await store.close()
        await asyncio.sleep(0.05)
    raise AssertionError("the store never answered")


def test_who_watches_a_store_finds_it_again_where_it_moved_to(tmp_path: Path) -> None:
    file = tmp_path / "store-url"
    ports = [quiet_port(), quiet_port()]
    seen: list[Snapshot] = []

    def accept(snapshot: Snapshot, is_forced: bool) -> int:  # noqa: FBT001  # as watch_catalog calls it
        seen.append(snapshot)
        return snapshot.revision

    async def follows(count: int) -> None:
        async with asyncio.timeout(15):
            while len({snapshot.store_id for snapshot in seen if snapshot.apps}) < count:  # noqa: ASYNC110  # what is seen is set in between
                await asyncio.sleep(0.02)

    async def scenario() -> None:
        watching = asyncio.create_task(
            watch_catalog(
                f"file://{file}", CLUSTER, accept=accept, report=lambda: {"store_id": "", "conflict": None}, frontend_id="f"
            )
        )
        await asyncio.sleep(0.2)  # there is no file yet: the store is away, and nothing ends
        assert not watching.done()
        with tcp_store(tmp_path, ports[0], "first"):
            file.write_text(f"redis://:first@127.0.0.1:{ports[0]}/0\n")
            await committed(file)
            await follows(1)
        file.write_text("redis://:first@/0\n")  # what the template writes while no store is registered
        await asyncio.sleep(0.2)
        with tcp_store(tmp_path, ports[1], "second"):
            file.write_text(f"redis://:second@127.0.0.1:{ports[1]}/0\n")
            await committed(file)
            await follows(2)
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    asyncio.run(scenario())


@pytest.mark.parametrize("content", [None, "", "nonsense", "redis://:secret@/0", "unix:///tmp/x.sock"])
def test_a_file_that_names_no_store_is_a_store_that_is_away(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "store-url"
    if content is not None:
        file.write_text(content)

    async def scenario() -> None:
        await Store.open(f"file://{file}", CLUSTER, create=True)

    with pytest.raises(StoreError, match="names no store") as caught:
        asyncio.run(scenario())
    assert "secret" not in str(caught.value)
