"""The command line with a real local cluster, from `up` to `down`: what a user types, sees and gets."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import psutil
import pytest
import requests

from clipper_nomad.cli.queries import post_query
from clipper_nomad.local_stack.parts import Programs
from tests.process.commands import User, interrupted
from tests.process.local_stack_rig import Home, home_of_its_own, listener
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

MODEL = """
from factors import FACTOR  # a file beside this one travels along

def total(inputs):
    return [float(one.sum()) * FACTOR for one in inputs]

def broken(inputs):
    raise ValueError("no such feature: height")

def wordy(inputs):
    return [text.upper() for text in inputs]
"""


@pytest.fixture(scope="module")
def shared_home() -> Iterator[Home]:
    with home_of_its_own(programs=Programs()) as home:
        yield home


@pytest.fixture(scope="module")
def user(shared_home: Home, tmp_path_factory: pytest.TempPathFactory) -> User:
    """A user with a running cluster, and a model in the directory."""
    user = User(shared_home, tmp_path_factory.mktemp("user"))
    user.writes("model.py", MODEL)
    user.writes("factors.py", "FACTOR = 2.0\n")
    user.types("up", "--local", "--port", str(free_port()))
    return user


@pytest.fixture
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A user without a cluster; at the end nothing may be left of one."""
    with home_of_its_own(programs=Programs()) as home:
        yield User(home, tmp_path_factory.mktemp("user"))


def free_port() -> int:
    with listener() as taken:
        port: int = taken.getsockname()[1]
        return port


def deploy_total(user: User, name: str, *more: str) -> None:
    user.types("deploy", "model.py:total", "--name", name, "--sample", "[0.5, 1.0]", *more)


def test_up_prints_an_address_that_answers_and_what_to_do_next(newcomer: User) -> None:
    said = newcomer.types("up", "--local", "--port", str(free_port()))

    assert said.lines[0].startswith("✔ cluster 'default-cluster' is up on this machine")
    (url,) = (word for word in said.stdout.split() if word.startswith("http://"))
    assert post_query(url, b"{}", within_s=5).status == 404  # the query frontend's: there is no app APP
    assert said.lines[-2].split()[:3] == ["next", "clipper-nomad", "deploy"]
    assert said.lines[-1].strip() == "clipper-nomad status"
    assert max(map(len, said.lines)) <= 80 or str(newcomer.home.path) in said.stdout


def test_up_again_leaves_the_cluster_as_it_is(user: User) -> None:
    before = user.types("status", "--json").document

    again = user.types("up", "--local", "--json").document

    assert again["was_up"] is True
    pids = [part["pid"] for part in user.types("status", "--json").document["parts"]]
    assert pids == [part["pid"] for part in before["parts"]]


def test_up_on_a_port_that_is_taken_names_its_holder(newcomer: User) -> None:
    with listener() as taken:
        port = taken.getsockname()[1]

        said = newcomer.types("up", "--local", "--port", str(port), expect=1)

    assert f"✖ Port {port} is taken by process {os.getpid()}" in said.stderr
    assert said.stdout == ""
    newcomer.types("down", "--volumes")
    newcomer.home.assert_nothing_left()


@pytest.mark.slow
def test_frontends_are_started_once_shown_as_a_mesh_and_not_changed_while_they_run(newcomer: User) -> None:
    up = ("up", "--local", "--port", str(free_port()))
    newcomer.types(*up, "--frontends", "2")
    newcomer.writes("model.py", MODEL)
    newcomer.writes("factors.py", "FACTOR = 2.0\n")
    deploy_total(newcomer, "meshed", "--replicas", "2")
    wait_until(lambda: newcomer.types("status", "--json").document["mesh"]["links"] == 6, "all links stand")
    before = newcomer.types("status", "--json").document

    again = newcomer.types(*up, "--frontends", "2", "--json").document
    plain = newcomer.types(*up, "--json").document
    other = newcomer.types(*up, "--frontends", "3", expect=1)

    after = newcomer.types("status", "--json").document
    assert (again["frontends"], again["was_up"], plain["frontends"], plain["was_up"]) == (2, True, 2, True)
    assert "runs with 2 query frontends; 3 were asked for" in other.stderr
    assert [part["pid"] for part in after["parts"]] == [part["pid"] for part in before["parts"]]
    assert after["mesh"] == {"links": 6, "wanted": 6, "silent": [], "lacks": [], "unlinked_peers": []}
    assert after["versions"][0]["relayed"] == 0
    assert after["warnings"] == []
    assert "  mesh      6/6 links\n" in newcomer.types("status").stdout


def test_ctrl_c_while_a_cluster_comes_up_leaves_nothing(newcomer: User) -> None:
    process = newcomer.starts("up", "--local", "--port", str(free_port()))
    wait_until(lambda: list(newcomer.home.path.glob("data/*/lock")), "the supervisor starts")

    said = interrupted(process, lambda: process.send_signal(signal.SIGINT))

    assert said.exit_code == 130
    assert said.stderr.strip().endswith("interrupted")
    assert "Traceback" not in said.stderr
    newcomer.types("down", "--volumes")
    newcomer.home.assert_nothing_left()


def test_a_function_of_a_file_is_deployed_and_predicts(user: User) -> None:
    deployed = user.types("deploy", "model.py:total", "--name", "sums", "--sample", "[0.5, 1.0]")
    said = user.types("predict", "sums", "[1, 2]")

    assert deployed.lines[0].startswith("✔ sums:1 is live")
    assert "  tested    your function answered 3.0 in " in deployed.stdout
    page = deployed.stdout.partition("  try it    ")[2].partition(", in a browser")[0]
    assert requests.get(page, timeout=20).headers["Content-Type"].startswith("text/html")
    assert "clipper-nomad predict sums '[0.5, 1.0]'" in deployed.stdout
    assert said.stdout == "6.0\n"
    assert said.stderr.startswith("  sums:1 answered in ")
    assert "replica sums-1-0" in said.stderr


def test_texts_are_deployed_by_their_type_and_predicted_from_stdin(user: User) -> None:
    user.types("deploy", "model.py:wordy", "--name", "wordy", "--input-type", "strings")

    said = user.types("predict", "wordy", "-", input_='"a text"')

    assert json.loads(said.stdout) == "A TEXT"


def test_deploy_as_json_says_all_that_the_screen_does(user: User) -> None:
    found = user.types("deploy", "model.py:total", "--name", "documented", "--sample", "[1.0]", "--json").document

    assert set(found) == {
        "app", "model", "version", "uid", "input_type", "predict_url", "output", "exec_ms", "took_s", "warning",
    }  # fmt: skip
    assert (found["model"], found["version"], found["output"]) == ("documented", "1", 2.0)


def test_a_model_that_fails_is_not_deployed_and_its_own_line_is_told(user: User) -> None:
    deploy_total(user, "steady")

    said = user.types("deploy", "model.py:broken", "--name", "steady", "--sample", "[0.5, 1.0]", expect=1)

    assert said.stdout == ""
    assert said.stderr.partition("✖ ")[2].startswith("Model 'steady' version '2' was not deployed: ")
    assert 'raise ValueError("no such feature: height")' in said.stderr
    assert "\n  fix  " in said.stderr
    assert user.types("predict", "steady", "[1, 2]").stdout == "6.0\n"


def test_a_model_is_linked_to_an_app_of_another_name(user: User) -> None:
    deploy_total(user, "first")
    other = ("deploy", "model.py:total", "--name", "second", "--sample", "[0.5]", "--app")

    missing = user.types(*other, "nowhere", expect=1)
    taken = user.types(*other, "first", expect=1)
    same = user.types("deploy", "model.py:total", "--name", "first", "--app", "first", "--sample", "[0.5]", "--json")

    assert "There is no app 'nowhere'" in missing.stderr
    assert "App 'first' is linked to model 'first'" in taken.stderr
    assert same.document["version"] == "2"


def test_a_wrong_input_an_unknown_app_and_a_batch(user: User) -> None:
    deploy_total(user, "careful")

    wrong = user.types("predict", "careful", '["text"]', expect=1)
    unknown = user.types("predict", "nobody", "[1]", expect=1)
    batch = user.types("predict", "careful", '{"input_batch": [[1], [2]]}')

    assert wrong.stderr.startswith("✖ careful gave no prediction, status 400: ")
    assert "status 404" in unknown.stderr
    assert batch.stdout.splitlines() == ["2.0", "4.0"]


def test_a_batch_of_which_an_input_failed_is_a_failure_that_shows_the_others(user: User) -> None:
    user.writes("fussy.py", "def root(inputs):\n    assert inputs.min() >= 0\n    return (inputs[:, 0] ** 0.5).tolist()\n")
    user.types("deploy", "fussy.py:root", "--name", "fussy", "--sample", "[4.0]")

    batch = user.types("predict", "fussy", '{"input_batch": [[9], [-1]]}', expect=1)

    good, bad = batch.stdout.splitlines()
    assert good == "3.0"
    assert json.loads(bad)["status"] == 500


def test_a_default_output_is_shown_as_one(user: User) -> None:
    connection = user.home.manager()
    connection.connect()
    from clipper_nomad.connection import ClipperConnection  # noqa: PLC0415  # loads what the other tests do not need

    clipper = ClipperConnection(connection)
    clipper.connect()
    clipper.register_application("lonely", "doubles", "-1.0", 1_000_000)

    said = user.types("predict", "lonely", "[1]")

    assert said.stdout == "-1.0\n"
    assert "! this is the app's default output, no prediction: No connected models found for query" in said.stderr


def test_status_has_every_part_app_and_version(user: User) -> None:
    deploy_total(user, "watched")
    user.types("predict", "watched", "[1]")

    found = user.types("status", "--json").document
    shown = user.types("status").stdout

    assert {part["name"] for part in found["parts"]} >= {"store", "admin", "frontend-0", "model-watched-1-0"}
    assert all(part["memory_bytes"] > 1_000_000 for part in found["parts"] if part["pid"])
    (app,) = (app for app in found["apps"] if app["name"] == "watched")
    assert (app["input_type"], app["slo_policy"], app["serves"], app["queries"]) == ("doubles", "late", ["watched:1"], 1)
    (version,) = (one for one in found["versions"] if one["model"] == "watched")
    assert (version["replicas_ready"], version["replicas_wanted"], version["current"]) == (1, 1, True)
    assert found["frontends"][0]["revision"] == found["catalog"]["revision"]
    for word in ("frontend-0", "model-watched-1-0", "watched  doubles → watched:1", str(user.home.path), "revision"):
        assert word in shown


def test_status_names_a_part_that_died_and_what_it_said(user: User) -> None:
    deploy_total(user, "mortal")
    (part,) = (one for one in user.types("status", "--json").document["parts"] if one["name"] == "model-mortal-1-0")

    psutil.Process(part["pid"]).kill()

    def restarted() -> bool:
        found = user.types("status", "--json").document
        return any(one["name"] == part["name"] and one["restarts"] == 1 and one["pid"] for one in found["parts"])

    wait_until(restarted, "status shows the restart")


def test_bench_counts_only_predictions(user: User) -> None:
    deploy_total(user, "busy")

    said = user.types("bench", "busy", "--seconds", "0.3", "--connections", "4")
    found = user.types("bench", "busy", "--seconds", "0.3", "--connections", "4", "--input", "[1]", "--json").document

    assert said.lines[0].startswith("✔ busy answered ")
    assert "throughput" in said.stdout
    assert max(map(len, said.lines)) <= 80
    assert found["failed"] == 0
    assert found["answered"] > 50
    assert found["p50_ms"] <= found["p99_ms"]


def test_bench_of_an_app_without_predictions_is_refused(user: User) -> None:
    said = user.types("bench", "nobody", expect=1)

    assert said.stderr.startswith("✖ There is no app 'nobody'.")


def test_logs_are_told_by_part_and_end_with_the_last_lines(user: User) -> None:
    deploy_total(user, "logged")

    of_all = user.types("logs", "--lines", "1")
    of_model = user.types("logs", "logged")

    assert any(line.startswith("store │ ") for line in of_all.lines)
    assert any("replica is ready" in line for line in of_model.lines)
    assert not any("│" in line for line in of_model.lines)


def test_logs_are_followed_until_ctrl_c(user: User) -> None:
    deploy_total(user, "chatty")
    process = user.starts("logs", "chatty", "--follow", "--lines", "0")
    assert process.stderr is not None
    assert "Ctrl-C ends" in process.stderr.readline()

    (part,) = (one for one in user.types("status", "--json").document["parts"] if one["name"] == "model-chatty-1-0")
    psutil.Process(part["pid"]).terminate()
    assert process.stdout is not None
    assert process.stdout.readline().strip()  # what it says as it drains

    said = interrupted(process, lambda: process.send_signal(signal.SIGINT))
    assert said.exit_code == 130
    assert "Traceback" not in said.stderr


def test_down_says_what_it_stops_and_a_later_up_brings_it_back(newcomer: User) -> None:
    newcomer.writes("model.py", MODEL)
    newcomer.writes("factors.py", "FACTOR = 3.0\n")
    newcomer.types("up", "--local", "--port", str(free_port()))
    deploy_total(newcomer, "lasting")

    down = newcomer.types("down")
    newcomer.types("up", "--local", "--port", str(free_port()))

    assert [line.split()[1] for line in down.lines if line.strip().startswith("stop ")] == [
        "store",
        "frontend-0",
        "admin",
        "model-lasting-1-0",
    ]
    assert "apps, models and logs in" in down.stdout
    wait_until(lambda: newcomer.types("predict", "lasting", "[1]").stdout == "3.0\n", "the model answers again")
    gone = newcomer.types("down", "--volumes", "--json").document
    assert gone["deleted"] == [str(newcomer.home.path / "data" / "default-cluster")]
    assert gone["kept"] == []
    newcomer.home.assert_nothing_left()
