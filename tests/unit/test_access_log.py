"""Which queries are noted, and how."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.mesh_simulation_loop import SimulatedLoop
from clipper_nomad.state.records import ModelVersion
from clipper_nomad_frontend import access_log as module
from clipper_nomad_frontend import answers
from clipper_nomad_frontend.access_log import AccessLog, AccessLogMode, parse_mode
from clipper_nomad_frontend.answers import Answer
from clipper_nomad_frontend.dispatch import VersionDispatch
from tests.unit.queries import endpoint, query

ON_TIME = answers.prediction(1, b"1", b"", is_late=False)
LATE = answers.prediction(1, b"1", b"", is_late=True)
DEFAULT = answers.default(1, b"0", "no models")
FAILED = answers.refused(500, "Model error", "ValueError: no")


class Log:
    """An access log on simulated time."""

    def __init__(self, mode: str) -> None:
        self.loop = SimulatedLoop()
        self.stream = io.StringIO()
        self.log = AccessLog(parse_mode(mode), self.stream, lambda: 1764000000.12345)

    def note(self, *noted: Answer) -> list[dict[str, Any]]:
        """Note these answers, let the time to write pass, and return what was written."""
        with self.loop.running():
            for answer in noted:
                self.log.note(query(endpoint()), answer, 0.0123456)
        self.loop.run_until(self.loop.time() + module.FLUSH_EVERY_S)
        return self.lines()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


# ---- modes


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("off", AccessLogMode("off")),
        ("slow", AccessLogMode("slow")),
        ("all", AccessLogMode("all")),
        ("sample:10", AccessLogMode("sample", 10)),
        ("sample:1", AccessLogMode("sample", 1)),
    ],
)
def test_a_mode_is_named_in_a_word(text: str, mode: AccessLogMode) -> None:
    assert parse_mode(text) == mode


@pytest.mark.parametrize("text", ["", "on", "sample", "sample:", "sample:0", "sample:-1", "sample:x", "off:1", "all:2"])
def test_anything_else_is_no_mode(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_mode(text)


def test_a_log_that_is_off_notes_nothing() -> None:
    assert Log("off").note(ON_TIME, LATE, FAILED) == []


@pytest.mark.parametrize(("mode", "wants"), [("off", False), ("slow", False), ("sample:9", True), ("all", True)])
def test_who_notes_no_answers_in_time_says_so_and_is_not_even_asked(mode: str, *, wants: bool) -> None:
    assert Log(mode).log.notes_answered is wants


@pytest.mark.parametrize("mode", ["slow", "sample:1000"])
def test_what_is_worth_a_look_is_always_noted(mode: str) -> None:
    log = Log(mode)
    log.note(ON_TIME)  # the one in a thousand

    outcomes = [line["outcome"] for line in log.note(ON_TIME, LATE, DEFAULT, FAILED)]

    assert outcomes[-3:] == ["late", "default", "error"]
    assert len(outcomes) == (3 if mode == "slow" else 4)


def test_a_sample_has_one_in_n() -> None:
    assert len(Log("sample:4").note(*[ON_TIME] * 16)) == 4


def test_all_means_all() -> None:
    assert len(Log("all").note(ON_TIME, LATE, ON_TIME)) == 3


# ---- lines


def test_a_line_says_what_happened_and_nothing_of_the_input() -> None:
    (line,) = Log("slow").note(FAILED)

    assert line == {
        "time": 1764000000.123,
        "event": "query",
        "app": "app",
        "outcome": "error",
        "status": 500,
        "ms": 12.346,
        "request_id": "",
        "cause": "ValueError: no",
    }


def test_a_line_names_the_model_that_was_asked() -> None:
    log = Log("slow")
    asked = query(endpoint())
    record = ModelVersion(name="m", version="1", uid="u", input_type="doubles")
    asked.dispatch = cast("VersionDispatch", SimpleNamespace(key=record.key))
    with log.loop.running():
        log.log.note(asked, FAILED, 0.0)
    log.log.flush()

    assert log.lines()[0]["model"] == "m:1"


def test_a_probe_is_named_as_what_it_is() -> None:
    log = Log("slow")
    asked = query(endpoint(module.PROBE))
    asked.dispatch = cast("VersionDispatch", SimpleNamespace(key="m:1"))
    with log.loop.running():
        log.log.note(asked, FAILED, 0.0)
    log.log.flush()

    assert log.lines()[0]["app"] == "probe of m:1"


def test_a_request_id_and_a_cause_may_hold_anything() -> None:
    log = Log("slow")
    asked = query(endpoint())
    asked.request_id = b"a\xff\n"
    with log.loop.running():
        log.log.note(asked, answers.refused(500, "Model error", "\udcff\n"), 0.0)
    log.log.flush()

    (line,) = log.lines()
    assert line["request_id"] == "a\ufffd\n"
    assert line["cause"] == "?\n"


# ---- writing in bulk


def test_lines_are_written_together_after_a_while() -> None:
    log = Log("all")
    with log.loop.running():
        for _ in range(3):
            log.log.note(query(endpoint()), ON_TIME, 0.0)

    log.loop.run_until(log.loop.time() + 0.9 * module.FLUSH_EVERY_S)
    assert not log.lines()
    log.loop.run_until(log.loop.time() + 0.2 * module.FLUSH_EVERY_S)
    assert len(log.lines()) == 3
    assert len(log.note(ON_TIME)) == 4


def test_without_lines_nothing_is_written() -> None:
    log = Log("all")

    log.log.flush()

    assert log.stream.getvalue() == ""


def test_a_storm_is_cut_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LINES_PER_FLUSH", 5)
    log = Log("slow")

    lines = log.note(*[FAILED] * 12)

    assert len(lines) == 6
    assert lines[-1] == {"event": "access log lines dropped", "count": 7}
    assert len(log.note(FAILED)) == 7
