"""The links of a replica to its frontends: sessions, cancelling, backlog, draining, and peers that break the protocol."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from time import sleep

import pytest

from clipper_nomad.protocol.datatypes import InputType
from clipper_nomad.protocol.wire import MessageType, encode_control
from tests.process.replicas import Bench, PeerFrontend, numbers, texts
from tests.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def start_slow_batch(frontend: PeerFrontend, *, seconds: float = 0.5) -> None:
    """Send a batch and return while it runs: the result of the one before it is proof."""
    frontend.predict([[0.0]], batch=100)
    frontend.predict([[seconds]], batch=1)
    frontend.result(batch=100)


def drain(frontend: PeerFrontend) -> None:
    frontend.expect(MessageType.DRAIN)
    frontend.control(MessageType.DRAINED)


def test_work_of_another_session_or_epoch_is_dropped(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("echo_sum"):
        frontend.welcome()

        frontend.predict([[1.0]], batch=1, epoch=frontend.epoch ^ 1)
        frontend.predict([[2.0]], batch=2, session=frontend.session ^ 1)
        frontend.predict([[3.0]], batch=3)

        assert numbers(frontend.result(batch=3)) == [3.0]
        frontend.expect_silence(for_s=0.2)


def test_a_frontend_that_restarts_on_its_port_gets_no_result_of_its_predecessor(bench: Bench) -> None:
    """Both starts use batch 1 of their first session, as all counters that begin anew do."""
    with bench.replica("slow", frontends=1) as replica:
        with bench.frontend() as first:
            first.welcome()
            start_slow_batch(first)
            first.predict([[0.5]], batch=2)
        with bench.frontend() as second:
            second.session = first.session
            second.welcome()
            second.predict([[0.0], [0.0]], batch=1)

            assert second.result(batch=1).header.count == 2
            second.expect_silence(for_s=0.7)
        assert "frontend lost" in replica.log


def test_a_batch_that_is_cancelled_before_it_starts_is_not_run(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("slow"):
        frontend.welcome()
        frontend.predict([[0.3]], batch=1)

        frontend.predict([[0.0]], batch=2)
        frontend.predict([[0.0]], batch=3)
        frontend.control(MessageType.CANCEL, batch=2)
        frontend.control(MessageType.CANCEL, batch=77)  # of no batch that is here

        frontend.result(batch=1)
        frontend.result(batch=3)
        frontend.expect_silence(for_s=0.2)


def test_frontends_take_turns_and_each_result_tells_the_backlog_of_all(bench: Bench) -> None:
    with bench.frontend(0) as a, bench.frontend(1) as b, bench.replica("slow", frontends=2):
        a.welcome()
        b.welcome()
        a.predict([[1.0]], batch=1)  # while it runs, five batches gather
        sleep(0.3)  # it must have begun: nothing orders the messages of two connections
        for batch in (2, 3, 4):
            a.predict([[0.05]], batch=batch)
        for batch in (1, 2):
            b.predict([[0.05]], batch=batch)

        backlogs_of_a = [a.result(batch=batch).backlog for batch in (1, 2, 3, 4)]
        backlogs_of_b = [b.result(batch=batch).backlog for batch in (1, 2)]

        assert backlogs_of_a == [5, 3, 1, 0]
        assert backlogs_of_b == [4, 2]


def test_a_replica_without_a_welcome_dials_again(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("echo_sum"):
        frontend.expect_hello()

        frontend.welcome()  # the second hello, on a new connection

        assert numbers(frontend.ask([[1.0]])) == [1.0]


def test_a_replica_that_is_refused_for_now_asks_again(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("echo_sum") as replica:
        frontend.expect_hello()
        frontend.reject("the catalog does not have it yet", final=False)

        frontend.welcome()

        assert "the catalog does not have it yet" in replica.log


def test_a_replica_that_is_refused_for_good_ends_and_says_why(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("echo_sum") as replica:
        frontend.expect_hello()
        frontend.reject("no such version: iris 3", final=True)

        assert replica.exit_code() == 1
        assert "no such version: iris 3" in replica.log


def test_one_frontend_that_refuses_for_good_does_not_end_what_serves_another(bench: Bench) -> None:
    with bench.frontend(0) as refusing, bench.frontend(1) as other, bench.replica("echo_sum", frontends=2):
        refusing.expect_hello()
        refusing.reject("I am of another cluster", final=True)
        other.welcome()

        assert numbers(other.ask([[1.0]])) == [1.0]


def test_a_frontend_that_breaks_the_protocol_ten_times_is_cut_off_and_dialled_again(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("echo_sum") as replica:
        frontend.welcome()

        for number in range(9):
            frontend.send([bytes([number]) * 10])
        assert numbers(frontend.ask([[1.0]])) == [1.0]  # nine are not enough
        frontend.send([b"junk"] * 20)

        frontend.welcome()
        assert numbers(frontend.ask([[2.0]])) == [2.0]
        assert replica.log.count("frontend broke the protocol") == 1


def test_a_batch_that_does_not_unpack_is_a_breach_and_no_more(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("identity", input_type="strings"):
        frontend.welcome()

        frontend.predict([[1.0]], batch=1)  # numbers, for a model of strings
        frontend.predict([b"\xff"], batch=2, kind=InputType.BYTES)
        frontend.send(encode_control(MessageType.PREDICT, epoch=frontend.epoch, session=frontend.session))

        assert texts(frontend.ask(["yes"], batch=3, kind=InputType.STRINGS)) == ["yes"]


def test_a_frontend_can_send_a_replica_away_and_gets_all_it_asked(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("slow") as replica:
        frontend.welcome()
        frontend.predict([[0.2]], batch=1)
        frontend.predict([[0.0]], batch=2)

        frontend.control(MessageType.DRAIN)

        frontend.result(batch=1)
        frontend.result(batch=2)
        assert replica.exit_code() == 0


def test_a_replica_stays_until_every_frontend_sent_it_away(bench: Bench) -> None:
    with bench.frontend(0) as a, bench.frontend(1) as b, bench.replica("echo_sum", frontends=2) as replica:
        a.welcome()
        b.welcome()

        a.control(MessageType.DRAIN)
        a.expect_silence(for_s=0.1)
        assert numbers(b.ask([[1.0]])) == [1.0]
        b.control(MessageType.DRAIN)

        assert replica.exit_code() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_replica_finish_what_it_has_and_what_still_comes(bench: Bench, number: signal.Signals) -> None:
    with bench.frontend() as frontend, bench.replica("slow") as replica:
        frontend.welcome()
        start_slow_batch(frontend)

        replica.terminate(number)
        frontend.result(batch=1)
        frontend.expect(MessageType.DRAIN)
        frontend.predict([[0.0]], batch=2)  # sent before the drain was seen
        frontend.predict([[0.1]], batch=3)
        frontend.control(MessageType.DRAINED)

        frontend.result(batch=2)
        frontend.result(batch=3)
        assert replica.exit_code() == 0


def test_an_idle_replica_ends_at_once_when_it_is_asked(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("echo_sum", frontends=2) as replica:
        frontend.welcome()
        frontend.ask([[1.0]])

        replica.terminate()

        drain(frontend)
        assert replica.exit_code(within_s=3.0) == 0


def test_a_second_signal_ends_a_replica_at_once(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("slow") as replica:
        frontend.welcome()
        start_slow_batch(frontend, seconds=30.0)

        replica.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            replica.process.wait(0.3)  # long enough for the first to be noted
        replica.terminate()

        assert replica.exit_code(within_s=3.0) == 128 + signal.SIGTERM


def test_a_drain_that_nobody_confirms_ends_in_time(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("echo_sum", frontends=2, DRAIN_S=0.3) as replica:
        frontend.welcome()
        frontend.ask([[1.0]])

        replica.terminate()

        assert replica.exit_code(within_s=3.0) == 0
        assert "the drain took too long" in replica.log


def test_a_drain_that_a_predict_holds_up_ends_with_its_traceback(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("slow", DRAIN_S=0.3) as replica:
        frontend.welcome()
        start_slow_batch(frontend, seconds=30.0)

        replica.terminate()

        assert replica.exit_code(within_s=5.0) == 1
        assert "slow.py" in replica.log


def test_a_frontend_lost_during_a_drain_is_not_waited_for(bench: Bench) -> None:
    with bench.frontend() as frontend, bench.replica("echo_sum") as replica:
        frontend.welcome()
        frontend.ask([[1.0]])

        replica.terminate()
        frontend.expect(MessageType.DRAIN)
        frontend.close()

        assert replica.exit_code(within_s=3.0) == 0
        wait_until(lambda: "replica ends" in replica.log, "the last line of the log")
