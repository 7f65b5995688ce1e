"""The command line without a cluster: help, exit codes, messages and JSON of every verb."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from clipper_nomad.cli.app import VERBS, app
from clipper_nomad.cli.predict import request_body
from clipper_nomad.errors import ClipperException

VERB_NAMES = [verb.__name__ for verb in VERBS]


@pytest.fixture(autouse=True)
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home in which nothing runs; its path is short, as those of sockets must be."""
    monkeypatch.setenv("CLIPPER_HOME", "/tmp/cn-no-cluster")  # noqa: S108  # never made: nothing starts here
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NOMAD_ADDR", raising=False)
    monkeypatch.chdir(tmp_path)


def run(*words: str, input_: str | None = None) -> Result:
    return CliRunner().invoke(app, list(words), input=input_, prog_name="clipper-nomad")


def test_the_verbs_are_listed_in_the_order_in_which_a_newcomer_needs_them() -> None:
    said = run("--help").stdout

    listed = [line.split()[0] for line in said.partition("Commands:")[2].splitlines() if line.strip()]
    assert listed == VERB_NAMES
    for_all = ["demo", "up", "status", "deploy", "predict", "scale", "bench", "logs", "down"]
    assert [*for_all, "dev", "terraform", "doctor", "plan", "images", "render", "policy", "keys", "version"] == VERB_NAMES


def test_no_line_of_the_list_of_verbs_is_cut_off() -> None:
    said = run("--help").stdout.partition("Commands:")[2]

    assert "..." not in said


def test_the_bare_command_shows_its_help() -> None:
    bare = run()

    assert bare.exit_code == 0
    assert bare.stdout == run("--help").stdout


@pytest.mark.parametrize("verb", VERB_NAMES)
def test_the_help_of_every_verb_has_an_example_that_begins_with_the_command(verb: str) -> None:
    said = run(verb, "--help")

    assert said.exit_code == 0
    examples = said.stdout.partition("Examples:")[2].partition("Options:")[0].splitlines()
    assert f"clipper-nomad {verb}" in " ".join(examples)
    assert max(map(len, said.stdout.splitlines())) <= 80


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_every_verb_says_what_it_is(verb: Callable[..., None]) -> None:
    for name, parameter in inspect.signature(verb, eval_str=True).parameters.items():
        (info,) = parameter.annotation.__metadata__
        assert info.help, f"{verb.__name__}: {name}"


@pytest.mark.parametrize("words", [("--help",), ("version",), ("up", "--help")])
def test_help_and_version_load_neither_the_library_nor_what_draws(words: tuple[str, ...]) -> None:
    code = f"""
import sys
sys.argv = ["clipper-nomad", *{words!r}]
from clipper_nomad.cli import main
try:
    main()
finally:
    heavy = {{"rich", "numpy", "requests", "aiohttp", "redis", "zmq", "cloudpickle", "asyncio", "sklearn"}}
    print("loaded:", sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().endswith("loaded: []")


def test_version_names_the_toolkit_and_python() -> None:
    said = json.loads(run("version", "--json").stdout)

    assert set(said) == {"clipper_nomad", "python", "executable", "system"}
    assert run("version").stdout.startswith(f"clipper-nomad {said['clipper_nomad']}, Python {said['python']}")


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("up", "--nonsense"),
        ("up", "--local", "--port", "70000"),
        ("up", "--local", "--frontends", "0"),
        ("predict", "digits"),
        ("bench", "digits", "--connections", "0"),
        ("deploy", "model.py:predict"),
        ("scale", "digits", "-1"),
        ("images", "burn"),
        ("logs", "--lines", "-1"),
    ],
)
def test_wrong_usage_ends_with_2(words: tuple[str, ...]) -> None:
    said = run(*words)

    assert said.exit_code == 2
    assert said.stdout == ""
    assert "Error" in said.stderr


@pytest.mark.parametrize("count", ["0", "-1", "65"])
def test_a_number_of_frontends_that_cannot_be_is_wrong_usage_that_says_which_can(count: str) -> None:
    said = run("up", "--local", "--frontends", count)

    assert said.exit_code == 2
    assert re.search(r"'--frontends'.*\b(1|64)\b", said.stderr)  # in typer's words, which change with its versions


def test_up_without_a_place_asks_for_one() -> None:
    said = run("up")

    assert said.exit_code == 2
    assert said.stdout == ""
    what, fix = said.stderr.splitlines()
    assert what == "✖ It is not said where the cluster shall run: on this machine, or on Nomad."
    assert fix.startswith("  fix  On this machine: clipper-nomad up --local. On Nomad: set NOMAD_ADDR, or ")
    assert fix.endswith("without a Nomad: clipper-nomad dev up starts one here.")


@pytest.mark.parametrize("given", ["[0.1,", "hello", ""])
def test_an_input_that_is_no_json_is_wrong_usage_and_the_quoting_is_explained(given: str) -> None:
    said = run("predict", "digits", given)

    assert said.exit_code == 2
    assert said.stderr.startswith("✖ The input is no JSON: ")
    assert """'"a text"' for a text""" in said.stderr


@pytest.mark.parametrize(
    ("typed", "posted"),
    [
        ("[0.1, 2]", {"input": [0.1, 2]}),
        ('"a text"', {"input": "a text"}),
        ('{"input": [1]}', {"input": [1]}),
        ('{"input_batch": [[1], [2]]}', {"input_batch": [[1], [2]]}),
        ('{"a": 1}', {"input": {"a": 1}}),
    ],
)
def test_what_is_typed_is_one_input_or_a_whole_body(typed: str, posted: object) -> None:
    assert json.loads(request_body(typed)) == posted


VERBS_THAT_NEED_A_CLUSTER = [
    ("predict", "digits", "[1]"),
    ("bench", "digits"),
    ("logs",),
    ("scale", "digits", "2"),
    ("deploy", "model.py:predict", "--name", "digits"),
]


@pytest.mark.parametrize("words", VERBS_THAT_NEED_A_CLUSTER)
def test_a_verb_that_needs_a_cluster_says_how_to_start_one(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("def predict(inputs):\n    return inputs\n")

    said = run(*words, "--cluster", "team-a")

    assert said.exit_code == 1
    assert said.stdout == ""
    assert said.stderr.splitlines() == [
        "✖ Cluster 'team-a' does not run on this machine.",
        "  fix  Start it: clipper-nomad up --local --cluster team-a",
    ]


def test_with_json_a_failure_is_a_document_too() -> None:
    said = run("predict", "digits", "[1]", "--json")

    assert said.exit_code == 1
    assert json.loads(said.stdout) == {
        "error": {
            "kind": "StackError",
            "what": "Cluster 'default-cluster' does not run on this machine.",
            "fix": "Start it: clipper-nomad up --local",
        }
    }


def test_status_of_a_cluster_that_does_not_run_ends_with_1_and_has_every_key() -> None:
    said = run("status", "--json")

    assert said.exit_code == 1
    found = json.loads(said.stdout)
    assert found["state"] == "stopped"
    assert found["parts"] == found["apps"] == found["versions"] == found["frontends"] == []


def test_down_of_a_cluster_that_does_not_run_is_done_already() -> None:
    said = run("down", "--volumes")

    assert said.exit_code == 0
    assert said.stdout.splitlines()[0] == "✔ cluster 'default-cluster' does not run: nothing to stop"
    assert said.stdout.splitlines()[-1].split() == ["next", "clipper-nomad", "up", "--local"]


def test_a_cluster_name_that_cannot_be_a_directory_is_refused() -> None:
    said = run("status", "--cluster", "../other")

    assert said.exit_code == 1
    assert said.stderr.startswith("✖ Invalid cluster name: '../other'.")


def test_without_scikit_learn_the_demo_says_how_to_install_it_and_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)

    said = run("demo")

    assert said.exit_code == 1
    assert said.stdout == ""
    assert said.stderr.splitlines() == [
        "✖ The demo trains a scikit-learn model, and scikit-learn cannot be imported: it is not installed.",
        f"  fix  Install it, then run the demo again: {sys.executable} -m pip install scikit-learn",
    ]


@pytest.fixture
def verb_that_raises(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_cluster(cluster: str) -> object:
        raise request.param

    monkeypatch.setattr("clipper_nomad.cli.finding.find_cluster", find_cluster)


@pytest.mark.parametrize("verb_that_raises", [KeyboardInterrupt()], indirect=True)
@pytest.mark.usefixtures("verb_that_raises")
def test_ctrl_c_ends_with_130_and_one_word() -> None:
    said = run("status")

    assert said.exit_code == 130
    assert said.stdout == ""
    assert said.stderr.strip() == "interrupted"


@pytest.mark.parametrize(
    "verb_that_raises",
    [ClipperException("Model m:1 failed: it raised.\nTraceback\n  line 1", hint="Correct it.\nThen deploy it.")],
    indirect=True,
)
@pytest.mark.usefixtures("verb_that_raises")
def test_an_error_of_several_lines_is_told_once_with_its_fix_last() -> None:
    said = run("status")

    assert said.exit_code == 1
    assert said.stderr.splitlines() == [
        "✖ Model m:1 failed: it raised.",
        "  Traceback",
        "    line 1",
        "  fix  Correct it.",
        "       Then deploy it.",
    ]


def test_no_colour_reaches_what_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, says the user's CI; NO_COLOR counts more

    said = run("down")

    assert "\x1b[3" not in said.output
