"""What a rollout shows as it goes: a bar and a line for each part, in a log the first and the last of them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from clipper_nomad.cli.board import board
from clipper_nomad.cluster.rollout.events import (
    BecameHealthy,
    Gone,
    Progress,
    Registered,
    RollingBack,
    RolloutEvent,
    Stopping,
    Unchanged,
)
from clipper_nomad.cluster.rollout.lines import dots, rollout_line


@pytest.mark.parametrize(
    ("done", "of", "bar"),
    [
        (0, 6, "○○○○○○○○"),
        (1, 6, "●○○○○○○○"),
        (1, 100, "●○○○○○○○"),
        (3, 6, "●●●●○○○○"),
        (5, 6, "●●●●●●○○"),
        (6, 6, "●●●●●●●●"),
    ],
)
def test_the_bar_is_full_only_when_all_is_done(done: int, of: int, bar: str) -> None:
    assert dots(done, of) == bar


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Registered(job_id="j", version=3), "○○○○○○○○ registered, version 3"),
        (
            Registered(job_id="j", version=0, warnings="old\n * syntax"),
            "○○○○○○○○ registered, version 0; Nomad warns: old * syntax",
        ),
        (
            Progress(job_id="j", wanted=2, placed=2, running=1, healthy=0, waiting_for="health (0 of 2)", elapsed_s=4.2),
            "●●●●○○○○ waits for health (0 of 2)  4 s",
        ),
        (Unchanged(job_id="j", version=1), "●●●●●●●● unchanged"),
        (BecameHealthy(job_id="j", version=1, healthy=2, elapsed_s=9.7), "●●●●●●●● healthy  10 s"),
        (RollingBack(job_id="j", cause="it crashed", to_version=None), "failed; it is removed again"),
        (RollingBack(job_id="j", cause="it crashed", to_version=4), "failed; it goes back to version 4"),
        (Stopping(job_id="j"), "stops; what is under way is finished"),
        (Gone(job_id="j", elapsed_s=3.2), "removed  3 s"),
    ],
)
def test_each_event_is_a_line(event: RolloutEvent, line: str) -> None:
    assert rollout_line(event) == line


def test_in_a_log_a_part_has_its_first_and_its_last_line_and_no_flood() -> None:
    log = io.StringIO()

    with board(Console(file=log, width=100)) as lines:
        for step in range(100):
            lines.show("redis", f"step {step}")
        lines.show("admin", "healthy")

    assert [line.rstrip() for line in log.getvalue().splitlines()] == [
        "redis     step 0",
        "admin     healthy",
        "redis     step 99",
    ]


def test_on_a_terminal_each_part_has_one_line_that_stays() -> None:
    screen = io.StringIO()

    with board(Console(file=screen, width=20, force_terminal=True)) as lines:
        lines.show("redis", "starts and is going to be well")
        lines.show("redis", "healthy")

    assert screen.getvalue().splitlines()[-1].strip().endswith("healthy\x1b[?25h") or "healthy" in screen.getvalue()
    assert "going to be well" not in screen.getvalue()  # cut off at the screen's edge
