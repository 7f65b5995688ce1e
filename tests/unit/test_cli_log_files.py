"""Which logs a word means, their last lines, and what is added."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipper_nomad.cli.log_files import LogReader, find_logs, follow_logs, select_logs
from clipper_nomad.errors import ClipperException

NAMES = ("admin", "frontend-0", "frontend-1", "model-digits-1-0", "model-digits-1-1", "model-digits-2-0", "store")
LOGS = {name: Path(f"{name}.log") for name in NAMES}


@pytest.mark.parametrize(
    ("part", "meant"),
    [
        (None, NAMES),
        ("store", ("store",)),
        ("frontend", ("frontend-0", "frontend-1")),
        ("frontend-1", ("frontend-1",)),
        ("digits", ("model-digits-1-0", "model-digits-1-1", "model-digits-2-0")),
        ("digits:1", ("model-digits-1-0", "model-digits-1-1")),
        ("digits-1-1", ("model-digits-1-1",)),
        ("model-digits-2-0", ("model-digits-2-0",)),
    ],
)
def test_a_word_means_a_part_a_kind_of_part_or_a_models_replicas(part: str | None, meant: tuple[str, ...]) -> None:
    assert tuple(select_logs(LOGS, part)) == meant


@pytest.mark.parametrize("part", ["digit", "digits:3", "nothing"])
def test_a_word_that_means_no_log_is_an_error_that_lists_them(part: str) -> None:
    with pytest.raises(ClipperException, match=f"There is no log of '{part}'") as caught:
        select_logs(LOGS, part)

    assert "admin, frontend-0" in (caught.value.hint or "")


def test_the_logs_of_a_folder_are_found_by_their_parts_names(tmp_path: Path) -> None:
    for name in ("store.log", "store.log.1", "admin.log", "notes.txt"):
        (tmp_path / name).touch()

    assert list(find_logs(tmp_path)) == ["admin", "store"]


@pytest.mark.parametrize(
    ("text", "last", "lines"),
    [
        ("", 5, []),
        ("one\ntwo\nthree\n", 2, ["two", "three"]),
        ("one\ntwo\nthree\n", 3, ["one", "two", "three"]),
        ("one\ntwo\nthree\n", 9, ["one", "two", "three"]),
        ("one\ntwo\nthree\n", 0, []),
        ("one\n\n\n", 2, ["", ""]),
        ("one\nincomplete", 2, ["one", "incomplete"]),
        ("x" * 5000 + "\n" + "y" * 5000 + "\n", 1, ["y" * 5000]),
    ],
)
def test_the_last_lines_of_a_log_are_read(tmp_path: Path, text: str, last: int, lines: list[str]) -> None:
    log = tmp_path / "store.log"
    log.write_text(text)

    assert LogReader(log, last=last).read_all() == lines


def test_what_is_added_is_read_once_and_in_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "store.log"
    log.write_text("old\n")
    reader = LogReader(log, last=1)

    seen = [reader.read()]
    with log.open("a") as file:
        for piece in ("ne", "w\nnewer\n", ""):
            file.write(piece)
            file.flush()
            seen.append(reader.read())

    assert seen == [["old"], [], ["new", "newer"], []]


def test_a_log_that_is_replaced_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "store.log"
    log.write_text("a long line of before\n")
    reader = LogReader(log, last=0)
    reader.read()

    log.rename(tmp_path / "store.log.1")
    log.write_text("first\n")

    assert reader.read() == ["first"]


def test_a_log_that_is_not_there_yet_has_no_lines(tmp_path: Path) -> None:
    assert LogReader(tmp_path / "store.log", last=5).read() == []


def test_following_ends_when_the_folder_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = folder / "store.log"
    log.write_text("last words\n")
    lines = follow_logs(folder, "store", last=5)

    first = next(lines)
    log.unlink()
    folder.rmdir()

    assert first == ("store", "last words")
    assert list(lines) == []
