"""The pure parts of local mode: restarts, messages, logs, failures, names of things, what is kept."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clipper_nomad.errors import InvalidName, StackError
from clipper_nomad.local_stack.control import (
    AskFailure,
    Attach,
    ControlError,
    Deploy,
    Detach,
    Done,
    FailureReply,
    Forget,
    Keep,
    PartStatus,
    Refused,
    Reply,
    Request,
    Scale,
    StackStatus,
    Status,
    Stop,
    StopModels,
    VersionStatus,
    decode_reply,
    decode_request,
    encode,
)
from clipper_nomad.local_stack.failure import explain
from clipper_nomad.local_stack.keeper import Death
from clipper_nomad.local_stack.kept import KeptState, WantedVersion, read_state, write_state
from clipper_nomad.local_stack.logs import MAX_LOG_BYTES, bound_log, last_line, last_words, open_log, read_tail
from clipper_nomad.local_stack.parts import START_EACH_S, PartTable, Programs, StackSettings
from clipper_nomad.local_stack.place import Place, find_place
from clipper_nomad.local_stack.restarts import Restarts

WANTED = WantedVersion(name="iris", version="1", uid="u", input_type="doubles", digest="sha256-0", count=2)


# --- restarts ---


def test_the_delay_doubles_and_five_deaths_in_a_minute_are_the_end() -> None:
    restarts = Restarts()

    delays = [restarts.delay_s(now=now, lived_s=0, exit_code=1) for now in (0, 1, 2, 3, 4)]

    assert delays == [0.2, 0.4, 0.8, 1.6, None]


def test_the_delay_grows_to_five_seconds() -> None:
    restarts = Restarts()

    delays = [restarts.delay_s(now=20.0 * death, lived_s=1, exit_code=1) for death in range(8)]

    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_a_life_of_ten_seconds_resets_the_delay() -> None:
    restarts = Restarts()
    restarts.delay_s(now=0, lived_s=0, exit_code=1)
    restarts.delay_s(now=1, lived_s=0, exit_code=1)

    assert restarts.delay_s(now=20, lived_s=10, exit_code=1) == 0.2


def test_deaths_over_a_minute_ago_do_not_count() -> None:
    restarts = Restarts()
    for now in (0, 1, 2, 3):
        restarts.delay_s(now=now, lived_s=0, exit_code=1)

    assert restarts.delay_s(now=61, lived_s=0, exit_code=1) is not None


def test_a_hopeless_exit_code_is_the_end_at_once_and_can_be_forgotten() -> None:
    restarts = Restarts(frozenset({3}))

    assert restarts.delay_s(now=0, lived_s=0, exit_code=3) is None
    restarts.forget()
    assert restarts.delay_s(now=0, lived_s=0, exit_code=1) == 0.2


# --- messages ---


@pytest.mark.parametrize(
    "request_",
    [
        Attach(pid=7, toolkit="0.1", port=None, frontends=None, keep=False),
        Attach(pid=7, toolkit="0.1", port=9999, frontends=3, keep=True, cache_size=1024),
        Detach(pid=7),
        Status(),
        Deploy(name="m", version="1", uid="u", input_type="doubles", digest="d", count=1, env={"A": "b"}, environment=""),
        Scale(name="m", version="1", count=0),
        StopModels(models=None),
        StopModels(models={"m": ("1", "2"), "n": ()}),
        Forget(models={"m": ("1", "2")}),
        AskFailure(name="m", version="1"),
        Keep(),
        Stop(graceful=True, purge=False),
    ],
    ids=lambda request: type(request).__name__,
)
def test_every_request_arrives_as_it_was_sent(request_: Request) -> None:
    line = encode(request_)

    assert line.count(b"\n") == 1
    assert decode_request(line) == request_


@pytest.mark.parametrize(
    "reply",
    [
        Done(),
        Refused(kind="port", message="m", hint=None),
        FailureReply(cause=None),
        FailureReply(cause="c", log_tail="é\n", hint="h"),
        StackStatus(
            cluster="c",
            toolkit="0.1",
            state="up",
            pid=1,
            age_s=1.0,
            query_addr="q",
            admin_addr="a",
            data="/d",
            python="/p",
            keep=True,
            note=None,
            owners=(1, 2),
            parts=(PartStatus(name="store", kind="store", state="running", pid=None, deaths=0, age_s=2.5, log="l"),),
            versions=(VersionStatus(name="m", version="1", wanted=1, ready=0, failed=1),),
        ),
    ],
    ids=lambda reply: type(reply).__name__,
)
def test_every_reply_arrives_as_it_was_sent(reply: Reply) -> None:
    assert decode_reply(encode(reply)) == reply


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b'{"Nothing": {}}',
        b'{"Status": {}, "Keep": {}}',
        b'{"Status": {"more": 1}}',
        b'{"Status": []}',
        b'{"Detach": {}}',
        b'{"Detach": {"pid": "7"}}',
        b'{"Detach": {"pid": true}}',
        b'{"Detach": {"pid": 7.0}}',
        b'{"Stop": {"graceful": 1, "purge": false}}',
        b'{"StopModels": {"models": {"m": "1"}}}',
        b'{"StopModels": {"models": {"m": [1]}}}',
        b'{"Done": {}}',
        b"[" * 100_000,
    ],
    ids=lambda line: repr(line[:40]),
)
def test_a_line_that_is_no_request_is_an_error(line: bytes) -> None:
    with pytest.raises(ControlError):
        decode_request(line)


# --- logs and failures ---

TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\nValueError: no'
EVENT = "2026-11-23T01:57:44.945Z INFO replica ends model=iris"


def test_the_last_words_are_the_last_traceback_and_its_error() -> None:
    tail = f"{EVENT}\n{TRACEBACK.replace('no', 'first')}\nsomething\n{TRACEBACK}\n{EVENT}\n"

    assert last_words(tail) == TRACEBACK
    assert last_line(tail) == "ValueError: no"


def test_without_a_traceback_the_last_words_are_the_last_lines() -> None:
    assert last_words("\n".join("1234567") + "\n\n") == "\n".join("34567")
    assert last_line("one\ntwo\n\n") == "two"
    assert last_line("") == ""


@pytest.mark.parametrize("headline", ["Timeout (0:02:00)!", "Fatal Python error: Segmentation fault"])
def test_a_hang_and_a_crash_are_named_by_their_headline(headline: str) -> None:
    tail = f'loading\n{headline}\nThread 0x1 (most recent call first):\n  File "a.py", line 3 in predict\n'

    assert last_line(tail) == headline
    assert "a.py" in last_words(tail)


def test_a_tail_starts_at_the_process_it_is_asked_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("of the life before\nof this one\n")

    assert read_tail(log, since=len("of the life before\n")) == "of this one"
    assert read_tail(tmp_path / "none") == ""
    log.write_text("x" * 20_000 + "\nwhole line\n")
    assert read_tail(log) == "whole line"


def test_a_large_log_is_set_aside_when_its_process_starts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.truncate(MAX_LOG_BYTES + 1)

    os.close(open_log(log))

    assert log.stat().st_size == 0
    assert (tmp_path / "log.1").stat().st_size == MAX_LOG_BYTES + 1


def test_a_large_log_is_emptied_while_its_process_writes_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    writer = open_log(log)
    os.write(writer, b"first" + bytes(MAX_LOG_BYTES - 5))
    assert not bound_log(log)
    os.write(writer, b"last")

    assert bound_log(log)
    os.write(writer, b"after")
    os.close(writer)

    old = (tmp_path / "log.1").read_bytes()
    assert log.read_bytes() == b"after"
    assert len(old) == MAX_LOG_BYTES
    assert old.startswith(b"t\0")
    assert old.endswith(b"\0last")
    assert not bound_log(tmp_path / "none")


def test_a_large_log_is_emptied_also_if_it_cannot_be_set_aside(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(bytes(MAX_LOG_BYTES + 1))
    (tmp_path / "log.1").mkdir()

    assert bound_log(log)

    assert log.stat().st_size == 0


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        (0, "ended by itself"),
        (1, "failed: ValueError: no"),
        (3, "ended with exit code 3"),  # the traceback is no ImportError's
        (77, "ended with exit code 77"),
        (-9, "killed by SIGKILL"),
        (-11, "killed by SIGSEGV"),
        (-63, "signal 63"),
    ],
)
def test_every_end_of_a_replica_is_explained(exit_code: int, words: str) -> None:
    failure = explain("Replica iris-1-0", Death(exit_code=exit_code, tail=TRACEBACK), log="/logs/iris.log")

    assert failure.cause is not None
    assert failure.cause.startswith("Replica iris-1-0 ")
    assert words in failure.cause
    assert failure.log_tail == TRACEBACK
    assert "/logs/iris.log" in (failure.hint or "")


@pytest.mark.parametrize(
    ("exit_code", "said", "words"),
    [
        (2, "the environment of this process is not right:\nCLIPPER_RPC_ADDRESSES is ''", "settings that are not right"),
        (3, '2026 ERROR an import of the model is missing reason="No module named a"', "lacks a package"),
        (3, "    import a\nModuleNotFoundError: No module named 'a'", "lacks a package"),  # of a long traceback
        (3, "ImportError: one of\nseveral lines", "lacks a package"),
        (4, '2026 ERROR the bundle cannot be run reason="changed"', "damaged or made by another Python"),
        (127, "/nowhere/store cannot be started: no such file", "could not be started"),
    ],
)
def test_an_exit_code_of_our_own_means_what_it_means_only_if_the_log_says_so(exit_code: int, said: str, words: str) -> None:
    told = explain("R", Death(exit_code=exit_code, tail=said), log="l")
    silent = explain("R", Death(exit_code=exit_code, tail="2026 INFO model loaded"), log="l")

    assert words in (told.cause or "")
    assert words not in (silent.cause or "")
    assert (silent.cause or "").startswith(f"R ended with exit code {exit_code};")
    assert "os._exit()" in (silent.hint or "")


def test_a_death_without_an_error_names_the_last_line() -> None:
    assert "; the last line it logged: loading" in (explain("R", Death(exit_code=5, tail="loading\n"), log="l").cause or "")
    assert "; it logged nothing" in (explain("R", Death(exit_code=5, tail=""), log="l").cause or "")


# --- places ---


def place_of(cluster: str, *, outlives_login: bool = False, **environ: str) -> Place:
    return find_place(cluster, home=None, environ=environ, uid=1000, outlives_login=outlives_login)


@pytest.fixture
def short_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cl-", dir="/tmp") as folder:
        yield Path(os.path.realpath(folder))


def test_data_and_sockets_lie_where_xdg_says(short_directory: Path) -> None:
    place = place_of("iris", HOME="/home/ada", XDG_STATE_HOME="/home/ada/state", XDG_RUNTIME_DIR=str(short_directory))

    assert place.data == Path("/home/ada/state/clipper-nomad/iris")
    assert place.runtime.parent == short_directory / "clipper-nomad"


def test_without_a_runtime_directory_sockets_lie_in_one_of_the_users_own() -> None:
    place = place_of("iris", HOME="/home/ada", XDG_RUNTIME_DIR="/run/user/of-nobody")

    assert place.runtime.parent.name == "clipper-nomad-1000"


def test_a_runtime_directory_with_too_long_a_path_is_not_used(short_directory: Path) -> None:
    long = short_directory / ("x" * 80)
    long.mkdir()

    assert place_of("iris", HOME="/home/ada", XDG_RUNTIME_DIR=str(long)).runtime.parent.name == "clipper-nomad-1000"


def test_a_kept_stack_does_not_use_the_directory_that_goes_at_logout(short_directory: Path) -> None:
    place = place_of("iris", outlives_login=True, HOME="/home/ada", XDG_RUNTIME_DIR=str(short_directory))

    assert place.runtime.parent.name == "clipper-nomad-1000"


def test_clusters_and_homes_have_sockets_of_their_own() -> None:
    places = [place_of(cluster, CLIPPER_HOME=home) for cluster in ("a", "b") for home in ("/h1", "/h2")]

    assert len({place.runtime.name for place in places}) == 4
    assert place_of("a", CLIPPER_HOME="/h1") == places[0]
    assert places[0].data == Path("/h1/data/a")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a b", "a" * 64, "a\n"])
def test_a_cluster_name_that_is_no_directory_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        place_of(name, CLIPPER_HOME="/h")


def test_the_longest_socket_path_is_checked_before_anything_is_made() -> None:
    longest = "/" + "h" * (107 - len("/run/0123456789ab/frontend-99-rpc") - 1)

    assert len(os.fsencode(place_of("a", CLIPPER_HOME=longest).rpc_socket(99))) == 107
    with pytest.raises(StackError, match="108 bytes"):
        place_of("a", CLIPPER_HOME=longest + "h")


# --- what is kept, and how parts are started ---


def test_what_is_kept_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    state = KeptState(keep=True).with_version(WANTED)

    write_state(path, state)

    assert read_state(path) == state
    assert read_state(tmp_path / "none") is None
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"format": 2}', '{"format": 1, "keep": true, "wanted": [{}]}'])
def test_a_state_that_is_not_ours_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)

    with pytest.raises(StackError, match=r"state\.json"):
        read_state(path)


def test_a_version_is_wanted_once() -> None:
    other = WantedVersion(name="iris", version="1", uid="u", input_type="doubles", digest="sha256-0", count=0)

    state = KeptState(keep=False).with_version(WANTED).with_version(other)

    assert state.wanted == (other,)
    assert state.find("iris", "1") == other
    assert state.find("iris", "2") is None


def test_a_version_that_is_forgotten_frees_its_bundle_unless_replicas_of_it_are_wanted() -> None:
    stopped = replace(WANTED, version="2", digest="sha256-2", count=0)
    state = KeptState(keep=True).with_version(WANTED).with_version(stopped)

    forgotten = state.without({"iris": ("1", "2"), "other": ("3",)})

    assert state.digests == {"sha256-0", "sha256-2"}
    assert forgotten.wanted == (WANTED,)
    assert forgotten.digests == {"sha256-0"}


def settings() -> StackSettings:
    programs = Programs(frontend=("front", "end"))
    return StackSettings(
        cluster="c",
        data="/d",
        runtime="/r",
        toolkit="0.1",
        port=None,
        frontends=2,
        keep=False,
        owner=7,
        programs=programs,
    )


def test_settings_arrive_as_they_were_sent() -> None:
    assert StackSettings.from_json(settings().to_json()) == settings()
    assert json.loads(settings().to_json())["programs"]["frontend"] == ["front", "end"]


def test_the_store_has_one_unix_socket_no_port_and_syncs_every_write() -> None:
    part = PartTable(settings(), environ={}).store(("store",))

    options = dict(zip(part.argv[1::2], part.argv[2::2], strict=True))
    assert part.argv[0] == "store"
    assert options["--port"] == "0"
    assert options["--unixsocket"] == "/r/store"
    assert options["--unixsocketperm"] == "700"
    assert options["--dir"] == "/d/store"
    assert (options["--appendonly"], options["--appendfsync"]) == ("yes", "always")
    assert not options["--save"]


def test_frontends_share_the_public_socket_and_nothing_else() -> None:
    table = PartTable(settings(), environ={"PATH": "/bin", "CLIPPER_ACCESS_LOG": "all", "CLIPPER_HTTP_ADDRESS": "other"})

    first, second = table.frontend(0, 5), table.frontend(1, 5)

    shared = {name for name, value in first.env.items() if second.env[name] == value}
    assert first.argv == ("front", "end")
    assert first.inherit == second.inherit == (5,)
    assert first.env["CLIPPER_HTTP_ADDRESS"] == "fd://5"
    assert first.env["CLIPPER_ACCESS_LOG"] == "all"
    assert not shared & {"CLIPPER_RPC_ADDRESS", "CLIPPER_INTERNAL_ADDRESS", "CLIPPER_MIRROR_PATH", "CLIPPER_FRONTEND_ID"}


def test_each_frontend_dials_the_others_and_counts_its_connections_beside_theirs() -> None:
    table = PartTable(replace(settings(), frontends=3), environ={})

    first, last = table.frontend(0, 5), table.frontend(2, 5)

    assert first.env["CLIPPER_PEER_ADDRESSES"] == "ipc:///r/frontend-1-rpc,ipc:///r/frontend-2-rpc"
    assert last.env["CLIPPER_PEER_ADDRESSES"] == "ipc:///r/frontend-0-rpc,ipc:///r/frontend-1-rpc"
    assert (first.env["CLIPPER_HTTP_SHARE"], last.env["CLIPPER_HTTP_SHARE"]) == ("/r/shares:0", "/r/shares:2")


def test_a_frontend_that_is_alone_has_neither_peers_nor_a_share() -> None:
    alone = PartTable(replace(settings(), frontends=1), environ={}).frontend(0, 5)

    assert (alone.env["CLIPPER_PEER_ADDRESSES"], alone.env["CLIPPER_HTTP_SHARE"]) == ("", "")


def test_a_frontend_s_cache_is_what_the_stack_was_told_else_what_its_environment_says() -> None:
    told = PartTable(replace(settings(), cache_size=0), environ={"CLIPPER_CACHE_BYTES": "7"}).frontend(0, 5)
    untold = PartTable(settings(), environ={"CLIPPER_CACHE_BYTES": "7"}).frontend(0, 5)

    assert (told.env["CLIPPER_CACHE_BYTES"], untold.env["CLIPPER_CACHE_BYTES"]) == ("0", "7")


def test_each_frontend_makes_a_start_take_longer() -> None:
    assert (
        replace(settings(), frontends=64).start_within_s
        == 63 * START_EACH_S + replace(settings(), frontends=1).start_within_s
    )


def test_a_replica_dials_every_frontend() -> None:
    part = PartTable(settings(), environ={}).replica("iris-1-0", WANTED)

    assert part.env["CLIPPER_RPC_ADDRESSES"] == "ipc:///r/frontend-0-rpc,ipc:///r/frontend-1-rpc"
    assert part.env["CLIPPER_MODEL_PATH"] == "/d/bundles/sha256-0"
    assert part.env["CLIPPER_READY_FILE"] == "/r/ready/iris-1-0"
    assert part.argv[-1] == "clipper_nomad_runtime"
