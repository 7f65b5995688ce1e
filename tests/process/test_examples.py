"""The examples run on this machine: the notebook by a real kernel, the files by the commands at their top."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipper_nomad.local_stack.parts import Programs
from tests.example_notebook import PATH, code_cells, is_command, read_article, run_article, shown
from tests.process.commands import User
from tests.process.local_stack_rig import Home, home_of_its_own

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


@pytest.fixture
def home() -> Iterator[Home]:
    with home_of_its_own(programs=Programs()) as one:
        yield one


@pytest.fixture
def user(home: Home, tmp_path: Path) -> User:
    return User(home, tmp_path)


def test_the_articles_notebook_runs_on_this_machine_and_shows_what_is_kept(home: Home, user: User) -> None:
    ran = run_article(user.folder, {**user.environment, "CLIPPER_EXAMPLE": "local"}, within_s=60)

    for cell, kept in zip(code_cells(ran), code_cells(read_article()), strict=True):
        if not is_command(cell):  # the status of another kind of place
            assert shown(cell, results_only=True) == shown(kept, results_only=True), cell.source
    home.assert_nothing_left()


@pytest.mark.parametrize(
    ("name", "answer"), [("sklearn_model.py", pytest.approx(204.336721)), ("named_fields.py", {"rent": 1041.75})]
)
def test_the_commands_at_the_top_of_an_example_do_what_they_say(home: Home, user: User, name: str, answer: object) -> None:
    code = (PATH.parent / name).read_text(encoding="utf-8")
    user.writes("model.py", code)
    commands = [shlex.split(line)[1:] for line in code.splitlines() if line.startswith("clipper-nomad ")]

    said = [user.types(*(word.replace(f"examples/{name}", "model.py") for word in words)) for words in commands]
    user.types("down", "--volumes")

    assert [words[0] for words in commands] == ["up", "deploy", "predict"]
    assert json.loads(said[-1].stdout) == answer
    home.assert_nothing_left()
