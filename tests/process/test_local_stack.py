"""Local mode as a whole, on stand-ins: start, attach, whose end ends it, and that nothing stays behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import time
from collections.abc import Iterator

import psutil
import pytest

from clipper_nomad.errors import StackError
from clipper_nomad.local_stack import control_client
from clipper_nomad.local_stack.control import Status
from tests.process.local_stack_rig import Home, answers, ask, home_of_its_own, part, pid_of_part, wait_restarted
from tests.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def home() -> Iterator[Home]:
    with home_of_its_own() as one:
        yield one


def test_a_started_stack_answers_and_is_closed_to_other_users(home: Home) -> None:
    manager = home.manager()

    manager.start_clipper()

    assert ask(manager.get_query_addr()).startswith("frontend ")
    assert ask(manager.get_admin_addr()).startswith("admin ")
    assert manager.predict_url("app") == f"http://{manager.get_query_addr()}/clipper/app/predict"
    assert len(manager.get_admin_token()) == 64
    for path in home.path.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    assert set().union(*map(listening_addresses, home.processes())) == {"127.0.0.1"}


def listening_addresses(pid: int) -> set[str]:
    connections = psutil.Process(pid).net_connections("inet")
    return {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}


def test_a_second_local_attaches_to_the_running_stack_at_once(home: Home) -> None:
    first, second = home.manager(), home.manager()
    first.start_clipper()

    began = time.monotonic()
    second.start_clipper()
    took_s = time.monotonic() - began

    assert second.get_query_addr() == first.get_query_addr()
    assert second.status().owners == (os.getpid(),)
    assert took_s < 0.3


def test_four_at_the_same_instant_share_one_stack(home: Home) -> None:
    owners = [home.owner() for _ in range(4)]

    addresses = {owner.up() for owner in owners}

    assert len(addresses) == 1
    assert len([command for command in home.processes().values() if "local_stack.supervisor" in command]) == 1
    assert set(home.manager().status().owners) == {owner.process.pid for owner in owners}


def test_the_stack_ends_with_its_owner(home: Home) -> None:
    owner = home.owner()
    address = owner.up()

    owner.close()

    home.assert_nothing_left()
    assert not answers(address)


def test_the_stack_ends_with_an_owner_that_is_killed(home: Home) -> None:
    owner = home.owner()
    owner.up()

    owner.kill()

    home.assert_nothing_left()


def test_the_stack_ends_with_an_owner_that_is_killed_while_it_starts(home: Home) -> None:
    owner = home.owner()
    wait_until(lambda: any("supervisor" in command for command in home.processes().values()), "a supervisor runs")

    owner.kill()

    home.assert_nothing_left()


def test_the_stack_ends_with_its_last_owner_only(home: Home) -> None:
    first, second = home.owner(), home.owner()
    address = first.up()
    second.up()

    first.kill()

    wait_until(lambda: home.manager().status().owners == (second.process.pid,), "the first owner's end is seen")
    assert answers(address)
    second.kill()
    home.assert_nothing_left()


def test_an_owner_that_detaches_is_no_owner_any_more(home: Home) -> None:
    owner = home.owner()
    owner.up()
    manager = home.manager()
    manager.connect()
    manager.detach()

    owner.kill()

    home.assert_nothing_left()


def test_an_interrupted_cell_leaves_the_stack_serving(home: Home) -> None:
    owner = home.owner()
    address = owner.up()
    before = home.processes().keys()

    owner.interrupt_group()

    assert owner.line() == "interrupted"
    assert answers(address)
    assert home.processes().keys() == before


def test_a_forked_worker_neither_ends_the_stack_nor_keeps_it(home: Home) -> None:
    owner = home.owner("fork")
    worker = int(owner.line().removeprefix("worker "))
    second_owner = home.owner("fork")
    second_worker = int(second_owner.line().removeprefix("worker "))
    address = owner.up()
    second_owner.up()
    try:
        os.kill(second_worker, signal.SIGKILL)
        assert answers(address)
        assert set(home.manager().status().owners) == {owner.process.pid, second_owner.process.pid}

        owner.process.kill()
        second_owner.process.kill()

        wait_until(lambda: home.processes().keys() <= {worker}, "the stack has ended", within_s=5)
    finally:
        os.kill(worker, signal.SIGKILL)


def test_nothing_is_left_of_a_stack_whose_supervisor_is_killed(home: Home) -> None:
    manager = home.manager()
    manager.start_clipper()
    home.deploy(manager, "fork")
    wait_until(lambda: manager.status().versions[0].ready == 1, "the replica is ready")

    os.kill(manager.status().pid, signal.SIGKILL)

    home.assert_nothing_left()
    with pytest.raises(StackError, match="does not run"):
        manager.status()


def test_a_killed_janitor_is_replaced_by_one_that_knows_all_processes(home: Home) -> None:
    manager = home.manager()
    manager.start_clipper()
    home.deploy(manager, "fork")
    wait_until(lambda: manager.status().versions[0].ready == 1, "the replica is ready")
    janitor = home.pid_of("local_stack.janitor")

    os.kill(janitor, signal.SIGKILL)
    wait_until(
        lambda: any("local_stack.janitor" in command for pid, command in home.processes().items() if pid != janitor),
        "another janitor runs",
    )
    os.kill(manager.status().pid, signal.SIGKILL)

    home.assert_nothing_left()


def test_after_supervisor_and_janitor_are_killed_the_next_start_is_a_fresh_one(home: Home) -> None:
    manager = home.manager()
    manager.start_clipper()
    token = manager.get_admin_token()
    supervisor, janitor = manager.status().pid, home.pid_of("local_stack.janitor")

    os.kill(janitor, signal.SIGSTOP)  # so that it is not replaced
    os.kill(supervisor, signal.SIGKILL)
    os.kill(janitor, signal.SIGKILL)
    wait_until(lambda: not home.processes(), "the kernel has ended all parts", within_s=5)
    manager.start_clipper()

    assert ask(manager.get_query_addr()).startswith("frontend ")
    assert manager.get_admin_token() != token


@pytest.mark.parametrize("name", ["store", "admin", "frontend-0", "model-m-1-0"])
def test_a_killed_part_is_started_again(home: Home, name: str) -> None:
    manager = home.manager()
    manager.start_clipper()
    home.deploy(manager, "serve")
    wait_until(lambda: manager.status().versions[0].ready == 1, "the replica is ready")
    killed = pid_of_part(manager, name)
    others = home.processes().keys() - {killed}

    os.kill(killed, signal.SIGKILL)

    wait_restarted(manager, name, after=killed)
    assert others <= home.processes().keys()
    wait_until(lambda: manager.status().versions[0].ready == 1, "the replica is ready", within_s=5)
    assert ask(manager.get_query_addr()).startswith("frontend ")
    assert ask(manager.get_admin_addr()).startswith("admin ")


def test_clients_wait_for_a_frontend_that_starts_again(home: Home) -> None:
    manager = home.manager()
    manager.start_clipper()
    killed = pid_of_part(manager, "frontend-0")

    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: part(manager.status(), "frontend-0").pid != killed, "its end is seen")

    assert ask(manager.get_query_addr()).startswith("frontend ")  # queued, not refused


def test_a_part_that_was_given_up_is_tried_anew_by_the_next_start(home: Home) -> None:
    manager = home.manager()
    manager.start_clipper()
    while part(manager.status(), "admin").state != "failed":
        pid = part(manager.status(), "admin").pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    manager.start_clipper()

    assert ask(manager.get_admin_addr()).startswith("admin ")


def test_a_restarted_kernel_gets_a_fresh_stack_at_once(home: Home) -> None:
    kernel = home.owner()
    kernel.up()

    kernel.kill()
    restarted = home.owner()

    assert answers(restarted.up())
    assert home.manager().status().owners == (restarted.process.pid,)


def test_several_frontends_share_the_port(home: Home) -> None:
    manager = home.manager(frontends=3)

    manager.start_clipper()

    names = [part.name for part in manager.status().parts if part.kind == "frontend"]
    assert names == ["frontend-0", "frontend-1", "frontend-2"]
    for name in names[:2]:
        os.kill(pid_of_part(manager, name), signal.SIGSTOP)
    assert wait_until(lambda: answers(manager.get_query_addr()), "the third answers", within_s=20)


def test_a_stopped_supervisor_neither_stops_the_stack_nor_lets_its_callers_wait_for_ever(home: Home) -> None:
    manager = home.manager()
    manager.start_clipper()
    supervisor = manager.status().pid
    (control,) = home.path.glob("run/*/control")
    os.kill(supervisor, signal.SIGSTOP)
    try:
        assert answers(manager.get_query_addr())
        with pytest.raises(StackError, match=r"did not answer Status within 0\.2 s"):
            control_client.ask(control.parent, Status(), within_s=0.2)
    finally:
        os.kill(supervisor, signal.SIGCONT)

    assert manager.status().state == "up"


def test_what_is_no_request_is_refused_and_the_stack_goes_on(home: Home) -> None:
    manager = home.manager()
    manager.start_clipper()
    (control,) = home.path.glob("run/*/control")

    for line in (b"\n", b'{"Stop": {}}\n', b"\xff" * 100 + b"\n", b"x" * (2 << 20)):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(control))
            with contextlib.suppress(OSError):  # too much is cut off
                connection.sendall(line)
                assert connection.recv(1000).startswith(b'{"Refused"') or len(line) > 1 << 20

    assert manager.status().state == "up"


def test_sigterm_stops_the_stack(home: Home) -> None:
    manager = home.manager()
    manager.start_clipper()

    os.kill(manager.status().pid, signal.SIGTERM)

    home.assert_nothing_left()


def test_stop_all_needs_no_connection_and_does_nothing_where_nothing_runs(home: Home) -> None:
    home.manager().start_clipper()

    home.manager().stop_all()
    home.manager().stop_all()

    home.assert_nothing_left()


def test_a_call_of_a_stack_that_has_ended_says_so_and_not_that_a_file_is_missing(home: Home) -> None:
    manager = home.manager()
    manager.start_clipper()

    home.manager().stop_all()

    with pytest.raises(StackError, match="does not run"):
        manager.get_admin_token()


def test_a_hanging_replica_is_no_obstacle_to_a_stop_that_does_not_wait(home: Home) -> None:
    manager = home.manager()
    manager.start_clipper()
    home.deploy(manager, "hang")
    wait_until(lambda: manager.status().versions[0].ready == 1, "the replica is ready")

    manager.stop_all(graceful=False)

    home.assert_nothing_left()


def test_nothing_is_left_of_a_stack_with_hanging_parts_when_its_owner_ends(home: Home) -> None:
    owner = home.owner()
    owner.up()
    manager = home.manager()
    home.deploy(manager, "hang")
    wait_until(lambda: manager.status().versions[0].ready == 1, "the replica is ready")
    for name in ("store", "admin", "frontend-0"):
        os.kill(pid_of_part(manager, name), signal.SIGSTOP)

    owner.kill()

    home.assert_nothing_left()


def test_an_idle_stack_costs_next_to_nothing(home: Home) -> None:
    manager = home.manager()
    manager.start_clipper()
    watched = [psutil.Process(manager.status().pid), psutil.Process(home.pid_of("local_stack.janitor"))]
    before = [process.cpu_times() for process in watched]
    switches = [process.num_ctx_switches().voluntary for process in watched]

    time.sleep(1.0)  # the one thing to wait for here is that nothing happens

    after = [process.cpu_times() for process in watched]
    assert sum(times.user + times.system for times in after) - sum(times.user + times.system for times in before) <= 0.01
    assert [process.num_ctx_switches().voluntary for process in watched] == switches
